"""How wrong the result may be: the absolute error to expect in each band group, from what the network had to go by.

Strategy. One pass, no ensemble: a small head reads the decoder's features and what is plain to see: how thick the mask is, how far the input
is from the guess, how many dates there are, how much they disagree, how much is clear around, how rough the guess is. It is trained beside the network
by the likelihood of a Laplace distribution (Kendall and Gal, "What Uncertainties Do We Need in Bayesian Deep Learning", NeurIPS 2017,
section 3, with the absolute error in the place of the squared one),

    loss = |error| / b + log b

on features that pass no gradient back: the image is what it would be without it. Then it is calibrated on validation samples
(`srgan.calibration`): b = exp(shift + power * head), a shift and a power for each group.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srgan.guidance import band_groups
from srgan.known import in_float32, masked_mean
from srgan.layers import Pointwise, enlarge, zeroed
from srgan.precision import being_traced
from srgan.present import Channels
from srgan.spec import GROUPS

HIDDEN = 32
FIRST = 0.02
"""Error to expect before anything was learned, reflectance."""
WIDEST = 4.0
"""The head's answer is within this many factors e of `FIRST`: 0.0004 to 1.1."""
REACH = (3, 9, 17)
"""Cells of 8 pixels over which clear ground is counted: 24, 72 and 136 pixels."""
LEAST, MOST = 1e-4, 1.0
"""Bounds of the error to expect, reflectance."""


class Seen(NamedTuple):
    """What a restoration had to go by; see `Generator.forward`."""

    image: Tensor
    guess: Tensor
    clear: Tensor
    mask: Tensor
    references: Tensor
    usable: Tensor
    present: Tensor
    channels: Channels = None


class Uncertainty(nn.Module):
    """The head. Its calibration is a buffer, so that it travels with the weights."""

    calibration: Tensor
    """(2, 4) shift and power of each group."""

    def __init__(self, width: int) -> None:
        super().__init__()
        count = len(GROUPS)
        self.read = Pointwise(width + 4 * count + 2 + len(REACH), HIDDEN)
        self.write = zeroed(Pointwise(HIDDEN, count))
        start = torch.stack([torch.full((count,), math.log(FIRST)), torch.ones(count)])
        self.register_buffer("calibration", start)

    def forward(self, decoded: Tensor, seen: Seen) -> Tensor:
        """Features (B, width, H, W) and what was seen -> (B, 4, H, W), logarithm of the error in units of `FIRST`, not calibrated."""
        written: Tensor = self.write(F.gelu(self.read(torch.cat([decoded, evidence(seen)], 1))))
        # Bounded before the exponential: behind one that overflowed, no gradient is a number.
        return WIDEST * torch.tanh(written / WIDEST)

    def calibrated(self, doubt: Tensor) -> Tensor:
        """The head's answer as an expected absolute error, (B, 4, H, W), reflectance, `LEAST` to `MOST`."""
        shift, power = self.calibration[:, :, None, None].chunk(2)
        return torch.exp(shift + power * doubt).clamp(LEAST, MOST)


def evidence(seen: Seen) -> Tensor:
    """What is plain to see, about -1..3 each: (B, 4 * 4 + 2 + 3, H, W)."""
    guess = band_groups(seen.guess, seen.present, seen.channels)
    apart = (band_groups(seen.image, seen.present, seen.channels) - guess).abs()
    rough = (guess - mean_around(guess, 4)).abs()
    dates = seen.usable.sum(1)
    mean = (seen.references * seen.usable).sum(1) / dates.clamp_min(1)
    split = ((seen.references - mean[:, None]).abs() * seen.usable).sum(1) / dates.clamp_min(1)
    disagree = band_groups(split, seen.present, seen.channels)
    cells = F.avg_pool2d(seen.clear, 8)
    around = torch.cat([F.avg_pool2d(cells, reach, 1, reach // 2) for reach in REACH], 1)
    for _ in range(3):
        around = enlarge(around)
    return torch.cat(
        [guess / 0.15, apart / 0.15, rough / 0.03, disagree / 0.03, seen.mask, dates.clamp(max=2), around], 1
    )


def mean_around(image: Tensor, radius: int) -> Tensor:
    """Mean over the pixels within `radius` rows and columns that lie inside the image, (B, C, H, W) -> (B, C, H, W).

    Where nothing has to be learned or exported, a CPU adds whole images up, in torch's own order: the same bits in half the time.
    """
    edge = 2 * radius + 1
    if image.device.type != "cpu" or torch.is_grad_enabled() or being_traced():
        return F.avg_pool2d(image, edge, 1, radius, count_include_pad=False)
    rows, cols = image.shape[-2:]
    padded = F.pad(image, (radius, radius, radius, radius))
    total = torch.zeros_like(image)
    for row in range(edge):
        for col in range(edge):
            total += padded[..., row : row + rows, col : col + cols]
    down, along = (_inside(length, radius).to(image.dtype) for length in (rows, cols))
    return total / (down[:, None] * along)


def _inside(length: int, radius: int) -> Tensor:
    """How many of the places within `radius` of each of `length` lie inside."""
    at = torch.arange(length)
    return (at + radius).clamp(max=length - 1) - (at - radius).clamp(min=0) + 1


@in_float32
def likelihood(
    uncertainty: Tensor, prediction: Tensor, target: Tensor, mask: Tensor, known: Tensor, present: Tensor
) -> Tensor:
    """Mean over replaced pixels and present groups of `|error| / b + log(b / FIRST)`: what training minimises.

    uncertainty b (B, 4, H, W), the only one that a gradient reaches; prediction, target, known (B, 13, H, W); mask (B, 1, H, W); present (B, 13).
    """
    error, counts = group_error(prediction.detach(), target, mask, known, present)
    return masked_mean(error / uncertainty + torch.log(uncertainty / FIRST), counts)


def group_error(
    prediction: Tensor, target: Tensor, mask: Tensor, known: Tensor, present: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean absolute error over the present bands of each group, (B, 4, H, W), and where it counts, 0 or 1: known, and replaced in full."""
    bands = known * present[:, :, None, None]
    error = band_groups((prediction - target).abs() * bands, present)
    counts = (band_groups(bands, present) > 1 - 1e-3) & (mask > 0.5)
    return error, counts.to(error.dtype)
