"""Clocks that jump while a scene is being made: the product is the same, and what is told of it is true."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from pipeline.simulation.simulate import Simulated
from tests.faults.clocks import DAY
from tests.faults.conftest import SEED, Tell, examples, with_reference
from tests.faults.forked import Nursery
from tests.faults.outputs import listed, pixels, stray, whole_products

pytestmark = pytest.mark.timeout(1200)
YEAR = 366 * DAY
RUNS = examples(3)
JUMPS = {
    "a day back": (-DAY,),
    "a year ahead": (YEAR,),
    "a year ahead and back": (YEAR, 0.0),
    "a day back and on": (-DAY, 0.0),
}


@pytest.mark.parametrize("name", JUMPS)
def test_a_clock_that_jumps_during_the_run(
    name: str, nursery: Nursery, tiny: Simulated, calm: Path, tmp_path: Path, tell: Tell
) -> None:
    moments = random.Random(f"{SEED} {name}")  # noqa: S311
    for number in range(RUNS):
        output = tmp_path / str(number)
        # The first jump is between the beginning of the scene and its end; there are some thirty questions for the time in a run.
        asked = sorted(moments.sample(range(4, 16), len(JUMPS[name])))
        ended = nursery.run(
            *with_reference(tiny, output), output=output, jumps=tuple(zip(asked, JUMPS[name], strict=True))
        )
        assert ended.status == 0, ended.err
        assert pixels(whole_products(output)) == pixels(whole_products(calm))
        assert stray(output, listed(calm)) == set()
        status = nursery.run("status", output, output=output)
        assert status.status == 0, (asked, status.out)
    tell(f"clock jumps {name}: {RUNS} runs, products as ever, status true")


@pytest.mark.parametrize("by", [-DAY, YEAR], ids=["a day behind", "a year ahead"])
def test_a_run_under_a_wrong_clock_and_one_under_the_right_one(
    by: float, nursery: Nursery, tiny: Simulated, calm: Path, tmp_path: Path
) -> None:
    """What was killed under a clock that was ahead is not still interrupted a year long once it is done."""
    output = tmp_path / "out"
    killed = nursery.begin(*with_reference(tiny, output), output=output, jumps=((1, by),), at=r"^open \S+/product/")
    assert killed.paused()
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.end().status == -signal.SIGKILL
    assert nursery.run("status", output, output=output).status == 1
    assert nursery.run(*with_reference(tiny, output), output=output).status == 0
    assert pixels(whole_products(output)) == pixels(whole_products(calm))
    status = nursery.run("status", output, output=output)
    assert status.status == 0, status.out
