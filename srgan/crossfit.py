"""`cross_fit`: what all bands of another date say of each band of the scene, beyond the band's own gain and offset.

Between two dates a field is mown and a wood is not: how a band changed depends on what grows there, which the other bands show. So what
the band's own line leaves over is regressed on all bands of the other date, on jointly clear pixels:

    left over = clip(M x + m, low, high)

Ridge regression on standardised bands (Hoerl and Kennard, Technometrics 12, 1970), so that what the clear pixels do not tell stays with the
band's own line; robust by leaving out, twice, the pixels that lie far off; and clipped to what occurs among the clear pixels, as under the
cloud there may be ground that is unlike all of them. A band is only corrected where that helps on strips of the scene from
which it was not learned. Deterministic, and the same whatever the blocks: sums over bands are taken in the bands' order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 2000
"""Jointly clear pixels below which nothing is said."""
MOST = 200_000
"""Pixels that are looked at, evenly taken."""
RIDGE, RIDGE_PIXELS = 0.003, 20.0
"""Penalty on standardised coefficients, and how many pixels' worth a band, of doubt there is besides."""
FAR = 3.0
"""Times the median distance: what lies further off is left out."""
ROUNDS = 2
STRIPS = 8
HELPS = 0.98
"""Share of a band's mean absolute residual that must at most be left on strips that were not learned from."""
NOTHING = 1e-6
"""Mean residual, reflectance, below which there is nothing to correct."""
TAIL = 0.001
"""Share of the clear pixels on either side beyond which a correction is clipped."""


@dataclass(frozen=True, eq=False)
class CrossFit:
    """The correction of each band."""

    matrix: NDArray[np.float32]
    """(C, C) M, corrected bands along rows; a row of zeros where a band is not corrected."""
    offset: NDArray[np.float32]
    """(C,) m, reflectance."""
    low: NDArray[np.float32]
    """(C,) least correction, reflectance."""
    high: NDArray[np.float32]
    """(C,) greatest correction, reflectance."""

    def __call__(self, other: NDArray[np.float32]) -> NDArray[np.float32]:
        """Correction (C, ...) for reflectances of the other date, (C, ...)."""
        out = np.zeros_like(other)
        for band, row in enumerate(self.matrix):
            if not row.any():
                continue
            for weight, values in zip(row, other, strict=True):
                out[band] += weight * values
            out[band] = np.clip(out[band] + self.offset[band], self.low[band], self.high[band])
        return out


def cross_fit(other: NDArray[np.floating], left: NDArray[np.floating]) -> CrossFit | None:
    """Fit of `left` (C, n), what each band's own line leaves over, to `other` (C, n), both reflectance on jointly clear pixels.

    Pixels in raster order. None where there are too few of them, or no band gains by it.
    """
    if other.shape != left.shape or other.ndim != 2:
        raise ValueError(f"samples of shape {other.shape} and {left.shape} must be (bands, pixels) and equal")
    bands, count = other.shape
    if count < FEWEST:
        return None
    step = -(-count // MOST)
    x, y = other[:, ::step].T.astype(np.float64), left[:, ::step].T.astype(np.float64)
    strip = np.arange(len(x)) * STRIPS // len(x) % 2
    gain = np.zeros(bands)
    for half in (0, 1):
        learn, test = strip == half, strip != half
        if learn.sum() < FEWEST // 4 or test.sum() < FEWEST // 4:
            return None
        found = _fit(x[learn], y[learn])(x[test].T.astype(np.float32)).T
        before, after = np.abs(y[test]).mean(0), np.abs(y[test] - found).mean(0)
        gain += np.where(before > NOTHING, after / np.maximum(before, NOTHING), 1.0) / 2
    helped = gain <= HELPS
    if not helped.any():
        return None
    whole = _fit(x, y)
    matrix = np.where(helped[:, None], whole.matrix, np.float32(0))
    return CrossFit(matrix, whole.offset, whole.low, whole.high)


def _fit(x: NDArray[np.float64], y: NDArray[np.float64]) -> CrossFit:
    """Ridge regression of y (n, C) on x (n, C)."""
    bands = x.shape[1]
    mean, spread = x.mean(0), x.std(0) + 1e-4
    design = np.concatenate([(x - mean) / spread, np.ones((len(x), 1))], 1)
    penalty = np.diag([RIDGE + RIDGE_PIXELS * bands / len(x)] * bands + [0.0])
    near = np.ones(len(x), np.bool_)
    solved = np.zeros((bands + 1, bands))
    for _ in range(ROUNDS + 1):
        used, target = design[near], y[near]
        solved = np.linalg.solve(used.T @ used / len(used) + penalty, used.T @ target / len(used))
        distance = np.abs(y - design @ solved).mean(1)
        near = distance <= FAR * max(float(np.median(distance)), 1e-6)
    corrections = design @ solved
    low, high = np.quantile(corrections, TAIL, axis=0), np.quantile(corrections, 1 - TAIL, axis=0)
    matrix = (solved[:-1] / spread[:, None]).T
    offset = solved[-1] - matrix @ mean
    return CrossFit(*(part.astype(np.float32) for part in (matrix, offset, low, high)))
