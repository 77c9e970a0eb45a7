"""Seeded noise: the plain fractal kind, and fields without end of which any window can be had.

A `NoiseField` is a sum of octaves. An octave is a square of random numbers that repeats like a torus (as the permutation table of Perlin,
"An image synthesizer", SIGGRAPH 1985), read through a cubic B-spline. So the window of a tile and the window from which its shadow comes,
hundreds of pixels away, are two views of the same clouds, and each costs only its own pixels. A domain warp (Quilez, "Domain warping", 2002)
bends the view by a second noise, which is what turns blobs into billows and fibres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

TORUS = 128
"""Edge of an octave's square of random numbers: the finest octave, with cells of two pixels, repeats after 256 pixels."""

FINEST = 2.0
"""Least size of a cell, pixels: finer noise would be grain, which clouds do not have."""

_SPREAD = 0.479365
"""Mean over the phase of the sum of squared cubic B-spline weights: white noise loses this much variance along each axis."""


def fractal_noise(batch: int, rows: int, cols: int, generator: torch.Generator, octaves: int = 6) -> Tensor:
    """Noise of falling amplitude from half the tile down to a few pixels, standard deviation about 1: (B, 1, rows, cols)."""
    total = torch.zeros(batch, 1, rows, cols)
    persistence = 0.45 + 0.2 * torch.rand(batch, 1, 1, 1, generator=generator)
    for octave in range(octaves):
        grid = torch.randn(batch, 1, 3 * 2**octave, 3 * 2**octave, generator=generator)
        layer = F.interpolate(grid, (rows, cols), mode="bicubic", align_corners=False)
        total = total + layer * persistence**octave
    return total / total.std((2, 3), keepdim=True).clamp_min(1e-6)


@dataclass(frozen=True)
class NoiseField:
    """Noise on the whole plane, standard deviation about 1 over areas much larger than `cell`."""

    tables: Tensor
    """(octaves, 128, 128) numbers of mean 0 and variance 1."""
    phases: tuple[tuple[float, float], ...]
    """Where each octave's torus begins, cells (down, right)."""
    cell: float
    """Size of the coarsest octave's cells, pixels; each further octave has half of it."""
    persistence: float
    """Amplitude of an octave relative to the one before, 0..1."""

    @classmethod
    def draw(
        cls, generator: torch.Generator, cell: float, persistence: float = 0.5, octaves: int | None = None
    ) -> NoiseField:
        """A field with cells from `cell` pixels (at least 2) down to 2 pixels, or with fewer octaves."""
        cell = max(cell, FINEST)
        most = int(math.log2(cell / FINEST)) + 1
        count = most if octaves is None else min(octaves, most)
        tables = (torch.rand(count, TORUS, TORUS, generator=generator) - 0.5) * math.sqrt(12)
        phases = torch.rand(count, 2, generator=generator).mul_(TORUS).tolist()
        return cls(tables, tuple((down, right) for down, right in phases), cell, persistence)

    def window(self, top: int, left: int, rows: int, cols: int, finest: float = 0.0, split: int = 0) -> Tensor:
        """Values at the pixels of a window, (rows, cols); octaves with cells below `finest` pixels are left out.

        With `split`, two channels (2, rows, cols): the octaves before that number, and the rest.
        """
        parts = torch.zeros(2 if split else 1, rows, cols)
        norm = math.sqrt(sum(self.persistence ** (2 * octave) for octave in range(len(self.phases))))
        for octave, (down, right) in enumerate(self.phases):
            cell = self.cell / 2**octave
            if octave and cell < finest:
                break
            first_row, by_row = _spline(top, rows, cell, down)
            first_col, by_col = _spline(left, cols, cell, right)
            across = torch.arange(first_row, first_row + by_row.shape[1]).remainder_(TORUS)
            along = torch.arange(first_col, first_col + by_col.shape[1]).remainder_(TORUS)
            nodes = self.tables[octave][across][:, along]
            amplitude = self.persistence**octave / (norm * _SPREAD)
            parts[1 if split and octave >= split else 0].addmm_(by_row @ nodes, by_col.T, alpha=amplitude)
        return parts if split else parts[0]


def _spline(start: int, count: int, cell: float, phase: float) -> tuple[int, Tensor]:
    """First node and the cubic B-spline weights (count, nodes) of the pixels start .. start + count - 1."""
    place = (torch.arange(start, start + count, dtype=torch.float64) / cell + phase).to(torch.float64)
    whole = place.floor()
    t = (place - whole).float()
    base = whole.long()
    first = int(base[0]) - 1
    weights = torch.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1).div_(6)
    matrix = torch.zeros(count, int(base[-1]) + 3 - first)
    matrix.scatter_(1, (base - 1 - first)[:, None] + torch.arange(4), weights)
    return first, matrix


@dataclass(frozen=True)
class Flow:
    """How a view of a field is turned, stretched and bent."""

    angle: float
    """Direction of the fibres, radians from the columns' axis."""
    stretch: float
    """How much longer than wide the structures are, at least 1."""
    bend: tuple[NoiseField, NoiseField]
    """Displacement across and along the fibres, in units of `reach`."""
    reach: float
    """Standard deviation of the displacement, pixels."""

    def view(
        self, field: NoiseField, top: int, left: int, rows: int, cols: int, finest: float = 0.0, split: int = 1
    ) -> Tensor:
        """`field` seen through the flow: (2, rows, cols), the octaves before `split` and the rest.

        Two views of the same place agree up to rounding, whatever their windows.
        """
        down = torch.arange(top, top + rows, dtype=torch.float32)[:, None]
        right = torch.arange(left, left + cols, dtype=torch.float32)[None, :]
        sine, cosine = math.sin(self.angle), math.cos(self.angle)
        along = (right * cosine + down * sine) / self.stretch
        across = down * cosine - right * sine
        across = across + self.reach * self.bend[0].window(top, left, rows, cols)
        along = along + self.reach / self.stretch * self.bend[1].window(top, left, rows, cols)
        first_row, last_row = math.floor(float(across.min())) - 1, math.ceil(float(across.max())) + 1
        first_col, last_col = math.floor(float(along.min())) - 1, math.ceil(float(along.max())) + 1
        canvas = field.window(first_row, first_col, last_row - first_row + 1, last_col - first_col + 1, finest, split)
        height, width = canvas.shape[-2:]
        grid = torch.stack(
            [(along - first_col) * (2 / (width - 1)) - 1, (across - first_row) * (2 / (height - 1)) - 1], -1
        )
        return F.grid_sample(canvas[None], grid[None], align_corners=True, padding_mode="border")[0]
