"""The first guess under the clouds, without a learned weight: other dates first, then the clear surroundings.

Strategy. Where a reference is valid, the guess is the mean of the references (weights fall with the distance in days), each of them
moved by its `drift`: by how much the scene's own clear pixels around differ from it (the residual compensation of STARFM's kin, Gao et
al., IEEE TGRS 44, 2006, spread under the cloud). What a gain and an offset for the whole scene leave over varies slowly over the ground.
Elsewhere the guess is a normalised convolution over a pyramid (push-pull, Gortler et al., "The Lumigraph", 1996): clear pixels are
averaged level by level, and each level passes what it does not know to the next coarser one. Five halvings and three looks
around bound the range by 160 pixels; what is nearer always leads. What no clear pixel reaches is the spectrum of typical land. The network only ever adds to this guess.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan.layers import enlarge
from srgan.present import Channels, chosen, widened
from srgan.spec import BANDS

LEVELS = 5
CALM = 4
"""Edge, pixels, of the cells in which a reference is compared with the scene."""
WIDE, TRUSTED = 33, 0.5
"""Cells over which clear ground is counted, and its share from which the drift counts in full."""
DARKER, BRIGHTER = 0.03, 0.01
"""Reflectance: a scene that differs more from another date has not drifted; it shows a cloud that the mask missed, or another ground. Less is
believed of what is brighter: clouds light the gaps between them, and would bring that light under them."""
RINGS = (3, 2, 1)
"""Cells of the coarsest level, 32 pixels, within which to look for known pixels, the furthest first."""
ENOUGH, ENOUGH_COARSE, ENOUGH_AROUND = 0.25, 0.02, 0.036
"""Share of known pixels from which a cell needs no other value: inside the pyramid, at its coarsest level; and around that, in cells."""

SMALL = 64
"""Height and width together, pixels, up to which a map is small to torch's bilinear enlargement."""


class Guess(NamedTuple):
    """A first guess and what it rests on."""

    image: Tensor
    """(B, C, H, W) reflectance: the input where it is clear, a fill elsewhere."""
    support: Tensor
    """(B, 1, H, W) 1 where at least one reference is valid, else 0."""


def first_guess(
    image: Tensor,
    clear: Tensor,
    references: Tensor,
    reference_valid: Tensor,
    days: Tensor,
    default: Tensor,
    channels: Channels = None,
) -> Guess:
    """Fill what is not clear in `image`.

    `image` (B, C, H, W) and `clear` (B, 1, H, W) 0..1, finite everywhere; `references` (B, T, C, H, W), finite, and
    `reference_valid` (B, T, 1, H, W) 0 or 1; `days` (B, T); `default` (B, C, 1, 1). channels: numbers of the C bands, where it is not all 13.
    """
    moved = references + drift(references, reference_valid, image, clear, channels)
    other, support = mean_reference(moved, reference_valid, days, image)
    # Clear pixels of the scene itself lead; references take part in the surroundings of what they do not cover.
    weight = clear + (1 - clear) * support
    known = clear * image + (1 - clear) * support * other
    surroundings = push_pull(known, weight, default, channels)
    fill = torch.where(support > 0, other, surroundings)
    return Guess(clear * image + (1 - clear) * fill, support)


def drift(references: Tensor, valid: Tensor, image: Tensor, clear: Tensor, channels: Channels = None) -> Tensor:
    """How far the scene is from each reference, known where both are clear and spread from there, (B, T, C, H, W).

    0 where nothing clear is near. In cells of `CALM` pixels, so that no single pixel at a cloud's rim leads. Less of it where little
    around is clear: what is left between clouds is hazy itself, and would bring its haze under them.
    """
    batch, dates = references.shape[:2]
    if dates == 0:
        return torch.zeros_like(references)
    weight = valid * clear[:, None]
    apart = (image[:, None] - references).clamp(-DARKER, BRIGHTER) * weight
    cells, weights = (F.avg_pool2d(part.flatten(0, 1), CALM) for part in (apart, weight))
    nothing = torch.zeros_like(cells[:1, :, :1, :1])
    spread = pull(cells, weights, LEVELS - int(math.log2(CALM)), nothing, channels)
    for _ in range(int(math.log2(CALM))):
        spread = enlarged(spread, channels)
    around = F.avg_pool2d(F.avg_pool2d(clear, CALM), WIDE, 1, WIDE // 2, count_include_pad=False)
    trust = (around / TRUSTED).clamp(max=1)
    for _ in range(int(math.log2(CALM))):
        trust = enlarge(trust)
    by_date: Tensor = spread.unflatten(0, (batch, dates))
    return by_date * trust[:, None]


def mean_reference(references: Tensor, valid: Tensor, days: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the dates, (B, C, H, W), zero where none is valid, and where one is, (B, 1, H, W).

    A date d days away weighs 1 / (1 + |d|)^2: near a straight line through one before and one after, and the nearer of two on one side.
    """
    if references.shape[1] == 0:
        return torch.zeros_like(like), torch.zeros_like(like[:, :1])
    apart = (1 + days.abs())[:, :, None, None, None]
    weight = valid / (apart * apart)
    total = weight.sum(1)
    mean = (weight * references).sum(1) / torch.where(total > 0, total, torch.ones_like(total))
    return mean, (total > 0).to(like.dtype)


def push_pull(known: Tensor, weight: Tensor, default: Tensor, channels: Channels = None) -> Tensor:
    """Spread `known` (already multiplied by `weight`, 0..1) over the pixels of small weight, (B, C, H, W).

    Equals `known` where weight is 1.
    """
    coarse, share = F.avg_pool2d(known, 2), F.avg_pool2d(weight, 2)
    return known + (1 - weight) * enlarged(pull(coarse, share, LEVELS - 1, default, channels), channels)


def pull(known: Tensor, weight: Tensor, levels: int, default: Tensor, channels: Channels = None) -> Tensor:
    """Values for all cells, (B, C, H, W), from those that are known: `known` (already multiplied by `weight`, 0..1).

    At each level a cell that is known enough stands for itself, the others take what they lack from the next coarser level, of
    which there are `levels`; the coarsest looks around, further and further, before it takes the default.
    """
    sums, weights = [known], [weight]
    for _ in range(levels):
        sums.append(F.avg_pool2d(sums[-1], 2))
        weights.append(F.avg_pool2d(weights[-1], 2))
    spread = default
    for ring in RINGS:
        around, around_weight = (F.avg_pool2d(part, 2 * ring + 1, 1, ring) for part in (sums[-1], weights[-1]))
        spread = _top_up(around, around_weight, ENOUGH_AROUND / (2 * ring + 1) ** 2, spread)
    spread = _top_up(sums[-1], weights[-1], ENOUGH_COARSE, spread)
    for total, share in zip(sums[-2::-1], weights[-2::-1], strict=True):
        spread = _top_up(total, share, ENOUGH, enlarged(spread, channels))
    return spread


def enlarged(image: Tensor, channels: Channels) -> Tensor:
    """Twice as large, (B, C, H, W) -> (B, C, 2H, 2W); `channels` as for `first_guess`.

    torch enlarges small maps several channels at a time and what is left over one by one, with other last bits: these go with all bands.
    """
    if channels is None or image.shape[-2] + image.shape[-1] > SMALL:
        return enlarge(image)
    return chosen(enlarge(widened(image, channels, len(BANDS))), channels)


def _top_up(total: Tensor, weight: Tensor, enough: float, other: Tensor) -> Tensor:
    """Mean of what is known, with `other` in the place of what is missing to `enough` weight."""
    return total / weight.clamp_min(enough) + (1 - (weight / enough).clamp(max=1)) * other
