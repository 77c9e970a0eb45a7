"""Errors of a restored tile over chosen pixels. Reflectance, clipped to 0..1."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rmse(prediction: Tensor, target: Tensor, where: Tensor) -> float:
    """Root mean squared error of (C, H, W) over the pixels `where` (1, H, W) > 0; NaN without pixels."""
    return math.sqrt(float((_chosen(prediction, where) - _chosen(target, where)).square().mean()))


def mae(prediction: Tensor, target: Tensor, where: Tensor) -> float:
    """Mean absolute error of (C, H, W) over the pixels `where` (1, H, W) > 0; NaN without pixels."""
    return float((_chosen(prediction, where) - _chosen(target, where)).abs().mean())


def psnr(error: float) -> float:
    """Peak signal-to-noise ratio of an RMSE, dB, for a peak of 1; infinite where the error is 0.

    >>> round(psnr(0.1), 6)
    20.0
    """
    return math.inf if error == 0 else -20 * math.log10(error)


def sam(prediction: Tensor, target: Tensor, where: Tensor) -> float:
    """Mean spectral angle of (C, H, W) over the pixels `where`, degrees; zero spectra are left out; NaN without pixels."""
    first, second = _chosen(prediction, where).double(), _chosen(target, where).double()
    norms = first.norm(dim=0) * second.norm(dim=0)
    cosine = ((first * second).sum(0)[norms > 0] / norms[norms > 0]).clamp(-1, 1)
    return math.degrees(float(torch.acos(cosine).mean()))


def correlation(prediction: Tensor, target: Tensor, where: Tensor) -> float:
    """Pearson correlation of all values of (C, H, W) over the pixels `where`; NaN where one of the two is constant."""
    first, second = (_chosen(image, where).double().flatten() for image in (prediction, target))
    first, second = first - first.mean(), second - second.mean()
    spread = first.norm() * second.norm()
    return float(first @ second / spread) if spread > 0 else math.nan


def _chosen(image: Tensor, where: Tensor) -> Tensor:
    """Values (C, pixels) of the chosen pixels."""
    return image.clamp(0, 1)[:, where[0] > 0]
