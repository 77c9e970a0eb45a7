"""What every loss shares: means over known values only, and float32 whatever the network computes in.

Strategy. A loss looks through windows (Sobel, SSIM, VGG), so it is not enough to leave the unknown pixels out of the mean. Before
any window is laid, the prediction stands in for the target where that is not known, cut off from the gradient on both sides: no
error arises there, none leaks from there into a known neighbour, and an unknown pixel is never pulled at.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


class Compared(NamedTuple):
    """A prediction and its target, ready for windows."""

    prediction: Tensor
    """(B, C, H, W) the prediction; no gradient flows where the target is not known."""
    target: Tensor
    """(B, C, H, W) the target; where it is not known, the prediction as a constant."""
    known: Tensor
    """(B, C, H, W) 1 where the target is known, else 0; in the prediction's dtype."""


def compare(prediction: Tensor, target: Tensor, known: Tensor) -> Compared:
    """Make the two comparable, (B, C, H, W) each; `known` > 0 where the target is known and its band present.

    Whatever `target` holds elsewhere, NaN included, is not looked at.
    """
    # Row by row: over channels-last memory cuDNN takes windows of one band, in TF32, which spoils small differences.
    prediction = prediction.contiguous()
    where, constant = (known > 0).contiguous(), prediction.detach()
    return Compared(
        torch.where(where, prediction, constant),
        torch.where(where, target.contiguous(), constant),
        where.to(prediction.dtype),
    )


def masked_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of `values` (B, C, H, W) weighted by `weight` (B, C, H, W) or (B, 1, H, W); 0 where no weight is left.

    Values of weight 0 never matter, not even NaN.
    """
    weight = weight.to(values.dtype)
    total = weight.sum() * (values.numel() // max(weight.numel(), 1))
    return (torch.where(weight > 0, values, 0.0) * weight).sum() / torch.where(total > 0, total, 1.0)


def in_float32(forward: Callable[P, R]) -> Callable[P, R]:
    """A `forward` that runs outside autocast, with half-precision tensors among its arguments made float32 (float64 stays)."""

    @functools.wraps(forward)
    def full(*arguments: P.args, **named: P.kwargs) -> R:
        devices = {part.device.type for part in (*arguments, *named.values()) if isinstance(part, Tensor)}
        with torch.autocast(devices.pop() if devices else "cpu", enabled=False):
            wide = {name: _widen(part) for name, part in named.items()}
            return cast("Callable[..., R]", forward)(*map(_widen, arguments), **wide)

    return full


def _widen(part: Any) -> Any:
    return part.float() if isinstance(part, Tensor) and part.dtype in (torch.float16, torch.bfloat16) else part
