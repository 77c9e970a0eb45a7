"""Metrics against scikit-image, torchmetrics, the convolution of UnCRtainTS and direct computation in double precision or better."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional import mean_absolute_error, pearson_corrcoef
from torchmetrics.functional.image import spectral_angle_mapper, structural_similarity_index_measure

from srgan import tensormetrics
from srgan.metrics import SCORES, Comparison, Moments, NotComparable, psnr
from tests.srgan.real import real_pair

torch.set_num_threads(1)
SHAPE = (3, 37, 41)
"""No multiple of anything: the blocks of the SSIM map are cut at both edges."""
EVERYWHERE = np.ones(SHAPE[1:], bool)


def made(kind: str, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and target."""
    rng = np.random.default_rng(seed)
    first, second, noise = rng.random(shape), rng.random(shape), rng.normal(0, 1, (2, *shape))
    # Zero in all bands of a pixel, one of them once it is clipped.
    first_hole, second_hole = first.copy(), second.copy()
    first_hole[:, 0, -1], second_hole[:, -1, 0] = 0, -0.1
    return {
        "random": (first, second),
        "single precision": (first.astype(np.float32), second.astype(np.float32)),
        "close": (second + 1e-4 * noise[0], second),
        "out of range": (0.5 + noise[0], 0.5 + noise[1]),
        "dark": (1e-6 * first, 1e-6 * second),
        "constant prediction": (np.full(shape, 0.1), second),
        "constant target": (first, np.full(shape, 0.7)),
        "two constants": (np.full(shape, 0.3), np.full(shape, 0.1)),
        "identical": (first.copy(), first),
        "identical constants": (np.full(shape, 0.3), np.full(shape, 0.3)),
        "black": (np.zeros(shape), np.zeros(shape)),
        "one zero spectrum": (first_hole, second_hole),
        # A correlation from sums of squares has few digits left here.
        "nearly constant": (0.9 + 1e-4 * noise[0], 0.9 + 1e-4 * (noise[0] + noise[1])),
    }[kind]


KINDS = (
    "random", "single precision", "close", "out of range", "dark", "constant prediction", "constant target", "two constants",
    "identical", "identical constants", "black", "one zero spectrum", "nearly constant",
)  # fmt: skip


def clipped(*images: np.ndarray) -> list[np.ndarray]:
    return [np.clip(image, 0, 1).astype(np.longdouble) for image in images]


def direct_angle(prediction: np.ndarray, target: np.ndarray) -> tuple[np.longdouble, int]:
    """Mean angle, degrees, of (C, n) by the formula in extended precision, and how many spectra are zero."""
    norms = np.sqrt((prediction**2).sum(0)) * np.sqrt((target**2).sum(0))
    cosine = (prediction * target).sum(0)[norms > 0] / norms[norms > 0]
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return (angle.mean() if angle.size else np.longdouble("nan")), int((norms == 0).sum())


def uncrtaints(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """SSIM map (C, H, W) as UnCRtainTS makes it: one window of two dimensions, padding of 5, in double precision."""
    first, second = (torch.from_numpy(np.clip(image, 0, 1).astype(np.float64))[None] for image in (prediction, target))
    line = torch.tensor([math.exp(-((x - 5) ** 2) / (2 * 1.5**2)) for x in range(11)], dtype=torch.float64)
    line = line / line.sum()
    window = (line[:, None] @ line[None])[None, None].expand(len(prediction), 1, 11, 11)

    def conv(image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(image, window, padding=5, groups=len(prediction))

    mu1, mu2 = conv(first), conv(second)
    sigma1, sigma2, sigma12 = conv(first**2) - mu1**2, conv(second**2) - mu2**2, conv(first * second) - mu1 * mu2
    c1, c2 = 0.01**2, 0.03**2
    return (((2 * mu1 * mu2 + c1) * (2 * sigma12 + c2) / ((mu1**2 + mu2**2 + c1) * (sigma1 + sigma2 + c2)))[0]).numpy()


def torchmetrics_ssim(first: torch.Tensor, second: torch.Tensor) -> float:
    """Its map without the windows that it lays over mirrored edges; versions since 2024 have those in their mean as well."""
    _, whole = structural_similarity_index_measure(
        first, second, data_range=1.0, reduction="none", return_full_image=True
    )
    return float(whole[..., 5:-5, 5:-5].mean())


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_a_direct_computation(kind):
    prediction, target = made(kind)
    moments = Moments.measure(prediction, target, EVERYWHERE)
    scores = moments.scores
    first, second = clipped(prediction, target)
    error = np.sqrt(((first - second) ** 2).mean())
    assert scores.rmse == pytest.approx(float(error), abs=1e-12, rel=1e-9)
    assert scores.mae == pytest.approx(float(np.abs(first - second).mean()), abs=1e-12, rel=1e-9)
    assert scores.psnr == (math.inf if error == 0 else pytest.approx(float(20 * np.log10(1 / error)), abs=1e-6))
    angle, zero = direct_angle(first.reshape(3, -1), second.reshape(3, -1))
    assert scores.sam == pytest.approx(float(angle), abs=1e-6, nan_ok=True)
    assert (moments.zero_spectra, moments.spectra) == (zero, EVERYWHERE.size - zero)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert math.isnan(scores.cc)
    else:
        a, b = first - first.mean(), second - second.mean()
        assert scores.cc == pytest.approx(float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())), abs=1e-9)
    similarity = uncrtaints(prediction, target)
    assert scores.ssim_same == pytest.approx(similarity.mean(), abs=1e-9)
    assert scores.ssim_valid == pytest.approx(similarity[:, 5:-5, 5:-5].mean(), abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_scikit_image_and_torchmetrics(kind):
    prediction, target = made(kind)
    scores = Moments.measure(prediction, target, EVERYWHERE).scores
    first, second = (np.clip(image, 0, 1).astype(np.float64) for image in (prediction, target))
    one, two = torch.from_numpy(first), torch.from_numpy(second)
    assert scores.rmse == pytest.approx(math.sqrt(mean_squared_error(second, first)), abs=1e-6)
    assert scores.mae == pytest.approx(float(mean_absolute_error(one, two)), abs=1e-6)
    if scores.rmse:
        assert scores.psnr == pytest.approx(peak_signal_noise_ratio(second, first, data_range=1), abs=1e-6)
    whole = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    assert scores.ssim_valid == pytest.approx(structural_similarity(second, first, channel_axis=0, **whole), abs=1e-6)
    assert scores.ssim_valid == pytest.approx(torchmetrics_ssim(one[None], two[None]), abs=1e-6)
    if not math.isnan(scores.cc) and kind not in (
        "dark",
        "nearly constant",
    ):  # torchmetrics warns of too little variance
        assert scores.cc == pytest.approx(float(pearson_corrcoef(one.flatten(), two.flatten())), abs=1e-6)
    if kind not in ("one zero spectrum", "black", "out of range"):  # torchmetrics has NaN for zero spectra
        assert math.radians(scores.sam) == pytest.approx(float(spectral_angle_mapper(one[None], two[None])), abs=1e-6)


def test_scores_of_a_real_pair(shared_data):
    cloudy, clear = (side[0].numpy() for side in real_pair(shared_data, 96))
    scores = Moments.measure(cloudy, clear, np.ones((96, 96), bool)).scores
    first, second = (torch.from_numpy(side).clamp(0, 1)[None] for side in (cloudy, clear))
    assert scores.ssim_valid == pytest.approx(torchmetrics_ssim(first, second), abs=1e-6)
    assert scores.ssim_same == pytest.approx(uncrtaints(cloudy, clear).mean(), abs=1e-6)
    assert math.radians(scores.sam) == pytest.approx(float(spectral_angle_mapper(first, second)), abs=1e-6)
    assert scores.cc == pytest.approx(float(pearson_corrcoef(first.flatten(), second.flatten())), abs=1e-6)
    assert scores.psnr == pytest.approx(peak_signal_noise_ratio(second.numpy(), first.numpy(), data_range=1), abs=1e-6)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (4, 50), (10, 10), (11, 11), (32, 64), (33, 31)])
def test_ssim_of_any_size(rows, cols):
    prediction, target = made("random", (2, rows, cols))
    moments = Moments.measure(prediction, target, np.ones((rows, cols), bool))
    similarity = uncrtaints(prediction, target)
    inner = similarity[:, 5 : rows - 5, 5 : cols - 5] if min(rows, cols) > 10 else np.empty(0)
    assert moments.scores.ssim_same == pytest.approx(similarity.mean(), abs=1e-9)
    assert (moments.same_windows, moments.valid_windows) == (similarity.size, inner.size)
    expected = inner.mean() if inner.size else math.nan
    assert moments.scores.ssim_valid == pytest.approx(expected, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_a_region(kind):
    prediction, target = made(kind)
    where = np.random.default_rng(1).random(SHAPE[1:]) < 0.3
    scores = Comparison(prediction, target, EVERYWHERE).moments(where).scores
    first, second = (image[:, where] for image in clipped(prediction, target))
    assert scores.rmse == pytest.approx(float(np.sqrt(((first - second) ** 2).mean())), abs=1e-12)
    assert scores.mae == pytest.approx(float(np.abs(first - second).mean()), abs=1e-12)
    assert scores.sam == pytest.approx(float(direct_angle(first, second)[0]), abs=1e-6, nan_ok=True)
    if np.ptp(first) > 0 and np.ptp(second) > 0:
        expected = np.corrcoef(first.astype(float).ravel(), second.astype(float).ravel())[0, 1]
        assert scores.cc == pytest.approx(expected, abs=1e-9)
    similarity = uncrtaints(prediction, target)
    inner = np.zeros_like(where)
    inner[5:-5, 5:-5] = True
    assert scores.ssim_same == pytest.approx(similarity[:, where].mean(), abs=1e-9)
    assert scores.ssim_valid == pytest.approx(similarity[:, where & inner].mean(), abs=1e-9)


def test_nothing_outside_the_known_pixels_matters():
    prediction, target = made("random")
    known = np.random.default_rng(2).random(SHAPE[1:]) < 0.5
    expected = Moments.measure(prediction, target, known)
    for value in (0.25, math.nan, math.inf):
        other = np.where(known, prediction, value)
        assert Moments.measure(other, target, known) == expected
        # Nor does it matter what the target holds, except to windows that reach there.
        missing = Moments.measure(prediction, np.where(known, target, value), known, ssim=False)
        assert missing == Moments.measure(prediction, target, known, ssim=False)
    filled = np.where(known, prediction, target)
    assert expected.scores.ssim_same == pytest.approx(uncrtaints(filled, target)[:, known].mean(), abs=1e-9)
    blank = Moments.measure(prediction, np.where(known, target, math.nan), known).scores.ssim_same
    both = uncrtaints(np.where(known, prediction, 0), np.where(known, target, 0))
    assert blank == pytest.approx(both[:, known].mean(), abs=1e-9)


def test_values_that_are_not_finite_are_counted_and_left_out():
    prediction, target = made("random")
    broken = prediction.copy()
    broken[0, 2, 3], broken[1, 2, 3], broken[2, 30, 30] = math.nan, math.inf, -math.inf
    moments = Moments.measure(broken, target, EVERYWHERE)
    good = np.isfinite(broken)
    assert (moments.values, moments.not_finite) == (prediction.size - 3, 3)
    assert moments.scores.rmse == pytest.approx(float(np.sqrt(((prediction - target)[good] ** 2).mean())), abs=1e-12)
    assert moments.scores.cc == pytest.approx(np.corrcoef(prediction[good], target[good])[0, 1], abs=1e-9)
    whole = good.all(0)
    assert moments.spectra == whole.sum()
    assert moments.scores.sam == pytest.approx(float(direct_angle(prediction[:, whole], target[:, whole])[0]), abs=1e-6)
    similarity = uncrtaints(np.where(good, prediction, target), target)
    assert moments.scores.ssim_same == pytest.approx(similarity[good].mean(), abs=1e-9)
    assert [band.not_finite for band in Comparison(broken, target, EVERYWHERE).bands(EVERYWHERE)] == [1, 1, 1]


def test_a_prediction_without_any_number_has_no_score():
    target = made("random")[1]
    moments = Moments.measure(np.full(SHAPE, math.nan), target, EVERYWHERE)
    assert moments == Moments(not_finite=target.size)
    assert all(math.isnan(getattr(moments.scores, name)) for name in SCORES)


def test_all_masked():
    moments = Moments.measure(*made("random"), np.zeros(SHAPE[1:], bool))
    assert moments == Moments()
    assert all(math.isnan(getattr(moments.scores, name)) for name in SCORES)


def test_identical_images_are_perfect():
    moments = Moments.measure(*made("identical"), EVERYWHERE)
    assert moments.scores.psnr == math.inf
    assert (moments.scores.rmse, moments.scores.mae, moments.scores.sam) == (0, 0, 0)
    assert moments.scores.cc == pytest.approx(1, abs=1e-12)
    assert moments.scores.ssim_same == pytest.approx(1, abs=1e-12)
    # What nobody can tell from identical by its angle: acos would say 1e-6 degrees.
    turned = Moments.measure(0.5 * made("identical")[0], made("identical")[1], EVERYWHERE)
    assert turned.scores.sam < 1e-10


def test_bands_are_measured_one_by_one():
    prediction, target = made("random")
    where = np.random.default_rng(3).random(SHAPE[1:]) < 0.6
    comparison = Comparison(prediction, target, EVERYWHERE)
    bands = comparison.bands(where)
    for band, moments in enumerate(bands):
        one = slice(band, band + 1)
        assert moments == Comparison(prediction[one], target[one], EVERYWHERE).moments(where)
        assert math.isnan(moments.scores.sam)  # of one band there is no angle
    assert sum(bands, comparison.angles(where)) == comparison.moments(where)


def close(first: Moments, second: Moments, tolerance: float = 1e-12) -> None:
    """Counts and extremes equal, sums to a relative tolerance."""
    for name in Moments.__dataclass_fields__:
        mine, other = getattr(first, name), getattr(second, name)
        if isinstance(mine, int):
            assert mine == other, name
        else:
            assert mine == pytest.approx(other, rel=tolerance, abs=tolerance), name


@settings(max_examples=25, deadline=None)
@given(kind=st.sampled_from(KINDS), parts=st.integers(2, 6), seed=st.integers(0, 999))
def test_parts_add_up_to_the_whole_in_any_order(kind, parts, seed):
    prediction, target = made(kind, (2, 14, 13), seed)
    rng = np.random.default_rng(seed)
    if seed % 2:
        prediction = np.where(rng.random(prediction.shape) < 0.1, np.nan, prediction)
    comparison = Comparison(prediction, target, np.ones((14, 13), bool))
    owner = rng.integers(0, parts, (14, 13))
    pieces = [comparison.moments(owner == part) for part in range(parts)]
    whole = comparison.moments(np.ones((14, 13), bool))
    forward = sum(pieces, Moments())
    close(forward, whole)
    backward = sum((pieces[at] for at in rng.permutation(parts)), Moments())
    close(forward, backward)
    close(sum(pieces), forward)  # from 0 as well
    close(pieces[0] + sum(pieces[1:], Moments()), forward)
    assert forward.scores.cc == pytest.approx(whole.scores.cc, abs=1e-9, nan_ok=True)


def test_pooled_scores_are_those_of_the_images_laid_side_by_side():
    images = [made(kind) for kind in ("random", "close", "constant prediction")]
    pooled = sum((Moments.measure(*image, EVERYWHERE, ssim=False) for image in images), Moments()).scores
    first, second = (np.concatenate(side, axis=2) for side in zip(*images, strict=True))
    beside = Moments.measure(first, second, np.ones(first.shape[1:], bool), ssim=False).scores
    for name in ("rmse", "psnr", "mae", "sam", "cc"):
        assert getattr(pooled, name) == pytest.approx(getattr(beside, name), rel=1e-12), name
    assert math.isnan(pooled.ssim_same)  # as was asked
    assert math.isnan(pooled.ssim_valid)


def test_parts_that_are_constant_but_differ_have_a_correlation():
    parts = [Moments.measure(np.full((1, 2, 2), p), np.full((1, 2, 2), t), np.ones((2, 2), bool)) for p, t in
             ((0.1, 0.3), (0.2, 0.5), (0.4, 0.4))]  # fmt: skip
    assert all(math.isnan(part.scores.cc) for part in parts)
    assert sum(parts).scores.cc == pytest.approx(np.corrcoef([0.1, 0.2, 0.4], [0.3, 0.5, 0.4])[0, 1], abs=1e-12)


def test_images_are_left_as_they_are():
    prediction, target = made("out of range")
    target[0, 0, 0] = prediction[1, 1, 1] = math.nan
    before = prediction.copy(), target.copy()
    known = EVERYWHERE.copy()
    known[0, 0] = False
    Moments.measure(prediction, target, known)
    np.testing.assert_array_equal(prediction, before[0])
    np.testing.assert_array_equal(target, before[1])


def test_what_cannot_be_compared_is_refused():
    prediction, target = made("random")
    with pytest.raises(NotComparable, match=r"\(2, 37, 41\)"):
        Moments.measure(prediction[:2], target, EVERYWHERE)
    with pytest.raises(NotComparable, match=r"need \(C, H, W\) twice"):
        Moments.measure(prediction[0], target[0], EVERYWHERE)
    with pytest.raises(NotComparable, match="known"):
        Moments.measure(prediction, target, EVERYWHERE[1:])
    with pytest.raises(NotComparable, match="bool, not float64"):
        Moments.measure(prediction, target, EVERYWHERE.astype(float))
    with pytest.raises(NotComparable, match="not finite in pixels said to be known"):
        Moments.measure(prediction, np.where(EVERYWHERE, math.nan, target), EVERYWHERE)
    known = EVERYWHERE.copy()
    known[0, 0] = False
    comparison = Comparison(prediction, target, known)
    for measure in (comparison.moments, comparison.bands, comparison.angles):
        with pytest.raises(NotComparable, match="not known"):
            measure(EVERYWHERE)
        with pytest.raises(NotComparable, match="need bool"):
            measure(known[1:])
        with pytest.raises(NotComparable, match="need bool"):
            measure(known.astype(np.uint8))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("dark", "nearly constant")])
def test_the_functions_for_tensors_say_the_same(kind):
    prediction, target = made(kind)
    where = np.random.default_rng(4).random(SHAPE[1:]) < 0.5
    scores = Moments.measure(prediction, target, where, ssim=False).scores
    given = (
        *(torch.from_numpy(image).float() for image in (prediction, target)),
        torch.from_numpy(where)[None].float(),
    )
    assert tensormetrics.rmse(*given) == pytest.approx(scores.rmse, abs=1e-6)
    assert tensormetrics.sam(*given) == pytest.approx(scores.sam, abs=1e-4, nan_ok=True)
    assert tensormetrics.correlation(*given) == pytest.approx(scores.cc, abs=1e-6, nan_ok=True)
    nowhere = (*given[:2], torch.zeros(1, *SHAPE[1:]))
    for score in (tensormetrics.rmse, tensormetrics.sam, tensormetrics.correlation):
        assert math.isnan(score(*nowhere))


def test_psnr_of_an_error():
    assert psnr(0.0) == math.inf
    assert psnr(1.0) == 0
    assert math.isnan(psnr(math.nan))
