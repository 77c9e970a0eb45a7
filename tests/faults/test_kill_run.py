"""kill -9 of `decloud run` at any moment: each product is whole or absent, and the same command again ends as if nothing had been.

How often, and from which seed: DECLOUD_FAULT_KILLS (60, all scenarios together) and DECLOUD_FAULT_SEED (8).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.simulation.simulate import Simulated
from tests.faults.conftest import Tell
from tests.faults.forked import Nursery
from tests.faults.kills import Scenario, kill_at_random

pytestmark = pytest.mark.timeout(3600)

SCENARIOS = (
    Scenario("COG", 0.3, ("--references", "0", "--max-generated", "1")),
    Scenario("Zarr with a reference", 0.25, ("--references", "1", "--format", "zarr")),
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_killed_at_any_moment(
    scenario: Scenario, nursery: Nursery, tiny: Simulated, tmp_path: Path, tell: Tell
) -> None:
    tell(kill_at_random(scenario, nursery, tiny, tmp_path))
