"""kill -9 of runs that touch more than one fresh product: several dates, a product that is replaced, a backfill with its cube."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.simulation.simulate import Simulated
from tests.faults.conftest import Tell
from tests.faults.forked import Nursery
from tests.faults.kills import Scenario, kill_at_random

pytestmark = pytest.mark.timeout(3600)

TWO = "2023-07-13/2023-07-18"
SCENARIOS = (
    Scenario("two dates with references", 0.13, ("--references", "2"), dates=TWO, products=2),
    Scenario("a product that is replaced", 0.2, ("--references", "1", "--overwrite"), before=("--references", "1")),
    Scenario(
        "backfill with a cube", 0.12, ("--references", "1", "--step", "5d"), "backfill", TWO, cube=True, products=2
    ),
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_killed_at_any_moment(
    scenario: Scenario, nursery: Nursery, tiny: Simulated, tmp_path: Path, tell: Tell
) -> None:
    tell(kill_at_random(scenario, nursery, tiny, tmp_path))
