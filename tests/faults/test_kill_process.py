"""kill -9 of `python -m flows run` as a shell starts it, of the Dask worker that a run works with, and of a run that has one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.simulation.simulate import Simulated
from tests.conftest import ROOT
from tests.faults.conftest import KILLS, SEED, Tell, with_reference
from tests.faults.forked import Begun, Nursery
from tests.faults.outputs import listed, pixels, stray, whole_products

pytestmark = pytest.mark.timeout(1800)
TIMES = max(2, KILLS // 25)


def resumed(nursery: Nursery, area: Simulated, output: Path, calm: Path) -> None:
    """What was killed ends like what was not, and without its cluster, which decides no pixel."""
    there = pixels(whole_products(output))
    assert there in ({}, pixels(whole_products(calm)))
    told = nursery.run("status", output, output=output)
    # Killed after the product was there and before its journal says so, it is not known as done.
    assert told.status in ((0, 1) if there else (1, 2)), told.out
    again = nursery.run(*with_reference(area, output), output=output)
    assert again.status == 0, again.err
    assert pixels(whole_products(output)) == pixels(whole_products(calm))
    assert stray(output, listed(calm)) == set()
    assert nursery.run("status", output, output=output).status == 0


def test_a_process_of_its_own(nursery: Nursery, tiny: Simulated, calm: Path, tmp_path: Path, tell: Tell) -> None:
    moments = random.Random(f"{SEED} process")  # noqa: S311

    def begun(output: Path) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows", *map(str, with_reference(tiny, output))],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        # It takes a second to start: from its first trace on the moments are counted.
        while process.poll() is None and not (output / "runs").exists():
            time.sleep(0.005)
        return process

    process, start = begun(tmp_path / "calm"), time.monotonic()
    assert process.wait() == 0
    length = time.monotonic() - start
    kills = late = 0
    while kills < TIMES:
        output = tmp_path / str(kills + late)
        process = begun(output)
        try:
            process.wait(moments.uniform(0, length))
            late += 1
            # One that ended sooner than the calm one: the next are killed sooner too.
            length *= 0.8
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            kills += 1
        # With blocks of the usual size this scene has one, and the same pixels.
        resumed(nursery, tiny, output, calm)
    tell(f"kill -9, python -m flows run: {kills} kills, {kills} survived; {late} moments came after the end")


def workers(begun: Begun) -> list[psutil.Process]:
    """Processes that compute for a run."""
    found = psutil.Process(begun.pid).children(recursive=True)
    return [one for one in found if any("spawn_main" in word for word in one.cmdline())]


def killed_worker(begun: Begun, delay: float) -> bool:
    """Kill the worker so many seconds after it was first seen; False where there is none any more."""
    seen = None
    while not begun.over:
        try:
            found = workers(begun)
            if found and seen is None:
                seen = time.monotonic()
            if found and seen is not None and time.monotonic() - seen >= delay:
                found[-1].kill()
                return True
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.02)
    return False


def test_the_dask_worker(nursery: Nursery, tiny: Simulated, calm: Path, tmp_path: Path, tell: Tell) -> None:
    """Every other time at any moment, which may be before it is ready; else while it has parts of blocks."""
    moments = random.Random(f"{SEED} worker")  # noqa: S311
    kills = went_on = 0
    for number in range(TIMES):
        output, at_work = tmp_path / str(number), number % 2 == 1
        how = {"at": r"^open \S+/blocks/\S+\.tmp w"} if at_work else {}
        begun = nursery.begin(*with_reference(tiny, output, "--dask", "local:1"), output=output, **how)
        if at_work:
            assert begun.paused()
        kills += killed_worker(begun, 0 if at_work else moments.uniform(0, 2))
        if at_work:
            begun.resume()
        ended = begun.end()
        assert ended.status in (0, 1), ended.err
        there = pixels(whole_products(output))
        assert there == (pixels(whole_products(calm)) if ended.status == 0 else {}), "never a wrong product"
        assert all(line.startswith(("error: ", "warning: ")) for line in ended.err.splitlines()), ended.err
        went_on += ended.status == 0
        assert ended.status == 0 or not at_work, ended.out
        resumed(nursery, tiny, output, calm)
    tell(f"kill -9 of the Dask worker: {kills} kills, {kills} survived; {went_on} of {TIMES} runs went on to the end")


def test_a_run_with_a_dask_worker(nursery: Nursery, tiny: Simulated, calm: Path, tmp_path: Path, tell: Tell) -> None:
    moments = random.Random(f"{SEED} client")  # noqa: S311
    kills = 0
    for number in range(max(1, TIMES // 2)):
        output = tmp_path / str(number)
        # The first while its worker has parts of blocks.
        how = {"at": r"^open \S+/blocks/\S+\.tmp w"} if number == 0 else {}
        begun = nursery.begin(*with_reference(tiny, output, "--dask", "local:1"), output=output, **how)
        if how:
            assert begun.paused()
        while not begun.over and not (output / "runs").exists():
            time.sleep(0.005)
        time.sleep(0 if how else moments.uniform(0, 2))
        if not begun.over:
            os.kill(begun.pid, signal.SIGKILL)
        kills += begun.end().status == -signal.SIGKILL
        # Its processes notice that they are alone.
        deadline = time.monotonic() + 120
        while any(_of_session(begun.pid)):
            assert time.monotonic() < deadline, list(_of_session(begun.pid))
            time.sleep(0.1)
        resumed(nursery, tiny, output, calm)
    assert kills
    tell(f"kill -9 of a run with a Dask worker: {kills} kills, {kills} survived, no process left behind")


def _of_session(number: int) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found
