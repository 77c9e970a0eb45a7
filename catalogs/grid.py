"""`Grid`: where the pixels of a file are on the Earth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import shapely
from shapely.geometry import MultiPolygon, Polygon

from catalogs.errors import InvalidItem
from catalogs.footprint import split_antimeridian

if TYPE_CHECKING:
    from pyproj import Transformer
    from rasterio.crs import CRS


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
        from pyproj.exceptions import ProjError

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


def crs_name(crs: CRS) -> str:
    """`EPSG:32633`, or WKT where there is no code."""
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_wkt())


@lru_cache(maxsize=256)
def _to_lonlat(crs: str) -> Transformer:
    from pyproj import Transformer

    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
