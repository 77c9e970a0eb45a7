"""Dilation by a Euclidean disc in metres, exact and independent of how the image is cut into blocks.

The disc is cut into rows: a pixel lies within `radius` of a set pixel when, for some row offset dy, the nearest set
pixel of row y + dy is at most floor(sqrt(radius^2 - (dy h)^2) / w) columns away. Distances along rows are small integers,
so every comparison is exact, and one pass per row offset over bytes is several times faster than a distance transform.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

GROW = 100.0
"""Metres by which cloud and shadow are grown unless somebody says otherwise."""
_NEAR = 32  # pixels of reach up to which passes over bytes are faster than running maxima
_TOLERANCE = 1e-9  # pixels exactly at the radius belong to the disc, whatever the rounding


def reach(radius: float, pixel_size: tuple[float, float]) -> tuple[int, int]:
    """(rows, cols) that a disc of `radius` metres reaches from its centre, on pixels of (height, width) metres.

    >>> reach(150, (10, 10)), reach(20, (10, 30))
    ((15, 15), (2, 0))
    """
    height, width = pixel_size
    return int(radius / height + _TOLERANCE), int(radius / width + _TOLERANCE)


def effective_radius(grow_m: float, pixel_size: tuple[float, float]) -> float:
    """`grow_m`, but at least two pixels where it is above 0: on coarse grids less would not cover a cloud's fringe.

    >>> effective_radius(150, (10, 10)), effective_radius(150, (120, 120)), effective_radius(0, (10, 10))
    (150.0, 240.0, 0.0)
    """
    return float(max(grow_m, 2 * max(pixel_size))) if grow_m > 0 else 0.0


def dilate(mask: NDArray[np.bool_], radius: float, pixel_size: tuple[float, float]) -> NDArray[np.bool_]:
    """Pixels whose centre is at most `radius` metres from the centre of a set pixel, bool (rows, cols).

    Set pixels outside the array do not count: give a halo of `reach`.
    """
    if not mask.any():
        return np.zeros_like(mask)
    rows_reach, cols_reach = reach(radius, pixel_size)
    height, width = pixel_size
    distance = _row_distance(mask, cols_reach)
    grown = mask.copy()
    rows = mask.shape[0]
    for dy in range(min(rows_reach, rows - 1) + 1):
        remaining = radius * radius * (1 + _TOLERANCE) - (dy * height) ** 2
        span = int(math.sqrt(max(remaining, 0.0)) / width + _TOLERANCE)
        near = distance <= min(span, cols_reach)
        grown[: rows - dy] |= near[dy:]
        grown[dy:] |= near[: rows - dy]
    return grown


def _row_distance(mask: NDArray[np.bool_], cap: int) -> NDArray[np.uint16]:
    """Columns to the nearest set pixel of the same row, capped at `cap` + 1; uint16, or uint8 where that is enough."""
    if cap < _NEAR:
        distance: NDArray[Any] = np.where(mask, np.uint8(0), np.uint8(cap + 1))
        # One column further at a time, over bytes: a pass takes next to nothing.
        for _ in range(cap):
            further = distance + np.uint8(1)
            np.minimum(distance[:, 1:], further[:, :-1], out=distance[:, 1:])
            np.minimum(distance[:, :-1], further[:, 1:], out=distance[:, :-1])
        return distance
    cols = np.arange(mask.shape[1], dtype=np.int32)
    far = np.int32(mask.shape[1] + cap + 1)
    before = np.maximum.accumulate(np.where(mask, cols, -far), axis=1)
    after = np.minimum.accumulate(np.where(mask, cols, 2 * far)[:, ::-1], axis=1)[:, ::-1]
    nearest = np.minimum(np.minimum(cols - before, after - cols), cap + 1)
    return nearest.astype(np.uint8 if cap < 255 else np.uint16)
