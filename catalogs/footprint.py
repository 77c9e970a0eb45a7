"""Footprints in EPSG:4326 that do not go wrong at the antimeridian.

A polygon that crosses it is written in three ways: split in two at +-180 (as GeoJSON wants), with longitudes beyond
180, or with a jump from +180 to -180, which naive geometry takes for a belt around the whole Earth. All three become
the first.
"""

from __future__ import annotations

import itertools
from typing import Any

import shapely
from shapely.affinity import translate
from shapely.geometry import MultiPolygon, Polygon, box, shape
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from catalogs.errors import InvalidItem

_MOST_POINTS = 10_000
"""Of a footprint; those of Sentinel-2 have some hundred. Of one with more the convex hull is taken: its edges may all cross each other,
and to find the crossings takes the square of their number."""


def split_antimeridian(geometry: BaseGeometry) -> BaseGeometry:
    """`geometry` (degrees) valid, within -180..180, parts beyond brought back.

    Two neighbouring points of a ring more than 180 degrees apart mean the short way round, unless both lie on the
    edges +-180, which is how a global box is written.

    >>> split_antimeridian(box(170, 0, 190, 10)).bounds
    (-180.0, 0.0, 180.0, 10.0)
    >>> [part.bounds for part in split_antimeridian(box(170, 0, 190, 10)).geoms]
    [(-180.0, 0.0, -170.0, 10.0), (170.0, 0.0, 180.0, 10.0)]
    """
    polygons = [_unwrapped(part) if isinstance(part, Polygon) else part for part in _parts(geometry)]
    pieces: list[BaseGeometry] = []
    for polygon in polygons:
        valid = polygon if polygon.is_valid else shapely.make_valid(polygon)
        west, _, east, _ = valid.bounds
        if west >= -180 and east <= 180:
            pieces.append(valid)
            continue
        for turn in (-360, 0, 360):
            piece = valid.intersection(box(-180 + turn, -90, 180 + turn, 90))
            if piece.area > 0 or (not piece.is_empty and valid.area == 0):
                pieces.append(translate(piece, xoff=-turn))
    flat = [part for piece in pieces for part in _parts(piece)]
    areas = sorted((part for part in flat if isinstance(part, Polygon) and part.area > 0), key=lambda part: part.bounds)
    if not areas:
        return unary_union(flat)
    merged = unary_union(areas)
    return MultiPolygon(areas) if merged.area == 0 else merged


def geometry_of(geojson: dict[str, Any], where: str) -> BaseGeometry:
    """Shapely geometry of a GeoJSON one, split at the antimeridian; raises InvalidItem, naming `where`."""
    try:
        geometry = shape(geojson)
    except (
        shapely.errors.ShapelyError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
        OverflowError,
    ) as error:
        raise InvalidItem(f"{where}: its geometry cannot be read: {error}") from None
    if geometry.is_empty:
        raise InvalidItem(f"{where}: its geometry is empty")
    if not all(map(_finite, geometry.bounds)):
        raise InvalidItem(f"{where}: its geometry holds values that are no degrees")
    if shapely.get_num_coordinates(geometry) > _MOST_POINTS:
        geometry = geometry.convex_hull
    return split_antimeridian(shapely.force_2d(geometry))


def _finite(value: float) -> bool:
    return -1000 <= value <= 1000


def _parts(geometry: BaseGeometry) -> list[BaseGeometry]:
    return [leaf for part in geometry.geoms for leaf in _parts(part)] if hasattr(geometry, "geoms") else [geometry]


def _unwrapped(polygon: Polygon) -> Polygon:
    """The same polygon with longitudes that run on beyond 180 where the ring jumps."""
    ring = list(polygon.exterior.coords)
    jumps = [abs(b[0] - a[0]) > 180 and not (abs(a[0]) == abs(b[0]) == 180) for a, b in itertools.pairwise(ring)]
    if not any(jumps) or any(
        jump and a[0] * b[0] > 0 for jump, (a, b) in zip(jumps, itertools.pairwise(ring), strict=True)
    ):
        return polygon

    def shifted(coords: Any) -> list[tuple[float, float]]:
        return [(x + 360 if x < 0 else x, y) for x, y, *_ in coords]

    return Polygon(shifted(polygon.exterior.coords), [shifted(hole.coords) for hole in polygon.interiors])
