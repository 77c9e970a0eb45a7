"""Other dates of a place as references: read, harmonised, or made up where a chip has one date only.

A made-up reference is the truth, spectrally and locally changed, shifted by a pixel, with clouds of its own, so that the network
learns to use a reference but not to copy it blindly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from srgan.clouds import fractal_noise
from srgan.crossfit import cross_fit
from srgan.store import CLEAR, StoredChip

GREENING = (0, 0, 0.3, -1, 0, 0.7, 1, 1, 1, 1, 0, -0.7, -1)
"""Sign and strength with which each band answers to more vegetation: red and SWIR fall, NIR rises."""

LEAST_JOINT = 256
"""Jointly clear pixels below which a gain and an offset are not trusted."""

SAMPLE = 6000
"""Jointly clear pixels, about, from which the bands' common part is learned: enough for a crop, and quick."""

Window = tuple[slice, slice]
CloudOver = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Puts clouds over an image (13, H, W) with its valid (1, H, W): cloudy image and grown mask (1, H, W)."""


def read(chip: StoredChip, date: int, window: Window) -> Tensor:
    """Reflectance (13, rows, cols) of a window."""
    return torch.from_numpy(chip.images[(date, slice(None), *window)].astype(np.float32) / 1e4)


def classes(chip: StoredChip, date: int, window: Window) -> Tensor:
    """Classes (1, rows, cols) of a window, uint8 as in the store."""
    return torch.from_numpy(np.array(chip.masks[(date, *window)]))[None]


def harmonise(image: Tensor, like: Tensor, jointly: Tensor) -> Tensor:
    """`image` (13, H, W) with the mean and, within bounds, the contrast of `like` on the pixels `jointly` (1, H, W) clear.

    Besides, what the bands of `image` together say of the rest (`srgan.crossfit`), as a scene's dates are harmonised.
    """
    chosen = jointly.expand_as(image)
    if int(jointly.sum()) < LEAST_JOINT:
        return image
    mine, theirs = image[chosen].view(13, -1), like[chosen].view(13, -1)
    gain = (theirs.std(1) / mine.std(1).clamp_min(1e-4)).clamp(0.7, 1.4)[:, None, None]
    level = (image - mine.mean(1)[:, None, None]) * gain + theirs.mean(1)[:, None, None]
    left = (like - level)[chosen].view(13, -1)
    step = -(-mine.shape[1] // SAMPLE)
    cross = cross_fit(mine[:, ::step].numpy(), left[:, ::step].numpy())
    return level if cross is None else level + torch.from_numpy(cross(image.numpy()))


def stored_reference(chip: StoredChip, date: int, window: Window, like: Tensor, clear: Tensor) -> tuple[Tensor, Tensor]:
    """Another date of the chip (13, H, W), harmonised to `like` where `clear` (1, H, W), and where it is usable (1, H, W)."""
    hidden = (classes(chip, date, window) != CLEAR).float()
    usable = F.max_pool2d(hidden, 5, 1, 2) == 0
    return harmonise(read(chip, date, window), like, usable & clear), usable.float()


def made_reference(
    truth: Tensor, rng: np.random.Generator, noise: torch.Generator, cloud_over: CloudOver
) -> tuple[Tensor, Tensor]:
    """Another date, made up from the truth (13, H, W), and where it is usable (1, H, W)."""
    rows, cols = truth.shape[1:]
    field = fractal_noise(3, rows, cols, noise, octaves=4)[:, 0]
    # Spectral change by band, a smooth change of vegetation (NIR up, red down, or the reverse), and the rest by pixel.
    gain = 1 + torch.from_numpy(rng.normal(0, 0.03, (13, 1, 1)).astype(np.float32))
    strength = float(rng.uniform(0, 0.12))
    changed = truth * gain * (1 + strength * field[:1] * torch.tensor(GREENING)[:, None, None] + 0.03 * field[1:2])
    changed = changed + torch.from_numpy(rng.normal(0, 0.004, (13, 1, 1)).astype(np.float32))
    # A field is ploughed, a road is built: what lies elsewhere in the tile shows up here.
    moved = torch.roll(changed, tuple(int(rng.integers(16, 64)) for _ in range(2)), (1, 2))
    changed = torch.where(field[2:] > float(rng.uniform(1.2, 2.5)), moved, changed)
    changed = torch.roll(changed, tuple(int(rng.integers(-1, 2)) for _ in range(2)), (1, 2)).clamp(0, 1.6)
    if rng.random() < 0.5:
        return changed, torch.ones(1, rows, cols)
    changed, mask = cloud_over(changed, torch.ones(1, rows, cols))
    return changed, (mask == 0).float()


def grow(mask: Tensor, radius: int) -> Tensor:
    """A mask (1, H, W) grown by `radius` pixels."""
    return F.max_pool2d(mask, 2 * radius + 1, 1, radius)
