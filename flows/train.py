"""`train`: a training as a Prefect flow: pairs > chips > fit > export > card.

Thin: what each step does is `fitting`'s business. The same request again goes on: chips that are complete are kept,
training continues from its last state, whatever killed the run before, and an export is made once for a checkpoint. So
nothing is cached here. Needs `flows.embedded.prepare_environment` beforehand where no server is configured.
"""

from __future__ import annotations

from typing import Annotated

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

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
from flows.interrupts import checked
from flows.patience import patient_task
from flows.train_artifacts import Artifacts, publish_card
from flows.train_request import TrainRequest
from flows.train_watch import Lines
from flows.trained import Chips, Exported, Fitted, Trained
from pipeline.errors import PipelineError
from srgan.archive import Format
from srgan.errors import ModelError


@patient_task("chips")
def chips_task(request: TrainRequest) -> Chips:
    """Write the chips of the pair tables, or look at those that are named."""
    return make_chips(request, checked(Lines(get_run_logger().info).stage))


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
    return export(request, fitted, kind, checked(Lines(get_run_logger().info).stage))


@task(name="card", task_run_name="card", cache_policy=NO_CACHE, persist_result=False)
def card_task(request: TrainRequest, fitted: Fitted) -> str:
    """Write the model card, and show it."""
    page = write_page(request, fitted)
    publish_card(request.output, page)
    return page


@flow(name="train", flow_run_name="train {request.output.name}", persist_result=False, validate_parameters=True)
def train_flow(
    request: Annotated[TrainRequest, Field(description="From what, into which folder, with which settings")],
) -> Trained:
    """Train a network from pair tables and export the best of it; goes on where an earlier run was stopped."""
    plain_errors(CatalogError, PipelineError, ModelError)
    trained = run_training(request, Steps(chips_task, fit_task, export_task, card_task))
    logger = get_run_logger()
    for name, value in trained.lines():
        logger.info(f"{name}: {value}")
    return trained
