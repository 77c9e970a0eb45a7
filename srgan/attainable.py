"""What can be asked of the network: the ground where it is seen, the first guess where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan.fill import first_guess

if TYPE_CHECKING:
    from srgan.dataset import Batch

SEEN = (0.2, 0.6)
"""Share of the ground's light up to which nothing, and from which on everything, is asked of the network."""


def attainable(batch: Batch, default: Tensor) -> Tensor:
    """What can be asked of the network, (B, 13, H, W): the target where the ground is seen, the first guess where it is not.

    From few chips a network learns by heart what lay below an opaque cloud; elsewhere that is noise. So the target fades to the
    first guess as the share of the ground's light that arrives falls below `SEEN`. `default` is the spectrum where nothing is known (13, 1, 1).
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
