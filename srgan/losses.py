"""The supervised losses: reconstruction, structural, gradient consistency. Names as in the paper (see `srgan.generator`).

Every mean runs over the pixels whose target is known (`counts`) and the bands that are present. On real pairs the target under
clouds is the other date, and the input itself elsewhere, as CARL does (Meraner et al., ISPRS J. 166, 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan.dataset import Batch
from srgan.fill import first_guess
from srgan.generator import GeneratorOutput
from srgan.guidance import band_groups, smooth, sobel

SEEN = (0.2, 0.6)
"""Share of the ground's light up to which nothing, and from which on everything, is asked of the network."""

C1, C2 = 1e-4, 9e-4
"""SSIM's constants for a range of 1."""


@dataclass(frozen=True)
class LossWeights:
    """Weight of each term."""

    reconstruction: float = 1.0
    structure: float = 1.0
    ssim: float = 0.5
    gradient: float = 1.0


def supervised_losses(
    output: GeneratorOutput, target: Tensor, mask: Tensor, counts: Tensor, present: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """Every term, weighted, and `total`.

    `target` (B, 13, H, W); `mask` (B, 1, H, W) grown cloud and shadow; `counts` (B, 1, H, W) 1 where the target is known.
    """
    bands = present[:, :, None, None]
    known = counts * bands
    # Where the target is not known, the prediction stands in for it: no error there, and none leaks in through a window.
    target = torch.where(known > 0, target, output.restored.detach())
    groups, whole = band_groups(target, present), counts.expand(-1, 1, -1, -1)
    terms = {"reconstruction": weights.reconstruction * reconstruction(output.restored, target, mask, known)}
    if weights.structure:
        terms["structure"] = weights.structure * masked_mean((output.structure - smooth(groups)).abs(), whole)
    if weights.ssim:
        terms["ssim"] = weights.ssim * (1 - masked_mean(ssim_map(output.restored, target), known[..., 5:-5, 5:-5]))
    if weights.gradient:
        edges = masked_mean((output.gradient - sobel(groups)).abs(), whole)
        sharp = masked_mean((sobel(output.restored) - sobel(target)).abs(), torch.cat([known, known], 1))
        terms["gradient"] = weights.gradient * (edges + sharp)
    terms["total"] = torch.stack(list(terms.values())).sum()
    return terms


def reconstruction(prediction: Tensor, target: Tensor, mask: Tensor, known: Tensor) -> Tensor:
    """`mean(abs(p - y) (1 + M))` over known values: an error under cloud counts twice."""
    return masked_mean((prediction - target).abs() * (1 + mask), known)


def attainable(batch: Batch, default: Tensor) -> Tensor:
    """What can be asked of the network, (B, 13, H, W): the target where the ground is seen, the first guess where it is not.

    From few chips a network learns by heart what lay below an opaque cloud; elsewhere that is noise. So the target fades to the
    first guess as the share of the ground's light that arrives falls below `SEEN`. `default` is the generator's spectrum (13, 1, 1).
    """
    clear = batch.valid * (1 - 2 * batch.mask).clamp(0, 1)
    bands = batch.present[:, :, None, None]
    image, references = batch.cloudy * bands * batch.valid, batch.references * bands[:, None] * batch.reference_valid
    guess = first_guess(image, clear, references, batch.reference_valid, batch.days, default * bands).image
    share = (visibility(batch.cloudy, batch.target) - SEEN[0]) / (SEEN[1] - SEEN[0])
    seen = torch.where(batch.mask > 0, share.clamp(0, 1), 1.0)
    return seen * batch.target + (1 - seen) * guess


def visibility(cloudy: Tensor, target: Tensor) -> Tensor:
    """Share of the light of the ground that arrives through the cloud or in its shadow, (B, 13, H, W) -> (B, 1, H, W), from both images' blue, green and red.

    A layer of reflectance R over a ground x shows R + (1 - R)^2 x / (1 - R x), so R = (y - x) / (1 - 2 x + x y). Where it is darker
    than the ground, in shadow, it is the square of what light is left: deep shadow hides the ground too, and to brighten it is a gamble.
    """
    seen, ground = (
        F.avg_pool2d(image[:, 1:4].mean(1, keepdim=True), 5, 1, 2, count_include_pad=False)
        for image in (cloudy, target)
    )
    reflected = (seen - ground) / (1 - 2 * ground + ground * seen).clamp_min(0.1)
    lit = (seen / ground.clamp_min(1e-3)).clamp(0, 1)
    return torch.where(reflected >= 0, 1 - reflected.clamp(0, 1), lit).square()


def masked_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of `values` (B, C, H, W) weighted by `weight`, which may have one channel for all; 0 where no weight is left."""
    weight = weight.expand_as(values)
    return (values * weight).sum() / weight.sum().clamp_min(1.0)


def ssim_map(first: Tensor, second: Tensor) -> Tensor:
    """SSIM of each valid window, (B, C, H, W) -> (B, C, H - 10, W - 10); Gaussian 11x11, sigma 1.5 (Wang et al., IEEE TIP 13, 2004)."""
    channels = first.shape[1]
    distance = torch.arange(11, dtype=first.dtype, device=first.device) - 5
    line = torch.exp(-(distance**2) / (2 * 1.5**2))
    row = (line / line.sum()).view(1, 1, 1, 11).expand(channels, 1, 1, 11)

    def blur(values: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(values, row, groups=channels), row.transpose(2, 3), groups=channels)

    mean_1, mean_2 = blur(first), blur(second)
    variance_1 = blur(first * first) - mean_1**2
    variance_2 = blur(second * second) - mean_2**2
    covariance = blur(first * second) - mean_1 * mean_2
    luminance = (2 * mean_1 * mean_2 + C1) / (mean_1**2 + mean_2**2 + C1)
    return luminance * (2 * covariance + C2) / (variance_1 + variance_2 + C2)
