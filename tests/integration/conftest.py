"""One server on PostgreSQL for all tests, with everything deployed; the workers are each test's own business."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.machine import Machine, machine
from tests.integration.postgres import postgres


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """URL of an empty PostgreSQL database."""
    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def operated(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A server on PostgreSQL, everything deployed, no worker."""
    with machine(tmp_path_factory.mktemp("machine"), database) as made:
        made.serve("--no-workers")
        made.command("flows.deploy")
        yield made


@pytest.fixture
def working(operated: Machine) -> Iterator[Machine]:
    """The same with a worker for each pool."""
    operated.work("cpu")
    operated.work("gpu", "--limit", "1")
    yield operated
    for name in ("worker-gpu", "worker-cpu"):
        if name in operated.started:
            operated.stop(name)


@pytest.fixture(scope="session")
def catalog(shared_data: Path) -> Path:
    """Five dates of one tile."""
    return shared_data / "stac" / "earth-search" / "catalog.json"
