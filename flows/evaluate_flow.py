"""`evaluate`: an evaluation as a Prefect flow: score > scenes > report.

Thin: what each step does is `evaluating`'s business. Nothing is cached: the same request scores again. A report whose scores have not
reached their bounds is written and shown all the same, and the flow run has failed. Needs `flows.embedded.prepare_environment` beforehand
where no server is configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed

from catalogs.errors import CatalogError
from flows.artifacts import attempt, link_to
from flows.embedded import plain_errors
from flows.evaluate_request import EvaluateRequest
from flows.evaluated import Evaluated
from flows.evaluating import Scored, Steps, run_evaluation, run_trials, score, write
from flows.meter import metered
from flows.run_names import evaluate_run_name
from flows.run_tags import checkpoint_tag, tag_run
from flows.scene_log import Log
from pipeline.errors import PipelineError
from srgan.errors import ModelError

if TYPE_CHECKING:
    from pipeline.trial import TrialResult


@task(name="score", task_run_name="score", cache_policy=NO_CACHE, persist_result=False)
def score_task(request: EvaluateRequest) -> Scored:
    """Score the checkpoint on the pair tables."""
    with metered("evaluate-progress", "pairs", get_run_logger()) as progress:
        return score(request, progress)


@task(name="scenes", task_run_name="scenes", cache_policy=NO_CACHE, persist_result=False)
def scenes_task(request: EvaluateRequest) -> tuple[TrialResult, ...]:
    """Decloud whole scenes under other dates' clouds."""
    with metered("evaluate-progress", "scenes", get_run_logger()) as progress:
        return run_trials(request, progress)


@task(name="report", task_run_name="report", cache_policy=NO_CACHE, persist_result=False)
def report_task(request: EvaluateRequest, scored: Scored, results: tuple[TrialResult, ...]) -> Evaluated:
    """Write the report, and show its scores."""
    evaluated = write(request, scored, results)
    publish_scores(evaluated, get_run_logger())
    return evaluated


@flow(name="evaluate", flow_run_name=evaluate_run_name, persist_result=False, validate_parameters=True)
def evaluate_flow(request: EvaluateRequest) -> Any:
    """Score a checkpoint on pair tables and write its report; a score that misses its bound fails the run.

    Args:
        request: What is scored, on what, into which folder, and what it has to reach
    """
    plain_errors(CatalogError, PipelineError, ModelError)
    logger = get_run_logger()
    tag_run(logger, checkpoint_tag(request.checkpoint), f"split:{request.split}")
    evaluated = run_evaluation(request, Steps(score_task, scenes_task, report_task))
    for line in evaluated.lines():
        logger.info(line)
    if evaluated.faults:
        # What was found stays with the state: whoever ran the flow can still print it.
        return Failed(message="; ".join(evaluated.faults), data=evaluated)
    return evaluated


def publish_scores(evaluated: Evaluated, log: Log) -> None:
    """The table of scores, and the link to the report. One of a key for all evaluations: Prefect keeps its versions."""
    rows = [
        {"protocol": row["protocol"], "bands": row["bands"], "pixels": row["region"], "method": row["method"]}
        | {"images": row["images"], **row["mean"]}
        for row in evaluated.scores
    ]
    said = f"{evaluated.report}: {evaluated.headline}"

    def publish() -> None:
        create_table_artifact(table=rows, key="evaluate-scores", description=said)
        create_link_artifact(
            link=link_to(evaluated.page), link_text="report.html", key="evaluate-report", description=evaluated.page
        )

    attempt(log, "scores", publish)
