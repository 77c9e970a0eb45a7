"""`Layer`: one raster of a product: its name, its grid, its type, and what its values mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from odc.geo.geobox import GeoBox

from pipeline.classes import CLASSES_TAG
from pipeline.confidence import MEANING, NODATA
from pipeline.errors import InvalidScene

Colour = tuple[int, int, int, int]
"""Red, green, blue, alpha, each 0..255."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_LIMITS = MappingProxyType({"uint8": 255, "uint16": 65535})


@dataclass(frozen=True)
class Layer:
    """One single-band raster of a product."""

    name: str
    """`B02`, `SCL`, `provenance`, `cloudmask`: stem of the file, name of the array in a Zarr group."""
    key: str
    """Key of the asset: that of the source for a band (`blue`), the name for our own layers."""
    geobox: GeoBox
    """Grid of the layer: that of its source asset, read from the file."""
    dtype: Literal["uint8", "uint16"]
    nodata: int | None
    """Value that means "nothing here"; None where the source declares none."""
    categories: Mapping[int, str] | None = None
    """Value -> name, for a classification; values that are missing have no name."""
    colours: Mapping[int, Colour] | None = None
    """Value -> colour, for a classification of type uint8."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Metadata of the file."""
    unit: str | None = None
    """Unit of the values, for a quantity of type uint8: `%`. Without it uint8 is a classification."""
    description: str = ""
    """What the values mean, in a sentence."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidScene(f"layer name {self.name!r} must be letters, digits, `_` and `-`: it names a file")
        if self.dtype not in _LIMITS:
            raise InvalidScene(f"layer {self.name}: type {self.dtype} must be uint8 or uint16")
        if self.geobox.crs is None:
            raise InvalidScene(f"layer {self.name}: its grid has no CRS")
        if min(self.shape) < 1:
            raise InvalidScene(f"layer {self.name}: shape {self.shape} must be at least (1, 1)")
        limit = _LIMITS[self.dtype]
        if self.nodata is not None and not 0 <= self.nodata <= limit:
            raise InvalidScene(f"layer {self.name}: nodata {self.nodata} must be 0..{limit} to fit {self.dtype}")
        named = {*(self.categories or ()), *(self.colours or ())}
        if named and not (self.dtype == "uint8" and min(named) >= 0 and max(named) <= limit):
            raise InvalidScene(f"layer {self.name}: categories and colours need type uint8 and values 0..255")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, cols = self.geobox.shape
        return int(rows), int(cols)

    @property
    def filename(self) -> str:
        """Name of the GeoTIFF: `B02.tif`."""
        return f"{self.name}.tif"

    @property
    def resampling(self) -> Literal["average", "nearest"]:
        """How overviews are made; a classification must not get classes that lie between two others. Bands are uint16.

        The most frequent class of a cell would do as well, but takes GDAL longer than all the rest of the file.
        """
        return "nearest" if self.dtype == "uint8" and self.unit is None else "average"


PROVENANCE: MappingProxyType[int, str] = MappingProxyType(
    {0: "nodata", 1: "observed", 2: "blended", 3: "restored", 4: "generated", 5: "refused"}
)
"""Where a pixel comes from: the sensor on that date (1), both (2), other dates (3), the network alone (4), nowhere (5)."""

CLOUD_CLASSES: MappingProxyType[int, str] = MappingProxyType(
    {0: "nodata", 1: "clear", 2: "thin", 3: "thick", 4: "shadow", 5: "snow"}
)
"""What the cloud mask says of a pixel; 2, 3 and 4 are cloudy."""

# Okabe and Ito, "Color Universal Design" (2008): distinct under every common colour vision deficiency. The doubtful
# classes are the loud ones. A test measures the distances under simulated deficiencies.
PROVENANCE_COLOURS: MappingProxyType[int, Colour] = MappingProxyType(
    {
        0: (0, 0, 0, 0),
        1: (221, 221, 221, 255),
        2: (86, 180, 233, 255),
        3: (0, 114, 178, 255),
        4: (240, 228, 66, 255),
        5: (213, 94, 0, 255),
    }
)
CLOUD_COLOURS: MappingProxyType[int, Colour] = MappingProxyType(
    {
        0: (0, 0, 0, 0),
        1: (0, 158, 115, 255),
        2: (240, 228, 66, 255),
        3: (255, 255, 255, 255),
        4: (34, 34, 34, 255),
        5: (86, 180, 233, 255),
    }
)


def provenance_layer(geobox: GeoBox) -> Layer:
    """The provenance raster on `geobox`, the work grid."""
    return Layer("provenance", "provenance", geobox, "uint8", 0, PROVENANCE, PROVENANCE_COLOURS)


def cloudmask_layer(geobox: GeoBox) -> Layer:
    """The cloud mask raster on `geobox`, the work grid."""
    # With the tag, `--mask cloudmask.tif` takes the classes as they are, and does not grow them again.
    return Layer("cloudmask", "cloudmask", geobox, "uint8", 0, CLOUD_CLASSES, CLOUD_COLOURS, {CLASSES_TAG: "1"})


def confidence_layer(geobox: GeoBox) -> Layer:
    """The confidence raster on `geobox`, the work grid."""
    return Layer("confidence", "confidence", geobox, "uint8", NODATA, unit="%", description=MEANING)
