"""An evaluation from pair tables to its report, with or without Prefect around each step: score, scenes, report.

`Steps` are the functions that `run_evaluation` calls one after another; the flow puts tasks in their place. The report is written when
all is scored, report.json last: what lies in the folder is whole, or of an earlier run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.evaluate_request import EvaluateRequest
from flows.evaluated import Evaluated, summarised
from flows.folder import check_folder
from flows.interrupts import check, checked
from pipeline.errors import InvalidSettings
from pipeline.lock import locked
from pipeline.progress import Progress

if TYPE_CHECKING:
    from flows.watch import Watcher
    from pipeline.evaluation import Evaluation
    from pipeline.trial import Trial, TrialResult

SCENES = "scenes"
"""Folder below that of the report: scenes under clouds, and what was made of them."""


@dataclass(frozen=True)
class Scored:
    """What was found out on the pair tables."""

    evaluation: Evaluation
    files: tuple[str, ...] = ()
    """Predictions written."""


@dataclass(frozen=True)
class Steps:
    """What is done, one after another."""

    score: Callable[[EvaluateRequest], Scored]
    scenes: Callable[[EvaluateRequest], tuple[TrialResult, ...]]
    report: Callable[[EvaluateRequest, Scored, tuple[TrialResult, ...]], Evaluated]


def direct_steps(watcher: Watcher) -> Steps:
    """The steps in this process, told to `watcher`."""

    def scored(request: EvaluateRequest) -> Scored:
        count = 2 if request.scenes else 1
        made = score(request, checked(watcher.scene(1, count, "pairs")))
        chips = made.evaluation.content["chips"]
        watcher.ended(f"{chips['used']} of {chips['rows']} rows used")
        return made

    def tried(request: EvaluateRequest) -> tuple[TrialResult, ...]:
        made = run_trials(request, checked(watcher.scene(2, 2, SCENES)))
        watcher.ended(f"{len(made)} declouded")
        return made

    return Steps(score=scored, scenes=tried, report=write)


def run_evaluation(request: EvaluateRequest, steps: Steps) -> Evaluated:
    """Take the steps in turn.

    Raises InvalidSettings, and whatever the steps raise: ModelError, PipelineError, CatalogError, and KeyboardInterrupt, after which
    the folder of the report is as it was.
    """
    check_request(request)
    with _alone(request.output):
        scored = steps.score(request)
        check()
        results = steps.scenes(request) if request.scenes is not None else ()
        check()
        return steps.report(request, scored, results)


def check_request(request: EvaluateRequest) -> None:
    """Raise for what can be known to be wrong before anything is scored: folders, device, scenes."""
    from pipeline.inference import pick_device

    check_folder(request.output)
    if request.predictions is not None:
        check_folder(request.predictions, "--predictions")
    pick_device(request.device)
    if request.scenes is not None:
        trials_of(request)


def score(request: EvaluateRequest, progress: Progress) -> Scored:
    """Score the checkpoint on the pair tables, and write its predictions where that is asked for.

    Raises CatalogError for a table or a splits file that cannot be read, ModelError for a checkpoint, InvalidSettings where nothing can be
    scored, WriteFailed for a prediction.
    """
    from catalogs.pairs import PairTable
    from catalogs.splits import Splits
    from pipeline.evaluation import evaluate
    from pipeline.inference import pick_device
    from pipeline.predictions import PredictionFolder
    from pipeline.settings import Resources
    from srgan.checkpoint import load_checkpoint

    device = pick_device(request.device)
    checkpoint, *others = [load_checkpoint(name, device) for name in (request.checkpoint, *request.compared)]
    for number, (name, other) in enumerate(zip(request.compared, others, strict=True)):
        if other.digest in {one.digest for one in (checkpoint, *others[:number])}:
            raise InvalidSettings(f"--compare {name}: the same weights are given twice: leave one out")
    tables = [PairTable.read(path) for path in request.pairs]
    splits = Splits.read(request.splits) if request.splits is not None else None
    sink = None
    if request.predictions is not None:
        tags = {"checkpoint": checkpoint.name, "digest": checkpoint.digest, "protocol": "pair"}
        sink = PredictionFolder(request.predictions, tables, tags)
    evaluation = evaluate(
        tables,
        request.split,
        checkpoint,
        compare=others,
        splits=splits,
        band_sets=None if request.bands == "all" else (request.bands,),
        limit=request.limit,
        predictions=sink,
        progress=progress,
        workers=Resources(workers=request.workers).threads,
    )
    return Scored(evaluation, tuple(map(str, sink.written)) if sink is not None else ())


def trials_of(request: EvaluateRequest) -> tuple[Trial, ...]:
    """The whole scenes to be declouded. Raises InvalidSettings where the catalogue has none, CatalogError where it cannot be read."""
    from catalogs.query import Query
    from catalogs.search import search
    from catalogs.sources import known_sources
    from pipeline.trial import find_trials

    source = str(request.scenes)
    if source in known_sources():
        raise InvalidSettings(f"--scenes {source}: has no end; name a static catalogue, its scenes are declouded whole")
    found = find_trials(search(Query(), source), request.trials)
    if not found:
        raise InvalidSettings(f"--scenes {source}: nothing to try: {'; '.join(found.reasons)}")
    return tuple(found)


def run_trials(request: EvaluateRequest, progress: Progress) -> tuple[TrialResult, ...]:
    """Decloud the scenes of the catalogue under other dates' clouds, in the folder `scenes`; raises as `run_trial` does."""
    from pipeline.settings import DecloudSettings, Resources
    from pipeline.trial import run_trial

    settings = DecloudSettings(checkpoint=request.checkpoint)
    resources = Resources(workers=request.workers, device=request.device)
    folder = request.output / SCENES
    trials = trials_of(request)
    results = []
    for number, trial in enumerate(trials, 1):
        place = f"{number}/{len(trials)} " if len(trials) > 1 else ""

        def tell(stage: str, done: int, total: int, place: str = place) -> None:
            progress(f"{place}{stage}", done, total)

        results.append(run_trial(trial, folder, settings, resources=resources, progress=tell))
    return tuple(results)


def write(request: EvaluateRequest, scored: Scored, results: tuple[TrialResult, ...]) -> Evaluated:
    """Write the report and say what is in it. Raises WriteFailed."""
    from pipeline.report import write_report

    document = scored.evaluation.document() | {"scenes": [result.document() for result in results]}
    pictures: dict[str, Any] = dict(scored.evaluation.pictures)
    pictures |= {result.trial.id: result.pictures for result in results}
    report, page = write_report(document, pictures, request.output)
    folder = request.predictions
    older = len({*map(str, folder.glob("*.tif"))} - {*scored.files}) if folder is not None else 0
    return summarised(
        document,
        str(report),
        str(page),
        request.bounds,
        predictions="" if folder is None else str(folder),
        files=len(scored.files),
        older_files=older,
    )


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Nobody else may write this report meanwhile. A folder that was not there is only left where something is in it."""
    made = not output.exists()
    try:
        with locked(output / f"{output.absolute().name}.lock"):
            yield
    finally:
        if made:
            with suppress(OSError):
                output.rmdir()
