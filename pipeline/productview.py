"""`ProductView`: what a reader is shown of one product, taken from its item alone; no file is opened.

Items are read as they are found: what is missing or no figure is left out, and what makes an item no product of this program is said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import shapely
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from catalogs.errors import CatalogError
from catalogs.footprint import geometry_of
from catalogs.names import date_in, tile_in
from pipeline.address import output_url
from pipeline.checkpoints import IDENTITY
from pipeline.errors import InvalidScene
from pipeline.itemvalues import bounds, mapping, moment, names, number, numbers, reasons, shape, share, text, texts
from pipeline.product import require_known

_RASTER = re.compile(r"(?:\./)?([^/]+)\.tif|(?:\./)?[^/]+\.zarr/[^/]+/([^/]+)")
_SMALLEST = 1e-4
"""Degrees, about 10 m: detail of an outline that no map shows."""


@dataclass(frozen=True)
class ReferenceView:
    """Another date from which pixels were restored."""

    id: str
    days: float | None
    """Its date minus that of the scene."""
    share: float | None
    """Share of the scene's cloudy pixels that are clear in it, 0..1."""
    not_harmonised: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProductView:
    """One product, as its item describes it."""

    id: str
    folder: Path
    """Where its files are; below a folder of work where that stands for a bucket."""
    scene: str
    """Id of the source item."""
    time: datetime | None
    """Of acquisition, UTC."""
    created: str = ""
    """As the item has it; ISO 8601 sorts by itself."""
    tile: str = ""
    outline: BaseGeometry | None = field(default=None, repr=False)
    """Longitude and latitude; None where the item has none that can be drawn."""
    provenance: Mapping[str, float] = field(default_factory=dict)
    """Class -> share of the pixels that are not nodata; `nodata` -> share of all; 0..1."""
    mask: Mapping[str, float] = field(default_factory=dict)
    """Class of the cloud mask -> share of the pixels that are not nodata, 0..1."""
    cover_after: float | None = None
    """Share that is still cloudy (left so, or refused), 0..1; None where nobody knows, as with identity, which leaves clouds in place."""
    claimed: float | None = None
    """Cloud cover as the source's catalogue has it, 0..1."""
    seam: float | None = None
    confidence: Mapping[str, float] = field(default_factory=dict)
    """Class of provenance -> mean confidence of its pixels, percent."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Stage -> seconds, in the order of the item, without `total`."""
    total: float | None = None
    limit: str = ""
    """The stage that took the largest share of the wall time."""
    model: str = ""
    digest: str = ""
    mask_method: str = ""
    references: tuple[ReferenceView, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Other dates that were not used -> why."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Bands of the source that were not used -> why."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    software: str = ""
    source: str = ""
    """Path or URL of the source's item or file."""
    rasters: Mapping[str, str] = field(default_factory=dict)
    """Layer (`B04`, `provenance`) -> path below `folder`."""
    encodings: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Band -> (scale, offset): reflectance = DN * scale + offset."""
    shape: tuple[int, int] | None = None
    """Rows and columns of the work grid."""
    manifest: str = ""
    """Checksum of the list of its files' checksums: the same text, the same files."""
    preview: str = ""
    """Path below `folder` of the picture before | after."""

    @property
    def in_bucket(self) -> bool:
        """True where its files have to be fetched, and somebody may not answer."""
        return output_url(self.folder.parent) is not None

    @property
    def out_of_reach(self) -> bool:
        """True where its layers are a Zarr store of a bucket: a picture of one would need all of its pixels fetched."""
        return self.in_bucket and any(not path.endswith(".tif") for path in self.rasters.values())

    @property
    def cover_before(self) -> float | None:
        """Share of the pixels that the mask calls cloud or shadow, 0..1."""
        found = [self.mask[name] for name in ("thin", "thick", "shadow") if name in self.mask]
        return min(sum(found), 1.0) if found else None

    @property
    def made(self) -> float | None:
        """Share of the pixels of which at least a part was not seen on the date, 0..1."""
        found = [self.provenance[name] for name in ("blended", "restored", "generated") if name in self.provenance]
        return min(sum(found), 1.0) if found else None

    @property
    def left_cloudy(self) -> float | None:
        """Share of the pixels that are cloudy and were left so on request, 0..1."""
        if self.cover_after is None:
            return None
        return max(self.cover_after - self.provenance.get("refused", 0.0), 0.0)


def product_view(folder: Path, item: Mapping[str, Any]) -> ProductView:
    """The view of the product whose (complete) item is `item`.

    Raises InvalidScene for an item that is no product of this program, or one of a later version.
    """
    name, properties = str(item["id"]), mapping(item.get("properties"))
    software = text(mapping(properties.get("processing:software")).get("declouder"))
    scene = text(properties.get("declouder:source"))
    if not software or not scene:
        raise InvalidScene(
            f"{name}: an item of another program: it names neither declouder nor a source scene; move it away"
        )
    require_known(software, name)
    assets = {key: asset for key, asset in item["assets"].items() if isinstance(asset, Mapping)}
    layers = _layers(assets)
    seconds = numbers(properties.get("declouder:seconds"), high=math.inf)
    model = mapping(properties.get("declouder:model"))
    preview = _below(text(mapping(assets.get("preview")).get("href")))
    return ProductView(
        id=name,
        folder=folder,
        scene=scene,
        time=moment(properties.get("datetime") or properties.get("start_datetime")) or date_in(scene),
        created=text(properties.get("created")),
        tile=tile_in(text(properties.get("grid:code")).removeprefix("MGRS-")) or tile_in(scene) or "",
        outline=_outline(item),
        provenance=numbers(properties.get("declouder:provenance")),
        mask=numbers(properties.get("declouder:mask")),
        cover_after=None if model.get("name") == IDENTITY else share(properties.get("eo:cloud_cover")),
        claimed=share(properties.get("declouder:source_cloud_cover")),
        seam=number(properties.get("declouder:seam_score")),
        confidence=numbers(properties.get("declouder:confidence"), high=100.0),
        seconds={stage: value for stage, value in seconds.items() if stage != "total"},
        total=seconds.get("total"),
        limit=text(properties.get("declouder:limit")),
        model=text(model.get("name")),
        digest=text(model.get("sha256")),
        mask_method=text(properties.get("declouder:mask_method")),
        references=_references(properties.get("declouder:references")),
        skipped=reasons(properties.get("declouder:references_skipped")),
        left_out=texts(properties.get("declouder:bands_left_out")),
        settings=mapping(properties.get("declouder:settings")),
        software=software,
        source=_source(item.get("links")),
        rasters={layer: path for layer, (path, _) in layers.items()},
        encodings=_encodings(layers),
        shape=shape(mapping(assets.get("provenance")).get("proj:shape")),
        manifest=text(mapping(assets.get("manifest")).get("file:checksum")),
        preview=preview or "",
    )


def _layers(assets: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Layer -> its path below the folder, and its asset."""
    found = {}
    for asset in assets.values():
        path = _below(text(asset.get("href")))
        match = _RASTER.fullmatch(path) if path else None
        if path and match:
            found[match[1] or match[2]] = path, asset
    return found


def _below(href: str) -> str | None:
    """The path below the product's folder that a relative href names; None for anything else."""
    path = PurePosixPath(unquote(href))
    if not href or "://" in href or path.is_absolute() or ".." in path.parts or "\0" in str(path):
        return None
    return str(path)


def _encodings(layers: Mapping[str, tuple[str, Mapping[str, Any]]]) -> dict[str, tuple[float, float]]:
    found = {}
    for layer, (_, asset) in layers.items():
        said = mapping(asset.get("declouder:reflectance"))
        scale, offset = number(said.get("scale")), number(said.get("offset"))
        if scale is not None and scale > 0 and offset is not None:
            found[layer] = (scale, offset)
    return found


def _outline(item: Mapping[str, Any]) -> BaseGeometry | None:
    """The item's geometry, else its box; in one piece across the 180th meridian if the two halves say so themselves."""
    outline = None
    with suppress(CatalogError, KeyError):
        outline = geometry_of(item["geometry"], "item")
    if outline is None or not _drawable(outline):
        found = bounds(item.get("bbox"))
        outline = None if found is None else box(*found)
    if outline is None or not _drawable(outline):
        return None
    return shapely.simplify(outline, _SMALLEST)


def _drawable(outline: BaseGeometry) -> bool:
    if outline.is_empty or outline.geom_type not in ("Polygon", "MultiPolygon"):
        return False
    west, south, east, north = outline.bounds
    return -180 <= west < east <= 360 and -90 <= south < north <= 90


def _references(said: object) -> tuple[ReferenceView, ...]:
    entries = [entry for entry in said if isinstance(entry, Mapping)] if isinstance(said, list) else []
    return tuple(
        ReferenceView(
            text(entry.get("id")),
            number(entry.get("days")),
            share(entry.get("share"), percent=False),
            names(entry.get("not_harmonised")),
        )
        for entry in entries
    )


def _source(links: object) -> str:
    """The first thing that the product says it is derived from."""
    for link in links if isinstance(links, list) else []:
        if isinstance(link, Mapping) and link.get("rel") == "derived_from":
            return text(link.get("href"))
    return ""
