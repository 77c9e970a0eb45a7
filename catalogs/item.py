"""`SceneItem`: where one scene is, and what its metadata say; the only thing that leaves `catalogs`. No pixels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from shapely.geometry.base import BaseGeometry

from catalogs.bands import BANDS, band_name
from catalogs.errors import InvalidItem

# Ids name folders and files of products: no separator, no leading dot, nothing that a shell or a log line trips over.
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


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
    """Letters, digits, `.`, `_` and `-`; at most 200, not starting with a dot, so that it can name a folder."""
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
        if not isinstance(self.id, str) or not _ID.fullmatch(self.id):
            raise InvalidItem(
                f"{self.origin or 'item'}: id {str(self.id)[:80]!r} cannot name a folder: "
                "use letters, digits, '.', '_' and '-', at most 200, not starting with '.'"
            )
        if not self.bands:
            raise InvalidItem(f"{self.origin or self.id}: no Sentinel-2 band found; name them with --bands")
        unknown = [name for name in self.bands if name not in BANDS]
        if unknown:
            raise InvalidItem(f"{self.origin or self.id}: unknown bands {unknown}")
        if self.datetime.tzinfo is None:
            raise InvalidItem(f"{self.origin or self.id}: datetime {self.datetime} has no time zone")

    def require_bands(self, names: Sequence[str]) -> SceneItem:
        """The same scene with the bands `names` only (any name that `band_name` knows), in the order of `BANDS`.

        Raises InvalidQuery for a name that is no band, and InvalidItem for a band that is not there; its message
        holds the reason from `left_out`.
        """
        wanted = {band_name(name) for name in names}
        for name in BANDS:
            if name in wanted and name not in self.bands:
                reason = self.left_out.get(name, f"it has {', '.join(self.bands)}")
                raise InvalidItem(f"{self.origin or self.id}: no band {name}: {reason}")
        return replace(self, bands={name: self.bands[name] for name in BANDS if name in wanted})
