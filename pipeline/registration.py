"""How far two images of one place are displaced: phase correlation of their gradients, to a fraction of a pixel.

Gradients, because seasons change brightness and contrast but leave edges where they are; their magnitudes, because a
field may turn from brighter to darker than its neighbour. Pixels that are not clear in both are faded out. The spectra
of all bands are whitened and added, fine detail (aliased, and mostly noise) is damped, and the peak of the correlation
gives the displacement: C. D. Kuglin, D. C. Hines, "The phase correlation image alignment method", 1975; the fraction
is the vertex of a parabola through the peak and its neighbours.

A peak tells something only where it stands out of the correlation's own noise: `significance`. Pure noise gives 2 to 4
(the largest of some hundred values), land 17 and more. Where there is nothing to see, as on the sea, it stays low.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

REACH = 12
"""Largest displacement that is looked for, pixels each way."""
LEAST_JOINT = 0.1
"""Share of a chip that must be clear in both, else nothing is measured."""
_EDGE = 3  # pixels beside masked ones, whose gradients are the mask's
_DAMPING = 0.1  # cycles per pixel, standard deviation of the spectral window


class Displacement(NamedTuple):
    """Where the second image lies."""

    rows: float
    """Pixels that the second image lies below the first."""
    cols: float
    """Pixels that it lies to the right."""
    significance: float
    """Height of the peak, in standard deviations of the correlation."""

    @property
    def length(self) -> float:
        """Pixels."""
        return float(np.hypot(self.rows, self.cols))


def displacement(
    first: Sequence[NDArray[np.float32]], second: Sequence[NDArray[np.float32]], joint: NDArray[np.bool_]
) -> Displacement | None:
    """Displacement of `second` against `first` (bands, each (rows, cols)) on the pixels `joint` (rows, cols).

    None where too little is jointly clear. Symmetric: exchanging the images turns the sign.
    """
    weight = ndimage.gaussian_filter(ndimage.binary_erosion(joint, iterations=_EDGE).astype(np.float64), 2)
    if joint.mean() < LEAST_JOINT or not weight.any():
        return None
    total = np.zeros(joint.shape, np.complex128)
    for one, other in zip(first, second, strict=True):
        cross = _spectrum(other, weight) * _spectrum(one, weight).conj()
        total += cross / np.maximum(np.abs(cross), 1e-12)
    frequency = np.hypot(np.fft.fftfreq(joint.shape[0])[:, None], np.fft.fftfreq(joint.shape[1])[None])
    correlation = np.fft.fftshift(np.fft.ifft2(total * np.exp(-0.5 * (frequency / _DAMPING) ** 2)).real)
    noise = float(correlation.std())
    if not noise > 0:
        return None
    middle = joint.shape[0] // 2, joint.shape[1] // 2
    reach = min(REACH, *(half - 2 for half in middle))
    near = correlation[
        middle[0] - reach : middle[0] + reach + 1,
        middle[1] - reach : middle[1] + reach + 1,
    ]
    row, col = (int(index) for index in np.unravel_index(near.argmax(), near.shape))
    at = middle[0] - reach + row, middle[1] - reach + col
    rows = row - reach + _vertex(correlation[at[0] - 1 : at[0] + 2, at[1]])
    cols = col - reach + _vertex(correlation[at[0], at[1] - 1 : at[1] + 2])
    return Displacement(rows, cols, float(near.max()) / noise)


def _spectrum(band: NDArray[np.float32], weight: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Spectrum of the faded gradient magnitude; its logarithm, so that a few bright roofs do not rule."""
    values = band.astype(np.float64) * 1e4
    slope = np.log1p(np.hypot(*(ndimage.gaussian_filter(values, 1, order=order) for order in ((0, 1), (1, 0)))))
    faded = (slope - np.average(slope, weights=weight)) * weight
    return np.asarray(np.fft.fft2(faded))


def _vertex(three: NDArray[np.float64]) -> float:
    """Where, of -1..1, the parabola through three values has its vertex."""
    before, peak, after = (float(value) for value in three)
    bend = before - 2 * peak + after
    return 0.0 if bend >= 0 else min(max(0.5 * (before - after) / bend, -1.0), 1.0)
