"""Displacement: known shifts are found to a fraction of a pixel, and where nothing can be seen nothing is claimed."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from pipeline.gate import GateLimits
from pipeline.registration import LEAST_JOINT, Displacement, displacement
from tests.pipeline.made_chips import land

BANDS = (2, 3, 7)
SIGNIFICANT = GateLimits().significance


def bands(image: np.ndarray) -> list[np.ndarray]:
    return [image[index].astype(np.float32) / 1e4 for index in BANDS]


def moved(image: np.ndarray, rows: int, cols: int, edge: int) -> np.ndarray:
    """A window of a larger image, cut so that what it shows lies `rows` lower and `cols` further right."""
    return image[:, 8 - rows : 8 - rows + edge, 8 - cols : 8 - cols + edge]


def measured(first: np.ndarray, second: np.ndarray, joint: np.ndarray | None = None) -> Displacement:
    everywhere = np.ones(first.shape[1:], bool) if joint is None else joint
    result = displacement(bands(first), bands(second), everywhere)
    assert result is not None
    return result


@settings(max_examples=10, deadline=None)
@given(st.integers(-6, 6), st.integers(-6, 6), st.integers(0, 50))
def test_whole_shifts_of_other_noise_are_found(rows: int, cols: int, seed: int) -> None:
    first, second = land(1, 144, fields=seed), land(2, 144, fields=seed)
    result = measured(moved(first, 0, 0, 128), moved(second, rows, cols, 128))
    assert result.rows == pytest.approx(rows, abs=0.15)
    assert result.cols == pytest.approx(cols, abs=0.15)
    assert result.significance > 2 * SIGNIFICANT


@pytest.mark.parametrize("shift", [(0.5, 0.0), (-0.3, 1.4), (2.25, -2.75)])
def test_fractions_agree_with_what_was_shifted_and_with_scikit_image(shift: tuple[float, float]) -> None:
    first = land(1, 128)
    second = np.stack([np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(band), shift)).real for band in first])
    result = measured(first, second)
    assert (result.rows, result.cols) == pytest.approx(shift, abs=0.15)
    oracle, _, _ = phase_cross_correlation(first[7].astype(float), second[7], upsample_factor=50)
    assert (-result.rows, -result.cols) == pytest.approx(tuple(oracle), abs=0.2)  # skimage: how to move the second back
    back = measured(second, first)
    assert (back.rows, back.cols) == pytest.approx((-result.rows, -result.cols), abs=1e-6)


def test_other_brightness_contrast_and_holes_do_not_move_it() -> None:
    first, second = land(1, 144), land(2, 144)
    changed = (8000 - 1.5 * moved(second, 2, -1, 128).astype(float)).clip(0, 10000)  # bright fields turn dark
    joint = np.ones((128, 128), bool)
    joint[20:70, 30:90] = False
    changed[:, 20:70, 30:90] = 9000
    result = measured(moved(first, 0, 0, 128), changed, joint)
    assert (result.rows, result.cols) == pytest.approx((2, -1), abs=0.2)
    assert result.significance > SIGNIFICANT


def test_noise_and_flat_water_are_not_measurable() -> None:
    rng = np.random.default_rng(0)
    peaks = [measured(*rng.normal(900, 20, (2, 13, 128, 128))).significance for _ in range(30)]
    assert max(peaks) < 0.8 * SIGNIFICANT
    flat = np.full((13, 128, 128), 300.0)
    result = displacement(bands(flat), bands(flat), np.ones((128, 128), bool))
    assert result is None or result.significance < SIGNIFICANT


def test_too_little_joint_ground_is_not_measured() -> None:
    image = land(0, 128)
    joint = np.zeros((128, 128), bool)
    joint[: int(128 * LEAST_JOINT)] = True
    assert displacement(bands(image), bands(image), joint) is None
    joint[: int(128 * LEAST_JOINT) + 2] = True
    assert displacement(bands(image), bands(image), joint) is not None


def test_real_dates_shifted_by_known_pixels(shared_data) -> None:
    """A clear date against itself and against another one ten days later, moved by 0, 1 and 3 pixels."""
    folder = shared_data / "SEN12MSCRTS/ROIs2017/146/S2"
    images = []
    for number, day in ((17, date(2018, 7, 30)), (18, date(2018, 8, 9))):
        with rasterio.open(folder / f"{number}/s2_ROIs2017_146_ImgNo_{number}_{day}_patch_0.tif") as source:
            images.append(source.read())
    first, other = images
    base = measured(moved(first, 0, 0, 240), moved(other, 0, 0, 240))
    assert base.length < 1
    for rows, cols in ((0, 0), (1, 0), (0, -1), (3, 0), (0, 3), (-3, 1)):
        same = measured(moved(first, 0, 0, 240), moved(first, rows, cols, 240))
        assert (same.rows, same.cols) == pytest.approx((rows, cols), abs=0.05)
        later = measured(moved(first, 0, 0, 240), moved(other, rows, cols, 240))
        assert (later.rows - base.rows, later.cols - base.cols) == pytest.approx((rows, cols), abs=0.2)
        assert later.significance > SIGNIFICANT
        verdict = later.length > GateLimits().shift
        assert verdict == (max(abs(rows), abs(cols)) == 3)


def test_real_sea_is_not_measurable(shared_data) -> None:
    sides = []
    for side in ("s2", "s2_cloudy"):
        path = f"SEN12MSCR/ROIs1868_summer_{side}/{side}_135/ROIs1868_summer_{side}_135_p472.tif"
        with rasterio.open(shared_data / path) as source:
            sides.append(source.read())
    assert measured(*sides).significance < SIGNIFICANT
