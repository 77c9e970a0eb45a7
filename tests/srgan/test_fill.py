"""The first guess against direct computation."""

from __future__ import annotations

import numpy as np
import torch

from srgan.fill import drift, first_guess, mean_reference, push_pull
from tests.srgan.made import ground

DEFAULT = torch.full((1, 13, 1, 1), 0.5)


def test_clear_pixels_stay_and_a_constant_spreads():
    weight = (torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    image = torch.rand(1, 13, 64, 64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(
        push_pull(image * weight, weight, DEFAULT)[:, :, weight[0, 0] > 0], image[:, :, weight[0, 0] > 0]
    )
    flat = push_pull(0.2 * weight.expand(-1, 13, -1, -1), weight, DEFAULT)
    torch.testing.assert_close(flat, torch.full_like(flat, 0.2), atol=2e-3, rtol=0)


def test_a_hole_gets_values_between_those_around_it():
    image = torch.zeros(1, 13, 64, 64) + torch.linspace(0.1, 0.3, 64)
    weight = torch.ones(1, 1, 64, 64)
    weight[..., 24:40, 24:40] = 0
    hole = push_pull(image * weight, weight, DEFAULT)[..., 24:40, 24:40]
    assert hole.min() > 0.15
    assert hole.max() < 0.25
    assert (hole[0, 0, 8].diff() > -1e-4).all()


def test_without_a_clear_pixel_it_is_the_default():
    nothing = push_pull(torch.zeros(1, 13, 64, 64), torch.zeros(1, 1, 64, 64), DEFAULT)
    torch.testing.assert_close(nothing, DEFAULT.expand_as(nothing))


def test_its_range_is_bounded_by_160_pixels():
    image, weight = ground(64, 320)[None], torch.ones(1, 1, 64, 320)
    weight[..., 64:] = 0
    other = image.clone()
    other[..., :64] += 1
    first, second = (push_pull(part * weight, weight, DEFAULT) for part in (image, other))
    assert (second - first)[..., 64:144].min() > 0.5
    assert torch.equal(first[..., 224:], second[..., 224:])


def test_the_mean_of_the_references_weighs_validity_and_days():
    rng = np.random.default_rng(0)
    references, days = rng.random((1, 3, 13, 8, 8)), np.array([[0.0, -10.0, 30.0]])
    valid = (rng.random((1, 3, 1, 8, 8)) > 0.4).astype(float)
    valid[0, :, :, 0, 0] = 0
    weights = valid * np.array([1, 1 / 11**2, 1 / 31**2]).reshape(1, 3, 1, 1, 1)
    total = weights.sum(1)
    expected = np.divide((weights * references).sum(1), total, out=np.zeros((1, 13, 8, 8)), where=total > 0)
    tensors = [torch.tensor(part, dtype=torch.float32) for part in (references, valid, days)]
    mean, support = mean_reference(*tensors, torch.zeros(1, 13, 8, 8))
    np.testing.assert_allclose(mean.numpy(), expected, atol=1e-6)
    np.testing.assert_array_equal(support.numpy(), (total > 0).astype(np.float32))
    assert support[0, 0, 0, 0] == 0


def test_references_fill_where_valid_and_the_surroundings_elsewhere():
    image, other = torch.full((1, 13, 64, 64), 0.1), torch.full((1, 1, 13, 64, 64), 0.1)
    other[..., 16:32, 16:48] = 0.3  # a field that both dates would show, were it not for the cloud
    clear, valid = torch.ones(1, 1, 64, 64), torch.zeros(1, 1, 1, 64, 64)
    clear[..., 16:32, 16:48] = 0
    valid[..., :32] = 1
    guess = first_guess(image, clear, other, valid, torch.zeros(1, 1), DEFAULT)
    torch.testing.assert_close(guess.image[..., 16:32, 16:32], other[0, ..., 16:32, 16:32], atol=1e-6, rtol=0)
    assert (guess.image[..., 40:, :] == 0.1).all()


def test_a_reference_is_moved_by_what_the_clear_surroundings_say():
    """The scene is the other date plus a ramp: where the two are clear the ramp is seen, and it goes on under the cloud."""
    noise = torch.Generator().manual_seed(0)
    other = 0.1 + 0.2 * torch.rand(1, 1, 13, 128, 128, generator=noise)
    ramp = torch.linspace(0.0, -0.03, 128)
    image = other[:, 0] + ramp
    clear, valid = torch.ones(1, 1, 128, 128), torch.ones(1, 1, 1, 128, 128)
    clear[..., 40:72, 40:72] = 0
    found = drift(other, valid, image * clear, clear)[0, 0, :, 40:72, 40:72]
    expected = ramp[40:72].expand_as(found)
    assert (found - expected).abs().mean() < 0.002 < -expected.mean()
    assert (drift(other, valid * 0, image, clear) == 0).all()
    assert drift(other[:, :0], valid[:, :0], image, clear).shape == (1, 0, 13, 128, 128)


def test_a_cloud_that_the_mask_missed_moves_a_reference_by_no_more_than_a_tenth():
    other = torch.full((1, 1, 13, 64, 64), 0.1)
    image, clear = other[:, 0] + 0.7, torch.ones(1, 1, 64, 64)
    found = drift(other, torch.ones(1, 1, 1, 64, 64), image, clear)
    assert found.max() <= 0.1 + 1e-6
