"""Metrics against scikit-image and direct computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from srgan.metrics import mae, psnr, rmse, sam

RNG = np.random.default_rng(0)


def random(*shape: int) -> torch.Tensor:
    return torch.tensor(RNG.random(shape), dtype=torch.float32)


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
