"""Sobel maps, band groups and the edge-preserving filter against SciPy and direct computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from srgan.guidance import band_groups, smooth, sobel


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).random((2, 3, 24, 31))


def test_sobel_is_scipys(image):
    ours = sobel(torch.tensor(image)).numpy()
    for sample, channel in np.ndindex(2, 3):
        plane = image[sample, channel]
        np.testing.assert_allclose(ours[sample, channel], ndimage.sobel(plane, axis=1, mode="nearest") / 8, atol=1e-12)
        np.testing.assert_allclose(
            ours[sample, 3 + channel], ndimage.sobel(plane, axis=0, mode="nearest") / 8, atol=1e-12
        )


def test_a_ramp_of_slope_one_gives_one():
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    maps = sobel(ramp)
    assert (maps[0, 0, :, 1:-1] == 1).all()
    assert (maps[0, 1] == 0).all()


def test_smoothing_is_the_guided_filter(image):
    def box(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(values, (1, 1, 9, 9), mode="nearest")

    image = 0.1 * image
    mean = box(image)
    variance = box(image * image) - mean**2
    slope = variance / (variance + 4e-4)
    expected = box(slope) * image + box((1 - slope) * mean)
    np.testing.assert_allclose(smooth(torch.tensor(image)).numpy(), expected, atol=1e-12)


def test_smoothing_keeps_edges_and_removes_texture():
    step = torch.full((1, 1, 40, 40), 0.1)
    step[..., 20:] = 0.4
    texture = 0.01 * torch.randn(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    out = smooth(step + texture)
    assert out[..., 19].mean() < 0.16
    assert out[..., 20].mean() > 0.34
    assert out[..., :10].std() < 0.3 * texture[..., :10].std()


def test_band_groups_are_means_of_the_present_bands():
    image = torch.arange(13.0).view(1, 13, 1, 1).expand(1, 13, 2, 2)
    present = torch.ones(1, 13)
    assert band_groups(image, present)[0, :, 0, 0].tolist() == [2.0, 5.0, 7.5, 11.5]
    present[:, [1, 4, 5, 6, 8]] = 0
    assert band_groups(image, present)[0, :, 0, 0].tolist() == [2.5, 0.0, 7.0, 11.5]
