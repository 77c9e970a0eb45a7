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

    # Edges are densified first: a straight line in degrees is none in UTM.
    project: Any = Transformer.from_crs("EPSG:4326", str(geobox.crs), always_xy=True).transform
    projected = shapely.transform(shapely.segmentize(area, 0.01), project, interleaved=False)
    burnt = rasterize([(projected, 1)], out_shape=tuple(geobox.shape), transform=geobox.affine, dtype="uint8")
    inside: npt.NDArray[np.bool_] = burnt.view(np.bool_)
    if not inside.any():
        raise InvalidSettings(
            f"the area {tuple(round(v, 4) for v in area.bounds)} does not touch the scene: check --aoi"
        )
    return inside
