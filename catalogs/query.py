"""`Query`: which scenes are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from catalogs.aoi import AreaOfInterest
from catalogs.errors import InvalidQuery
from catalogs.item import SceneItem


@dataclass(frozen=True)
class Query:
    """What to search for; None and empty mean: any."""

    aoi: AreaOfInterest | None = None
    start: datetime | None = None
    """First moment, timezone aware, inclusive."""
    end: datetime | None = None
    """Last moment, timezone aware, inclusive."""
    tile: str | None = None
    """MGRS tile `33TWL`."""
    level: Literal["L1C", "L2A"] | None = None
    """Processing level; the collection of a known source is chosen by it, L2A if None."""
    ids: tuple[str, ...] = ()
    """Ids of items."""
    collections: tuple[str, ...] = ()
    """Collections of an API; the Sentinel-2 ones if empty."""

    def __post_init__(self) -> None:
        if any(moment is not None and moment.tzinfo is None for moment in (self.start, self.end)):
            raise InvalidQuery(f"dates {self.start} / {self.end} need a time zone")
        if self.start and self.end and self.end < self.start:
            raise InvalidQuery(f"dates {self.start} / {self.end} are crossed: they end before they begin")

    def matches(self, item: SceneItem) -> bool:
        """Whether `item` is asked for. An item that does not state its footprint or its level is not ruled out by it."""
        return (
            (self.start is None or item.datetime >= self.start)
            and (self.end is None or item.datetime <= self.end)
            and (self.tile is None or item.tile == self.tile.upper().removeprefix("T"))
            and (self.level is None or item.level in (None, self.level))
            and (not self.ids or item.id in self.ids)
            and (self.aoi is None or item.geometry is None or self.aoi.geometry.intersects(item.geometry))
        )
