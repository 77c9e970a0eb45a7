"""`backfill`: a time series over an area as a Prefect flow.

Where the server has the deployment `window`, each window is a run of it, on whichever worker takes it; else the windows run here, each
scene a task. Either way the products decide what is still to be done, so a run that was killed is simply started again.
Needs `flows.embedded.prepare_environment` beforehand where no server is configured.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime

from prefect import flow, get_run_logger

from catalogs.errors import CatalogError
from flows.artifacts import publish_backfill, publish_page
from flows.backfill_request import BackfillRequest
from flows.backfilling import BackfillSummary, RunWindow, run_windows
from flows.cancelling import cancellable
from flows.children import WINDOW, DeployedWindows, find_windows
from flows.credentials import given
from flows.decloud import decloud_all
from flows.embedded import plain_errors
from flows.hooks import note_cancelled, note_crashed
from flows.ledger import in_ledger
from flows.meter import Meter, Reached
from flows.run_names import backfill_run_name, scheduled_start
from flows.run_tags import request_tags, tag_run
from flows.scene_log import Log
from pipeline.errors import InvalidSettings, PipelineError
from pipeline.runner import several_scenes
from srgan.errors import ModelError

_OWN_URL = (
    "user, password or signature in the URL of the catalogue are never stored, so no worker would have them: leave them out of it, and put "
    "user and password into ~/.netrc of the worker"
)


class BackfillNotDone(Exception):
    """Some window is not done; raised after all were tried."""

    def __init__(self, summary: BackfillSummary) -> None:
        super().__init__(summary.headline)
        self.summary = summary


@flow(
    name="backfill",
    flow_run_name=backfill_run_name,
    persist_result=False,
    validate_parameters=True,
    on_crashed=[note_crashed],
    on_cancellation=[note_cancelled],
)
def backfill(request: BackfillRequest) -> BackfillSummary:
    """Decloud a time series over an area in windows, oldest first; what is done already is left alone.

    Args:
        request: Catalogue, area, dates, output, windows, and how it is to be done
    """
    plain_errors(CatalogError, PipelineError, ModelError, BackfillNotDone)
    logger = get_run_logger()
    moment = scheduled_start()
    tag_run(logger, *request_tags(request), f"backfill:{request.id}")
    runner = _runner(request, logger)
    here = not isinstance(runner, DeployedWindows)
    with cancellable(), several_scenes(request.resources.resources(), logger.info) if here else nullcontext():
        summary = _windows(request.at(moment), runner, moment, logger)
        if any(line.scenes for line in summary.windows):
            publish_page(request.output, logger)
    publish_backfill(summary, logger)
    logger.log(logging.WARNING if summary.failed else logging.INFO, summary.headline)
    if summary.failed:
        raise BackfillNotDone(summary)
    return summary


def run_backfill_flow(request: BackfillRequest) -> BackfillSummary:
    """Run the flow in this process; a backfill with windows that are not done is returned like any other."""
    try:
        return backfill(request)
    except BackfillNotDone as error:
        return error.summary


def _windows(request: BackfillRequest, runner: RunWindow, moment: datetime, logger: Log) -> BackfillSummary:
    reached = Reached()
    with Meter("backfill-progress", "all windows", reached.look, logger):
        return run_windows(request, runner, moment, logger.info, reached.tell)


def _runner(request: BackfillRequest, logger: Log) -> RunWindow:
    """What runs a window. Raises InvalidSettings where the deployment is asked for and cannot be used."""
    found = None if request.windows == "inline" else find_windows()
    if found is not None and not found.problem and given(request.catalog) != request.catalog:
        # A worker is told the URL as the server may keep it, and would be refused.
        found = replace(found, problem=_OWN_URL)
    if found is None or found.problem:
        why = found.problem if found is not None else f"the server has no deployment {WINDOW}: make deploy"
        if request.windows == "deployed":
            raise InvalidSettings(f"windows `deployed`: {why}")
        if found is not None:
            logger.warning(f"windows run here: {why}")
        return lambda window: in_ledger(window, lambda: decloud_all(window))
    return DeployedWindows(found, logger)
