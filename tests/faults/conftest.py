"""What the fault tests share: a tiny area, a nursery, and a line for each scenario at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.simulation.simulate import Simulated, SimulatedDate, simulate_area
from pipeline.simulation.weather import Weather
from tests.faults.forked import Nursery

KILLS = int(os.environ.get("DECLOUD_FAULT_KILLS", "60"))
"""Kills of all scenarios together."""
SEED = int(os.environ.get("DECLOUD_FAULT_SEED", "8"))
DAYS = ("2023-07-08", "2023-07-13", "2023-07-18")
CLOUDY = "2023-07-13/2023-07-13"
Tell = Callable[[str], None]


def examples(of_200: int) -> int:
    """How often something is done that is no kill: so often with 200 kills, and much less often with fewer, so that `make test` stays short."""
    return max(1, round(of_200 * (KILLS / 200) ** 1.5))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """Three dates, the middle one cloudy; read only."""
    clear, cloudy = Weather(cumulus=0.004, cell=300, base=600), Weather(cumulus=0.3, cell=400, base=500)
    dates = (SimulatedDate(0, clear), SimulatedDate(5, cloudy), SimulatedDate(10, clear))
    return simulate_area(tmp_path_factory.mktemp("tiny"), size=120, dates=dates)


def words(
    area: Simulated, output: Path, *more: object, command: str = "run", dates: str = CLOUDY
) -> tuple[object, ...]:
    """A command line that declouds the tiny area without a network."""
    return (
        command, "--catalog", area.catalogue, "--aoi", area.aoi, "--dates", dates, "--output", output, "--bands", "B04,B8A",
        "--checkpoint", "identity", "--tile", "64", "--quiet", *more,
    )  # fmt: skip


@pytest.fixture(scope="session")
def nursery(tiny: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Forks command lines; knows what they import."""
    made, folder = Nursery(tmp_path_factory.mktemp("said")), tmp_path_factory.mktemp("learned")
    made.learn(*words(tiny, folder / "out"), output=folder / "out")
    made.learn("status", folder / "out", "--json", output=folder / "out")
    more = ("--format", "zarr", "--cube", folder / "cube.zarr")
    made.learn(*words(tiny, folder / "b", *more, command="backfill"), output=folder / "b")
    # On files of its own: nothing that is remembered of them can help a run that meets a fault.
    shutil.copytree(tiny.catalogue.parent, folder / "other")
    other = replace(tiny, catalogue=folder / "other" / tiny.catalogue.name)
    made.rehearse(*words(other, folder / "rehearsed", "--references", "1"))
    made.rehearse("status", folder / "rehearsed", "--json")
    yield made
    made.close()


def with_reference(area: Simulated, output: Path, *more: object) -> tuple[object, ...]:
    """`words`, with one other date."""
    return words(area, output, "--references", "1", *more)


@pytest.fixture(scope="module")
def calm(nursery: Nursery, tiny: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `with_reference` makes undisturbed; read only."""
    output = tmp_path_factory.mktemp("calm") / "out"
    assert nursery.run(*with_reference(tiny, output), output=output).status == 0
    return output


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Says a line at the end of all tests, wherever this one runs."""
    return lambda line: record_property("fault", line)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    lines = [line for report in reports for name, line in getattr(report, "user_properties", ()) if name == "fault"]
    if lines:
        terminalreporter.write_sep("-", f"faults, seed {SEED}")
        for line in lines:
            terminalreporter.write_line(line)
