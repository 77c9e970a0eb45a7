"""`CubeRecord`: what a cube says about itself, in its root group's attribute `declouder:cube`.

The record, the arrays and the pixels change in one step (`pipeline.cube_store`), so whoever reads the record knows the cube.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from odc.geo.geobox import GeoBox
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from pipeline.areagrid import Resampling
from pipeline.errors import InvalidSettings, ReadFailed
from pipeline.layers import Layer, cloudmask_layer, confidence_layer, provenance_layer

ATTRIBUTE = "declouder:cube"
VERSION: Literal[1] = 1
"""Of the layout; a cube of another version is not touched."""
SOURCE = "source"
"""Layer of a cube on an area's grid: which scene of the day leads at a pixel; 0 = none, k = the k-th in `product_id`."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MemberRecord(_Model):
    """One product in a cube."""

    product: str
    """Its id."""
    source: str
    """Id of the source item: a cube holds one product of each."""
    time: AwareDatetime
    """Of acquisition, UTC."""
    created: AwareDatetime
    """When the product was made: of two of one source, the later one counts."""
    digest: str
    """Checksum of its manifest, and so of every file."""
    level: str
    """`L1C`, `L2A`, empty where it is not known."""
    scale: float
    """reflectance = DN * scale + offset."""
    offset: float
    folder: str
    """Where it was, relative to the folder that holds the cube."""


class StepRecord(_Model):
    """One entry of the time axis."""

    members: Annotated[tuple[MemberRecord, ...], Field(min_length=1)]
    """By source id; one, or on an area's grid all of a day."""
    day: str = ""
    """Solar day `2023-08-10`, on an area's grid only."""
    files: int = 0
    """Files that hold its pixels; chunks without data have none."""

    @property
    def time(self) -> AwareDatetime:
        """Of its earliest scene."""
        return min(member.time for member in self.members)

    @property
    def order(self) -> tuple[AwareDatetime, tuple[str, ...]]:
        """Sorts steps into the order of the time axis."""
        return self.time, tuple(member.source for member in self.members)


class GridRecord(_Model):
    """The grid of one group."""

    crs: str
    """`EPSG:32633`, or WKT."""
    transform: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]
    """Rows, cols."""

    @classmethod
    def of(cls, geobox: GeoBox) -> GridRecord:
        """The record of a grid."""
        epsg = geobox.crs.epsg if geobox.crs is not None else None
        crs = f"EPSG:{epsg}" if epsg else geobox.crs.to_wkt() if geobox.crs is not None else ""
        rows, cols = geobox.shape
        return cls(crs=crs, transform=tuple(float(v) for v in geobox.transform[:6]), shape=(int(rows), int(cols)))

    @property
    def geobox(self) -> GeoBox:
        """The grid."""
        from affine import Affine

        return GeoBox(self.shape, Affine(*self.transform), self.crs)


class LayerRecord(_Model):
    """One array of pixels."""

    name: str
    group: str
    dtype: Literal["uint8", "uint16"]
    nodata: Annotated[int | None, Field(ge=0, le=65535)]


class CubeRecord(_Model):
    """Everything that an append needs to know of a cube."""

    version: Literal[1] = VERSION
    level: str
    grids: dict[str, GridRecord]
    """Group -> grid."""
    layers: Annotated[tuple[LayerRecord, ...], Field(min_length=1)]
    resampling: Resampling | Literal[""] = ""
    """How bands of other grids come to the area's; empty where the grid is that of the products."""
    steps: tuple[StepRecord, ...] = ()
    """In the order of the time axis."""
    reordered: int = 0
    """How often steps changed their place or their pixels: who opened the cube before that must open it again."""

    def layer(self, entry: LayerRecord) -> Layer:
        """The layer of one array."""
        return make_layer(entry.name, self.grids[entry.group].geobox, entry.dtype, entry.nodata)


def make_layer(name: str, geobox: GeoBox, dtype: str, nodata: int | None) -> Layer:
    """A layer of a cube, with what its values mean where they are ours."""
    ours = {"provenance": provenance_layer, "confidence": confidence_layer, "cloudmask": cloudmask_layer}
    if name in ours:
        return ours[name](geobox)
    said = "Scene that leads here: number in product_id, from 1; 0 = none" if name == SOURCE else ""
    return Layer(name, name, geobox, "uint8" if dtype == "uint8" else "uint16", nodata, description=said)


def read_record(cube: Path) -> CubeRecord | None:
    """The record of the cube at `cube`; None where nothing is there, or an empty folder.

    Raises InvalidSettings for anything that is no cube of ours, ReadFailed where it cannot be read.
    """
    away = "move it away, or choose another --cube"
    try:
        if not cube.exists() or (cube.is_dir() and not any(cube.iterdir())):
            return None
        text = (cube / "zarr.json").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        raise InvalidSettings(f"{cube}: is there already and is no cube of Zarr version 3: {away}") from None
    except OSError as error:
        raise ReadFailed(f"{cube}: cannot be read: {error.strerror or error}") from error
    try:
        document = json.loads(text)
        attributes: Any = document["attributes"] if document["node_type"] == "group" else {}
        found = attributes.get(ATTRIBUTE)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidSettings(f"{cube}: its zarr.json is damaged: {away}") from None
    if not isinstance(found, dict):
        raise InvalidSettings(f"{cube}: a Zarr store, but no cube that declouder made: {away}")
    if found.get("version") != VERSION:
        raise InvalidSettings(
            f"{cube}: a cube of version {found.get('version')}, this declouder writes {VERSION}: {away}"
        )
    try:
        return CubeRecord.model_validate_json(json.dumps(found))
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise InvalidSettings(
            f"{cube}: its record is damaged at {where}: {error.errors()[0]['msg']}: {away}"
        ) from error
