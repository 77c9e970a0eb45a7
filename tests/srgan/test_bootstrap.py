"""The interval over groups against scipy's bootstrap, and whether it covers what it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from srgan.bootstrap import InvalidSample, interval


def sample(groups: int = 12, each: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values whose groups differ more than their images do, and the groups' names."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (groups, 1)) + rng.normal(0, 0.1, (groups, each))
    return values.ravel(), np.repeat([f"roi_{group}" for group in range(groups)], each)


def test_groups_of_one_size_are_scipys_bootstrap_of_their_means():
    values, groups = sample()
    means = values.reshape(12, 4).mean(1)
    expected = stats.bootstrap(
        (means,), np.mean, n_resamples=40000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    low, high = interval(values, groups, draws=40000)
    # A percentile of 40000 draws is known to about a hundredth of the interval.
    assert low == pytest.approx(expected.low, abs=0.02 * (expected.high - expected.low))
    assert high == pytest.approx(expected.high, abs=0.02 * (expected.high - expected.low))


def test_images_count_alike_however_large_their_group():
    values = np.array([1.0, 1.0, 1.0, 0.0])
    groups = ["large", "large", "large", "small"]
    drawn = {0.0, 0.75, 1.0}  # both times the small one, each once, both times the large one
    found = {round(end, 9) for level in np.linspace(0.02, 0.98, 25) for end in interval(values, groups, level=level)}
    assert found <= drawn
    assert {0.0, 1.0} <= found


def test_more_images_of_the_same_places_do_not_narrow_it():
    values, groups = sample()
    once = interval(values, groups)
    assert interval(np.tile(values, 10), np.tile(groups, 10)) == pytest.approx(once, abs=1e-12)
    by_image = interval(np.tile(values, 10), np.arange(10 * len(values)))
    assert once[1] - once[0] > 4 * (by_image[1] - by_image[0])


def test_it_covers_the_mean_as_often_as_it_says():
    hits = 0
    for trial in range(200):
        low, high = interval(*sample(30, 3, seed=trial), draws=400, level=0.9)
        hits += low <= 0 <= high
    # The binomial spread of 200 trials is 2 %; the percentile interval of 30 groups falls short of 90 % by 1 or 2 %.
    assert 0.81 <= hits / 200 <= 0.96


def test_the_same_values_give_the_same_interval_in_any_order():
    values, groups = sample()
    first = interval(values, groups)
    order = np.random.default_rng(5).permutation(len(values))
    assert interval(values[order], groups[order]) == first
    assert interval(list(values), list(groups)) == first
    assert interval(values, groups, seed=1) != first
    wide = interval(values, groups, level=0.99)
    assert wide[0] < first[0] < values.mean() < first[1] < wide[1]


def test_what_is_not_finite_is_left_out():
    values, groups = sample()
    more = np.concatenate([values, [math.nan, math.inf, -math.inf]])
    assert interval(more, np.concatenate([groups, ["roi_0", "roi_1", "elsewhere"]])) == interval(values, groups)


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([], []),
        ([0.3], ["a"]),
        ([0.3, 0.4, 0.5], ["a", "a", "a"]),
        ([0.3, math.nan], ["a", "b"]),
        ([math.inf, math.inf], ["a", "b"]),
    ],
)
def test_one_place_says_nothing_of_others(values, groups):
    low, high = interval(values, groups)
    assert math.isnan(low)
    assert math.isnan(high)


def test_equal_values_leave_no_doubt():
    assert interval([0.1] * 7, [1, 1, 1, 2, 2, 3, 4]) == pytest.approx((0.1, 0.1), abs=1e-15)


@pytest.mark.parametrize(
    ("values", "groups", "setting"),
    [
        ([1.0, 2.0], ["a"], {}),
        ([[1.0, 2.0]], [["a", "b"]], {}),
        ([1.0, 2.0], ["a", "b"], {"draws": 0}),
        ([1.0, 2.0], ["a", "b"], {"level": 1.0}),
        ([1.0, 2.0], ["a", "b"], {"level": 95.0}),
        ([1.0, 2.0], ["a", "b"], {"level": math.nan}),
    ],
)
def test_a_sample_that_makes_no_sense_is_refused(values, groups, setting):
    with pytest.raises(InvalidSample, match="need"):
        interval(values, groups, **setting)
