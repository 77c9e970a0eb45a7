"""`Trust`: whether the expected errors of a network hold: reliability of the band groups, and error against coverage.

Only sums in bins are kept, so that memory does not grow with the number of images, and adding is all there is to join two parts.

Reliability. The expected absolute error b of a value says that it lies within `NEAR` of the truth with the probability 1 - exp(-NEAR / b)
(Laplace). Values are binned by that probability; in each bin the share that does is counted.

Risk and coverage (Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017). Masked pixels are put in the order of the
error to expect; of the most certain x % the RMSE is found. Beside it that of an oracle, which knows the errors, and of chance.
Orders are those of 512 bins over the logarithm, within which pixels count as alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.confidence import NEAR
from srgan.spec import GROUPS

BINS = 20
"""Of probabilities, 0..1."""
ORDERS = 512
"""Bins in which pixels are put in order."""
_SPAN = (1e-6, 4.0)  # errors, reflectance; what lies outside counts as the bound
COVERAGES = tuple(step / 20 for step in range(1, 21))


def _group_sums() -> NDArray[np.float64]:
    return np.zeros((len(GROUPS), BINS, 5))


def _order_sums() -> NDArray[np.float64]:
    return np.zeros((2, ORDERS, 2))


@dataclass(frozen=True, eq=False)
class Trust:
    """Sums over pixels. Add two for those of both."""

    groups: NDArray[np.float64] = field(default_factory=_group_sums)
    """(4, bins, 5): count, sum of probabilities said, count within `NEAR`, sum of errors expected, sum of errors found."""
    orders: NDArray[np.float64] = field(default_factory=_order_sums)
    """(2, bins, 2): by the expected error, and by the one found: count of pixels, sum of squared errors."""

    def __add__(self, other: Trust) -> Trust:
        return Trust(self.groups + other.groups, self.orders + other.orders)

    @classmethod
    def of(
        cls,
        prediction: NDArray[np.float32],
        target: NDArray[np.float32],
        uncertainty: NDArray[np.float32],
        bands: tuple[str, ...],
        where: NDArray[np.bool_],
    ) -> Self:
        """Sums of one image over the pixels `where` (H, W).

        prediction, target: (C, H, W) reflectance of `bands`; uncertainty: (4, H, W) in the order of `GROUPS`. A pixel's expected error is the
        mean over its bands of the groups; bands of no group do not count, nor do values that are not finite.
        """
        made = cls()
        errors = np.abs(np.clip(prediction[:, where], 0, 1).astype(np.float64) - np.clip(target[:, where], 0, 1))
        expected = uncertainty[:, where].astype(np.float64)
        count, squares, said = (np.zeros(errors.shape[1]) for _ in range(3))
        for number, members in enumerate(GROUPS.values()):
            for band in (bands.index(name) for name in members if name in bands):
                whole = np.isfinite(errors[band]) & np.isfinite(expected[number]) & (expected[number] > 0)
                error, scale = errors[band][whole], expected[number][whole]
                probability = -np.expm1(-NEAR / scale)
                at = np.minimum((probability * BINS).astype(int), BINS - 1)
                values = (None, probability, error <= NEAR, scale, error)
                for column, value in enumerate(values):
                    made.groups[number, :, column] += np.bincount(at, value, BINS)
                count[whole] += 1
                squares[whole] += error**2
                said[whole] += scale
        there = count > 0
        count, squares, said = count[there], squares[there] / count[there], said[there] / count[there]
        for number, order in enumerate((said, np.sqrt(squares))):
            at = _order(order)
            made.orders[number, :, 0] += np.bincount(at, minlength=ORDERS)
            made.orders[number, :, 1] += np.bincount(at, squares, ORDERS)
        return made

    def document(self) -> dict[str, Any] | None:
        """For report.json; None without a pixel."""
        if not self.orders[0, :, 0].sum():
            return None
        groups = {name: _reliability(sums) for name, sums in zip(GROUPS, self.groups, strict=True) if sums[:, 0].sum()}
        curves = [_risk(sums) for sums in self.orders]
        chance = float(np.sqrt(self.orders[0, :, 1].sum() / self.orders[0, :, 0].sum()))
        return {
            "near": NEAR,
            "groups": groups,
            "risk_coverage": [
                {"coverage": coverage, "rmse_by_confidence": ours, "rmse_oracle": best, "rmse_random": chance}
                for coverage, ours, best in zip(COVERAGES, *curves, strict=True)
            ],
        }


def _order(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Bin of each value by its logarithm."""
    low, high = np.log(_SPAN)
    place = (np.log(np.clip(values, *_SPAN)) - low) / (high - low) * ORDERS
    bins: NDArray[np.intp] = np.minimum(place.astype(np.intp), ORDERS - 1)
    return bins


def _reliability(sums: NDArray[np.float64]) -> dict[str, Any]:
    total = sums[:, 0].sum()
    return {
        "reliability": [
            {"said": said / count, "found": near / count, "share": count / total}
            for count, said, near, _, _ in sums.tolist()
            if count
        ],
        "expected_error": float(sums[:, 3].sum() / total),
        "found_error": float(sums[:, 4].sum() / total),
    }


def _risk(sums: NDArray[np.float64]) -> list[float]:
    """RMSE of the first share of the pixels, for each of `COVERAGES`; a bin is cut as if its pixels were alike."""
    counts, squares = (np.concatenate([[0.0], np.cumsum(column)]) for column in sums.T)
    wanted = np.array(COVERAGES) * counts[-1]
    return np.sqrt(np.interp(wanted, counts, squares) / wanted).tolist()  # type: ignore[no-any-return]
