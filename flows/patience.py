"""How the flows try again: the one policy of every task that reads from somewhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from catalogs.errors import CatalogError
from pipeline.errors import PipelineError

P = ParamSpec("P")
R = TypeVar("R")

RETRIES = 3
FIRST_WAIT = 10.0
"""Seconds before the first retry; each further wait is twice as long, and up to half as long again by chance."""


def may_pass(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect's names
    """Whether doing the same again may help; `state` holds the error."""
    return isinstance(state.data, CatalogError | PipelineError) and state.data.transient


def patient_task(
    name: str,
    may_pass: Callable[[Task[..., Any], TaskRun, State[Any]], bool] = may_pass,
    run_name: str | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A task that is tried again where `may_pass` says that it may help; runs are called `run_name`, or as the task.

    Nothing is cached or kept by Prefect: run keys and what lies in the folders are the truth.
    """
    return task(
        name=name,
        task_run_name=run_name or name,
        retries=RETRIES,
        retry_delay_seconds=exponential_backoff(FIRST_WAIT),
        retry_jitter_factor=0.5,
        retry_condition_fn=may_pass,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
