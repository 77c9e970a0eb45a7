"""Errors of a restored image: sums that add up over parts, and the scores that follow from them.

Reflectance, clipped to 0..1, float64. With y the truth and p the prediction, over the values that count:

    RMSE = sqrt(mean((y - p)^2))    PSNR = 20 log10(1 / RMSE)    MAE = mean(|y - p|)    CC = Pearson's correlation
    SAM  = mean(acos(y.p / (|y| |p|))) 180 / pi, of the spectra that are not zero
    SSIM = mean of its map (Wang et al., IEEE TIP 13, 2004): Gaussian window of 11x11, sigma 1.5, C1 = 1e-4, C2 = 9e-4

SSIM is in use in two variants, up to 0.057 apart. `same` lays windows over the border, where zeros continue the image (the evaluation
of UnCRtainTS); `valid` leaves out the windows that do not fit (scikit-image with Gaussian weights; torchmetrics until 2024, which lets
windows over mirrored edges count since). The second map is the middle of the first, so one map serves both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from srgan.errors import ModelError
from srgan.similarity import Image, similarity
from srgan.ssim import BORDER
from srgan.tensormetrics import correlation, rmse, sam

__all__ = [
    "REGIONS",
    "SCORES",
    "Comparison",
    "Moments",
    "NotComparable",
    "Scores",
    "correlation",
    "psnr",
    "rmse",
    "sam",
]

REGIONS = ("all", "cloudy", "clear_input", "clear_target", "shadow")
"""Where errors are told apart: every pixel whose truth is known; those under the grown mask; those outside it, against the input (was it
kept?) and against the truth (what the dates differ by); those in shadow."""

Mask = NDArray[np.bool_]


class NotComparable(ModelError):
    """A prediction and its truth differ in shape, or the truth is not finite where it is said to be known."""


@dataclass(frozen=True)
class Scores:
    """Scores of one image, or of many pooled. NaN: undefined (no pixel counts; for cc, a constant image)."""

    rmse: float
    """Reflectance."""
    psnr: float
    """dB for a peak of 1; inf where the error is 0."""
    mae: float
    """Reflectance."""
    sam: float
    """Degrees."""
    cc: float
    """-1..1."""
    ssim_same: float
    """-1..1, windows over the border too, zeros beyond it."""
    ssim_valid: float
    """-1..1, only windows wholly inside the image."""


SCORES = tuple(field.name for field in fields(Scores))
"""Names of the scores."""


@dataclass(frozen=True)
class Moments:
    """Counts and sums over chosen values of an image, from which its scores come.

    Parts add up: `a + b` and `sum(parts, Moments())` hold the moments of both together, in any order but for rounding. So the scores of
    a sum are pooled ones: each value counts alike, not each image.
    """

    values: int = 0
    """Values (pixels x bands) that count."""
    not_finite: int = 0
    """Chosen values of the prediction that are NaN or infinite; they are in no other figure."""
    squared: float = 0.0
    """Sum of squared errors."""
    absolute: float = 0.0
    """Sum of absolute errors."""
    angle: float = 0.0
    """Sum of spectral angles, degrees."""
    spectra: int = 0
    """Pixels in `angle`: all bands finite, neither spectrum zero. None where there is one band only: it has no angle."""
    zero_spectra: int = 0
    """Pixels left out of `angle` because the prediction or the truth is 0 in all bands."""
    means: tuple[float, float] = (0.0, 0.0)
    """Mean of prediction and truth."""
    spreads: tuple[float, float] = (0.0, 0.0)
    """Sum of squared deviations from the mean, of prediction and truth."""
    together: float = 0.0
    """Sum of the products of both deviations."""
    lows: tuple[float, float] = (math.inf, math.inf)
    """Least value of prediction and truth."""
    highs: tuple[float, float] = (-math.inf, -math.inf)
    """Largest value of prediction and truth; an image is constant where it equals the least one."""
    same: float = 0.0
    """Sum of the SSIM map with windows over the border."""
    same_windows: int = 0
    """Windows in `same`."""
    valid: float = 0.0
    """Sum of the SSIM map without windows over the border."""
    valid_windows: int = 0
    """Windows in `valid`."""

    @classmethod
    def measure(cls, prediction: Image, target: Image, where: Mask, *, ssim: bool = True) -> Moments:
        """Moments of (C, H, W) over the pixels `where` (H, W); see `Comparison`, with nothing known outside `where`."""
        return Comparison(prediction, target, where).moments(where, ssim=ssim)

    def __add__(self, other: Moments) -> Moments:
        """Moments of both together. Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm", 1979, for the deviations."""
        if not (self.values and other.values):
            # An empty side has no mean. What it may still hold are counts.
            whole = self if self.values else other
            means, spreads, together = whole.means, whole.spreads, whole.together
        else:
            share = other.values / (self.values + other.values)
            gap = [theirs - mine for mine, theirs in zip(self.means, other.means, strict=True)]
            weight = self.values * share
            means = (self.means[0] + gap[0] * share, self.means[1] + gap[1] * share)
            spreads = (
                self.spreads[0] + other.spreads[0] + gap[0] ** 2 * weight,
                self.spreads[1] + other.spreads[1] + gap[1] ** 2 * weight,
            )
            together = self.together + other.together + gap[0] * gap[1] * weight
        return Moments(
            self.values + other.values,
            self.not_finite + other.not_finite,
            self.squared + other.squared,
            self.absolute + other.absolute,
            self.angle + other.angle,
            self.spectra + other.spectra,
            self.zero_spectra + other.zero_spectra,
            means,
            spreads,
            together,
            (min(self.lows[0], other.lows[0]), min(self.lows[1], other.lows[1])),
            (max(self.highs[0], other.highs[0]), max(self.highs[1], other.highs[1])),
            self.same + other.same,
            self.same_windows + other.same_windows,
            self.valid + other.valid,
            self.valid_windows + other.valid_windows,
        )

    def __radd__(self, start: int) -> Moments:
        """So that `sum(parts)`, which starts at 0, works."""
        return self if start == 0 else NotImplemented

    @property
    def scores(self) -> Scores:
        """Scores of all values together."""
        error = math.sqrt(_ratio(self.squared, self.values))
        return Scores(
            rmse=error,
            psnr=psnr(error),
            mae=_ratio(self.absolute, self.values),
            sam=_ratio(self.angle, self.spectra),
            cc=self._correlation(),
            ssim_same=_ratio(self.same, self.same_windows),
            ssim_valid=_ratio(self.valid, self.valid_windows),
        )

    def _correlation(self) -> float:
        # A constant image's sum of squared deviations need not be 0: its mean is rounded. Its extremes are exact.
        spread = math.sqrt(self.spreads[0]) * math.sqrt(self.spreads[1])
        if spread == 0 or any(low >= high for low, high in zip(self.lows, self.highs, strict=True)):
            return math.nan
        return max(-1.0, min(1.0, self.together / spread))


class Comparison:
    """A prediction beside its truth, to be measured over several regions: maps of angle and SSIM are made once.

    prediction, target: (C, H, W) reflectance, of any float type; known (H, W): pixels whose truth is known. The target may hold anything
    elsewhere; the prediction may hold NaN and inf anywhere: such values are counted and left out.

    SSIM of a region is the mean of the map over the region's pixels (for `valid`, those whose window fits in the image) and over bands.
    Its windows may reach beyond what is known, or over values that are not finite: there the target stands in for the prediction, 0 for
    both where the target is not finite either. So no window is blamed for what nobody knows.
    Raises NotComparable.
    """

    def __init__(self, prediction: Image, target: Image, known: Mask) -> None:
        if prediction.shape != target.shape or prediction.ndim != 3 or known.shape != target.shape[1:]:
            raise NotComparable(
                f"prediction {prediction.shape}, target {target.shape}, known {known.shape}: need (C, H, W) twice, (H, W)"
            )
        if known.dtype != np.bool_:
            raise NotComparable(f"known pixels must be bool, not {known.dtype}")
        self.known = known
        truth = np.array(target, np.float64)
        whole = np.isfinite(truth)
        if not whole.all():
            if not whole[:, known].all():
                raise NotComparable("the target is not finite in pixels said to be known: take them out of the mask")
            truth[~whole] = 0
        self.target = np.clip(truth, 0, 1, out=truth)
        self.finite = np.isfinite(prediction)
        """(C, H, W) where the prediction is finite."""
        self.whole = bool(self.finite.all())
        """Everywhere."""
        self.prediction = np.clip(np.asarray(prediction, np.float64), 0, 1)
        """(C, H, W); the target where it is not finite or nothing is known."""
        self.prediction = np.where(self.finite & known, self.prediction, self.target)

    def moments(self, where: Mask, *, ssim: bool = True) -> Moments:
        """Over all bands. where (H, W) bool: pixels that count, all of them known. Raises NotComparable."""
        return sum(self.bands(where, ssim=ssim), self.angles(where))

    def bands(self, where: Mask, *, ssim: bool = True) -> tuple[Moments, ...]:
        """Moments of each band by itself, (C,), without angles. Raises NotComparable."""
        self._check(where)
        pixels = np.flatnonzero(where)
        return tuple(self._band(band, pixels, ssim=ssim) for band in range(len(self.target)))

    def _band(self, band: int, pixels: NDArray[np.intp], *, ssim: bool) -> Moments:
        """Moments of one band over the pixels of these indices."""
        chosen = pixels if self.whole else pixels[self.finite[band].take(pixels)]
        missing = len(pixels) - len(chosen)
        if not len(chosen):
            return Moments(not_finite=missing)
        first, second = self.prediction[band].take(chosen), self.target[band].take(chosen)
        lows, highs = (float(first.min()), float(second.min())), (float(first.max()), float(second.max()))
        means = float(first.mean()), float(second.mean())
        error = first - second
        first -= means[0]
        second -= means[1]
        found = Moments(
            len(chosen),
            missing,
            squared=float(error @ error),
            absolute=float(np.abs(error).sum()),
            means=means,
            spreads=(float(first @ first), float(second @ second)),
            together=float(first @ second),
            lows=lows,
            highs=highs,
        )
        if not ssim:
            return found
        same, inner = self.similarity[band], chosen[self._inner.take(chosen)]
        return replace(
            found,
            same=float(same.take(chosen).sum()),
            same_windows=len(chosen),
            valid=float(same.take(inner).sum()),
            valid_windows=len(inner),
        )

    def angles(self, where: Mask) -> Moments:
        """The spectral angles over some pixels and nothing else; none where there is one band only. Raises NotComparable."""
        self._check(where)
        if len(self.target) == 1:
            return Moments()
        angle, nonzero = self.angle
        chosen = where if self.whole else where & self.finite.all(0)
        counted = angle[chosen & nonzero]
        return Moments(
            angle=float(counted.sum()), spectra=counted.size, zero_spectra=int(np.count_nonzero(chosen)) - counted.size
        )

    def _check(self, where: Mask) -> None:
        if where.shape != self.known.shape or where.dtype != np.bool_:
            raise NotComparable(f"pixels that count are {where.dtype} {where.shape}: need bool {self.known.shape}")
        if (where & ~self.known).any():
            raise NotComparable("pixels are to count whose truth is not known: take them out of the mask")

    @cached_property
    def _inner(self) -> Mask:
        """Where a window fits in the image."""
        inner = np.zeros(self.known.shape, np.bool_)
        inner[BORDER:-BORDER, BORDER:-BORDER] = True
        return inner

    @cached_property
    def angle(self) -> tuple[Image, Mask]:
        """Spectral angle (H, W), degrees, and where neither spectrum is zero.

        2 asin(|u - v| / 2) of the unit spectra u, v: equal to acos(u.v) but exact for small angles, where acos loses half its digits.
        No value is negative, so no angle is above 90 degrees.
        """
        lengths = [np.sqrt(np.einsum("chw,chw->hw", image, image)) for image in (self.prediction, self.target)]
        nonzero = (lengths[0] > 0) & (lengths[1] > 0)
        gap = self.prediction / np.where(nonzero, lengths[0], 1)
        gap -= self.target / np.where(nonzero, lengths[1], 1)
        chord = np.sqrt(np.einsum("chw,chw->hw", gap, gap))
        # Where a spectrum is zero the chord means nothing, and may be longer than a diameter.
        return np.degrees(2 * np.arcsin(np.minimum(chord / 2, 1))), nonzero

    @cached_property
    def similarity(self) -> Image:
        """SSIM map (C, H, W) with zeros beyond the border; without 5 pixels on each side, the map of the windows that fit."""
        return similarity(self.prediction, self.target)


def _ratio(total: float, count: int) -> float:
    return total / count if count else math.nan


def psnr(error: float) -> float:
    """Peak signal-to-noise ratio of an RMSE, dB, for a peak of 1; infinite where the error is 0.

    >>> round(psnr(0.1), 6)
    20.0
    """
    return math.inf if error == 0 else -20 * math.log10(error)
