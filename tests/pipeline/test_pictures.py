from __future__ import annotations

from dataclasses import dataclass, field, replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab
from skimage.metrics import peak_signal_noise_ratio

from pipeline.errors import InvalidSettings
from pipeline.pictures import (
    COLOURS,
    ERROR_FULL,
    LEAST_SPAN,
    PICTURES,
    UNKNOWN,
    ShownCase,
    ShownOutput,
    encode,
    error_map,
    grey,
    picture_set,
    stretch,
    structure_map,
    true_colour,
)

ALL = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
RGB = [3, 2, 1]


@dataclass
class Problem:
    image: np.ndarray
    valid: np.ndarray
    bands: tuple[str, ...] = ALL


@dataclass
class Case:
    problem: Problem
    target: np.ndarray
    known: np.ndarray


@dataclass
class Output:
    restored: np.ndarray
    structure: np.ndarray | None = None
    opacity: np.ndarray | None = None
    uncertainty: np.ndarray | None = None


@dataclass
class Made:
    """A case of 13 bands of which the prediction is the truth."""

    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def case(self) -> Case:
        truth = self.rng.uniform(0.02, 0.3, (13, 24, 32)).astype(np.float32)
        cloudy = truth.copy()
        cloudy[:, :12] = 0.9
        there = np.ones((24, 32), bool)
        return Case(Problem(cloudy, there), truth, there.copy())

    def output(self, case: Case) -> Output:
        maps = self.rng.uniform(0, 0.3, (4, 24, 32)).astype(np.float32)
        return Output(case.target.copy(), maps, np.linspace(0, 1, 32, dtype=np.float32)[None].repeat(24, 0), maps * 0.1)


def test_fakes_are_what_the_protocols_ask_for() -> None:
    case: ShownCase = Made().case()
    output: ShownOutput = Made().output(Made().case())
    assert case.target.shape == output.restored.shape


def test_all_pictures_of_a_case_in_their_order() -> None:
    case = Made().case()
    pictures = picture_set(case, Made().output(case))
    assert tuple(pictures) == PICTURES
    assert {picture.dtype for picture in pictures.values()} == {np.dtype(np.uint8)}
    assert {name: picture.shape for name, picture in pictures.items()} == {
        name: (24, 32) if name == "opacity" else (24, 32, 3) for name in PICTURES
    }


def test_what_is_missing_has_no_picture() -> None:
    case = Made().case()
    assert tuple(picture_set(case, Output(case.target))) == ("input", "prediction", "truth", "error")


def test_input_prediction_and_truth_share_the_stretch_of_the_truth() -> None:
    case = Made().case()
    pictures = picture_set(case, Output(case.target.copy()))
    np.testing.assert_array_equal(pictures["prediction"], pictures["truth"])
    np.testing.assert_array_equal(pictures["input"][12:], pictures["truth"][12:])
    assert (pictures["input"][:12] == 255).all()
    assert (pictures["error"] == COLOURS[0]).all()

    # Clouds change nothing of how the truth looks; the same wrong by a constant is brighter everywhere below white.
    wrong = picture_set(case, Output(case.target + 0.02))
    np.testing.assert_array_equal(wrong["truth"], pictures["truth"])
    below = pictures["truth"] < 250
    assert (wrong["prediction"][below] > pictures["truth"][below]).mean() > 0.98


def test_stretch_against_percentiles_of_the_known_pixels() -> None:
    case = Made().case()
    known = np.zeros((24, 32), bool)
    known[5:20, 3:30] = True
    low, high = stretch(case.target, ALL, known)
    pixels = case.target[RGB][:, known]
    np.testing.assert_allclose(low[:, 0, 0], np.percentile(pixels, 0.5, axis=1), rtol=1e-6)
    spans = (high - low).ravel()
    assert spans.min() == pytest.approx(spans.max(), abs=1e-6)
    shown = true_colour(case.target, ALL, low, high)
    middle = (low + high)[:, 0, 0] / 2
    flat = np.broadcast_to(np.zeros((13, 1, 1), np.float32), (13, 2, 2)).copy()
    flat[RGB] = middle[:, None, None]
    assert (true_colour(flat, ALL, low, high) == round(255 * 0.5 ** (1 / 1.3))).all()
    assert shown.min() == 0
    assert shown.max() == 255


def test_flat_ground_shows_flat() -> None:
    flat = np.full((13, 8, 8), 0.1, np.float32) + np.random.default_rng(0).normal(0, 1e-3, (13, 8, 8)).astype(
        np.float32
    )
    low, high = stretch(flat, ALL)
    assert (high - low).ravel() == pytest.approx(LEAST_SPAN, abs=1e-6)
    shown = true_colour(flat + LEAST_SPAN / 2, ALL, low, high)
    assert np.ptp(shown.astype(int)) < 40
    assert 100 < shown.mean() < 200


def test_a_truth_that_nobody_knows_leaves_the_stretch_to_the_input() -> None:
    case = Made().case()
    case.known[:] = False
    pictures = picture_set(case, Output(case.target))
    assert (pictures["error"] == UNKNOWN).all()
    low, high = stretch(case.problem.image, ALL)
    np.testing.assert_array_equal(pictures["input"], true_colour(case.problem.image, ALL, low, high))


def test_what_is_not_finite_or_without_data_is_marked_and_harms_nothing_else() -> None:
    case = Made().case()
    case.problem.valid[0, 0] = False
    case.known[1, 1] = False
    output = Made().output(case)
    whole = picture_set(case, output)
    case.target[:, 2, 2] = np.nan
    output.restored[4, 3, 3] = np.inf
    case.problem.image[:, 4, 4] = np.nan
    pictures = picture_set(case, output)
    assert not pictures["input"][0, 0].any()
    assert not pictures["input"][4, 4].any()
    assert (pictures["error"][[1, 2], [1, 2]] == UNKNOWN).all()
    assert (pictures["confidence"][0, 0] == UNKNOWN).all()
    assert not pictures["truth"][2, 2].any()
    # An infinite prediction is cut at 1, as in the metrics, and shows as an error.
    assert pictures["error"][3, 3].sum() > 0
    others = np.ones((24, 32), bool)
    others[[1, 2, 3, 4], [1, 2, 3, 4]] = False
    close = np.abs(pictures["truth"].astype(int) - whole["truth"])[others]
    assert close.max() <= 2


def test_error_is_the_mean_over_the_bands_on_a_stated_scale() -> None:
    case = Made().case()
    wrong = case.target.copy()
    wrong[:, 0, 0] += ERROR_FULL
    wrong[0, 1, 1] += np.float32(13 * ERROR_FULL / 4)
    wrong[:, 2, 2] += 3 * ERROR_FULL
    error = picture_set(case, Output(wrong))["error"]
    np.testing.assert_array_equal(error[0, 0], COLOURS[-1])
    assert np.abs(error[1, 1] - COLOURS[4]).max() <= 1
    np.testing.assert_array_equal(error[2, 2], COLOURS[-1])
    np.testing.assert_array_equal(error[3, 3], COLOURS[0])


def test_error_and_expected_error_have_the_same_colours() -> None:
    case = Made().case()
    wrong = case.target + np.float32(0.03)
    expected = np.full((4, 24, 32), 0.03, np.float32)
    pictures = picture_set(case, Output(wrong, uncertainty=expected))
    assert np.abs(pictures["error"].astype(int) - pictures["confidence"]).max() <= 1


def test_expected_error_of_groups_without_a_band_does_not_count() -> None:
    case = Made().case()
    four = [ALL.index(name) for name in ("B02", "B03", "B04", "B08")]
    part = Case(
        Problem(case.problem.image[four], case.problem.valid, ("B02", "B03", "B04", "B08")),
        case.target[four],
        case.known,
    )
    expected = np.stack([np.full((24, 32), value, np.float32) for value in (0.02, 9.0, 0.04, 9.0)])
    shown = picture_set(part, Output(part.target, uncertainty=expected))["confidence"]
    np.testing.assert_array_equal(shown, error_map(np.full((24, 32), 0.03), part.known))


# Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009, severity 1.
VISION = {
    "common": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("vision", VISION)
def test_colours_of_the_error_grow_evenly_lighter_with_any_colour_vision(vision: str) -> None:
    errors = np.linspace(0, ERROR_FULL, 256)[None]
    srgb = error_map(errors, np.ones(errors.shape, bool))[0] / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4) @ np.array(VISION[vision]).T
    linear = linear.clip(0, 1)
    seen = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    lightness = rgb2lab(seen[None])[0, :, 0]
    steps = np.diff(lightness[::16])
    assert steps.min() > 2
    assert steps.max() < 12
    assert lightness[-1] - lightness[0] > 85


def test_opacity_is_grey() -> None:
    np.testing.assert_array_equal(grey(np.array([[0, 0.5, 1, 2, -1, np.nan, np.inf]])), [[0, 128, 255, 255, 0, 0, 0]])


def test_structure_shows_swir_nir_and_visible_as_red_green_and_blue() -> None:
    rows, cols = np.mgrid[0:40, 0:40] / 40
    maps = np.stack([rows, np.full_like(rows, 9), cols, rows * cols]).astype(np.float32)
    shown = structure_map(maps, ALL)
    for channel, group in enumerate((3, 2, 0)):
        order = np.corrcoef(shown[..., channel].ravel(), maps[group].ravel())[0, 1]
        assert order > 0.99
    four = structure_map(maps, ("B02", "B03", "B04", "B08"))
    np.testing.assert_array_equal(four[..., 0], four[..., 1])
    np.testing.assert_array_equal(four[..., 2], shown[..., 2])
    visible = structure_map(maps, ("B02", "B03", "B04"))
    np.testing.assert_array_equal(visible[..., 0], visible[..., 2])
    assert visible.std() > 0
    assert structure_map(np.full((4, 8, 8), np.nan), ALL).max() == 0


def test_an_image_without_visible_bands_shows_what_it_has() -> None:
    image = np.stack([np.full((4, 4), value, np.float32) for value in (0.1, 0.2, 0.3)])
    low, high = np.zeros((3, 1, 1), np.float32), np.ones((3, 1, 1), np.float32)
    shown = true_colour(image, ("B11", "B08", "B12"), low, high)[0, 0]
    expected = [round(255 * value ** (1 / 1.3)) for value in (0.3, 0.1, 0.2)]
    np.testing.assert_array_equal(shown, expected)
    single = true_colour(image[:1], ("B08",), low, high)
    assert (single == single[..., :1]).all()


@pytest.mark.parametrize("shape", [(24, 32, 3), (24, 32)])
def test_encoded_pictures_read_back_close_and_the_same_each_time(shape: tuple[int, ...]) -> None:
    smooth = (np.indices(shape).sum(0) * 4 % 256 // 2 + 60).astype(np.uint8)
    blob = encode(smooth)
    assert blob == encode(smooth.copy())
    with Image.open(BytesIO(blob)) as picture:
        assert picture.format == "WEBP"
        read = np.asarray(picture.convert("RGB"))
    original = smooth if smooth.ndim == 3 else smooth[..., None].repeat(3, 2)
    assert peak_signal_noise_ratio(original, read, data_range=255) > 28


def test_large_pictures_are_encoded_smaller() -> None:
    with Image.open(BytesIO(encode(np.zeros((100, 400, 3), np.uint8), longest=64))) as picture:
        assert picture.size == (64, 16)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("restored", {"restored": np.zeros((4, 24, 32), np.float32)}),
        ("structure", {"structure": np.zeros((3, 24, 32), np.float32)}),
        ("opacity", {"opacity": np.zeros((1, 24, 32), np.float32)}),
        ("uncertainty", {"uncertainty": np.zeros((13, 24, 32), np.float32)}),
    ],
)
def test_arrays_that_do_not_fit_are_named(name: str, change: dict[str, np.ndarray]) -> None:
    case = Made().case()
    with pytest.raises(InvalidSettings, match=f"{name} of shape"):
        picture_set(case, replace(Made().output(case), **change))


def test_a_list_of_bands_of_another_length_is_refused() -> None:
    case = Made().case()
    case.problem.bands = ALL[:12]
    with pytest.raises(InvalidSettings, match=r"bands of shape \(12,\)"):
        picture_set(case, Output(case.target))
