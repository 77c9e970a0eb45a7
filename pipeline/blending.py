"""The tile window: weights with which overlapping tiles are added up. (The cloud's own edge is `alpha`'s business.)

Along an axis a tile's raw window is a linear ramp over its overlap with each neighbour and 1 elsewhere; where a tile
ends at the scene's edge there is no ramp. Divided by their sum the windows form a partition of unity:

    sum over tiles t of weight_t(row) * weight_t(col) == 1        at every pixel, to 1e-6

The sums are taken in the order of `Tile`, whoever computes them, so the result does not depend on blocks or workers.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pipeline.tiling import Axis


@lru_cache(maxsize=64)
def axis_weights(axis: Axis) -> npt.NDArray[np.float32]:
    """Weights of every tile of an axis: float32 (tiles, tile size), 0 behind the scene's end.

    >>> axis_weights(Axis(length=6, tile=4, overlap=2)).round(2).tolist()
    [[1.0, 1.0, 0.75, 0.25], [0.25, 0.75, 1.0, 1.0]]
    """
    starts = axis.starts
    raw = np.zeros((len(starts), axis.length), dtype=np.float64)
    for i, start in enumerate(starts):
        position = np.arange(start, min(start + axis.tile, axis.length))
        window = np.ones(position.size)
        if i > 0:
            shared = starts[i - 1] + axis.tile - start
            if shared > 0:
                window = np.minimum(window, (position - start + 0.5) / shared)
        if i + 1 < len(starts):
            shared = start + axis.tile - starts[i + 1]
            if shared > 0:
                window = np.minimum(window, (start + axis.tile - position - 0.5) / shared)
        raw[i, position] = window
    raw /= raw.sum(axis=0)
    weights = np.zeros((len(starts), axis.tile), dtype=np.float32)
    for i, start in enumerate(starts):
        stop = min(start + axis.tile, axis.length)
        weights[i, : stop - start] = raw[i, start:stop]
    weights.flags.writeable = False
    return weights


def tile_weights(vertical: Axis, horizontal: Axis, row: int, col: int) -> npt.NDArray[np.float32]:
    """Weights of the tile that starts at (row, col): float32 (tile, tile).

    Raises ValueError where no tile of the plan starts there.
    """
    i, j = vertical.starts.index(row), horizontal.starts.index(col)
    return np.outer(axis_weights(vertical)[i], axis_weights(horizontal)[j])
