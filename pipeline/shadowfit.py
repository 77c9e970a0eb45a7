"""`ShadowFit`: at which distances and in which direction the clouds of a thinned scene cover dark ground.

Clouds are slid step by step along the anti-solar direction. Where the share of dark pixels below the slid clouds stands far
above the share in the neighbourhood, the shadow has been met. Cells of `CELL` x `CELL` pixels, pooled 3 x 3, have heights of
their own, since low cumulus and high towers stand in one scene.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CELL = 48
"""Thinned pixels an edge of the cells."""
_LOWEST, _HIGHEST = 200.0, 10_000.0  # metres, cloud above ground
_LONGEST = 15_000.0  # metres from cloud to shadow; with a low sun nothing is matched beyond
_SUN_TOO_LOW = 10.0  # degrees
_FEWEST = 40  # thinned pixels that a distance must cover to be judged
_EXCESS = 0.2  # of the covered pixels must be dark, more than by chance
_TIMES = 1.5  # and so many times as many as by chance
_WITHIN = 0.6  # of the best excess: distances that count as fitting
_PATCH = 36  # thinned pixels that are dark or not together: a field, a cloud's shadow
_SIGMAS = 4.0  # more than the luckiest of a hundred distances has by chance
_ROUNDS = 2  # heights a cell may have

_FARTHEST = 4_000.0  # metres; an unknown direction is only looked for within
_NEAREST = 150.0
_STANDS_OUT = 6.0  # robust standard deviations above all other shifts
_RIVAL = 0.7  # of the peak's excess, in another direction: then the peak means nothing
_SECTOR = math.cos(math.radians(40))

Shift = tuple[int, int]
"""(rows, cols) from a cloud to its shadow, thinned pixels."""


def shadow_path(azimuth: float, elevation: float, pixel: tuple[float, float]) -> list[Shift]:
    """Shifts to the shadows of clouds from 200 m to 10 km, near to far; empty for a sun below 10 degrees.

    azimuth: of the sun, degrees clockwise from north. pixel: (height, width) of a thinned pixel, metres.

    >>> shadow_path(180.0, 45.0, (1000.0, 1000.0))[:3]
    [(-1, 0), (-2, 0), (-3, 0)]
    """
    if elevation < _SUN_TOO_LOW:
        return []
    stretch = 1 / math.tan(math.radians(elevation))
    return _steps(azimuth, _LOWEST * stretch, min(_HIGHEST * stretch, _LONGEST), pixel)


def estimated_path(
    cloud: NDArray[np.bool_], ground: NDArray[np.bool_], dark: NDArray[np.bool_], pixel: tuple[float, float]
) -> list[Shift]:
    """Shifts along the one direction in which the clouds' shadows stand out; empty where none does.

    cloud: casts shadows. ground: where a shadow could be seen. dark: where it may be one, within `ground`.
    """
    from scipy.signal import fftconvolve

    reach = tuple(min(int(_FARTHEST / size), length - 1) for size, length in zip(pixel, cloud.shape, strict=True))
    if not cloud.any() or not dark.any() or min(reach) < 2:
        return []
    flipped = cloud[::-1, ::-1].astype(np.float32)
    middle = tuple(length - 1 for length in cloud.shape)
    window = tuple(slice(at - far, at + far + 1) for at, far in zip(middle, reach, strict=True))
    covered = fftconvolve(ground.astype(np.float32), flipped)[window]
    hit = fftconvolve(dark.astype(np.float32), flipped)[window]
    down = np.arange(-reach[0], reach[0] + 1)[:, None] * pixel[0]
    right = np.arange(-reach[1], reach[1] + 1)[None, :] * pixel[1]
    distance = np.hypot(down, right)
    judged = (covered > max(_FEWEST, 0.02 * float(cloud.sum()))) & (distance >= _NEAREST) & (distance <= _FARTHEST)
    if not judged.any():
        return []
    share = np.where(judged, hit / np.maximum(covered, 1), -np.inf)
    usual = float(np.median(share[judged]))
    spread = 1.4826 * float(np.median(np.abs(share[judged] - usual)))
    peak = np.unravel_index(int(np.argmax(share)), share.shape)
    excess = float(share[peak]) - usual
    along = (down * down[peak[0]] + right * right[0, peak[1]]) / np.maximum(distance * distance[peak], 1e-9)
    elsewhere = judged & (along < _SECTOR)
    rival = float(share[elsewhere].max()) - usual if elsewhere.any() else 0.0
    if excess < _EXCESS or excess < _STANDS_OUT * spread or share[peak] < _TIMES * usual or rival > _RIVAL * excess:
        return []
    azimuth = math.degrees(math.atan2(-float(right[0, peak[1]]), float(down[peak[0], 0])))
    return _steps(azimuth, 0.5 * float(distance[peak]), 1.7 * float(distance[peak]), pixel)


def shadow_zone(
    cloud: NDArray[np.bool_], ground: NDArray[np.bool_], dark: NDArray[np.bool_], path: Sequence[Shift]
) -> NDArray[np.bool_]:
    """Where shadows fall, for clouds at the heights that fit each cell; bool (rows, cols), empty where none fits.

    Arrays as in `estimated_path`; `path` holds the shifts to try. A second round looks for another height among what the
    first left unexplained: a tower above a field of cumulus.
    """
    zone = np.zeros_like(cloud)
    for _ in range(_ROUNDS):
        zone |= widened(_zone_of_one_height(cloud, ground & ~zone, dark & ~zone, path))
    return zone


def _zone_of_one_height(
    cloud: NDArray[np.bool_], ground: NDArray[np.bool_], dark: NDArray[np.bool_], path: Sequence[Shift]
) -> NDArray[np.bool_]:
    zone = np.zeros_like(cloud)
    if not path or not cloud.any() or not dark.any():
        return zone
    chance = pooled(dark) / np.maximum(pooled(ground), 1)
    shares = np.full((len(path), *chance.shape), -1.0)
    counts = np.zeros(shares.shape, np.int32)
    for layer, shift in enumerate(path):
        below = moved(cloud, shift) & ground
        count = counts[layer] = pooled(below)
        shares[layer] = np.where(count >= _FEWEST, pooled(below & dark) / np.maximum(count, 1), -1.0)
    best = shares.max(axis=0)
    patches = np.take_along_axis(counts, shares.argmax(axis=0)[None], axis=0)[0] / _PATCH
    rate = np.clip(chance, 0.05, 0.95)
    luck = _SIGMAS * np.sqrt(rate * (1 - rate) / np.maximum(patches, 1e-9))
    stands_out = (best - chance >= np.maximum(_EXCESS, luck)) & (best >= _TIMES * chance)
    fits = stands_out & (shares - chance >= _WITHIN * (best - chance))
    for fit, shift in zip(fits, path, strict=True):
        if fit.any():  # a height holds for the pooled neighbours as well, so that no cell's edge cuts a shadow
            zone |= moved(cloud, shift) & spread_cells(widened(fit), cloud.shape)
    return zone


def pooled(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Set pixels in each cell and its eight neighbours, int32 (cell rows, cell cols)."""
    in_rows = np.empty((-(-mask.shape[0] // CELL), mask.shape[1]), np.uint8)  # at most CELL, fits a byte
    for row, line in enumerate(in_rows):  # thirteen times as fast as reduceat along this axis
        np.add.reduce(mask.view(np.uint8)[row * CELL : (row + 1) * CELL], axis=0, dtype=np.uint8, out=line)
    counts = np.pad(np.add.reduceat(in_rows, np.arange(0, mask.shape[1], CELL), axis=1, dtype=np.int32), 1)
    counts = counts[:-2] + counts[1:-1] + counts[2:]
    total: NDArray[np.int32] = counts[:, :-2] + counts[:, 1:-1] + counts[:, 2:]
    return total


def spread_cells(cells: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Each pixel of `shape` (rows, cols) gets its cell's value."""
    return np.repeat(np.repeat(cells, CELL, axis=0), CELL, axis=1)[: shape[0], : shape[1]]


def count_around(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Set pixels among each pixel and its eight neighbours, uint8 (rows, cols)."""
    padded = np.pad(mask, 1).astype(np.uint8)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    count: NDArray[np.uint8] = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return count


def widened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`mask` and the eight neighbours of its pixels."""
    wide: NDArray[np.bool_] = count_around(mask) > 0
    return wide


def moved(mask: NDArray[np.bool_], shift: Shift) -> NDArray[np.bool_]:
    """`mask` moved by `shift`; what comes in from outside is not set.

    >>> moved(np.array([[True, False], [False, False]]), (1, 0)).tolist()
    [[False, False], [True, False]]
    """
    result = np.zeros_like(mask)
    rows, cols = mask.shape
    down, right = shift
    if abs(down) < rows and abs(right) < cols:
        result[max(down, 0) : rows + min(down, 0), max(right, 0) : cols + min(right, 0)] = mask[
            max(-down, 0) : rows + min(-down, 0), max(-right, 0) : cols + min(-right, 0)
        ]
    return result


def _steps(azimuth: float, near: float, far: float, pixel: tuple[float, float]) -> list[Shift]:
    """Whole-pixel shifts away from the sun from `near` to `far` metres, each once, at least one."""
    down = math.cos(math.radians(azimuth)) / pixel[0]  # rows a metre: the sun in the north casts southwards
    right = -math.sin(math.radians(azimuth)) / pixel[1]
    scale = max(abs(down), abs(right))
    first, last = max(1, round(near * scale)), max(1, math.floor(far * scale + 1e-9))
    steps = (k / scale for k in range(first, last + 1))
    return list(dict.fromkeys((round(down * metres), round(right * metres)) for metres in steps))
