"""`Placement`: where the pixels of one grid fall in a stripe of another, worked out once for all layers on both grids.

    same CRS and pixel size, offset by whole pixels    copied, bit for bit
    anything else                                      each target pixel takes the source pixel that holds its centre

Aligned means: no pixel is off by more than a hundredth of its size anywhere in the stripe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from pipeline.lookup import inside, nearest

_ALIGNED = 0.01  # pixels
_ROWS = 128
Window = tuple[slice, slice]


@dataclass(frozen=True)
class Placement:
    """Part of a source that a part of a stripe is taken from."""

    source: Window
    """Rows and columns of the source that are needed."""
    target: Window
    """Rows and columns of the stripe that they may fill."""
    index: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None
    """For each pixel of `target` its row and column in `source`; None where pixels are copied as they are."""
    holds: NDArray[np.bool_] | None = None
    """Pixels of `target` whose centre lies in the source; None: all."""

    def take(self, values: NDArray[Any], fill: int) -> NDArray[Any]:
        """The pixels of `target` from those of `source`; `fill` where there is none."""
        if self.index is None:
            return values
        picked = values[self.index]
        picked[~self.holds] = fill  # type: ignore[operator]
        return picked


def place(source: GeoBox, stripe: GeoBox) -> Placement | None:
    """How pixels of `source` come into `stripe`, both north up; None where they do not meet."""
    offset = aligned(source, stripe)
    if offset is not None:
        rows = _overlap(offset[0], stripe.shape[0], source.shape[0])
        cols = _overlap(offset[1], stripe.shape[1], source.shape[1])
        return None if rows is None or cols is None else Placement((rows[0], cols[0]), (rows[1], cols[1]))
    target = _reach(source, stripe)
    if target is None:
        return None
    index, holds = _nearest(source, stripe, target)
    if not holds.any():
        return None
    window = []
    for axis in index:
        first, last = int(axis[holds].min()), int(axis[holds].max())
        np.clip(axis, first, last, out=axis)
        axis -= first
        window.append(slice(first, last + 1))
    return Placement((window[0], window[1]), target, index, holds)


def meets(source: GeoBox, target: GeoBox) -> bool:
    """Whether `source` may have pixels in `target`: exact where they are aligned, else by the box around it."""
    if aligned(source, target) is not None:
        return place(source, target) is not None
    return _reach(source, target) is not None


def _nearest(
    source: GeoBox, stripe: GeoBox, target: Window
) -> tuple[tuple[NDArray[np.int32], NDArray[np.int32]], NDArray[np.bool_]]:
    """Row and column in `source` of each pixel of `target`, and whether it has one; a few rows at a time, to bound memory."""
    rows, cols = target
    shape = rows.stop - rows.start, cols.stop - cols.start
    index, holds = (np.empty(shape, np.int32), np.empty(shape, np.int32)), np.empty(shape, np.bool_)
    for first in range(0, shape[0], _ROWS):
        part = slice(first, min(first + _ROWS, shape[0]))
        found = nearest(source, stripe, slice(rows.start + part.start, rows.start + part.stop), cols)
        holds[part] = inside(found[0], found[1], source.shape)
        for axis, position in zip(index, found, strict=True):
            axis[part] = position
    return index, holds


def aligned(source: GeoBox, target: GeoBox) -> tuple[int, int] | None:
    """Row and column of `source` at the first pixel of `target` where their pixels coincide, else None."""
    one, other = source.transform, target.transform
    if source.crs != target.crs or one.b or one.d or other.b or other.d:
        return None
    sizes = ((one.e, other.e, target.shape[0]), (one.a, other.a, target.shape[1]))
    if any(abs(a - b) * count > _ALIGNED * abs(a) for a, b, count in sizes):
        return None
    row, col = (other.f - one.f) / one.e, (other.c - one.c) / one.a
    if max(abs(row - round(row)), abs(col - round(col))) > _ALIGNED:
        return None
    return round(row), round(col)


def _overlap(first: int, count: int, there: int) -> tuple[slice, slice] | None:
    """Slices of the source and of the stripe for `count` pixels from pixel `first` of a source of `there` pixels."""
    low, high = max(first, 0), min(first + count, there)
    return None if low >= high else (slice(low, high), slice(low - first, high - first))


def _reach(source: GeoBox, stripe: GeoBox) -> Window | None:
    """The part of the stripe that the source's outline encloses, widened by a few pixels."""
    left, bottom, right, top = _bounds(source, stripe)
    t = stripe.transform
    edges = (
        sorted(((bottom - t.f) / t.e, (top - t.f) / t.e)),
        sorted(((left - t.c) / t.a, (right - t.c) / t.a)),
    )
    parts = []
    for (low, high), count in zip(edges, stripe.shape, strict=True):
        if not (math.isfinite(low) and math.isfinite(high)):
            return None
        start, stop = max(math.floor(low) - 2, 0), min(math.ceil(high) + 2, count)
        if start >= stop:
            return None
        parts.append(slice(start, stop))
    return parts[0], parts[1]


def _bounds(source: GeoBox, stripe: GeoBox) -> tuple[float, float, float, float]:
    """Left, bottom, right, top of the source in the stripe's CRS; its sides are curves there, so points on them are projected one by one."""
    if source.crs == stripe.crs:
        box = source.boundingbox
        return float(box.left), float(box.bottom), float(box.right), float(box.top)
    t, along = source.transform, np.linspace(0.0, 1.0, 65)
    rows, cols = (
        np.concatenate([along * 0, along, along * 0 + 1, along]),
        np.concatenate([along, along * 0 + 1, along, along * 0]),
    )
    project = Transformer.from_crs(str(source.crs), str(stripe.crs), always_xy=True).transform
    xs, ys = project(t.c + t.a * cols * source.shape[1], t.f + t.e * rows * source.shape[0])
    return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())
