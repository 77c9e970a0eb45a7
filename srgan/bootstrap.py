"""Interval of a mean over images that come in groups, which are what was drawn from the world.

Chips of one ROI share its land, date and cloud: they are no independent draws. So whole groups are drawn with replacement, each with
all its images (Davison and Hinkley, "Bootstrap methods and their application", 1997, section 3.8), and the mean over the images drawn
is taken.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from srgan.errors import ModelError


class InvalidSample(ModelError):
    """Values and groups of a bootstrap differ in number, or its settings make no sense."""


def interval(
    values: ArrayLike,
    groups: Sequence[Hashable] | np.ndarray,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Low and high end of the interval that holds the mean over images with probability `level`, by percentiles of `draws` means.

    values (n,): a score of each image, or a difference of two methods' scores; what is not finite is left out, as it is of the mean.
    groups (n,): ROI or tile of each, strings or numbers. The same values give the same interval, in any order.
    Two NaN where fewer than two groups have a finite value: one place says nothing of others. With few groups (below about ten) such
    an interval is too narrow; report their number beside it.
    Raises InvalidSample.
    """
    numbers, names = np.asarray(values, np.float64), np.asarray(groups)
    if numbers.ndim != 1 or names.shape != numbers.shape:
        raise InvalidSample(f"values {numbers.shape} and groups {names.shape}: need one group for each value")
    if draws < 1 or not 0 < level < 1:
        raise InvalidSample(f"draws {draws}, level {level}: need at least one draw and a level between 0 and 1")
    finite = np.isfinite(numbers)
    numbers = numbers[finite]
    found, member = np.unique(names[finite], return_inverse=True)
    if len(found) < 2:
        return math.nan, math.nan
    # Sorted within their groups, so that not even rounding depends on the order.
    order = np.lexsort((numbers, member))
    sizes = np.bincount(member)
    totals = np.add.reduceat(numbers[order], np.cumsum(sizes) - sizes)
    drawn = np.random.default_rng(seed).integers(0, len(found), (draws, len(found)))
    means = totals[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
