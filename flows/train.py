"""`train`: a training as a Prefect flow: pairs > chips > fit > export > card.

Thin: what each step does is `fitting`'s business. The same request again goes on: chips that are complete are kept,
training continues from its last state, whatever killed the run before, and an export is made once for a checkpoint. So
nothing is cached here. Needs `flows.embedded.prepare_environment` beforehand where no server is configured.
"""

from __future__ import annotations

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from catalogs.errors import CatalogError
from flows.embedded import plain_errors
from flows.fitting import (
    Steps,
    export,
    fit,
    holds_state,
    make_chips,
    run_training,
    write_page,
)
from flows.meter import metered
from flows.patience import patient_task
from flows.run_names import train_run_name
from flows.run_tags import short_path, tag_run
from flows.train_artifacts import Artifacts, publish_card
from flows.train_request import TrainRequest
from flows.trained import Chips, Exported, Fitted, Trained
from pipeline.errors import PipelineError
from srgan.archive import Format
from srgan.errors import ModelError


@patient_task("chips")
def chips_task(request: TrainRequest) -> Chips:
    """Write the chips of the pair tables, or look at those that are named."""
    with metered("train-progress", "chips", get_run_logger()) as progress:
        return make_chips(request, progress)


@task(name="fit", task_run_name="fit", cache_policy=NO_CACHE, persist_result=False)
def fit_task(request: TrainRequest, chips: Chips) -> Fitted:
    """Train, from the last state where there is one."""
    logger = get_run_logger()
    resume = holds_state(request.output)
    if resume:
        logger.info(f"going on from the state in {request.output}")
    with Artifacts(logger, request.output) as watcher:
        return fit(request, chips, watcher, resume=resume)


@task(name="export", task_run_name="export {kind}", cache_policy=NO_CACHE, persist_result=False)
def export_task(request: TrainRequest, fitted: Fitted, kind: Format) -> Exported:
    """Export the best checkpoint in one format, unless it is there already."""
    with metered("train-progress", f"export {kind}", get_run_logger()) as progress:
        return export(request, fitted, kind, progress)


@task(name="card", task_run_name="card", cache_policy=NO_CACHE, persist_result=False)
def card_task(request: TrainRequest, fitted: Fitted) -> str:
    """Write the model card, and show it."""
    page = write_page(request, fitted)
    publish_card(request.output, page, get_run_logger())
    return page


@flow(name="train", flow_run_name=train_run_name, persist_result=False, validate_parameters=True)
def train_flow(request: TrainRequest) -> Trained:
    """Train a network from pair tables and export the best of it; goes on where an earlier run was stopped.

    Args:
        request: From what, into which folder, with which settings
    """
    plain_errors(CatalogError, PipelineError, ModelError)
    logger = get_run_logger()
    tag_run(logger, f"preset:{short_path(request.preset_named)}")
    trained = run_training(request, Steps(chips_task, fit_task, export_task, card_task))
    for name, value in trained.lines():
        logger.info(f"{name}: {value}")
    return trained
