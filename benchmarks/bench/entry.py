"""`Entry`: one contender of a line; `Line`: what is compared with what, and what the comparison must show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.bench.images import Images
from benchmarks.bench.job import Job
from benchmarks.bench.run import Tally


@dataclass(frozen=True)
class Check:
    """What is looked at in a product."""

    changed: bool = False
    """Count values that differ from the source where nothing should change."""
    cloudy: str = ""
    """Raster of where it may; empty: nowhere."""
    reach: int = 0
    """Pixels around clouds that may change as well."""
    digest: bool = False
    """Take a digest of all pixels."""


@dataclass(frozen=True)
class Entry:
    """One contender."""

    name: str
    """Unique in its line; begins the name of its folder."""
    label: str
    """What the table calls it."""
    module: str
    """Run by `python -m` with the job's file as its argument."""
    job: Job
    group: str = ""
    """Group of packages in contenders.txt whose environment runs it; empty: the product's own."""
    check: Check = field(default_factory=Check)


@dataclass(frozen=True)
class Verdict:
    """One thing that a line must show."""

    says: str
    """In words, with the bound."""
    value: float | None
    """What was measured; None where that cannot be told, as a contender failed."""
    bound: float | None
    """Most that it may be; None: stated as it is."""

    @property
    def holds(self) -> bool | None:
        """Whether it does; None where nothing is asked or nothing is known."""
        return None if self.bound is None or self.value is None else self.value <= self.bound


@dataclass(frozen=True)
class Setup:
    """What a line is made with."""

    work: Path
    """Folder for scenes, networks and outputs."""
    images: Images
    data: Path
    """Folder of the real data; may be absent."""
    threads: int
    """Of every contender."""
    size: int | None = None
    """Edge of the scene in pixels of 10 m, instead of the line's own."""


class Line(Protocol):
    """One comparison."""

    @property
    def name(self) -> str:
        """One word, for `--only`."""
        ...

    @property
    def title(self) -> str:
        """Of its table."""
        ...

    def entries(self, setup: Setup) -> Sequence[Entry]:
        """Make what is needed; the contenders, in the order of the table."""
        ...

    def verdicts(self, tallies: Mapping[str, Tally]) -> Sequence[Verdict]:
        """What was to be shown, from the runs of each entry."""
        ...

    def yardstick(self) -> str:
        """The entry that the table's ratios are to."""
        ...
