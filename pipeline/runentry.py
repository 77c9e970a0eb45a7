"""`RunEntry`: one scene of a run report: how it ended, its product, its pictures and its means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from catalogs.names import date_in, tile_in
from pipeline.productview import ProductView
from pipeline.survey import Survey
from pipeline.viewpictures import ViewPictures
from pipeline.viewseries import Vegetation

Look = Literal["done", "failed", "invalid", "other"]
"""What a state looks like: those in between (interrupted, running, gone, damaged, ...) share one look, and say their name."""
MISSING = "-"
"""Written for a figure that nobody knows."""


@dataclass(frozen=True)
class SceneLine:
    """How a scene ended, by the journals of an output."""

    scene: str
    """Id of the source item; of the product where no journal tells of it."""
    state: str
    """done, unchanged, failed, invalid, interrupted, running, planned, gone or damaged."""
    time: str = ""
    """Of the state: UTC, ISO 8601; empty where nobody wrote it down."""
    reason: str = ""
    product: str = ""
    """Id of the product, where there is one."""


@dataclass(frozen=True)
class RunEntry:
    """One scene."""

    line: SceneLine
    view: ProductView | None = None
    pictures: ViewPictures = field(default_factory=ViewPictures)
    vegetation: Vegetation | None = None
    problems: tuple[str, ...] = ()
    """What could not be shown of the product."""
    longest: int = 0
    """Pixels that the longer side of its pictures may have; 0 where the page holds none of it, because newer scenes have them."""

    @property
    def id(self) -> str:
        """Of the product; of the scene where there is none."""
        return self.line.scene if self.view is None else self.view.id

    @property
    def scene(self) -> str:
        """Id of the source item."""
        return self.line.scene if self.view is None else self.view.scene

    @property
    def time(self) -> datetime | None:
        """Of acquisition, UTC; from the name of a scene that has no product."""
        return date_in(self.scene) if self.view is None else self.view.time

    @property
    def tile(self) -> str:
        """MGRS tile, as far as known."""
        return (tile_in(self.scene) or "") if self.view is None else self.view.tile

    @property
    def look(self) -> Look:
        """How the state is shown."""
        return look_of(self.line.state)

    @property
    def title(self) -> str:
        """What a person calls the scene."""
        date = "" if self.time is None else f"{self.time:%Y-%m-%d}"
        return f"{self.tile} {date}".strip() if self.tile and date else self.scene


def look_of(state: str) -> Look:
    """How a state is shown.

    >>> look_of("unchanged"), look_of("interrupted")
    ('done', 'other')
    """
    if state in ("done", "unchanged"):
        return "done"
    if state == "failed":
        return "failed"
    return "invalid" if state == "invalid" else "other"


def joined(lines: Sequence[SceneLine], found: Survey) -> list[tuple[SceneLine, ProductView | None]]:
    """Each scene with its product where there is one, and each product with its line, oldest first."""
    by_product: Mapping[str, SceneLine] = {line.product: line for line in lines if line.product}
    by_scene: Mapping[str, SceneLine] = {line.scene: line for line in lines}
    pairs: list[tuple[SceneLine, ProductView | None]] = []
    used, older = set(), {view.id for view in found.older}
    for view in found.products:
        line = by_product.get(view.id) or by_scene.get(view.scene) or SceneLine(view.scene, "done", product=view.id)
        used |= {line.scene}
        pairs.append((line, view))
    pairs += [(line, None) for line in lines if line.scene not in used and line.product not in older]
    return sorted(pairs, key=_when)


def _when(pair: tuple[SceneLine, ProductView | None]) -> tuple[bool, str, str]:
    line, view = pair
    time = date_in(line.scene) if view is None else view.time
    return time is None, "" if time is None else time.isoformat(), line.scene


def percent(share: float | None) -> str:
    r"""A share as text; what is there but rounds to nothing says so, as does what is almost all.

    >>> percent(0.4307), percent(0.0004), percent(0), percent(0.99996), percent(None)
    ('43.1\xa0%', '<0.1\xa0%', '0\xa0%', '>99.9\xa0%', '-')
    """
    if share is None:
        return MISSING
    if 0 < share < 0.0005:
        return "<0.1\xa0%"
    if 0.9995 <= share < 1:
        return ">99.9\xa0%"
    return f"{100 * share:.1f}\xa0%" if 0 < share < 1 else f"{100 * share:.0f}\xa0%"


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of those that are known.

    >>> mean([0.2, None, 0.4])
    0.30000000000000004
    """
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "scene"), counted(5, "scene")
    ('1 scene', '5 scenes')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
