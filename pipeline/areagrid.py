"""`AreaGrid`: the one grid of an area on which scenes of neighbouring tiles are merged.

Its edges lie on multiples of six pixels, so that bands of 10, 20 and 60 m nest. They are counted from the origin of the CRS, as
Sentinel-2's tiles are: scenes of the same zone then fall into the grid pixel by pixel and are copied, not resampled. Where the first
scenes of that CRS and pixel size begin elsewhere (a thinned catalogue, a crop), they are counted from those.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from affine import Affine
from odc.geo.geobox import GeoBox

from pipeline.errors import InvalidSettings

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from catalogs.aoi import AreaOfInterest

Resampling = Literal["nearest", "bilinear", "cubic", "average"]
"""How bands come from another grid; classes and percents always by nearest neighbour."""
CELL = 6
"""Fine pixels to which edges are snapped: 60 m on a grid of 10 m."""
_LARGEST = 200_000
_NEAR = 1e-6  # pixels; rounding of a projection is no reason for another row of cells


@dataclass(frozen=True)
class AreaGrid:
    """An area, and the grid it is to have; see `parse`."""

    area: BaseGeometry
    """EPSG:4326; the grid covers its bounding box in the grid's CRS."""
    crs: str | None = None
    """None: the UTM zone of the area's centre, or that of most scenes where none lies in that zone."""
    resolution: float | None = None
    """Edge of the finest pixels, units of the CRS; coarser bands keep their ratio to it. None: that of the finest scene."""
    resampling: Resampling = "nearest"
    """For bands of another grid. With `nearest` each value is one that a product holds, and its provenance is true of it."""

    def __post_init__(self) -> None:
        if self.area.is_empty:
            raise InvalidSettings("--grid: the area is empty: check --aoi")
        if (self.crs is None) != (self.resolution is None):
            raise InvalidSettings("--grid: give both the CRS and the size of a pixel, or `auto`")
        if self.resolution is not None and not 0 < self.resolution < math.inf:
            raise InvalidSettings(f"--grid: pixel size {self.resolution} must be above 0")
        if self.resampling not in get_args(Resampling):
            raise InvalidSettings(f"--grid: resampling {self.resampling!r} must be one of {get_args(Resampling)}")
        if self.crs is not None:
            _checked(self.crs)

    @classmethod
    def parse(cls, text: str, aoi: AreaOfInterest | BaseGeometry) -> AreaGrid:
        """The grid that `text` names: `auto`, `EPSG:32633,10`, either with `,bilinear`, `,cubic` or `,average` for bands of other grids.

        aoi: the area, EPSG:4326. Raises InvalidSettings.

        >>> from shapely.geometry import box
        >>> grid = AreaGrid.parse("EPSG:32633,10,cubic", box(15.2, 45.2, 15.3, 45.3))
        >>> grid.crs, grid.resolution, grid.resampling
        ('EPSG:32633', 10.0, 'cubic')
        """
        area: Any = getattr(aoi, "geometry", aoi)
        parts = [part.strip() for part in text.split(",")]
        resampling = parts.pop() if len(parts) > 1 and parts[-1] in get_args(Resampling) else "nearest"
        if parts == ["auto"]:
            return cls(area, resampling=resampling)  # type: ignore[arg-type]
        try:
            crs, resolution = parts
            return cls(area, crs, float(resolution), resampling)  # type: ignore[arg-type]
        except ValueError:
            raise InvalidSettings(
                f"--grid {text!r}: write auto, or a CRS and the size of its pixels, as in EPSG:32633,10; "
                f"one of {', '.join(get_args(Resampling))} may follow"
            ) from None

    def resolve(self, scenes: Sequence[GeoBox]) -> GeoBox:
        """The finest grid of the area, for the first scenes (at least one) that come onto it, whatever their order.

        Raises InvalidSettings where the area makes too few or too many pixels, or lies outside the CRS.
        """
        crs = self.crs or self._zone([str(scene.crs) for scene in scenes])
        there = [scene for scene in scenes if scene.crs == crs]
        resolution = self.resolution or min(abs(float(scene.transform.a)) for scene in there)
        cell = CELL * resolution
        same = [
            (_rest(scene.transform.c, cell), _rest(scene.transform.f, cell))
            for scene in there
            if math.isclose(abs(scene.transform.a), resolution, rel_tol=1e-9)
        ]
        # The most common origin; of equally common ones the smallest.
        anchor = min(Counter(same).items(), key=lambda entry: (-entry[1], entry[0]))[0] if same else (0.0, 0.0)
        return self.geobox(crs, resolution, anchor)

    def geobox(self, crs: str, resolution: float, anchor: tuple[float, float]) -> GeoBox:
        """The grid that covers the area; `anchor` is a corner of cells, (x, y). Raises InvalidSettings."""
        left, bottom, right, top = self._bounds(crs)
        cell = CELL * resolution
        first_col, last_col = _cells(left, right, anchor[0], cell)
        first_row, last_row = _cells(bottom, top, anchor[1], cell)
        cols, rows = (last_col - first_col) * CELL, (last_row - first_row) * CELL
        if max(right - left, top - bottom) < resolution:
            raise InvalidSettings(
                f"--grid: a pixel of {resolution:g} is larger than the area in {crs}: is that its unit?"
            )
        if max(rows, cols) > _LARGEST:
            raise InvalidSettings(
                f"--grid: {resolution:g} in units of {crs} makes {rows} x {cols} pixels of the area: take larger pixels, or a smaller area"
            )
        corner = anchor[0] + first_col * cell, anchor[1] + last_row * cell
        return GeoBox((rows, cols), Affine(resolution, 0.0, corner[0], 0.0, -resolution, corner[1]), crs)

    def _bounds(self, crs: str) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of the area in the CRS; edges are densified, as a straight line in degrees is none there."""
        import shapely
        from pyproj import Transformer

        west, south, east, north = self.area.bounds
        step = max(east - west, north - south, 1e-6) / 100
        project = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform
        points = shapely.get_coordinates(shapely.segmentize(self.area, step))
        xs, ys = project(points[:, 0], points[:, 1])
        bounds = float(min(xs)), float(min(ys)), float(max(xs)), float(max(ys))
        if not all(map(math.isfinite, bounds)):
            raise InvalidSettings(f"--grid: the area {self.area.bounds} lies outside {crs}: choose another CRS")
        return bounds

    def _zone(self, found: Sequence[str]) -> str:
        centre = self.area.envelope.centroid
        zone = f"EPSG:{(32600 if centre.y >= 0 else 32700) + min(int((centre.x + 180) // 6) + 1, 60)}"
        if zone in found:
            return zone
        return min(Counter(found).items(), key=lambda entry: (-entry[1], entry[0]))[0]


def _checked(crs: str) -> None:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        known = CRS.from_user_input(crs)
    except CRSError:
        raise InvalidSettings(f"--grid: {crs!r} is no CRS that is known: write its code, as in EPSG:32633") from None
    if len(known.axis_info) != 2:
        raise InvalidSettings(f"--grid: {crs!r} has {len(known.axis_info)} axes, a grid needs two: choose another CRS")


def _rest(value: float, cell: float) -> float:
    """What is left of `value` after whole cells, 0 <= rest < cell, rounded so that headers that differ in the last bit agree."""
    rest = value - math.floor(value / cell + _NEAR) * cell
    return round(max(rest, 0.0), 9)


def _cells(low: float, high: float, anchor: float, cell: float) -> tuple[int, int]:
    """First and last edge of the cells that cover low..high, counted from the anchor; at least one cell."""
    first = math.floor((low - anchor) / cell + _NEAR)
    return first, max(math.ceil((high - anchor) / cell - _NEAR), first + 1)
