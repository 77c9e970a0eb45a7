"""The perceptual and the style loss, on features of VGG-16 that both share.

Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016; Gram matrices divided by
C H W as in Nazeri et al., "EdgeConnect", ICCV workshops 2019, from which the usual weights (0.1 and 250) come. Bands are seen three
at a time: red, green, blue, and one further triple that the caller draws.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srgan.errors import InvalidSpec
from srgan.known import compare, in_float32, masked_mean
from srgan.spec import BANDS
from srgan.vgg import Vgg16

RGB = (BANDS.index("B04"), BANDS.index("B03"), BANDS.index("B02"))
"""Channel numbers of red, green and blue, the order of VGG-16."""

WHITE = 0.3
"""Reflectance that is shown as 1: what VGG-16 saw in photographs is brighter than land."""


class Features(NamedTuple):
    """Features of one layer, of the prediction and of the target. N: samples of all triples that have their bands."""

    prediction: Tensor
    """(N, C, h, w)."""
    target: Tensor
    """(N, C, h, w), no gradient."""
    known: Tensor
    """(N, 1, h, w) share of known pixels in each cell, 0..1."""


class SharedFeatures(nn.Module):
    """One pass of VGG-16 over prediction and target, for both losses."""

    def __init__(self, vgg: Vgg16) -> None:
        super().__init__()
        self.vgg = vgg

    @in_float32
    def forward(
        self, prediction: Tensor, target: Tensor, known: Tensor, present: Tensor, triple: tuple[int, int, int] | None
    ) -> list[Features]:
        """relu1_2, relu2_2 and relu3_3 of `clip(rho / 0.3, 0, 1)` of red, green, blue and of `triple` (channel numbers).

        prediction, target, known (B, 13, H, W), reflectance and 0 or 1; present (B, 13). A sample that lacks a band of a triple does
        not count for it; a pixel is known where all three bands are. Raises InvalidSpec for a triple that is none.
        """
        bands = prediction.shape[1]
        if triple is not None and (len(set(triple)) != 3 or not all(0 <= band < bands for band in triple)):
            raise InvalidSpec(f"triple {triple}: three different channel numbers of 0..{bands - 1} are needed")
        sides = compare(prediction, target, known)
        seen, wanted, weights = [], [], []
        for channels in (RGB,) if triple is None else (RGB, triple):
            chosen = list(channels)
            has = (present[:, chosen] > 0).all(1)
            image, truth, here = (side[has][:, chosen] for side in sides)
            seen.append((image / WHITE).clamp(0, 1))
            wanted.append((truth / WHITE).clamp(0, 1))
            weights.append(here.amin(1, keepdim=True))
        mine = self.vgg(torch.cat(seen))
        with torch.no_grad():
            theirs = self.vgg(torch.cat(wanted))
        known = torch.cat(weights)
        pooled = (known, F.avg_pool2d(known, 2), F.avg_pool2d(F.avg_pool2d(known, 2), 2))
        return [Features(*parts) for parts in zip(mine, theirs, pooled, strict=True)]


class PerceptualLoss(nn.Module):
    """Sum over the layers of the mean absolute difference between features, over known cells."""

    @in_float32
    def forward(self, layers: list[Features]) -> Tensor:
        """Features of each layer -> scalar."""
        return sum_of([masked_mean((mine - theirs).abs(), known) for mine, theirs, known in layers])


class StyleLoss(nn.Module):
    """Sum over the layers of the mean absolute difference between Gram matrices; a sample weighs as its known share."""

    @in_float32
    def forward(self, layers: list[Features]) -> Tensor:
        """Features of each layer -> scalar."""
        return sum_of(
            [
                masked_mean((gram(mine, known) - gram(theirs, known)).abs().mean((1, 2)), known.mean((1, 2, 3)))
                for mine, theirs, known in layers
            ]
        )


def gram(features: Tensor, known: Tensor) -> Tensor:
    """Gram matrices over known cells, divided by C times their number: (N, C, h, w), (N, 1, h, w) -> (N, C, C)."""
    cells = known.sum((1, 2, 3))[:, None, None]
    cells = torch.where(cells > 0, cells, 1.0)
    flat = features.flatten(2)
    return torch.bmm((features * known).flatten(2), flat.transpose(1, 2)) / (features.shape[1] * cells)


def sum_of(terms: list[Tensor]) -> Tensor:
    """Sum of scalars."""
    return torch.stack(terms).sum()
