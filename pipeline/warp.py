"""Interpolating warp by GDAL, the same pixel by pixel however the target is cut into stripes.

GDAL's own defaults are not: it widens the kernel by the ratio of the two windows that it happens to be given, and interpolates positions
along each line of them to an eighth of a pixel. Here the ratio is that of the whole grids, and positions are good to a thousandth.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

_TOLERANCE = 1e-3  # source pixels; 0 is refused
_SAME = 0.05  # grids of different zones differ by less in scale, and are of one resolution


def warped(
    values: NDArray[Any],
    source: GeoBox,
    target: GeoBox,
    nodata: int | None,
    kernel: Literal["bilinear", "cubic", "average"],
    ratio: tuple[float, float],
) -> NDArray[Any]:
    """`values` on `source` as they are on `target`, (rows, cols) in their type; nodata, or 0, where there is nothing.

    ratio: see `pixel_ratio`. Pixels with nodata take no part.
    """
    from rasterio.enums import Resampling
    from rasterio.io import MemoryFile
    from rasterio.vrt import WarpedVRT

    height, width = values.shape
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": values.dtype.name}
    rows, cols = target.shape
    with MemoryFile() as memory:
        with memory.open(**profile, crs=str(source.crs), transform=source.transform, nodata=nodata) as file:
            file.write(values, 1)
        with (
            memory.open() as file,
            WarpedVRT(
                file, crs=str(target.crs), transform=target.transform, height=rows, width=cols, src_nodata=nodata, nodata=nodata,
                resampling=Resampling[kernel], tolerance=_TOLERANCE, YSCALE=ratio[0], XSCALE=ratio[1],
            ) as view,
        ):  # fmt: skip
            result: NDArray[Any] = view.read(1)
            return result


def pixel_ratio(source: GeoBox, target: GeoBox) -> tuple[float, float]:
    """Target pixels for each source pixel along rows and columns, in the middle of `source`; 1 where they are of one size."""
    rows, cols = source.shape
    t = source.transform
    x, y = t.c + t.a * cols / 2, t.f + t.e * rows / 2
    project: Any = Transformer.from_crs(str(source.crs), str(target.crs), always_xy=True).transform
    xs, ys = project([x, x + t.a, x], [y, y, y + t.e])
    along = [np.hypot(xs[i] - xs[0], ys[i] - ys[0]) for i in (2, 1)]
    found = (float(along[0] / abs(target.transform.e)), float(along[1] / abs(target.transform.a)))
    return tuple(1.0 if abs(value - 1) < _SAME else round(value, 4) for value in found)  # type: ignore[return-value]
