"""The cloud alpha: how much of a pixel is replaced, by its distance to the edge of the grown mask.

    alpha = 0                                     outside the grown mask: the pixel leaves as it came
    alpha = min(1, d / (feather + 1))             inside, d = distance in pixels to the nearest pixel outside

Distances are Euclidean and are cut off at `feather + 1`, so a window with a halo of that width gives the same alpha as
the whole scene. Scene edges and nodata are no edges of a cloud: nothing fades towards them.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pipeline.growth import effective_radius

_NEAR = 16
"""Up to this distance, pixels, a few passes over the rows around are faster than a distance transform."""


def alpha_halo(feather: int) -> int:
    """Pixels around a window that its alpha depends on."""
    return feather + 2


def feather_pixels(feather: float, grow: float, pixel_size: tuple[float, float]) -> int:
    """Pixels over which the result fades in; feather and grow in metres, pixels of (height, width) metres.

    At most half of the pixels by which the mask was grown: on coarse grids the fade would else begin inside the cloud's fringe, whose
    light it would mix into the product. A mask that was not grown (grow 0) is somebody's own, and sets no bound.

    >>> feather_pixels(50, 100, (10, 10)), feather_pixels(50, 100, (120, 120)), feather_pixels(0, 100, (10, 10))
    (5, 1, 0)
    """
    if feather <= 0:
        return 0
    wanted = max(2, math.ceil(feather / min(pixel_size)))
    if grow <= 0:
        return wanted
    return max(1, min(wanted, int(effective_radius(grow, pixel_size) / max(pixel_size)) // 2))


def cloud_alpha(cloudy: npt.NDArray[np.bool_], outside: npt.NDArray[np.bool_], feather: int) -> npt.NDArray[np.float32]:
    """Alpha of a window, float32 (rows, cols), 0..1, halo included.

    cloudy: bool (rows, cols), True = grown cloud or shadow, to be replaced.
    outside: bool (rows, cols), True = clear land that a cloud fades towards; False at nodata.
    feather: pixels over which the result fades in; 0 = a hard edge.

    >>> import numpy as np
    >>> row = np.array([[False, True, True, True, True]])
    >>> cloud_alpha(row, ~row, feather=2).round(3).tolist()
    [[0.0, 0.3330000042915344, 0.6669999957084656, 1.0, 1.0]]
    """
    if feather == 0 or not outside.any() or not cloudy.any():
        return cloudy.astype(np.float32)
    if feather + 1 > _NEAR:
        from scipy.ndimage import distance_transform_edt

        distance = distance_transform_edt(~outside)
        alpha: npt.NDArray[np.float32] = np.minimum(distance / (feather + 1), 1.0).astype(np.float32)
    else:
        squares = np.minimum(np.sqrt(np.arange((feather + 1) ** 2 + 1)) / (feather + 1), 1.0).astype(np.float32)
        alpha = squares[_squared_distance(outside, feather + 1)]
    alpha *= cloudy
    return alpha


def _squared_distance(outside: npt.NDArray[np.bool_], most: int) -> npt.NDArray[np.uint16]:
    """Square of the distance to the nearest True pixel, at most `most` squared; (rows, cols), exact.

    Along rows first, then over the rows around: a few passes over small integers, some twenty times as fast as the transform of any distance.
    """
    along = np.where(outside, np.uint16(0), np.uint16(most))
    for _ in range(most - 1):
        reached = along.copy()
        np.minimum(reached[:, 1:], along[:, :-1] + np.uint16(1), out=reached[:, 1:])
        np.minimum(reached[:, :-1], along[:, 1:] + np.uint16(1), out=reached[:, :-1])
        along = reached
    along *= along
    squared = along.copy()
    for apart in range(1, min(most, len(along))):
        moved = along + np.uint16(apart * apart)
        np.minimum(squared[apart:], moved[:-apart], out=squared[apart:])
        np.minimum(squared[:-apart], moved[apart:], out=squared[:-apart])
    return np.minimum(squared, np.uint16(most * most), out=squared)
