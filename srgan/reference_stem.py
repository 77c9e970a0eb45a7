"""`ReferenceStem`: how the other dates enter the network."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srgan.layers import Pointwise
from srgan.present import Channels, widened


class ReferenceStem(nn.Module):
    """The references, each through the same light stem at half resolution, joined by attention over the dates.

    A date that is not valid at a pixel has weight 0 there; without any valid date the result is exactly 0.
    """

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.bands = bands
        self.read = nn.Conv2d(bands + 3, width, 3, padding=1)
        self.write = Pointwise(width, width + 1)

    def forward(
        self, references: Tensor, usable: Tensor, days: Tensor, like: Tensor, channels: Channels = None
    ) -> Tensor:
        """(B, T, C, H, W), (B, T, 1, H, W), (B, T) -> (B, width, H/2, W/2); C are all bands, or those of `channels`."""
        dates = references.shape[1]
        if dates == 0:
            return torch.zeros_like(like)
        distance = (days / 30.0).clamp(-12, 12)
        when = torch.stack([torch.log1p(distance.abs()), distance.sign()], 2)[..., None, None] * usable
        stack = F.avg_pool2d(torch.cat([references, usable, when], 2).flatten(0, 1), 2)
        written: Tensor = self.write(F.gelu(self.read(widened(stack, channels, self.bands))))
        written = written.unflatten(0, (-1, dates))
        features, score = written[:, :, 1:], written[:, :, :1]
        share = F.avg_pool2d(usable.flatten(0, 1), 2).unflatten(0, (-1, dates))
        weight = share * torch.exp(4 * torch.tanh(score / 4))
        # A floor of exp(-4) / 4, the least weight of a single valid pixel, keeps 0 / 0 away.
        joined: Tensor = (weight * features).sum(1) / (weight.sum(1) + math.exp(-4) / 4)
        return joined
