"""`Run`: what one process of a benchmark did and took; `Tally`: the runs of one contender."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Run:
    """One process, measured from outside and by its own marks."""

    entry: str
    """Name of the contender."""
    round: int
    """From 0."""
    work: float = 0.0
    """Seconds of the work proper, between the process's own marks."""
    startup: float = 0.0
    """Seconds from the start of the process to the first mark: interpreter, imports, weights."""
    wall: float = 0.0
    """Seconds from the start of the process to its end."""
    cpu: float = 0.0
    """Seconds of processor time, user and system, of the whole process."""
    peak: int = 0
    """Bytes, ru_maxrss."""
    tree_peak: int = 0
    """Bytes, the process and all below it together, sampled."""
    output: int = 0
    """Bytes of all files of the product."""
    changed: int | None = None
    """Values that differ from the source where nothing should change; None = not looked at."""
    checked: int = 0
    """Values that were looked at for `changed`."""
    digest: str = ""
    """sha256 over the pixels of all bands; empty = not looked at."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the process told of itself."""
    failed: str = ""
    """Why there is no result; empty = there is one."""

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """The run that `to_json` described."""
        return cls(**document)


@dataclass(frozen=True)
class Tally:
    """All rounds of one contender; its figures are None where a round failed or none was run."""

    label: str
    runs: tuple[Run, ...]

    @property
    def failed(self) -> str:
        """Why it has no figures; empty = it has."""
        return next((run.failed for run in self.runs if run.failed), "" if self.runs else "not run")

    def least(self, value: Callable[[Run], float]) -> float | None:
        """Minimum over the rounds."""
        return None if self.failed else min(map(value, self.runs))

    def median(self, value: Callable[[Run], float]) -> float | None:
        """Median over the rounds."""
        return None if self.failed else statistics.median(map(value, self.runs))

    def most(self, value: Callable[[Run], float]) -> float | None:
        """Maximum over the rounds."""
        return None if self.failed else max(map(value, self.runs))

    @property
    def changed(self) -> int | None:
        """Most values changed in a round."""
        found = [run.changed for run in self.runs if run.changed is not None]
        return max(found) if found and not self.failed else None


def work(run: Run) -> float:
    """Seconds of the work proper."""
    return run.work


def ratio(one: Tally, other: Tally, which: Callable[[Tally, Callable[[Run], float]], float | None]) -> float | None:
    """Work of `one` over work of `other`, by `Tally.least` or `Tally.median`; None where one has no figures."""
    a, b = which(one, work), which(other, work)
    return a / b if a is not None and b else None
