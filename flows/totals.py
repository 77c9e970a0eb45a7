"""`PlanTotals`: what the scenes of a plan cost together, in words and for machines."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pipeline.address import address, output_url

if TYPE_CHECKING:
    from pipeline.cost import Cost
    from pipeline.plan import ScenePlan

COLUMNS = ("read", "written", "disk", "memory", "minutes")
"""Of the table of a plan."""


@dataclass(frozen=True)
class PlanTotals:
    """All scenes of a plan that are to be done."""

    output: str
    """Empty where none was named."""
    found: int
    """Scenes of the plan, those that are done or invalid among them."""
    scenes: int
    """Scenes to be done; all that follows is theirs."""
    tiles: int
    needed: int
    """Tiles that the network must see."""
    read: int
    """Bytes of pixels, decoded."""
    written: int
    """Bytes of pixels, before compression."""
    disk: int
    """Bytes of the products' files, about."""
    memory: int
    """Bytes held at most, in the scene that holds most: one is run after the other."""
    max_memory: int
    """Bytes that were allowed."""
    minutes: float
    free: int | None
    """Bytes free on the disk of the products; None where nobody can say."""

    @classmethod
    def of(cls, plans: Sequence[ScenePlan], max_memory: int, output: Path | None) -> Self:
        """The totals of `plans` for a run into the folder `output`; None where none was named."""
        to_do = [scene for scene in plans if scene.state in ("new", "stale")]
        costs = [scene.cost for scene in to_do]
        return cls(
            output="" if output is None else address(output),
            found=len(plans),
            scenes=len(to_do),
            tiles=sum(scene.tiles for scene in to_do),
            needed=sum(scene.needed for scene in to_do),
            read=sum(cost.read for cost in costs),
            written=sum(cost.written for cost in costs),
            disk=sum(cost.disk for cost in costs),
            memory=max((cost.memory for cost in costs), default=0),
            max_memory=max_memory,
            minutes=sum(cost.wall for cost in costs) / 60,
            free=None if output is None else _free(output),
        )

    @property
    def line(self) -> str:
        """One line."""
        found = f"{self.found} scene{'' if self.found == 1 else 's'}, {self.scenes} to do"
        if not self.scenes:
            return found
        return (
            f"{found}: {self.needed} of {self.tiles} tiles for the network, {size(self.read)} to read, {size(self.written)} to write"
            f" (about {size(self.disk)} on disk), at most {self.memory / 2**30:.1f} of {self.max_memory / 2**30:.1f} GiB of memory,"
            f" about {self.minutes:.1f} minutes"
        )

    @property
    def warning(self) -> str:
        """What is in the way of the run; empty where nothing is."""
        if self.free is not None and self.free < self.disk:
            return (
                f"{self.output}: {size(self.free)} are free on its disk, and the products take about {size(self.disk)}: make room, or "
                "choose another --output"
            )
        return ""


def cost_shown(cost: Cost) -> tuple[str, ...]:
    """`COLUMNS` of a scene; empty where it is not to be run."""
    if not cost.read:
        return ("",) * len(COLUMNS)
    return (
        size(cost.read), size(cost.written), size(cost.disk), f"{cost.memory / 2**30:.1f} GiB", f"{cost.wall / 60:.1f}"
    )  # fmt: skip


def size(count: int) -> str:
    """Bytes for people.

    >>> size(3_140_000_000), size(27_000_000), size(999), size(0)
    ('3.1 GB', '27 MB', '1 kB', '0 kB')
    """
    if count >= 999_500_000:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 999_500 else f"{-(-count // 1000)} kB"


def _free(output: Path) -> int | None:
    """Free bytes where `output` is or will be; None for a bucket."""
    if output_url(output) is not None:
        return None
    with suppress(OSError):
        there = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
        return shutil.disk_usage(there).free
    return None
