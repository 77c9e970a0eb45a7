"""Losses and metrics against scikit-image and direct computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from srgan.dataset import Batch
from srgan.generator import GeneratorOutput
from srgan.guidance import band_groups, smooth, sobel
from srgan.losses import (
    LossWeights,
    attainable,
    masked_mean,
    reconstruction,
    ssim_map,
    supervised_losses,
    visibility,
)
from srgan.metrics import mae, psnr, rmse, sam

RNG = np.random.default_rng(0)


def random(*shape: int) -> torch.Tensor:
    return torch.tensor(RNG.random(shape), dtype=torch.float32)


def output(restored: torch.Tensor, truth: torch.Tensor, present: torch.Tensor) -> GeneratorOutput:
    groups = band_groups(truth, present)
    return GeneratorOutput(restored, torch.ones_like(restored[:, :1]), smooth(groups), sobel(groups))


def test_ssim_is_scikit_images():
    first, second = RNG.random((40, 32)), RNG.random((40, 32)) * 0.5
    _, expected = structural_similarity(
        first, second, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, full=True
    )
    ours = ssim_map(torch.tensor(first)[None, None], torch.tensor(second)[None, None])[0, 0]
    np.testing.assert_allclose(ours.numpy(), expected[5:-5, 5:-5], atol=1e-10)


def test_reconstruction_counts_cloud_twice():
    prediction, target, mask = random(1, 13, 8, 8), random(1, 13, 8, 8), (random(1, 1, 8, 8) > 0.5).float()
    known = (random(1, 13, 8, 8) > 0.3).float()
    error = np.abs(prediction.numpy() - target.numpy()) * (1 + mask.numpy())
    expected = error[known.numpy() > 0].mean()
    assert reconstruction(prediction, target, mask, known).item() == pytest.approx(expected, rel=1e-5)


def test_a_perfect_prediction_costs_nothing_and_totals_add_up():
    truth, present = random(1, 13, 32, 32), torch.ones(1, 13)
    ones = torch.ones(1, 1, 32, 32)
    perfect = supervised_losses(output(truth, truth, present), truth, ones, ones, present, LossWeights())
    assert perfect["total"].item() == pytest.approx(0, abs=1e-5)
    off = supervised_losses(
        output(truth + 0.1, truth, present), truth, ones, ones, present, LossWeights(2.0, 1.0, 0.5, 1.0)
    )
    assert off["reconstruction"].item() == pytest.approx(2 * 2 * 0.1, rel=1e-4)
    assert off["total"].item() == pytest.approx(
        sum(term.item() for name, term in off.items() if name != "total"), rel=1e-5
    )


def test_what_does_not_count_does_not_matter():
    truth, present, mask = random(1, 13, 32, 32), torch.ones(1, 13), torch.ones(1, 1, 32, 32)
    present[:, 3] = 0
    counts = torch.ones(1, 1, 32, 32)
    counts[..., 16:] = 0
    guess = random(1, 13, 32, 32)
    other = truth.clone()
    other[..., 16:] = 7.0
    other[:, 3] = -5.0
    out = output(guess, truth, present)
    first, second = (supervised_losses(out, target, mask, counts, present, LossWeights()) for target in (truth, other))
    for name in first:
        assert first[name].item() == pytest.approx(second[name].item(), rel=1e-6), name
    assert first["total"] > 0


def test_mean_without_weight_is_zero():
    assert masked_mean(random(1, 2, 4, 4), torch.zeros(1, 1, 4, 4)).item() == 0


def test_metrics():
    first, second = random(4, 16, 16), random(4, 16, 16)
    where = (random(1, 16, 16) > 0.5).float()
    chosen = where[0].numpy() > 0
    a, b = first.numpy()[:, chosen], second.numpy()[:, chosen]
    assert rmse(first, second, where) == pytest.approx(np.sqrt(((a - b) ** 2).mean()), rel=1e-5)
    assert mae(first, second, where) == pytest.approx(np.abs(a - b).mean(), rel=1e-5)
    angle = np.degrees(np.arccos((a * b).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0))).mean()
    assert sam(first, second, where) == pytest.approx(angle, rel=1e-5)
    whole = torch.ones(1, 16, 16)
    expected = peak_signal_noise_ratio(second.numpy(), first.numpy(), data_range=1)
    assert psnr(rmse(first, second, whole)) == pytest.approx(expected, rel=1e-5)
    assert psnr(0.0) == np.inf
    assert np.isnan(rmse(first, second, torch.zeros(1, 16, 16)))
    assert rmse(first + 5, torch.ones(4, 16, 16), whole) == 0  # both are clipped to 1


@pytest.mark.parametrize("reflected", [0.0, 0.1, 0.4, 0.8])
def test_visibility_is_that_of_the_layer(reflected):
    ground = torch.full((1, 13, 16, 16), 0.2)
    sky = reflected + (1 - reflected) ** 2 * ground / (1 - reflected * ground)
    torch.testing.assert_close(visibility(sky, ground), torch.full((1, 1, 16, 16), (1 - reflected) ** 2))
    shadow = visibility(0.5 * ground, ground)
    torch.testing.assert_close(shadow, torch.full_like(shadow, 0.25))


def test_only_what_is_seen_is_asked_for():
    truth, reference = random(1, 13, 64, 64) * 0.2, random(1, 13, 64, 64) * 0.2
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:] = 1
    cloudy = truth.clone()
    cloudy[..., 32:] = 0.9
    ones = torch.ones(1, 1, 64, 64)
    batch = Batch(
        cloudy, torch.ones(1, 13), mask, ones, reference[:, None], ones[:, None], torch.zeros(1, 1), truth, ones
    )
    asked = attainable(batch, torch.full((13, 1, 1), 0.1))
    torch.testing.assert_close(asked[..., :28], truth[..., :28])  # clear, or under the mask but seen all the same
    torch.testing.assert_close(asked[..., 36:], reference[..., 36:])  # opaque: the first guess, here the other date
