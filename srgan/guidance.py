"""The two guiding branches and error feedback.

After Yang, Wang, Chen, Liu, Zou, Shi, "Structural Representation-Guided GAN for Remote Sensing Image Cloud Removal",
IEEE GRSL 22, 2025, DOI 10.1109/LGRS.2024.3516078: structure and gradient branches are part of the network, and error
feedback fuses their features into the reconstruction. Our reading of it: the gradient branch works on the three fine levels and
predicts signed Sobel maps of four band groups, the structure branch on the coarse levels and predicts an edge-preserving
smoothing of them; at every level of the decoder, with A the branch's features and D the decoder's,

    e = A - P(D),    D <- D + sigmoid(W[D, e]) * Q(e)

A and D normalised, each pixel by itself: without that the feedback of one level fed the next one's, and features grew a thousandfold.
"""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srgan.layers import Block, ChannelNorm, Pointwise, Up, zeroed
from srgan.precision import kept
from srgan.present import Channels, chosen
from srgan.spec import BANDS, GROUPS

FINE_LEVELS = 3
"""Levels of the gradient branch; the coarser ones belong to the structure branch."""

# Constants of the module, brought to the type and place of their input by `kept`.
_MEMBERS = torch.tensor([[float(band in group) for band in BANDS] for group in GROUPS.values()])
_SOBEL = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8


class Branch(nn.Module):
    """Coarse to fine over the encoder's features of some levels, to a map of `out` channels at the finest of them."""

    def __init__(self, encoder_widths: tuple[int, ...], widths: tuple[int, ...], out: int) -> None:
        super().__init__()
        self.take = nn.ModuleList(Pointwise(have, want) for have, want in zip(encoder_widths, widths, strict=True))
        self.blocks = nn.ModuleList(Block(width) for width in widths)
        self.ups = nn.ModuleList(Up(coarse, fine) for fine, coarse in itertools.pairwise(widths))
        self.head = zeroed(Pointwise(widths[0], out))

    def forward(self, encoded: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Features of each level, fine to coarse, and the map (B, out, h, w) of the finest."""
        features: list[Tensor] = []
        for level in reversed(range(len(encoded))):
            taken = self.take[level](encoded[level])
            if features:
                taken = taken + self.ups[level](features[0])
            features.insert(0, self.blocks[level](taken))
        return features, self.head(features[0])


class ErrorFeedback(nn.Module):
    """`D + sigmoid(W[D, e]) * Q(e)` with `e = A - P(D)`; the gate starts near 0, so that the network starts as a plain U-Net."""

    def __init__(self, width: int, branch_width: int) -> None:
        super().__init__()
        self.norm_decoded, self.norm_branch = ChannelNorm(width), ChannelNorm(branch_width)
        self.predict = Pointwise(width, branch_width)
        self.weigh = Pointwise(width + branch_width, width)
        self.correct = Pointwise(branch_width, width)
        nn.init.constant_(self.weigh.bias, -3.0)

    def forward(self, decoded: Tensor, branch: Tensor) -> Tensor:
        """(B, C, H, W), (B, A, H, W) -> (B, C, H, W)."""
        seen = self.norm_decoded(decoded)
        error = self.norm_branch(branch) - self.predict(seen)
        correction: Tensor = self.correct(error)
        return decoded + torch.sigmoid(self.weigh(torch.cat([seen, error], 1))) * correction


class Concatenation(nn.Module):
    """The ablation: the branch's features beside the decoder's, through one 1x1."""

    def __init__(self, width: int, branch_width: int) -> None:
        super().__init__()
        self.norm_decoded, self.norm_branch = ChannelNorm(width), ChannelNorm(branch_width)
        self.merge = Pointwise(width + branch_width, width)

    def forward(self, decoded: Tensor, branch: Tensor) -> Tensor:
        """(B, C, H, W), (B, A, H, W) -> (B, C, H, W)."""
        merged: Tensor = self.merge(torch.cat([self.norm_decoded(decoded), self.norm_branch(branch)], 1))
        return decoded + merged


def fusion(kind: Literal["none", "concat", "error_feedback"], width: int, branch_width: int) -> nn.Module:
    """The module that brings a branch into one level of the decoder."""
    return ErrorFeedback(width, branch_width) if kind == "error_feedback" else Concatenation(width, branch_width)


def band_groups(image: Tensor, present: Tensor, channels: Channels = None) -> Tensor:
    """Means of the present bands of the four groups, (B, 13, H, W) and (B, 13) -> (B, 4, H, W); a group without a band is 0.

    channels: numbers of the bands that both hold, where it is not all 13.
    """
    weight = chosen(kept(_MEMBERS, present), channels) * present[:, None, :]
    weight = weight / weight.sum(2, keepdim=True).clamp_min(1.0)
    return torch.einsum("bgc,bchw->bghw", weight, image)


def sobel(image: Tensor) -> Tensor:
    """Signed Sobel maps per pixel step, along rows then along columns: (B, C, H, W) -> (B, 2C, H, W).

    Channels 0..C-1 grow to the right (d/dx), C..2C-1 downwards (d/dy). A ramp of slope 1 a pixel gives 1.
    """
    kernel = kept(_SOBEL, image)
    channels = image.shape[1]
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    along = F.conv2d(padded, kernel.expand(channels, 1, 3, 3), groups=channels)
    down = F.conv2d(padded, kernel.T.expand(channels, 1, 3, 3), groups=channels)
    return torch.cat([along, down], 1)


def smooth(image: Tensor, radius: int = 4, epsilon: float = 4e-4) -> Tensor:
    """Edge-preserving smoothing, (B, C, H, W) -> (B, C, H, W): the guided filter with the image as its own guide.

    He, Sun, Tang, "Guided Image Filtering", ECCV 2010, equations 5, 6 and 8. An edge higher than sqrt(epsilon) = 0.02 of
    reflectance stays, texture below it goes.
    """
    channels, length = image.shape[1], 2 * radius + 1
    row = image.new_full((channels, 1, 1, length), 1 / length)

    def box(values: Tensor) -> Tensor:
        # Two passes of a line cost a fifth of a square window.
        padded = F.pad(values, (radius, radius, radius, radius), mode="replicate")
        return F.conv2d(F.conv2d(padded, row, groups=channels), row.transpose(2, 3), groups=channels)

    mean = box(image)
    variance = (box(image * image) - mean * mean).clamp_min(0.0)
    slope = variance / (variance + epsilon)
    return box(slope) * image + box((1 - slope) * mean)
