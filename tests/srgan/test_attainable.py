"""What is asked of the network: only what is seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from srgan.attainable import attainable, visibility
from srgan.dataset import Batch
from srgan.fill import drift

RNG = np.random.default_rng(0)


def random(*shape: int) -> torch.Tensor:
    return torch.tensor(RNG.random(shape), dtype=torch.float32)


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
    moved = reference + drift(reference[:, None], ones[:, None], cloudy, 1 - mask)[:, 0]
    torch.testing.assert_close(asked[..., 36:], moved[..., 36:])  # opaque: the first guess, here the other date
