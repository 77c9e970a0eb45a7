"""Harmonisation: a planted line comes back in spite of outliers; too little to go by gives less, and says so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.harmonise import FEWEST, FEWEST_FOR_GAIN, GAINS, Fit, fit_band, harmonisation, trust_in

SEEDS = st.integers(0, 2**32 - 1)


def ground(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.gamma(4.0, 0.05, count).clip(0.01, 0.9)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.floats(0.7, 1.5), st.floats(-0.05, 0.05), st.integers(1000, 5000))
def test_planted_line_in_twenty_per_cent_outliers(seed: int, gain: float, offset: float, count: int) -> None:
    rng = np.random.default_rng(seed)
    x = ground(rng, count)
    y = gain * x + offset + rng.normal(0, 0.002, count)
    bad = rng.random(count) < 0.2
    y[bad] = rng.uniform(0.4, 1.0, int(bad.sum()))  # clouds that the mask missed
    fit = fit_band(x, y)
    assert fit.harmonised
    assert fit.gain == pytest.approx(gain, abs=0.03)
    at = np.median(x)
    assert fit.gain * at + fit.offset == pytest.approx(gain * at + offset, abs=0.002)


def test_outliers_in_the_other_date() -> None:
    rng = np.random.default_rng(1)
    x = ground(rng, 4000)
    y = 1.2 * x - 0.01 + rng.normal(0, 0.002, 4000)
    x[:800] = rng.uniform(0.4, 0.9, 800)
    fit = fit_band(x, y)
    assert fit.gain == pytest.approx(1.2, abs=0.04)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.floats(0.01, 10), st.integers(FEWEST, 2000))
def test_gain_stays_in_bounds_and_result_finite(seed: int, gain: float, count: int) -> None:
    rng = np.random.default_rng(seed)
    x = ground(rng, count)
    fit = fit_band(x, gain * x + rng.normal(0, 0.01, count))
    assert GAINS[0] <= fit.gain <= GAINS[1]
    assert np.isfinite(fit.offset)


def test_few_pixels_give_an_offset_only_and_very_few_nothing() -> None:
    rng = np.random.default_rng(2)
    x = ground(rng, FEWEST_FOR_GAIN - 1)
    fit = fit_band(x, 1.3 * x + 0.02)
    assert (fit.gain, fit.harmonised) == (1.0, True)
    assert fit.offset == pytest.approx(float(np.median(0.3 * x + 0.02)))
    assert fit_band(x[: FEWEST - 1], x[: FEWEST - 1] + 0.1) == Fit(1.0, 0.0, harmonised=False, samples=FEWEST - 1)


def test_no_correlation_or_no_contrast_gives_an_offset_only() -> None:
    rng = np.random.default_rng(3)
    x, y = ground(rng, 3000), ground(rng, 3000) + 0.1
    fit = fit_band(x, y)
    assert fit.gain == 1.0
    assert fit.offset == pytest.approx(float(np.median(y - x)))
    flat = fit_band(np.full(1000, 0.2), np.full(1000, 0.25))
    assert (flat.gain, flat.offset) == (1.0, pytest.approx(0.05))


def test_order_of_the_samples_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    x = ground(rng, 2000)
    y = 1.1 * x + rng.normal(0, 0.01, 2000)
    order = rng.permutation(2000)
    one, other = fit_band(x, y), fit_band(x[order], y[order])
    assert (one.gain, one.offset) == pytest.approx((other.gain, other.offset), abs=1e-12)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one-dimensional and equal"):
        fit_band(np.zeros(3), np.zeros(4))


def test_a_scene_that_is_brighter_than_a_few_days_allow_is_trusted_less() -> None:
    rng = np.random.default_rng(5)
    other = rng.uniform(0.05, 0.4, (3, 4000)).astype(np.float32)
    for brighter, days in ((0.01, 2.0), (0.036, 2.0), (0.06, 2.0), (0.06, 40.0), (0.06, 0.0), (-0.03, 2.0)):
        scene = other * 1.1 + np.float32(brighter - 0.1 * np.median(other))
        trust = trust_in(float(np.median(scene - other, axis=1).max()), 1.0, days)
        found = harmonisation(other, scene, days=days)
        assert found.trust == pytest.approx(trust, abs=1e-6)
        np.testing.assert_allclose(found(other), other + trust * (scene - other), atol=2e-3)
        jointly = [np.ones(4000, bool), np.ones(4000, bool), np.zeros(4000, bool)]
        lacking = harmonisation(other, scene, jointly, days=days)
        expected = trust_in(float(np.median(scene - other, axis=1)[:2].max()), 1.0, days)
        assert lacking.trust == pytest.approx(expected, abs=1e-6), (
            "a band without a joint pixel hides nothing of the others"
        )
    np.testing.assert_array_equal(harmonisation(other, other + np.float32(0.05), days=2.0)(other), other)


def test_trust_falls_with_brightness_and_grows_with_clear_ground_and_with_the_days_between() -> None:
    brighter, shares, days = np.linspace(-0.1, 0.1, 41), np.linspace(0, 1, 21), [1.0, 4.0, 7.0, 20.0, 400.0]
    table = np.array([[[trust_in(b, share, away) for away in days] for share in shares] for b in brighter])
    assert (np.diff(table, axis=0) <= 0).all()
    assert (np.diff(table, axis=1) >= 0).all()
    assert (np.diff(table, axis=2) >= 0).all()
    assert table[-1, -1, 0] == 0
    assert table[0, -1, 0] == table[-1, -1, -1] == 1
    assert trust_in(0.1, 1.0, 0.0) == 1, "days that are not known say nothing"
    assert 0 < trust_in(0.03, 0.5, -3) == trust_in(0.03, 0.5, 3) < 1


def test_a_scene_with_hardly_any_clear_ground_is_trusted_less() -> None:
    rng = np.random.default_rng(5)
    other = rng.uniform(0.05, 0.4, (3, 4000)).astype(np.float32)
    scene = other * 0.9
    whole, part = harmonisation(other, scene)(other), harmonisation(other, scene, clear=0.02)(other)
    np.testing.assert_allclose(part, other + np.float32(trust_in(0.0, 0.02, 0.0)) * (whole - other), atol=1e-6)
    assert 0.5 < trust_in(0.0, 0.02, 0.0) < 1
