"""The parts of the U-Net: a pixelwise norm, one residual block, one way down and one way up.

Nothing here takes a statistic over the tile (no InstanceNorm, GroupNorm, global pooling), so that what a pixel becomes
depends on its neighbourhood only, and neighbouring tiles agree where they overlap. The block is that of NAFNet (Chen et al.,
"Simple Baselines for Image Restoration", ECCV 2022, figure 2d) without its channel attention, which pools over the tile, and with the gate
of Dauphin et al., "Language Modeling with Gated Convolutional Networks", ICML 2017: a product of two unbounded halves grew without end
on rare inputs, after 1,500 steps, until their gradients (norms of 1e9) were all that a step saw.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each pixel: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Normalise. In channels-last memory the two permutations cost nothing."""
        last = features.permute(0, 2, 3, 1)
        return F.layer_norm(last, last.shape[-1:], self.weight, self.bias, 1e-5).permute(0, 3, 1, 2)


class Pointwise(nn.Linear):
    """1x1 convolution, (B, C, H, W) -> (B, D, H, W), as the matrix product that it is.

    Not `nn.Conv2d`: torch takes another algorithm for a 1x1 convolution with one thread than with two, and the last bits of the
    result would depend on the machine.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Mix the channels of each pixel."""
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Residual block with gates in the place of activations: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_space = ChannelNorm(channels)
        self.widen = Pointwise(channels, 2 * channels)
        self.space = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.narrow = Pointwise(channels, channels)
        self.norm_bands = ChannelNorm(channels)
        self.mix = Pointwise(channels, 2 * channels)
        self.merge = Pointwise(channels, channels)
        # Small at first: a deep stack of blocks starts close to the identity.
        self.gain_space = nn.Parameter(torch.full((channels, 1, 1), 0.1))
        self.gain_bands = nn.Parameter(torch.full((channels, 1, 1), 0.1))

    def forward(self, features: Tensor) -> Tensor:
        """Mix neighbours, then channels."""
        spread: Tensor = self.narrow(gate(self.space(self.widen(self.norm_space(features)))))
        features = features + self.gain_space * spread
        mixed: Tensor = self.merge(gate(self.mix(self.norm_bands(features))))
        return features + self.gain_bands * mixed


class Down(nn.Conv2d):
    """Halve the resolution: (B, C, H, W) -> (B, D, H/2, W/2); the 2x2 windows do not overlap, so the field does not widen."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 2, stride=2)


class Up(nn.Module):
    """Double the resolution: (B, C, H, W) -> (B, D, 2H, 2W); bilinear, which leaves no checkerboard."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.project = Pointwise(channels, out)

    def forward(self, features: Tensor) -> Tensor:
        """Mix the channels at the coarse grid, where it is cheap, then enlarge."""
        return enlarge(self.project(features))


def gate(features: Tensor) -> Tensor:
    """One half of the channels, each let through to the degree that the other half says: (B, 2C, H, W) -> (B, C, H, W)."""
    passed, opening = features.chunk(2, dim=1)
    return passed * torch.sigmoid(opening)


def enlarge(image: Tensor, factor: int = 2) -> Tensor:
    """Bilinear enlargement, (B, C, H, W) -> (B, C, factor H, factor W)."""
    return F.interpolate(image, scale_factor=float(factor), mode="bilinear", align_corners=False)


def zeroed(layer: Pointwise) -> Pointwise:
    """The same layer with weights and bias set to zero: a head that starts by changing nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def channels_last(image: Tensor) -> Tensor:
    """The same values, laid out so that the channels of a pixel are neighbours: what every layer here is fastest on."""
    return image.contiguous(memory_format=torch.channels_last)
