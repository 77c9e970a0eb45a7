"""`decloud_scene_flow` and `decloud_aoi`: the main job as Prefect flows.

Thin: which scenes there are is `selection`'s business, how one is done `pipeline`'s. A scene is one task. What may pass
(a file that could not be read, a full disk) is tried again with growing waits; bad input is not. One scene that fails
does not stop the rest, but the flow has then failed. Our run keys and published items say what is done, so nothing is
cached here. Needs `flows.embedded.prepare_environment` beforehand where no server is configured.
"""

from __future__ import annotations

import logging
from typing import Any, cast

from prefect import flow, get_run_logger, tags
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task
from prefect.utilities.annotations import quote

from catalogs.errors import CatalogError, SourceUnavailable
from flows.artifacts import publish_page, publish_run, publish_scene
from flows.cancelling import cancellable
from flows.embedded import plain_errors
from flows.events import tell_published
from flows.execution import SceneWork, decloud_one, run_all
from flows.hooks import note_cancelled, note_crashed
from flows.ledger import in_ledger
from flows.meter import SCENE, Counting, Meter, Reached
from flows.patience import patient_task
from flows.request import AreaRequest, SceneRequest
from flows.run_names import area_run_name, scene_run_name, scheduled_start
from flows.run_tags import found_tags, request_tags, scene_tags, tag_run
from flows.scene_log import SceneLog
from flows.selection import Selection, select
from flows.summary import RunSummary, SceneSummary
from pipeline.errors import PipelineError
from pipeline.progress import Progress
from pipeline.runner import several_scenes
from srgan.errors import ModelError


class SceneNotDone(Exception):
    """A scene ended without a product; in its task only, so that Prefect sees what we saw."""

    def __init__(self, scene: SceneSummary) -> None:
        super().__init__(scene.line)
        self.scene = scene


class RunNotDone(Exception):
    """Some scene of a run has no product, or part of the catalogue could not be read; raised after all were tried."""

    def __init__(self, summary: RunSummary) -> None:
        super().__init__(summary.headline)
        self.summary = summary


def may_pass(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect's names
    """Whether doing the same again may help; `state` holds the error."""
    error = state.data
    if isinstance(error, SceneNotDone):
        return error.scene.state == "failed"
    return isinstance(error, SourceUnavailable)


@patient_task("search", may_pass)
def search_task(request: AreaRequest | SceneRequest) -> Selection:
    """Find the scenes of a request."""
    return select(request)


@patient_task("decloud-scene", may_pass, run_name="{name}")
def scene_task(name: str, work: SceneWork) -> SceneSummary:  # noqa: ARG001 - names the task run
    """Decloud one scene. Raises SceneNotDone where it has no product."""
    logger, reached = get_run_logger(), Reached(SCENE)
    with (
        SceneLog(logger, work.item.id) as log,
        Meter("scene-progress", work.name, reached.look, logger) as meter,
    ):
        lines = log.scene(work.number, work.count, work.name)

        def tell(stage: str, done: int, total: int) -> None:
            reached.tell(stage, done, total)
            lines(stage, done, total)

        scene = decloud_one(work, tell)
        log.ended(scene.line)
        meter.end(scene.line, 1.0 if scene.good else reached.look()[0])
    publish_scene(scene, logger)
    if not scene.good:
        raise SceneNotDone(scene)
    tell_published(scene)
    return scene


@flow(
    name="decloud-aoi",
    flow_run_name=area_run_name,
    persist_result=False,
    validate_parameters=True,
    on_crashed=[note_crashed],
    on_cancellation=[note_cancelled],
)
def decloud_aoi(request: AreaRequest) -> RunSummary:
    """Decloud the scenes of a catalogue in an area and a span of time.

    Args:
        request: Catalogue, area, dates, output, and how it is to be done
    """
    return _run(request.at(scheduled_start()))


@flow(
    name="decloud-scene",
    flow_run_name=scene_run_name,
    persist_result=False,
    validate_parameters=True,
    on_crashed=[note_crashed],
    on_cancellation=[note_cancelled],
)
def decloud_scene_flow(request: SceneRequest) -> RunSummary:
    """Decloud scenes that are named one by one.

    Args:
        request: Files or items, output, and how it is to be done
    """
    return _run(request)


def run_flow(request: AreaRequest | SceneRequest) -> RunSummary:
    """Run the flow that fits the request, in this process; a run with failed scenes is returned like any other."""
    try:
        return decloud_aoi(request) if isinstance(request, AreaRequest) else decloud_scene_flow(request)
    except RunNotDone as error:
        return error.summary


def _run(request: AreaRequest | SceneRequest) -> RunSummary:
    with cancellable():
        summary = (
            in_ledger(request, lambda: decloud_all(request))
            if isinstance(request, AreaRequest)
            else decloud_all(request)
        )
        # That of a backfill is written once, after its windows: each of them is its own, and they would write it in turns.
        window = isinstance(request, AreaRequest) and request.part_of
        if summary.scenes and not window:
            publish_page(request.output, get_run_logger())
    if summary.failed:
        raise RunNotDone(summary)
    return summary


def decloud_all(request: AreaRequest | SceneRequest) -> RunSummary:
    """Find and decloud the scenes of a request in the flow run around us, and leave its table; a failed scene raises nothing."""
    plain_errors(CatalogError, PipelineError, ModelError, SceneNotDone, RunNotDone)
    logger = get_run_logger()
    tag_run(logger, *request_tags(request))
    selection = search_task(request)
    tag_run(logger, *request_tags(request), *found_tags(selection.items))
    for line in (*selection.problems, *selection.warnings):
        logger.warning(line)
    for line in selection.remarks:
        logger.info(line)
    with several_scenes(request.resources.resources(), logger.info):
        counting = Counting(logger)
        summary = run_all(
            request, selection, counting, lambda work, progress: counting.counted(_in_task(work, progress))
        )
    publish_run(summary, logger)
    logger.log(logging.WARNING if summary.failed else logging.INFO, summary.headline)
    return summary


def _in_task(work: SceneWork, progress: Progress) -> SceneSummary:  # noqa: ARG001 - the task has a logger of its own
    try:
        with tags(*scene_tags(work.item)):
            # As it is: Prefect would look into every date of the catalogue for the results of other tasks.
            return scene_task(work.name, cast("SceneWork", quote(work)))
    except SceneNotDone as error:
        return error.scene
