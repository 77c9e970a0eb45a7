"""How far a tile's edge reaches into its result, measured: the margin that a checkpoint records."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from srgan.clouds import Layer, Sky, add_clouds, fractal_noise
from srgan.generator import Generator
from srgan.spec import TYPICAL_LAND

ONE_DN = 1e-4
"""Reflectance of one digital number."""

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def measure_margin(
    generator: Generator, tile: int = 256, samples: int = 8, inputs: Callable[[int, int], Inputs] | None = None
) -> int:
    """Pixels from the edge of a tile beyond which what lies outside moves the result by < 1 DN on average.

    A scene of twice the tile's edge is restored whole, and its middle tile alone. The difference of the two, mean over samples, bands
    and all pixels at a distance from the tile's edge, falls inwards; the margin is the first distance from which on it stays below 1 DN,
    rounded up to a whole cell of the coarsest level, because tiles must lie on whole cells to agree at all (steps of 32 pixels
    with six levels). So it counts what the neighbours change and what the padding at the edge does. `inputs(index, edge)` gives
    the generator's inputs of edge x edge pixels; made-up ground under clouds if left out.
    """
    profile = edge_influence(generator, tile, samples, inputs or made_inputs)
    above = (profile >= ONE_DN).nonzero()
    cell = generator.spec.multiple // 2
    return 0 if len(above) == 0 else cell * math.ceil((int(above[-1]) + 1) / cell)


@torch.no_grad()
def edge_influence(generator: Generator, tile: int, samples: int, inputs: Callable[[int, int], Inputs]) -> Tensor:
    """Mean absolute difference by distance from the tile's edge, (tile / 2,), reflectance."""
    step = generator.spec.multiple
    pad = tile // 2 // step * step
    rows = torch.arange(tile)
    inward = torch.minimum(rows, tile - 1 - rows)
    distance = torch.minimum(inward[:, None], inward[None, :])
    total = torch.zeros(tile // 2)
    for index in range(samples):
        whole = inputs(index, tile + 2 * pad)
        middle = tuple(part[..., pad : pad + tile, pad : pad + tile] if part.dim() > 2 else part for part in whole)
        near = generator(*middle).restored
        far = generator(*whole).restored[..., pad : pad + tile, pad : pad + tile]
        difference = (near - far).abs().mean((0, 1))
        total += torch.zeros_like(total).index_add_(0, distance.flatten(), difference.flatten())
    return total / (samples * torch.bincount(distance.flatten(), minlength=tile // 2))


def made_inputs(index: int, edge: int) -> Inputs:
    """Made-up ground under 30 to 90 % of cloud: all bands, without references for even `index`, with one for odd."""
    noise = torch.Generator().manual_seed(index)
    ground = torch.tensor(TYPICAL_LAND)[None, :, None, None] * (
        1 + 0.3 * fractal_noise(1, edge, edge, noise, octaves=8)
    ).clamp(0.1, 3)
    valid = torch.ones(1, 1, edge, edge)
    thickness, cover = (30.0, 4.0, 30.0, 4.0)[index % 4], (0.3, 0.5, 0.7, 0.9)[index // 2 % 4]
    sky = Sky((Layer("low", cover, thickness),), sun_zenith=45, sun_azimuth=150)
    clouded = add_clouds(ground, valid, [sky], [noise])
    mask = torch.maximum(clouded.cloud, clouded.shadow)
    reference = (ground * (1 + 0.1 * fractal_noise(1, edge, edge, noise)))[:, None]
    usable = torch.full((1, 1, 1, edge, edge), float(index % 2))
    return clouded.image, torch.ones(1, 13), mask, valid, reference, usable, torch.full((1, 1), 5.0)
