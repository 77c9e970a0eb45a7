"""`Harmonisation`: what brings another date's reflectance to that of the scene, in spite of outliers.

A gain and an offset for each band (`fit_band`), and on top of that what all bands of the other date together say of how the ground
changed (`srgan.crossfit`), where that proves itself on pixels that it was not learned from.

Jointly clear pixels still hold changed fields, missed clouds and shadows. So a line is first found from medians alone
(medians of the scene's values in quantile bins of the other date's, slopes after Theil and Sen), then refined by least
squares on the pixels that lie near it. Least squares of the scene on the other date, not a reduced major axis: the gain is
used to predict, and what is left of haze and shadow in the cloudy scene would drive the axis' gain up (measured on 33TWL,
18 August from 15 August, B08: RMSE 0.0767 with the axis, more than the 0.0752 without any fit).
Deterministic: no random sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srgan.crossfit import MOST, CrossFit, cross_fit

FEWEST_FOR_GAIN = 500
"""Fewer jointly clear pixels give an offset only."""
FEWEST = 50
"""Fewer jointly clear pixels give nothing."""
CHANGE = (0.02, 0.002)
"""Reflectance by which the ground of a scene may grow brighter in any band, and by how much more for each day between the dates: beyond that it is
light that clouds have scattered into their gaps, most of it in the near infrared over plants. From twice as much on nothing of it is believed."""
LITTLE, LEAST_TRUST = 0.05, 0.5
"""Share of a scene below which its clear pixels are too few to be trusted in full, and how far they are trusted at the least."""
GAINS = (0.5, 2.0)
"""Bounds of the gain."""
_CORRELATION = 0.5  # weaker ones say nothing about a gain
_BINS = 20
_ROUNDS = 4
_NEAR = 2.5  # robust standard deviations


@dataclass(frozen=True)
class Fit:
    """harmonised = gain * reflectance + offset."""

    gain: float = 1.0
    offset: float = 0.0
    """Reflectance units."""
    harmonised: bool = False
    """False where too few jointly clear pixels were there: gain 1, offset 0."""
    samples: int = 0
    """Jointly clear pixels that it rests on."""


@dataclass(frozen=True, eq=False)
class Harmonisation:
    """How reflectances of another date become those of the scene."""

    fits: tuple[Fit, ...]
    """Of each band."""
    cross: CrossFit | None = None
    """What is added to them; None where nothing was found that helps."""
    trust: float = 1.0
    """Share of the way from the other date as it is to what fits and cross say, 0..1."""

    def __call__(self, other: NDArray[np.float32]) -> NDArray[np.float32]:
        """Harmonised reflectance (C, ...) of reflectances (C, ...) of the other date; each pixel by itself."""
        out = np.stack(
            [np.float32(fit.gain) * band + np.float32(fit.offset) for fit, band in zip(self.fits, other, strict=True)]
        )
        if self.cross is not None:
            out += self.cross(other)
        return out if self.trust == 1 else other + np.float32(self.trust) * (out - other)


def trust_in(brighter: float, clear: float, days: float) -> float:
    """How far a scene's clear pixels are trusted to say what its ground is like, 0..1.

    brighter: by how much reflectance they are brighter than on the other date, in the band that gained most. clear: their share of the scene, 0..1.
    days: signed distance of the other date; less than half a day: not known. What is left clear between many clouds is lit by them:
    brought to its level, a clear date of the same week is further from the ground than as it was.

    >>> trust_in(0.02, 0.8, 2), trust_in(0.06, 0.2, 5), trust_in(0.06, 0.2, 0), trust_in(0, 0.02, 5)
    (1.0, 0.0, 1.0, 0.7)
    """
    believed = CHANGE[0] + CHANGE[1] * abs(days)
    plausible = 1.0 if abs(days) < 0.5 else min(max(2 - brighter / believed, 0.0), 1.0)
    return plausible * (LEAST_TRUST + (1 - LEAST_TRUST) * min(1.0, clear / LITTLE))


def harmonisation(
    other: NDArray[np.floating],
    scene: NDArray[np.floating],
    jointly: Sequence[NDArray[np.bool_]] | None = None,
    *,
    clear: float = 1.0,
    days: float = 0.0,
) -> Harmonisation:
    """The harmonisation of `other` to `scene`: reflectances (C, n), pixels in raster order.

    jointly: for each band, (n,) where both dates are clear and have data in it; left out: everywhere. clear, days: what `trust_in` asks for.
    """
    if jointly is None:
        jointly = [np.ones(other.shape[1], np.bool_)] * len(other)
    fits = tuple(fit_band(x[joint], y[joint]) for x, y, joint in zip(other, scene, jointly, strict=True))
    compared = zip(fits, other, scene, jointly, strict=True)
    gained = [float(np.median(y[joint] - x[joint])) for fit, x, y, joint in compared if fit.harmonised]
    trust = trust_in(max(gained, default=0.0), clear, days)
    if len(gained) < len(fits):
        return Harmonisation(fits, trust=trust)
    everywhere = np.flatnonzero(np.logical_and.reduce(jointly))
    chosen = everywhere[:: max(-(-len(everywhere) // MOST), 1)]
    x, y = other[:, chosen], scene[:, chosen]
    left = np.stack([b - (fit.gain * a + fit.offset) for fit, a, b in zip(fits, x, y, strict=True)])
    return Harmonisation(fits, cross_fit(x, left), trust)


def fit_band(other: NDArray[np.floating], scene: NDArray[np.floating]) -> Fit:
    """The fit of `other` to `scene`: reflectances of jointly clear pixels, one-dimensional and of one length.

    >>> x = np.linspace(0.05, 0.4, 1000)
    >>> fit = fit_band(x, 1.25 * x - 0.01)
    >>> round(fit.gain, 6), round(fit.offset, 6), fit.harmonised
    (1.25, -0.01, True)
    """
    if other.shape != scene.shape or other.ndim != 1:
        raise ValueError(f"samples of shape {other.shape} and {scene.shape} must be one-dimensional and equal")
    x, y = other.astype(np.float64), scene.astype(np.float64)
    if x.size < FEWEST:
        return Fit(samples=x.size)
    level = Fit(1.0, float(np.median(y - x)), harmonised=True, samples=x.size)
    if x.size < FEWEST_FOR_GAIN:
        return level
    gain, offset = _line_of_medians(x, y)
    for _ in range(_ROUNDS):
        residual = y - (gain * x + offset)
        distance = np.abs(residual - np.median(residual))
        spread = 1.4826 * float(np.median(distance))
        near = distance <= max(_NEAR * spread, 1e-9)
        x_near, y_near = x[near], y[near]
        x_spread, y_spread = float(x_near.std()), float(y_near.std())
        if min(x_spread, y_spread) < 1e-9:
            return level
        correlation = float(np.mean((x_near - x_near.mean()) * (y_near - y_near.mean()))) / (x_spread * y_spread)
        if correlation < _CORRELATION:
            return level
        gain = float(np.clip(correlation * y_spread / x_spread, *GAINS))
        offset = float(np.median(y_near - gain * x_near))
    return Fit(gain, offset, harmonised=True, samples=x.size)


def _line_of_medians(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Median slope between the bins' medians, and the median intercept."""
    order = np.argsort(x, kind="stable")
    bins = np.array_split(order, _BINS)
    x_mid = np.array([np.median(x[members]) for members in bins])
    y_mid = np.array([np.median(y[members]) for members in bins])
    first, second = np.triu_indices(_BINS, 1)
    run = x_mid[second] - x_mid[first]
    apart = run > 1e-9
    gain = float(np.median((y_mid[second] - y_mid[first])[apart] / run[apart])) if apart.any() else 1.0
    gain = float(np.clip(gain, *GAINS))
    return gain, float(np.median(y - gain * x))
