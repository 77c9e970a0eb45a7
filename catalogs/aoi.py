"""Areas of interest: a bounding box `w,s,e,n`, or any file that geopandas reads; always in EPSG:4326."""

from __future__ import annotations

import math
import os
import re
import reprlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, box
from shapely.geometry.base import BaseGeometry

from catalogs.errors import InvalidItem, InvalidQuery
from catalogs.footprint import split_antimeridian
from catalogs.local import require_regular

if TYPE_CHECKING:
    import geopandas

_NUMBER = r"[ \t]*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[ \t]*"
_HEAD = 64 << 10
"""Bytes at the beginning of a file that GDAL knows its format by, and more."""
_BOX = re.compile(rf"{_NUMBER}(?:,{_NUMBER})+")


@dataclass(frozen=True)
class AreaOfInterest:
    """An area on the Earth."""

    geometry: BaseGeometry
    """Valid, EPSG:4326 in longitude, latitude; split at the antimeridian, so all longitudes are within -180..180."""
    text: str
    """What it was made from: the box or the path."""

    def __post_init__(self) -> None:
        if self.geometry.is_empty or not self.geometry.is_valid:
            raise InvalidQuery(f"area of interest {self.text!r} is empty or not valid")
        west, south, east, north = self.geometry.bounds
        if west < -180 or east > 180 or south < -90 or north > 90:
            raise InvalidQuery(f"area of interest {self.text!r}: bounds {self.geometry.bounds} are not degrees")

    @property
    def bbox(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees, as GeoJSON has it: west > east where the area crosses the antimeridian."""
        west, south, east, north = self.geometry.bounds
        parts = [part.bounds for part in getattr(self.geometry, "geoms", (self.geometry,))]
        if west == -180 and east == 180 and len(parts) > 1:
            # The widest gap of longitude is what the area leaves out; it lies between an eastern and a western part.
            ordered = sorted(parts)
            reach, gap, edges = ordered[0][2], 0.0, (west, east)
            for part in ordered[1:]:
                if part[0] - reach > gap:
                    gap, edges = part[0] - reach, (part[0], reach)
                reach = max(reach, part[2])
            west, east = edges
        return west, south, east, north


def parse_aoi(text: str | os.PathLike[str]) -> AreaOfInterest:
    """The area that `text` names: `w,s,e,n` in degrees, or the path of a vector file of any CRS.

    w > e means across the antimeridian, where that is the shorter way. A file's shapes are united, made valid and reprojected.
    Raises InvalidQuery: not four numbers, out of range, no area, no such file, no CRS, nothing in it.

    >>> parse_aoi("15.2,45.2,16.2,45.9").bbox
    (15.2, 45.2, 16.2, 45.9)
    >>> parse_aoi("179,-18,-178,-16").bbox
    (179.0, -18.0, -178.0, -16.0)
    """
    name = os.fspath(text).strip()
    return AreaOfInterest(_from_box(name) if _BOX.fullmatch(name) else _from_file(name), name)


def _from_box(text: str) -> BaseGeometry:
    values = [float(part) for part in text.split(",")]
    if len(values) != 4 or not all(map(math.isfinite, values)):
        raise InvalidQuery(f"area of interest {text!r}: a box is four numbers: west,south,east,north in degrees")
    west, south, east, north = values
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= 90 and -90 <= north <= 90):
        raise InvalidQuery(
            f"area of interest {text!r} is out of range: longitudes -180..180, latitudes -90..90, in the order w,s,e,n"
        )
    if south >= north or west == east:
        raise InvalidQuery(f"area of interest {text!r} has no area: south must be below north, west differ from east")
    if west < east:
        return box(west, south, east, north)
    if (width := 360 - west + east) > 180:
        raise InvalidQuery(
            f"area of interest {text!r} reaches across the 180th meridian and is {width:g} degrees wide: write west before east"
        )
    halves = [box(west, south, 180, north), box(-180, south, east, north)]
    return MultiPolygon([half for half in halves if half.area > 0])


def _from_file(text: str) -> BaseGeometry:
    # GEOS and GDAL warn of what is not finite or not closed; here that is an error, and told once.
    with warnings.catch_warnings():
        for message in ("invalid value encountered", "Non closed ring"):
            warnings.filterwarnings("ignore", message, RuntimeWarning)
        try:
            present = _shapes(text)
            if not np.isfinite(shapely.get_coordinates(present)).all():
                raise InvalidQuery(
                    f"area of interest {text!r} holds coordinates that are no finite numbers: draw it again"
                )
            return _united(present, text)
        except shapely.errors.GEOSException as error:
            raise InvalidQuery(
                f"area of interest {text!r} holds shapes that are none ({' '.join(str(error).split())}): draw it again"
            ) from None


def _shapes(text: str) -> geopandas.GeoSeries:
    """The shapes in a file, in its own CRS; at least one."""
    # geopandas takes a second to import and only this needs it.
    import geopandas
    from pyogrio.errors import CRSError, DataSourceError, FieldError  # type: ignore[import-untyped]

    # os.path says False where Path raises: of names that no file can have, and of users that are not there.
    name = text if "\0" in text else os.path.expanduser(text)  # noqa: PTH111
    if not os.path.exists(name):  # noqa: PTH110
        raise InvalidQuery(f"area of interest {reprlib.repr(text)} is neither a box w,s,e,n nor a file that exists")
    path = Path(name)
    try:
        require_regular(path)
        if _is_virtual(path):
            raise InvalidQuery(
                f"area of interest {text!r} is a virtual layer, which may read any other file: convert it with ogr2ogr"
            )
        if path.suffix.lower() in (".parquet", ".geoparquet"):
            table = geopandas.read_parquet(path)
        else:
            table = geopandas.read_file(path)
    except (DataSourceError, FieldError, CRSError, InvalidItem, ValueError, OSError) as error:
        raise InvalidQuery(f"area of interest {text!r} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(table, geopandas.GeoDataFrame) or table.geometry.is_empty.all() or table.geometry.isna().all():
        raise InvalidQuery(f"area of interest {text!r} holds no geometry")
    if table.crs is None:
        raise InvalidQuery(f"area of interest {text!r} has no CRS: add one (a .prj file, or ogr2ogr -a_srs)")
    return table.geometry[~(table.geometry.is_empty | table.geometry.isna())]


def _is_virtual(path: Path) -> bool:
    """Whether GDAL would take it for a description of other layers, by the mark that it looks for itself."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b"<OGRVRTDataSource" in file.read(_HEAD)


def _united(present: geopandas.GeoSeries, text: str) -> BaseGeometry:
    """The shapes of a file as one area in EPSG:4326."""
    shapes = present.make_valid()
    # Straight lines of another CRS are curves here: a point every hundredth of the extent keeps them within a pixel.
    if not present.crs.is_geographic:
        west, south, east, north = shapes.total_bounds
        shapes = shapes.segmentize(max(east - west, north - south, 1.0) / 100)
    lonlat = shapes.to_crs("EPSG:4326")
    if not all(map(math.isfinite, lonlat.total_bounds)):
        raise InvalidQuery(f"area of interest {text!r}: its coordinates do not fit its CRS {present.crs.to_string()}")
    west, south, east, north = lonlat.total_bounds
    if south < -90 or north > 90 or west < -360 or east > 360:
        raise InvalidQuery(f"area of interest {text!r}: bounds {west}, {south}, {east}, {north} are no degrees")
    united = shapely.union_all([split_antimeridian(shapely.force_2d(part)) for part in lonlat])
    return united if united.is_valid else shapely.make_valid(united)
