"""Nearest pixel of one grid for each pixel of another: how class rasters come to the work grid without mixing classes."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

_EDGE = 1e-6  # a centre that falls on the edge of two pixels belongs to the later one, whatever the rounding

Value = TypeVar("Value", bound=np.generic)


def nearest(source: GeoBox, target: GeoBox, rows: slice, cols: slice) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column in `source` of the pixel that holds the centre of each pixel of a window of `target`.

    Within one CRS the two are (rows, 1) and (1, cols), else (rows, cols) each; they broadcast against each other.
    Indexes may lie outside `source`: see `inside`. Centres that cannot be projected get -1.
    """
    to_world, from_world = target.transform, ~source.transform
    x = to_world.c + to_world.a * (np.arange(cols.start, cols.stop, dtype=float) + 0.5)
    y = to_world.f + to_world.e * (np.arange(rows.start, rows.stop, dtype=float) + 0.5)
    if source.crs == target.crs:
        return _index(from_world.f + from_world.e * y)[:, None], _index(from_world.c + from_world.a * x)[None, :]
    transformer = Transformer.from_crs(str(target.crs), str(source.crs), always_xy=True)
    xs, ys = transformer.transform(*np.meshgrid(x, y))
    return _index(from_world.f + from_world.e * ys), _index(from_world.c + from_world.a * xs)


def inside(index_rows: NDArray[np.intp], index_cols: NDArray[np.intp], shape: Any) -> NDArray[np.bool_]:
    """Which of `nearest`'s indexes lie in a source of `shape` (rows, cols)."""
    result: NDArray[np.bool_] = (
        (index_rows >= 0) & (index_rows < shape[0]) & (index_cols >= 0) & (index_cols < shape[1])
    )
    return result


def pick(values: NDArray[Value], index_rows: NDArray[np.intp], index_cols: NDArray[np.intp]) -> NDArray[Value]:
    """`values[index_rows, index_cols]` for indexes as `nearest` gives them, all of them inside; may be a view.

    Axis by axis where the two grids are of one CRS: several times as fast, and no copy where the pixels are the same.
    """
    if index_rows.shape[1] != 1 or index_cols.shape[0] != 1:
        picked: NDArray[Value] = values[index_rows, index_cols]
        return picked
    return _along(_along(values, index_rows[:, 0], 0), index_cols[0], 1)


def _along(values: NDArray[Value], index: NDArray[np.intp], axis: int) -> NDArray[Value]:
    first = int(index[0])
    if np.array_equal(index, np.arange(first, first + index.size)):
        whole: list[slice] = [slice(None)] * 2
        whole[axis] = slice(first, first + index.size)
        return values[tuple(whole)]
    taken: NDArray[Value] = values.take(index, axis)
    return taken


def thin_grid(geobox: GeoBox, step: int) -> GeoBox:
    """The grid of every `step` x `step` pixels of `geobox`, same origin; its last pixels may stick out."""
    transform = geobox.transform
    shape = math.ceil(geobox.shape[0] / step), math.ceil(geobox.shape[1] / step)
    scaled = Affine(transform.a * step, 0.0, transform.c, 0.0, transform.e * step, transform.f)
    return GeoBox(shape, scaled, geobox.crs)


def _index(position: NDArray[np.float64]) -> NDArray[np.intp]:
    finite = np.isfinite(position)
    return np.where(finite, np.floor(np.where(finite, position, 0.0) + _EDGE), -1).astype(np.intp)
