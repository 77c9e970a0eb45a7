"""Map of structural similarity in double precision, for scores; `srgan.ssim` has the differentiable one that training needs.

Wang et al., "Image quality assessment", IEEE TIP 13, 2004: Gaussian window of 11x11 pixels, sigma 1.5, C1 = 1e-4, C2 = 9e-4 for values
of a range of 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from srgan.ssim import BORDER, C1, C2, SIGMA

Image = NDArray[np.floating[Any]]

_BLOCK = 32
"""Edge of the blocks of a map that are made at once: small enough for the processor's cache."""


def similarity(first: Image, second: Image) -> Image:
    """SSIM about each pixel of (C, H, W), -1..1, float64, with zeros beyond the border.

    Without its outermost 5 pixels it is the map of the windows that fit in the image.

    Along each axis the 11 weights of a window make a banded matrix. Over a block of rows it is small and always the same, and products
    with it run several times as fast as a convolution of double precision.
    """
    count, rows, cols = first.shape
    found = np.empty(first.shape)
    weights = _weights()
    wide = -(-cols // _BLOCK)
    images = np.zeros((4, _BLOCK + 2 * BORDER, wide * _BLOCK + 2 * BORDER))
    mine, truth, squares, products = images
    down = np.empty((4, _BLOCK, images.shape[2]))
    image, row, col = down.strides
    blocks = as_strided(down, (4, wide, _BLOCK, _BLOCK + 2 * BORDER), (image, col * _BLOCK, row, col), writeable=False)
    smooth = np.empty((4, wide, _BLOCK, _BLOCK))
    mean_1, mean_2, mean_squares, mean_products = smooth
    for top in range(0, rows, _BLOCK):
        low, high = max(top - BORDER, 0), min(top + _BLOCK + BORDER, rows)
        # Beyond the image the rows of an earlier block would stay.
        images[:] = 0
        inside = slice(low - top + BORDER, high - top + BORDER), slice(BORDER, BORDER + cols)
        for band in range(count):
            mine[inside], truth[inside] = first[band, low:high], second[band, low:high]
            # The two variances are only ever added: one smoothing serves both.
            np.multiply(mine, mine, out=squares)
            np.multiply(truth, truth, out=products)
            squares += products
            np.multiply(mine, truth, out=products)
            np.matmul(weights, images, out=down)
            np.matmul(blocks, weights.T, out=smooth)
            product = mean_1 * mean_2
            square = mean_1 * mean_1 + mean_2 * mean_2
            value = (2 * product + C1) * (2 * (mean_products - product) + C2)
            value /= (square + C1) * (mean_squares - square + C2)
            kept = min(_BLOCK, rows - top)
            found[band, top : top + kept] = value.transpose(1, 0, 2).reshape(_BLOCK, -1)[:kept, :cols]
    return found


def _weights() -> Image:
    """Weights (32, 42) of 42 values, the middle 32 of which are centres of windows; each row adds up to 1."""
    distance = np.arange(_BLOCK + 2 * BORDER) - np.arange(_BLOCK)[:, None] - BORDER
    weights = np.where(np.abs(distance) <= BORDER, np.exp(-(distance**2) / (2 * SIGMA**2)), 0)
    return np.asarray(weights / weights.sum(1, keepdims=True))
