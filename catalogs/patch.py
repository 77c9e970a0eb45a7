"""`read_patch`: the header of one patch of SEN12MS-CR or SEN12MS-CR-TS, checked against what the data set says it is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from shapely.geometry import MultiPolygon, Polygon

from catalogs.errors import InvalidItem

if TYPE_CHECKING:
    from pyproj import Transformer

SIZE = 256
"""Rows and columns of a patch."""


@dataclass(frozen=True)
class Kind:
    """What a file of a data set must be."""

    bands: int
    dtype: str
    name: str
    """What error messages call it."""


OPTICAL = Kind(13, "uint16", "Sentinel-2 patch")
"""B01..B08, B8A, B09..B12, DN = 10000 * reflectance."""
RADAR = Kind(2, "float32", "Sentinel-1 patch")
"""VV, VH in dB."""


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a file are."""

    crs: str
    """`EPSG:32633`, or WKT where there is no code."""
    transform: tuple[float, ...]
    """Affine coefficients a, b, c, d, e, f."""
    shape: tuple[int, int]
    """Rows, cols."""

    def same_as(self, other: Grid) -> bool:
        """Whether both have the same pixels, to a hundredth of one at every corner."""
        if self.crs != other.crs or self.shape != other.shape:
            return False
        pixel = abs(self.transform[0])
        return all(
            math.hypot(x - u, y - v) <= 0.01 * pixel
            for (x, y), (u, v) in zip(self.corners(), other.corners(), strict=True)
        )

    def corners(self, row: int = 0, col: int = 0, shape: tuple[int, int] | None = None) -> list[tuple[float, float]]:
        """Outer corners, in the CRS, of the window at (row, col): upper left, upper right, lower right, lower left."""
        rows, cols = shape or self.shape
        a, b, c, d, e, f = self.transform
        edges = ((col, row), (col + cols, row), (col + cols, row + rows), (col, row + rows))
        return [(a * x + b * y + c, d * x + e * y + f) for x, y in edges]

    def outline(self, row: int = 0, col: int = 0, shape: tuple[int, int] | None = None) -> Polygon | MultiPolygon:
        """The window's four corners as a polygon in EPSG:4326. Raises InvalidItem where grid and CRS do not fit."""
        import shapely
        from pyproj.exceptions import ProjError

        from catalogs.footprint import split_antimeridian

        try:
            xs, ys = zip(*self.corners(row, col, shape), strict=True)
            lon, lat = _to_lonlat(self.crs).transform(xs, ys, errcheck=True)
        except ProjError as error:
            raise InvalidItem(f"its grid does not fit its CRS: {error}") from None
        if not all(map(math.isfinite, (*lon, *lat))) or max(map(abs, lat)) > 90.001:
            raise InvalidItem("its grid lies outside the Earth: is its CRS wrong?")
        # A ten-millionth of a degree is a centimetre: bytes that do not depend on the last bit of a projection.
        points = [(round(x, 7), round(y, 7)) for x, y in zip(lon, lat, strict=True)]
        area = split_antimeridian(Polygon(points))
        if not isinstance(area, Polygon | MultiPolygon) or area.is_empty:
            raise InvalidItem("its grid has no area")
        return shapely.normalize(area)


def read_patch(path: Path, kind: Kind) -> Grid:
    """Grid of the patch at `path`; InvalidItem, with the reason alone, where it is no whole patch of `kind`.

    Inside `headers_only` this is quick: the neighbours of the file are not listed.
    """
    from rasterio.env import ensure_env_with_credentials
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.io import DatasetReader

    try:
        size = path.stat().st_size
    except OSError as error:
        raise InvalidItem(f"cannot be read: {error.strerror}") from None
    if size == 0:
        raise InvalidItem("is empty (0 bytes): download it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # One driver: a VRT called `.tif` would read whatever file it names.
            with ensure_env_with_credentials(DatasetReader)(str(path), driver=["GTiff"]) as file:
                count, shape, dtypes, transform, crs = (
                    file.count,
                    file.shape,
                    set(file.dtypes),
                    file.transform,
                    file.crs,
                )
    except RasterioError as error:
        reason = " ".join(str(error).split()).replace(str(path), path.name)
        raise InvalidItem(f"its header cannot be read ({reason}): download it again") from None
    if count != kind.bands:
        raise InvalidItem(f"has {count} band{'s' * (count != 1)}, a {kind.name} has {kind.bands}")
    if shape != (SIZE, SIZE):
        raise InvalidItem(f"is {shape[0]} x {shape[1]} pixels, a {kind.name} is {SIZE} x {SIZE}")
    if dtypes != {kind.dtype}:
        raise InvalidItem(f"holds {', '.join(sorted(dtypes))}, a {kind.name} holds {kind.dtype}")
    if crs is None:
        raise InvalidItem("has no CRS: download it again, or set it with gdal_edit.py -a_srs")
    if transform.is_identity or transform.determinant == 0:
        raise InvalidItem("is not georeferenced: download it again")
    code = crs.to_epsg()
    return Grid(f"EPSG:{code}" if code else crs.to_wkt(), tuple(transform)[:6], shape)


@contextmanager
def headers_only() -> Iterator[None]:
    """GDAL set to open many local files for their headers."""
    from rasterio.env import Env

    # In a folder of thousands of patches a listing for each file would cost more than the headers.
    with Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        yield


@lru_cache(maxsize=256)
def _to_lonlat(crs: str) -> Transformer:
    from pyproj import Transformer

    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
