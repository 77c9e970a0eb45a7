"""Ctrl-C, once and twice, at any moment of a command line: status 130 and a true word, and the same command goes on from there."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from pipeline.simulation.simulate import Simulated
from tests.faults.conftest import SEED, Tell, examples, words
from tests.faults.forked import Nursery
from tests.faults.outputs import listed, pixels, stray, whole_products

pytestmark = pytest.mark.timeout(1200)
TIMES = max(2, examples(13))


@pytest.mark.parametrize("signals", [1, 2], ids=["once", "twice"])
def test_ctrl_c_at_any_moment(signals: int, nursery: Nursery, tiny: Simulated, tmp_path: Path, tell: Tell) -> None:
    moments = random.Random(f"{SEED} ctrl-C {signals}")  # noqa: S311

    def command(output: Path) -> tuple[object, ...]:
        return words(tiny, output, "--references", "1")

    calm = tmp_path / "calm"
    undisturbed = nursery.run(*command(calm), output=calm)
    assert undisturbed.status == 0
    expected, stopped = pixels(whole_products(calm)), 0
    for number in range(TIMES):
        output = tmp_path / str(number)
        event = moments.randint(1, undisturbed.events)
        begun = nursery.begin(*command(output), output=output, pause=event)
        assert begun.paused()
        os.kill(begun.pid, signal.SIGINT)
        begun.resume()
        if signals == 2:
            # One that comes before the first was taken is one with it.
            said = Path(f"{begun.order.said}.err")
            while not begun.over and "stopping" not in said.read_text():
                time.sleep(0.001)
            if not begun.over:
                os.kill(begun.pid, signal.SIGINT)
        ended = begun.end()
        there = pixels(whole_products(output))
        assert there in ({}, expected)
        assert ended.status in (0, 130), (event, ended.err)
        if ended.status == 0:
            assert there == expected
        else:
            stopped += 1
            assert "stopping" in ended.err or "interrupted" in ended.err
            status = nursery.run("status", output, "--json", output=output)
            if status.status != 2:
                states = {scene["state"] for scene in status.document["scenes"]}
                assert states <= {"planned", "interrupted", "done"}, (event, states)
                assert there or "done" not in states
                assert status.status == (0 if states == {"done"} else 1)
        again = nursery.run(*command(output), output=output)
        assert again.status == 0, (event, again.err)
        assert pixels(whole_products(output)) == expected, event
        assert stray(output, listed(calm)) == set(), event
        assert nursery.run("status", output, output=output).status == 0
    tell(
        f"ctrl-C {'once' if signals == 1 else 'twice'}: {TIMES} times, {stopped} ended with 130, all resumed to the same"
    )
