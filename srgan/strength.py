"""How strongly the network's correction counts: by whether another date is there, and by what hides the ground.

Values for six kinds of pixels, found on validation samples (`srgan.calibration`): without and with another date, and in between three
levels of how much brighter the input is than the first guess: darker (shadow), brighter (thin cloud), opaque cloud.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor
from torch.nn import functional as F

from srgan.present import Channels, taken

LEVELS = (-0.005, 0.03, 0.25)
"""By how much reflectance the input is then darker than the guess, brighter, and opaque cloud."""
KINDS = ("darker than the guess", "brighter", "opaque cloud")
DATES = ("without another date", "with another date")
NEAR = 9
"""Pixels over which input and guess are compared."""
VISIBLE = slice(1, 4)


def level_above(image: Tensor, guess: Tensor, known: Tensor, channels: Channels = None) -> Tensor:
    """By how much the input is brighter than the guess around a pixel, (B, 13, H, W) twice and (B, 1, H, W) -> (B, 1, H, W), reflectance.

    channels: numbers of the bands that the first two hold, where it is not all 13.
    """
    above = taken(image - guess, channels, VISIBLE)
    return F.avg_pool2d(above.mean(1, keepdim=True) * known, NEAR, 1, NEAR // 2)


def strength_at(values: Tensor, above: Tensor, support: Tensor) -> Tensor:
    """Strength of each pixel, 0..1: `values` (2, 3), rows without and with another date; `above` and `support` (B, 1, H, W)."""
    alone, helped = (by_level(above, values[row]) for row in (0, 1))
    return alone + (helped - alone) * support


def by_level(above: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear in `above` through `values` (3,) at `LEVELS`, constant beyond them."""
    result = values[0].expand_as(above)
    for kind, (low, high) in enumerate(pairwise(LEVELS)):
        result = result + (values[kind + 1] - values[kind]) * ((above - low) / (high - low)).clamp(0, 1)
    return result


def described(values: Tensor) -> dict[str, float]:
    """The values (2, 3) by the kinds of pixels in words."""
    return {
        f"{where}, {kind}": value
        for where, row in zip(DATES, values.tolist(), strict=True)
        for kind, value in zip(KINDS, row, strict=True)
    }
