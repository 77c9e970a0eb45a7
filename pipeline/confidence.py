"""Confidence: how likely a pixel of the product is right, in whole percent; the values of `confidence.tif`.

The network gives the expected absolute error b of each band group (`srgan.spec.GROUPS`), in reflectance, calibrated on pixels that it
never saw, and read as the scale of a Laplace distribution: P(|error| <= t) = 1 - exp(-t / b). Of a restored value a pixel takes the share
alpha, and of its error the same share; so the probability that it lies within `NEAR` of the ground is

    confidence = floor(100 * (1 - exp(-NEAR / (alpha * b))))         0..99, of the least certain band group
    confidence = 100                                                 every band is the source's, and the mask calls the pixel clear
    confidence = 0                                                   cloudy and left so, or refused
    confidence = 255                                                 nodata

Bands of no group (B01, B09, B10) do not count; a pixel of which nothing else was replaced has 99, since 100 stands for untouched. Of a
coarse band, b is the mean and alpha the largest of its pixel's cell, which is how that band itself is composed; the mean of errors is
at most as large as the mean of their sizes, so neither this nor the blending of tiles says more than the network does.

Percents are looked up among 99 limits and not computed pixel by pixel: which code numpy takes for `exp`, and with it the last bit, may
depend on the machine and on how an array lies in memory, and one bit would be a whole percent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from pipeline.composite import Provenance, coarsen_max, coarsen_mean, refine
from srgan.spec import GROUPS

NEAR = 0.02
"""Reflectance from the ground's that counts as right: what the uncertainty specified for L2A, 0.05 r + 0.005, comes to at r = 0.3."""
OBSERVED = 100
NODATA = 255
MEANING = (
    f"Probability in percent, rounded down, that a replaced pixel lies within {NEAR} of the ground's reflectance in the least certain band "
    "group (VIS, red edge, NIR, SWIR) that the product holds; 100 observed clear, 0 refused or left cloudy, 255 nodata"
)
"""The definition, for the file and the item."""

REPLACED = (Provenance.BLENDED, Provenance.RESTORED, Provenance.GENERATED)
"""Pixels of which the network made at least a part."""

_LIMITS = np.array([NEAR / -math.log1p(-percent / 100) for percent in range(OBSERVED - 1, 0, -1)])
"""Largest alpha * b at which 99, 98, ... 1 percent are reached, ascending."""
_ROWS = 256
"""Rows looked up at a time, to bound what is copied."""


def group_of(band: str) -> str | None:
    """The band group of an ESA band name, None for a band of no group.

    >>> group_of("B8A"), group_of("B09")
    ('NIR', None)
    """
    return next((group for group, names in GROUPS.items() if band in names), None)


def groups_of(bands: Iterable[str]) -> tuple[str, ...]:
    """The band groups that hold one of `bands`, in the network's order.

    >>> groups_of(["B12", "B02", "B09"])
    ('VIS', 'SWIR')
    """
    there = {group_of(band) for band in bands}
    return tuple(group for group in GROUPS if group in there)


def percent(spread: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Confidence 0..99 of pixels whose value has the Laplace scale `spread` (any shape), reflectance, at least 0.

    >>> import numpy as np
    >>> percent(np.float32([0, 0.005, 0.02, 0.2, 20, np.inf])).tolist()
    [99, 98, 63, 9, 0, 0]
    """
    found: npt.NDArray[np.uint8] = (OBSERVED - 1 - np.searchsorted(_LIMITS, spread)).astype(np.uint8)
    return found


def composed_spread(
    errors: Mapping[str, npt.NDArray[np.float32]],
    alpha: npt.NDArray[np.float32],
    valid: npt.NDArray[np.bool_],
    bands: Iterable[tuple[str, int]],
) -> npt.NDArray[np.float32]:
    """alpha * b of the least certain band of each pixel, float32 (rows, cols) of the work grid, reflectance.

    errors: group -> b, float32 (rows, cols) reflectance; bands of other groups do not count. alpha: (rows, cols) 0..1.
    valid: (rows, cols) True = data in some band. bands: name and factor, work pixels per pixel of the band.
    """
    largest = np.zeros(alpha.shape, np.float32)
    kinds = {(group, factor) for name, factor in bands if (group := group_of(name)) in errors}
    for group, factor in kinds:
        spread = coarsen_max(alpha, factor) * coarsen_mean(errors[str(group)], valid, factor)
        np.maximum(largest, refine(spread, factor), out=largest)
    return largest


def confidence_of(
    provenance: npt.NDArray[np.uint8],
    left: npt.NDArray[np.bool_],
    spread: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.uint8]:
    """Values of `confidence.tif`, uint8 (rows, cols).

    provenance: (rows, cols), classes of `Provenance`. left: (rows, cols) True = cloudy, and not to be replaced.
    spread: (rows, cols) as `composed_spread` gives it; None where nothing was replaced.
    """
    result = np.where(left | (provenance == Provenance.REFUSED), np.uint8(0), np.uint8(OBSERVED))
    result[provenance == Provenance.NODATA] = NODATA
    if spread is not None:
        for start in range(0, provenance.shape[0], _ROWS):
            rows = slice(start, start + _ROWS)
            replaced = np.isin(provenance[rows], REPLACED) & ~left[rows]
            result[rows][replaced] = percent(spread[rows][replaced])
    return result
