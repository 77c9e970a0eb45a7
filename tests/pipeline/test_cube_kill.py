"""kill -9 at any moment of an append: the cube is what it was or what it is to be, and the next append completes it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pipeline.cube import append_products, read_cube_state
from tests.conftest import ROOT
from tests.pipeline.made_cube import DAY, files_of, made_pixels, made_product, opened

KILLS = 20
# On an idle core half a minute; on a crowded machine every flush to the disk waits.
pytestmark = pytest.mark.timeout(1200)


class Nursery:
    """Appends in processes of their own, see `cube_nursery`."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.pipeline.cube_nursery"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONWARNINGS": "", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def begin(self, cube: Path, products: list[Path], stop: int = 0) -> int:
        """Start an append; its process id."""
        assert self.process.stdin is not None
        print(stop, cube, *products, file=self.process.stdin, flush=True)
        return int(self._line())

    def end(self) -> tuple[int, int, int]:
        """Exit status, events, event of the commit."""
        status, events, commit = (int(word) for word in self._line().split())
        return status, events, commit

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five dates; the last one of them older than all others: it moves them along the time axis."""
    output = tmp_path_factory.mktemp("series")
    return [
        made_product(output, f"S2_{day + 9}", few_pixels(day + 9), when=DAY + timedelta(days=day))
        for day in (0, 1, 2, 3, -5)
    ]


def few_pixels(seed: int) -> dict[str, np.ndarray]:
    """Two groups, three arrays: an append takes a fraction of a second."""
    made = made_pixels(seed)
    return {name: made[name] for name in ("B02", "B05", "provenance")}


def assert_whole(cube: Path, states: list[dict[str, np.ndarray]]) -> int:
    """Plain xarray reads one of `states` in all groups; its number."""
    found = {name: array.values for name, array in opened(cube).items()}
    matching = [
        number
        for number, state in enumerate(states)
        if state.keys() == found.keys() and all(np.array_equal(state[name], found[name]) for name in state)
    ]
    assert len(matching) == 1
    return matching[0]


def pixels_of(cube: Path) -> dict[str, np.ndarray]:
    return {name: array.values for name, array in opened(cube).items()}


def test_killed_at_any_event_the_cube_is_whole_and_the_next_append_completes_it(tmp_path, nursery, series):
    former, window = tmp_path / "former" / "cube.zarr", series[3:]
    append_products(former, series[:2])
    whole = tmp_path / "whole" / "cube.zarr"
    shutil.copytree(former, whole)
    nursery.begin(whole, window)
    status, events, commit = nursery.end()
    assert status == 0
    assert events > KILLS
    states, undisturbed = [pixels_of(former), pixels_of(whole)], files_of(whole)
    # The commit is hit exactly. Before it the number of events varies with what is imported and remembered: who gets through is not counted.
    commits = [-1, -2, -3, -4] if commit else []
    generator = random.Random(5)  # noqa: S311 (moments, no secrets)
    survived: list[int] = []
    for number in range(2 * KILLS):
        moment = commits.pop() if commits else generator.randint(1, events)
        cube = tmp_path / str(number) / "cube.zarr"
        shutil.copytree(former, cube)
        nursery.begin(cube, window, moment)
        status, *_ = nursery.end()
        assert status == -signal.SIGKILL or (status == 0 and moment > 0), f"event {moment} of {events}"
        if status == 0:
            continue
        new = assert_whole(cube, states)
        assert len(read_cube_state(cube).times) == (2, 4)[new]
        if moment < 0:
            assert new == (moment < -1)
        survived.append(new)
        append_products(cube, window)
        assert files_of(cube) == undisturbed, f"event {moment} of {events}"
        assert sorted(path.name for path in cube.parent.iterdir()) == [".cube.zarr.lock", "cube.zarr"]
        shutil.rmtree(cube.parent)
        if len(survived) == KILLS:
            break
    assert len(survived) == KILLS
    assert set(survived) == {0, 1}


def test_killed_by_the_clock_again_and_again(tmp_path, nursery, series):
    """One cube that never gets through its windows undisturbed ends like one that does."""
    calm, cube = tmp_path / "calm.zarr", tmp_path / "cube.zarr"
    start = time.perf_counter()
    nursery.begin(calm, series[:2])
    assert nursery.end()[0] == 0
    usual = time.perf_counter() - start
    append_products(calm, series[2:])
    generator = random.Random(8)  # noqa: S311
    kills = 0
    for window in (series[:2], series[2:]):
        before = read_cube_state(cube)
        for _ in range(4):
            pid = nursery.begin(cube, window)
            time.sleep(generator.uniform(0, 1.2) * usual)
            with contextlib.suppress(ProcessLookupError):  # it had ended
                os.kill(pid, signal.SIGKILL)
            kills += nursery.end()[0] == -signal.SIGKILL
            assert len(read_cube_state(cube).products) - len(before.products) in (0, len(window))
        append_products(cube, window)
    assert kills
    assert files_of(cube) == files_of(calm)


def test_a_killed_append_finds_its_finished_steps_again(tmp_path, nursery, series):
    cube = tmp_path / "cube.zarr"
    nursery.begin(tmp_path / "other.zarr", series[:3])
    _, events, _ = nursery.end()
    nursery.begin(cube, series[:3], events * 2 // 3)
    assert nursery.end()[0] == -signal.SIGKILL
    inodes = {path.stat().st_ino for path in (tmp_path / ".cube.zarr.steps").glob("*[!t]/*/*/c.0.*")}
    assert inodes
    append_products(cube, series[:3])
    assert inodes <= {path.stat().st_ino for path in cube.rglob("c.*")}


def test_who_reads_meanwhile_sees_a_former_or_a_new_cube(tmp_path, nursery, series):
    cube = tmp_path / "cube.zarr"
    append_products(cube, series[:1])
    seen = set()
    for window in ([series[1]], [series[2]], [series[3]]):
        nursery.begin(cube, window)
        for _ in range(3):
            with xr.open_zarr(cube, group="r10m") as data:
                count = data.sizes["time"]
                seen.add(count)
                for index in range(count):
                    np.testing.assert_array_equal(data.B02[index].values, made_pixels(index + 9)["B02"])
                assert data.item_id.values.tolist() == [f"S2_{index + 9}" for index in range(count)]
        assert nursery.end()[0] == 0
    assert len(seen) > 1


def test_two_that_append_at_once_wait_for_each_other(tmp_path, nursery, series):
    cube = tmp_path / "cube.zarr"
    nursery.begin(cube, series[:2])
    append_products(cube, series[2:4])
    assert nursery.end()[0] == 0
    assert len(read_cube_state(cube).times) == 4
    assert_whole(cube, [pixels_of(cube)])
