"""`kill_at_random`: a command line is killed at seeded moments, and everything that must hold afterwards is looked at each time.

Half of the moments are events on the output's files, drawn from those of an undisturbed run, and half of these from its last fifth, where a
product becomes one; half are moments of time, which hit what GDAL writes too. One output in four is killed a second time before it is left in peace.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.simulation.simulate import Simulated
from tests.faults.conftest import CLOUDY, KILLS, SEED, words
from tests.faults.forked import Ended, Nursery
from tests.faults.outputs import listed, pixels, stray, whole_products


@dataclass(frozen=True)
class Scenario:
    """A command line, and what is there before it."""

    name: str
    share: float
    """Of all kills."""
    more: Sequence[str] = ()
    command: str = "run"
    dates: str = CLOUDY
    before: Sequence[str] | None = None
    """Further words of a run that has ended before."""
    cube: bool = False
    products: int = 1

    @property
    def wanted(self) -> int:
        """Kills."""
        return max(1, round(KILLS * self.share))


@dataclass(frozen=True)
class Calm:
    """What an undisturbed run leaves."""

    products: dict[str, dict[str, str]]
    files: set[str]
    seconds: float
    events: int


@dataclass
class Ground:
    """Where a scenario is played."""

    scenario: Scenario
    nursery: Nursery
    area: Simulated
    folder: Path
    present: int = 0
    """Products that were whole right after a kill."""

    def __post_init__(self) -> None:
        self.former = self.folder / "former"
        self.former.mkdir()
        if self.scenario.before is not None:
            begun = words(self.area, self.former / "out", *self.scenario.before, dates=self.scenario.dates)
            assert self.nursery.run(*begun, output=self.former).status == 0
        home = self.fresh("calm")
        ended = self.run(home)
        assert ended.status == 0, ended.err
        self.calm = Calm(pixels(whole_products(home / "out")), listed(home), ended.seconds, ended.events)
        assert len(self.calm.products) == self.scenario.products

    def fresh(self, name: str) -> Path:
        """A home in which nothing has been killed yet."""
        shutil.copytree(self.former, self.folder / name)
        return self.folder / name

    def run(self, home: Path, **how: Any) -> Ended:
        more = (*self.scenario.more, *(("--cube", home / "cube.zarr") if self.scenario.cube else ()))
        command = words(
            self.area, home / "out", *more, command=self.scenario.command, dates=self.scenario.dates
        )  # fmt: skip
        return self.nursery.run(*command, output=home, **how)

    def check_killed(self, home: Path, how: object) -> None:
        """Each product is whole or absent, and `decloud status` says so."""
        there = whole_products(home / "out")
        self.present += len(there)
        assert pixels(there) == {name: files for name, files in self.calm.products.items() if name in there}, how
        ended = self.nursery.run("status", home / "out", "--json", output=home)
        if ended.status == 2:
            # Nothing is known yet: no product, and no line of a journal.
            assert not there, how
            assert "--output of" in ended.error, how
            return
        assert ended.status == (0 if not self.left(ended.document) else 1), how
        for scene in ended.document["scenes"]:
            assert scene["state"] != "running", (how, scene)
            if scene["state"] in ("done", "unchanged"):
                assert scene["product"] in there, (how, scene)
        if ended.status == 0:
            assert set(there) <= set(self.calm.products), how

    def left(self, document: dict[str, Any]) -> bool:
        """Whether a document of `decloud status` names anything that is not done."""
        scenes = any(scene["state"] not in ("done", "unchanged") for scene in document["scenes"])
        return scenes or any(window["state"] != "done" for each in document["backfills"] for window in each["windows"])

    def check_resumed(self, home: Path, how: object) -> None:
        """The same command again ends like one that was never killed."""
        again = self.run(home)
        assert again.status == 0, (how, again.err, again.out)
        assert pixels(whole_products(home / "out")) == self.calm.products, how
        assert stray(home, self.calm.files) == set(), how
        told = self.nursery.run("status", home / "out", output=home)
        assert told.status == 0, (how, told.out)


KEY = (
    r"^opened \S+/\.?S2[^/]+json(\.part)? w",
    r"^opened \S+/\.?catalog\.json(\.part)? w",
    r"^os.rmdir (blocks|\S+/\.staging/\S+) ",
)
"""Moments that each product goes through, besides those that are drawn: its item and the catalogue are begun
and have no content yet, its blocks are being removed."""


def drawn(scenario: Scenario, calm: Calm) -> Iterator[tuple[dict[str, Any], bool]]:
    """Moments without end, and whether the output is killed once more; each scenario has a list of its own."""
    moments = random.Random(f"{SEED} {scenario.name}")  # noqa: S311 (moments, no secrets)
    while True:
        yield {"after": moments.uniform(0.02, calm.seconds)}, moments.random() < 0.25
        # Where a product becomes one is the last fifth, and half of the events.
        first = 1 if moments.random() < 0.5 else calm.events * 4 // 5
        yield {"stop": moments.randint(first, calm.events)}, moments.random() < 0.25


def kill_at_random(scenario: Scenario, nursery: Nursery, area: Simulated, folder: Path) -> str:
    """Play a scenario; returns the line that sums it up. Fails where anything does not hold."""
    start = time.monotonic()
    ground = Ground(scenario, nursery, area, folder)
    kills = late = 0
    key = 0
    for number, pattern in enumerate(KEY):
        home = ground.fresh(f"key-{number}")
        if ground.run(home, at=pattern, fatal=True).status == -signal.SIGKILL:
            key += 1
            ground.check_killed(home, pattern)
        ground.check_resumed(home, pattern)
        shutil.rmtree(home)
    assert key >= 2
    home, again = ground.fresh("0"), False
    for how, more in drawn(scenario, ground.calm):
        if kills == scenario.wanted:
            break
        ended = ground.run(home, **how)
        if ended.status == 0:
            late += 1
            assert late <= 4 * scenario.wanted + 8
            if not again:
                # Nothing was killed here: it is as calm as the first one.
                shutil.rmtree(home)
                home = ground.fresh(str(kills + late))
                continue
        else:
            assert ended.status == -signal.SIGKILL, (how, ended.err)
            kills += 1
            ground.check_killed(home, how)
            if more and not again:
                again = True
                continue
        ground.check_resumed(home, how)
        shutil.rmtree(home)
        home, again = ground.fresh(str(kills + late)), False
    return (
        f"kill -9, {scenario.name}: {kills} + {key} kills, all survived; {late} moments came after the end; right after a kill {ground.present} "
        f"products were whole and there; {time.monotonic() - start:.0f} s"
    )
