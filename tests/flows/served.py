"""Tests on a real embedded server: the marks that they bear, and what the server says of the last run."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

SERVED = [
    pytest.mark.prefect,
    pytest.mark.usefixtures("server"),
    # Prefect's own: its test server and its database pool close their sockets in the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def last_run() -> Any:
    """The flow run that began last."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)
        return run


def task_runs(flow_run: UUID) -> dict[str, Any]:
    """The task runs of a flow run by name."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    with get_client(sync_client=True) as client:
        found = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])))
    return {run.name: run for run in found}
