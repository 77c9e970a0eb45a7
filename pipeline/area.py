"""The area of interest on a scene's grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InvalidSettings

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry


def inside_area(geobox: GeoBox, area: BaseGeometry) -> npt.NDArray[np.bool_]:
    """bool (rows, cols) of `geobox`, True where the pixel's centre lies in `area` (EPSG:4326).

    Raises InvalidSettings where no pixel does.
    """
    import shapely
    from pyproj import Transformer
    from rasterio.features import rasterize

    # Edges are densified first, as a straight line in degrees is none in UTM; and an area far larger than the scene is
    # cut before, as it would leave the domain of the projection.
    project: Any = Transformer.from_crs("EPSG:4326", str(geobox.crs), always_xy=True).transform
    near = area.intersection(_footprint(geobox).buffer(0.05))
    projected = shapely.transform(shapely.segmentize(near, 0.01), project, interleaved=False)
    shapes = [] if projected.is_empty else [(projected, 1)]
    burnt = rasterize(
        shapes or [(shapely.Point(0, 0), 0)], out_shape=tuple(geobox.shape), transform=geobox.affine, dtype="uint8"
    )
    inside: npt.NDArray[np.bool_] = burnt.view(np.bool_)
    if not inside.any():
        raise InvalidSettings(
            f"the area {tuple(round(v, 4) for v in area.bounds)} does not touch the scene: check --aoi"
        )
    return inside


def _footprint(geobox: GeoBox) -> BaseGeometry:
    """Box around the grid in longitude and latitude."""
    import shapely
    from pyproj import Transformer

    left, bottom, right, top = geobox.boundingbox.bbox
    corners = shapely.segmentize(shapely.box(left, bottom, right, top), max(right - left, top - bottom) / 20)
    back: Any = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True).transform
    outline = shapely.transform(corners, back, interleaved=False)
    box: BaseGeometry = shapely.box(*outline.bounds)
    return box
