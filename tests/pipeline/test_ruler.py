"""Regions as sums of cells give what a measure of the whole region gives."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from skimage.metrics import mean_squared_error, structural_similarity

from pipeline.cases import Case
from pipeline.ground import GROUND, WATER
from pipeline.ruler import ANY, Part, Ruler
from srgan.metrics import Comparison
from tests.pipeline.made_cases import made_case


@pytest.fixture(scope="module")
def case() -> Case:
    return made_case()


def guess(case: Case, seed: int = 0) -> np.ndarray:
    """A prediction that leaves clear pixels alone."""
    noise = np.random.default_rng(seed).normal(0, 0.03, case.target.shape).astype(np.float32)
    return np.where(case.problem.mask, np.clip(case.target + noise, 0, 1), case.problem.image)


def regions(case: Case) -> dict[Part, np.ndarray]:
    """Every part by its definition."""
    problem = case.problem
    known = problem.valid & case.known
    cloudy = known & problem.mask
    found = {
        Part("all", ANY): known,
        Part("cloudy", ANY): cloudy,
        Part("clear_target", ANY): known & ~problem.mask,
        Part("shadow", ANY): cloudy & case.shadow,
    }
    return found | {Part("cloudy", name): cloudy & (case.ground == code) for code, name in enumerate(GROUND) if code}


def test_every_part_is_measured_as_if_alone(case: Case) -> None:
    ruler, prediction = Ruler(case), guess(case)
    measures = ruler.take(prediction).measures(range(13))
    wanted = {part: where for part, where in regions(case).items() if where.sum() >= 64}
    assert set(measures) == {*wanted, Part("clear_input", ANY)}
    assert {part.ground for part in wanted} >= {ANY, GROUND[WATER], "vegetation"}
    whole = Comparison(prediction, case.target, case.problem.valid & case.known)
    for part, where in wanted.items():
        found = measures[part]
        np.testing.assert_allclose(astuple(found.whole.scores), astuple(whole.moments(where).scores), atol=1e-10)
        for band, expected in zip(found.bands, whole.bands(where), strict=True):
            np.testing.assert_allclose(astuple(band.scores), astuple(expected.scores), atol=1e-10, equal_nan=True)
        # Independent of our metrics.
        truth, ours = (np.clip(image[:, where].astype(np.float64), 0, 1) for image in (case.target, prediction))
        assert found.whole.scores.rmse == pytest.approx(np.sqrt(mean_squared_error(truth, ours)), abs=1e-9)
        assert found.whole.scores.mae == pytest.approx(np.abs(truth - ours).mean(), abs=1e-9)


def test_similarity_of_all_pixels_is_scikit_image_s() -> None:
    case = made_case(1)
    everywhere = np.ones_like(case.known)
    case = replace(case, known=everywhere, problem=replace(case.problem, valid=everywhere))
    prediction = guess(case)
    found = Ruler(case).take(prediction).measures(range(13))[Part("all", ANY)]
    expected = structural_similarity(
        prediction.astype(np.float64), case.target.astype(np.float64), data_range=1, channel_axis=0,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert found.whole.scores.ssim_valid == pytest.approx(expected, abs=1e-6)


def test_bands_of_a_wide_prediction_are_those_of_a_narrow_one(case: Case) -> None:
    ruler, prediction, channels = Ruler(case), guess(case), [1, 2, 3, 7]
    wide = ruler.take(prediction).measures(channels)
    narrow = ruler.take(prediction[channels], channels).measures(channels)
    assert wide.keys() == narrow.keys()
    for part, found in wide.items():
        np.testing.assert_allclose(
            astuple(found.whole.scores), astuple(narrow[part].whole.scores), atol=1e-10, equal_nan=True
        )


def test_untouched_clear_pixels_are_identical_to_the_input(case: Case) -> None:
    ruler = Ruler(case)
    clear = case.problem.valid & ~case.problem.mask
    kept = ruler.take(guess(case)).measures(range(13))[Part("clear_input", ANY)]
    assert kept.whole.values == 13 * clear.sum()
    assert kept.whole.scores.rmse == 0
    assert kept.whole.scores.psnr == np.inf
    assert kept.whole.scores.ssim_same == pytest.approx(1, abs=1e-12)


def test_a_touched_clear_pixel_is_seen(case: Case) -> None:
    prediction = guess(case)
    prediction[4, 60, 30] += 0.1
    for channels, count in ((range(13), 13), ([4, 7], 2), ([1, 7], None)):
        kept = Ruler(case).take(prediction).measures(channels)[Part("clear_input", ANY)]
        values = kept.whole.values
        expected = 0.0 if count is None else np.sqrt(0.01 / values)
        assert kept.whole.scores.rmse == pytest.approx(expected, rel=1e-5)


def test_what_is_no_number_is_counted_and_left_out(case: Case) -> None:
    prediction = guess(case)
    expected = Ruler(case).take(prediction).measures(range(13))[Part("shadow", ANY)].whole
    prediction[2, 20, 20] = np.nan
    measures = Ruler(case).take(prediction).measures(range(13))
    assert measures[Part("cloudy", ANY)].whole.not_finite == 1
    assert np.isfinite(measures[Part("cloudy", ANY)].whole.scores.rmse)
    assert measures[Part("shadow", ANY)].whole.not_finite == 0
    assert measures[Part("shadow", ANY)].whole.scores.rmse == pytest.approx(expected.scores.rmse)


def test_small_parts_are_none(case: Case) -> None:
    problem = replace(case.problem, mask=np.ones_like(case.problem.mask))
    shadow = np.zeros_like(case.shadow)
    shadow[30, :60] = True
    parts = Ruler(replace(case, problem=problem, shadow=shadow)).take(case.target).measures(range(13))
    assert Part("shadow", ANY) not in parts
    assert Part("clear_target", ANY) not in parts
    assert Part("clear_input", ANY) not in parts
    assert Part("cloudy", "snow") not in parts
