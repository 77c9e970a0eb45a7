"""The plain ones of `srgan.metrics` for torch tensors, on their device and in their precision: what training watches.

Reflectance, clipped to 0..1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rmse(prediction: Tensor, target: Tensor, where: Tensor) -> float:
    """Root mean squared error of (C, H, W) over the pixels `where` (1, H, W) > 0; NaN without pixels."""
    return math.sqrt(float((_chosen(prediction, where) - _chosen(target, where)).square().mean()))


def sam(prediction: Tensor, target: Tensor, where: Tensor) -> float:
    """Mean spectral angle of (C, H, W) over the pixels `where`, degrees; zero spectra are left out; NaN without pixels."""
    first, second = _chosen(prediction, where).double(), _chosen(target, where).double()
    norms = first.norm(dim=0) * second.norm(dim=0)
    cosine = ((first * second).sum(0)[norms > 0] / norms[norms > 0]).clamp(-1, 1)
    return math.degrees(float(torch.acos(cosine).mean()))


def correlation(prediction: Tensor, target: Tensor, where: Tensor) -> float:
    """Pearson correlation of all values of (C, H, W) over the pixels `where`; NaN where one of the two is constant."""
    first, second = (_chosen(image, where).double().flatten() for image in (prediction, target))
    if not len(first) or first.min() == first.max() or second.min() == second.max():
        return math.nan  # by the extremes: a mean is rounded, so a constant's deviations from it need not be 0
    first, second = first - first.mean(), second - second.mean()
    return float(first @ second / (first.norm() * second.norm()))


def _chosen(image: Tensor, where: Tensor) -> Tensor:
    """Values (C, pixels) of the chosen pixels."""
    return image.clamp(0, 1)[:, where[0] > 0]
