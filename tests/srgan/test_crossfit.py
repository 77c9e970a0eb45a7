"""What all bands of another date say of each band: against numpy's least squares, on strips that were not learned from, and clipped."""

from __future__ import annotations

import numpy as np
import pytest

from srgan.crossfit import FEWEST, cross_fit


def sample(count: int = 20_000, bands: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Reflectances (bands, n) and a weight matrix with which the first band changes by what the others show."""
    rng = np.random.default_rng(seed)
    other = rng.uniform(0.02, 0.4, (bands, count)).astype(np.float32)
    weights = np.zeros((bands, bands))
    weights[0] = [0.0, 0.2, -0.1, 0.15][:bands]
    return other, weights


def test_a_change_that_the_bands_tell_is_found():
    other, weights = sample()
    left = weights @ other - 0.02
    noise = np.random.default_rng(1).normal(0, 0.002, left.shape)
    found = cross_fit(other, left + noise)
    assert found is not None
    least_squares = np.linalg.lstsq(np.c_[other.T, np.ones(other.shape[1])], (left + noise).T, rcond=None)[0]
    np.testing.assert_allclose(found.matrix[0], least_squares[:-1, 0], atol=0.005)
    assert np.abs(found(other)[0] - left[0]).mean() < 0.001


def test_a_band_that_the_others_say_nothing_of_is_left_alone():
    other, weights = sample()
    left = weights @ other
    left[1:] = np.random.default_rng(2).normal(0, 0.01, left[1:].shape)
    found = cross_fit(other, left)
    assert found is not None
    assert found.matrix[0].any()
    assert not found.matrix[1:].any()
    assert (found(other)[1:] == 0).all()


def test_what_holds_on_some_strips_only_is_not_believed():
    other, weights = sample()
    strips = np.arange(other.shape[1]) * 8 // other.shape[1] % 2
    left = (weights @ other) * np.where(strips, 1, -1)
    assert cross_fit(other, left) is None


def test_outliers_do_not_lead():
    other, weights = sample()
    left = weights @ other
    clouded = np.random.default_rng(3).random(other.shape[1]) < 0.1
    spoiled = np.where(clouded, left + 0.4, left)
    clean, found = cross_fit(other, left), cross_fit(other, spoiled)
    assert clean is not None
    assert found is not None
    # Both strips hold a cloud: as far as it helps the others, the answer is the one without.
    np.testing.assert_allclose(found.matrix[0], clean.matrix[0], atol=0.02)


def test_ground_unlike_all_that_was_clear_is_corrected_by_no_more_than_that():
    other, weights = sample()
    left = weights @ other
    found = cross_fit(other, left)
    assert found is not None
    strange = found(np.full((4, 3, 5), 1.5, np.float32))
    assert strange.shape == (4, 3, 5)
    assert strange[0].max() <= left[0].max()
    assert strange[0].min() >= left[0].min()


def test_pixels_stand_for_themselves():
    """A window gives the very bits that the whole gives: products do not depend on blocks."""
    other, weights = sample(4096 * 3)
    found = cross_fit(other, weights @ other)
    assert found is not None
    whole = other.reshape(4, 96, 128)
    np.testing.assert_array_equal(found(whole)[:, 5:60, 7:90], found(np.ascontiguousarray(whole[:, 5:60, 7:90])))


@pytest.mark.parametrize("count", [0, 1, FEWEST - 1])
def test_too_few_pixels_say_nothing(count):
    other, weights = sample(max(count, 1))
    assert cross_fit(other[:, :count], (weights @ other)[:, :count]) is None


def test_constant_bands_and_wrong_shapes():
    flat = np.full((3, 5000), 0.1, np.float32)
    assert cross_fit(flat, np.zeros_like(flat)) is None
    with pytest.raises(ValueError, match=r"\(bands, pixels\)"):
        cross_fit(flat, flat[:, :10])
