"""`SceneItem`: where one scene is, and what its metadata say; the only thing that leaves `catalogs`. No pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from shapely.geometry.base import BaseGeometry

from catalogs.bands import BANDS
from catalogs.errors import InvalidItem


@dataclass(frozen=True)
class BandAsset:
    """One band in one file."""

    band: str
    """ESA's name: `B02`; for a mask `SCL`."""
    key: str
    """Asset key in the source item; products use the same key (`blue` in Earth Search, `B02` elsewhere)."""
    href: str
    """Absolute path or URL, exactly as it is to be opened."""
    index: int = 1
    """Band number in the file, from 1."""
    scale: float = 1e-4
    """reflectance = DN * scale + offset."""
    offset: float = 0.0
    """Reflectance units, what is still to be added to the stored DN (0 where the provider has applied it already)."""
    nodata: int | None = None
    """DN that the metadata declare as nodata; None where they are silent (the file's own value then holds)."""

    def __post_init__(self) -> None:
        if self.index < 1:
            raise InvalidItem(f"{self.href}: band index {self.index} must be at least 1")
        if not self.scale > 0:
            raise InvalidItem(f"{self.href}: scale {self.scale} must be positive")


@dataclass(frozen=True)
class SceneItem:
    """One acquisition of one tile (or one file of the user's), with its bands resolved to ESA's names."""

    id: str
    datetime: datetime
    """Time of acquisition, timezone aware, UTC."""
    bands: Mapping[str, BandAsset]
    """ESA's band name -> asset, in the order of `BANDS`; at least one."""
    scl: BandAsset | None = None
    """Scene classification of L2A, where there is one."""
    level: Literal["L1C", "L2A"] | None = None
    tile: str | None = None
    """MGRS tile, `33TWL`."""
    baseline: str | None = None
    """Processing baseline, `05.09`."""
    cloud_cover: float | None = None
    """Per cent of the scene, 0..100, as the catalogue claims it."""
    sun_azimuth: float | None = None
    """Degrees clockwise from north."""
    sun_elevation: float | None = None
    """Degrees above the horizon."""
    geometry: BaseGeometry | None = None
    """Footprint, EPSG:4326."""
    origin: str = ""
    """Path or URL of the item or file that this was made from."""
    stac: Mapping[str, Any] = field(default_factory=dict)
    """The source STAC item as a dictionary (hrefs absolute); made up for local files. Always a valid item."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Bands that the item names but that are not used, with the reason."""

    def __post_init__(self) -> None:
        if not self.bands:
            raise InvalidItem(f"{self.origin or self.id}: no Sentinel-2 band found; name them with --bands")
        unknown = [name for name in self.bands if name not in BANDS]
        if unknown:
            raise InvalidItem(f"{self.origin or self.id}: unknown bands {unknown}")
        if self.datetime.tzinfo is None:
            raise InvalidItem(f"{self.origin or self.id}: datetime {self.datetime} has no time zone")
