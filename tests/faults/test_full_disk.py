"""A disk that fills up, at the moments that matter, and one that is read-only: one clear line, nothing half done, and room is all it needs.

The disk is a real one of a few MiB. The run stops right before it writes a file of the kind that is named; the disk is filled to its last
byte; the run goes on.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
from pathlib import Path

import pytest

from pipeline.simulation.simulate import Simulated
from tests.disks import small_disk
from tests.faults.conftest import SEED, Tell, examples, words
from tests.faults.forked import Ended, Nursery
from tests.faults.outputs import listed, pixels, stray, whole_products

pytestmark = pytest.mark.timeout(1200)
STAGES = {
    "the run's record": r"^open \S+/runs/\S+part w",
    "the first line of the journal": r"^open \S+/runs/\S+\.jsonl ",
    "the scene's folder": r"^os.mkdir \S+/\.staging/",
    "a staged block": r"^open \S+/blocks/\S+\.tmp w",
    "a file in the making": r"^open \S+/product/",
    "the manifest": r"^open \S+/manifest\.sha256 w",
    "the item": r"^open \S+/out/S2B\S+/\S+json\.part w",
    "the catalogue": r"^open \S+/out/\.catalog\.json\.part w",
    "the last line of the journal": r"^os.rmdir \S+/\.staging|^os.rmdir blocks",
    "the page": r"^open \S+report\.html",
}


def fill(disk: Path) -> Path:
    """Write until there is no room left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0")
    return ballast


def command(area: Simulated, output: Path) -> tuple[object, ...]:
    return words(area, output, "--references", "1")


@pytest.fixture(scope="module")
def calm(nursery: Nursery, tiny: Simulated, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, Path]:
    output = tmp_path_factory.mktemp("calm") / "out"
    ended = nursery.run(*command(tiny, output), output=output)
    assert ended.status == 0, ended.err
    return ended, output


def check(ended: Ended, nursery: Nursery, area: Simulated, output: Path, calm: Path, how: object) -> None:
    """After a disk was full, and has room again."""
    there = whole_products(output)
    expected = pixels(whole_products(calm))
    assert pixels(there) in ({}, expected), how
    assert there or ended.status, how
    if ended.status:
        assert ended.status == 1, how
        assert "no space left" in (ended.err + ended.out).lower(), (how, ended.err, ended.out)
    again = nursery.run(*command(area, output), output=output)
    assert again.status == 0, (how, again.err, again.out)
    assert pixels(whole_products(output)) == expected, how
    assert stray(output, listed(calm)) == set(), how
    assert nursery.run("status", output, output=output).status == 0, how


@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_is_full_before_it_is_written(
    stage: str, nursery: Nursery, tiny: Simulated, calm: tuple[Ended, Path], tmp_path: Path, tell: Tell
) -> None:
    with small_disk(tmp_path / "disk", "24m") as disk:
        output = disk / "out"
        begun = nursery.begin(*command(tiny, output), output=output, at=STAGES[stage])
        assert begun.paused(), f"never came to {stage}"
        ballast = fill(disk)
        begun.resume()
        ended = begun.end()
        status = nursery.run("status", output, "--json", output=output)
        # A product that could not be put into the catalogue is whole, but it is not done.
        assert status.status in ((0,) if ended.status == 0 else (1, 2)), (stage, status.out)
        ballast.unlink()
        check(ended, nursery, tiny, output, calm[1], stage)
    tell(f"disk full before {stage}: exit status {ended.status}, whole again with room")


def test_a_disk_that_is_full_at_any_moment(
    nursery: Nursery, tiny: Simulated, calm: tuple[Ended, Path], tmp_path: Path, tell: Tell
) -> None:
    moments = random.Random(f"{SEED} disk")  # noqa: S311
    times, failed = max(2, examples(16)), 0
    for number in range(times):
        event = moments.randint(1, calm[0].events)
        with small_disk(tmp_path / f"disk-{number}", "24m") as disk:
            output = disk / "out"
            begun = nursery.begin(*command(tiny, output), output=output, pause=event)
            ballast = fill(disk) if begun.paused() else None
            begun.resume()
            ended = begun.end()
            failed += ended.status != 0
            if ballast is not None:
                ballast.unlink()
            check(ended, nursery, tiny, output, calm[1], event)
    tell(f"disk full at a random event: {times} times, {failed} failed clearly, {times - failed} had written enough")


def test_a_disk_without_any_room(nursery: Nursery, tiny: Simulated, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        ballast = fill(disk)
        ended = nursery.run(*command(tiny, disk / "out"), output=disk / "out")
        assert ended.status == 1
        assert "no space left" in ended.error.lower()
        ballast.unlink()
        assert whole_products(disk / "out") == {}


def test_an_output_that_may_only_be_read(nursery: Nursery, tiny: Simulated, tmp_path: Path, tell: Tell) -> None:
    with small_disk(tmp_path / "disk", "24m") as disk:
        output, fresh = disk / "out", disk / "fresh"
        assert nursery.run(*command(tiny, output), output=output).status == 0
        before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        try:
            for where in (output, fresh):
                ended = nursery.run(*command(tiny, where), output=where)
                assert ended.status == 2, ended.err
                assert "--output" in ended.error
                assert "read-only" in ended.error.lower()
            assert nursery.run("status", output, output=output).status == 0
        finally:
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert before == {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
    tell("read-only output: one line that names --output, nothing touched, status still tells what is there")
