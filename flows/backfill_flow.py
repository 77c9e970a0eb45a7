"""`backfill`: a time series over an area as a Prefect flow.

Where the server has the deployment `window`, each window is a run of it, on whichever worker takes it; else the windows run here, each
scene a task. Either way the products decide what is still to be done, so a run that was killed is simply started again.
Needs `flows.embedded.prepare_environment` beforehand where no server is configured.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field

from catalogs.errors import CatalogError
from flows.artifacts import publish_backfill
from flows.backfill_request import BackfillRequest
from flows.backfilling import BackfillSummary, RunWindow, run_windows
from flows.cancelling import cancellable
from flows.children import WINDOW, DeployedWindows, find_windows
from flows.decloud import decloud_all, scheduled_start
from flows.embedded import plain_errors
from flows.hooks import note_cancelled, note_crashed
from flows.ledger import in_ledger
from pipeline.errors import InvalidSettings, PipelineError
from pipeline.runner import one_cluster
from srgan.errors import ModelError


class BackfillNotDone(Exception):
    """Some window is not done; raised after all were tried."""

    def __init__(self, summary: BackfillSummary) -> None:
        super().__init__(summary.headline)
        self.summary = summary


@flow(
    name="backfill",
    flow_run_name="backfill {request.dates}",
    persist_result=False,
    validate_parameters=True,
    on_crashed=[note_crashed],
    on_cancellation=[note_cancelled],
)
def backfill(
    request: Annotated[
        BackfillRequest, Field(description="Catalogue, area, dates, output, windows, and how it is to be done")
    ],
) -> BackfillSummary:
    """Decloud a time series over an area in windows, oldest first; what is done already is left alone."""
    plain_errors(CatalogError, PipelineError, ModelError, BackfillNotDone)
    logger = get_run_logger()
    moment = scheduled_start()
    runner = _runner(request, logger)
    here = not isinstance(runner, DeployedWindows)
    with cancellable(), one_cluster(request.resources.resources(), logger.info) if here else nullcontext():
        summary = run_windows(request.at(moment), runner, moment, logger.info)
    publish_backfill(summary)
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


def _runner(request: BackfillRequest, logger: logging.Logger | logging.LoggerAdapter[logging.Logger]) -> RunWindow:
    """What runs a window. Raises InvalidSettings where the deployment is asked for and cannot be used."""
    found = None if request.windows == "inline" else find_windows()
    if found is None or found.problem:
        why = found.problem if found is not None else f"the server has no deployment {WINDOW}: make deploy"
        if request.windows == "deployed":
            raise InvalidSettings(f"windows `deployed`: {why}")
        if found is not None:
            logger.warning(f"windows run here: {why}")
        return lambda window: in_ledger(window, lambda: decloud_all(window))
    return DeployedWindows(found, logger)
