"""Seeded noise: the plain fractal kind, and fields without end of which any window can be had.

A `NoiseField` is a sum of octaves. An octave is a lattice of random numbers that repeats like a torus (as the permutation table of Perlin,
"An image synthesizer", SIGGRAPH 1985), read as the coefficients of a cubic B-spline. So the window of a tile and the window from which its
shadow comes, hundreds of pixels away, are two views of the same clouds, and each costs its own pixels only. From octave to octave the
coefficients are refined by subdivision (Lane and Riesenfeld, IEEE PAMI 2, 1980), which is exact and takes a few additions a pixel. A domain
warp (Quilez, "Domain warping", 2002) bends the view by a second noise, which is what turns blobs into billows and fibres.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

TORUS = 128
"""Edge of an octave's lattice: the finest octave, with cells of two to four pixels, repeats after 256 pixels or more."""

SMALL = 96
"""Number of coefficients along an axis up to which they are refined by a matrix."""

_SPREAD = 0.479365
"""Mean over the phase of the sum of squared cubic B-spline weights: white noise keeps this much of its variance along each axis."""

_FOLDED = math.sqrt(2 / math.pi)
"""Mean of the absolute value of a standard Gaussian; its variance is 1 minus the square of this."""


def fractal_noise(batch: int, rows: int, cols: int, generator: torch.Generator, octaves: int = 6) -> Tensor:
    """Noise of falling amplitude from half the tile down to a few pixels, standard deviation about 1: (B, 1, rows, cols)."""
    total = torch.zeros(batch, 1, rows, cols)
    persistence = 0.45 + 0.2 * torch.rand(batch, 1, 1, 1, generator=generator)
    for octave in range(octaves):
        grid = torch.randn(batch, 1, 3 * 2**octave, 3 * 2**octave, generator=generator)
        layer = F.interpolate(grid, (rows, cols), mode="bicubic", align_corners=False)
        total = total + layer * persistence**octave
    return total / total.std((2, 3), keepdim=True).clamp_min(1e-6)


Box = tuple[tuple[int, int], ...]
"""First row and the one behind the last, first column and the one behind the last."""


@dataclass(frozen=True)
class NoiseField:
    """Noise on the whole plane, standard deviation about 1 over areas much larger than a cell of its first octave.

    Lengths are in steps: octave number k has cells of 2 ** (levels - k) steps.
    """

    tables: Tensor
    """(octaves, channels, 128, 128) numbers of mean 0 and variance 1; at most `levels` octaves."""
    levels: int
    """How often the cells of the first octave are halved down to a step."""
    amplitudes: tuple[float, ...]
    """Of each octave: their squares add up to 1 before any octave is left out."""
    billows: int
    """Octaves from this number on are folded to their absolute value: round bulges with creases between them, as on cumulus."""

    @classmethod
    def draw(
        cls,
        generator: torch.Generator,
        levels: int,
        persistence: float = 0.5,
        *,
        octaves: int = 99,
        channels: int = 1,
        billows: int = 99,
    ) -> NoiseField:
        """A field of first cells of 2 ** levels steps, with octaves down to cells of two, or fewer.

        `persistence` is the amplitude of an octave relative to the one before, 0..1.
        """
        tables = torch.rand(min(levels, octaves), channels, TORUS, TORUS, generator=generator)
        falling = [persistence**octave for octave in range(len(tables))]
        norm = math.hypot(*falling)
        amplitudes = tuple(amplitude / norm for amplitude in falling)
        return cls(tables.sub_(0.5).mul_(math.sqrt(12)), levels, amplitudes, billows)

    def every(self, step: int) -> NoiseField:
        """The same field at every `step`-th step (a power of two below 2 ** levels), without the octaves that are too fine for it."""
        levels = self.levels - (step.bit_length() - 1)
        return replace(self, tables=self.tables[:levels], levels=levels, amplitudes=self.amplitudes[:levels])

    def window(self, top: int, left: int, rows: int, cols: int, finest: float = 0.0) -> Tensor:
        """Values at the steps of a window, (channels, rows, cols), by the octaves with cells of at least `finest` steps."""
        count = len(self.tables)
        boxes: list[Box] = [((top - 1, top + rows + 1), (left - 1, left + cols + 1))]
        for _ in range(self.levels):
            boxes.append(tuple((low // 2 - 1, (high - 1) // 2 + 2) for low, high in boxes[-1]))
        boxes.reverse()
        total = torch.zeros(self.tables.shape[1], *(high - low for low, high in boxes[0]))
        for level, box in enumerate(boxes):
            if level:
                total = _refine(total, boxes[level - 1], box)
            # What is folded is folded one level finer than it lives: there coefficients are as good as values.
            for octave in (level, level - 1):
                folded = octave >= self.billows
                wanted = 0 <= octave < count and (octave == 0 or 2 ** (self.levels - octave) >= finest)
                if octave != level - int(folded) or not wanted:
                    continue
                nodes = self._nodes(octave, boxes[octave])
                if folded:
                    nodes = _refine(nodes, boxes[octave], box).abs_().sub_(_FOLDED * _SPREAD)
                    nodes.div_(math.sqrt(1 - _FOLDED**2))
                total.add_(nodes, alpha=self.amplitudes[octave] / _SPREAD)
        rows_done = total[:, :-2] + total[:, 2:]
        rows_done.add_(total[:, 1:-1], alpha=4)
        done = rows_done[:, :, :-2] + rows_done[:, :, 2:]
        return done.add_(rows_done[:, :, 1:-1], alpha=4).div_(36)

    def _nodes(self, octave: int, box: Box) -> Tensor:
        """Coefficients (channels, rows, cols) of a part of an octave's lattice."""
        down, right = (torch.arange(low, high).remainder_(TORUS) for low, high in box)
        return self.tables[octave].index_select(1, down).index_select(2, right)


def _refine(coarse: Tensor, old: Box, new: Box) -> Tensor:
    """The same spline on a lattice twice as fine: coefficients (channels, rows, cols) of the box `new` from those of the box `old`."""
    for dim in (2, 1):
        (first, last), (low, high) = old[dim - 1], new[dim - 1]
        if high - low <= SMALL:
            # A product costs less than a dozen operations on a handful of numbers.
            matrix = _subdivision(low - 2 * first, high - low, last - first)
            coarse = matrix @ coarse if dim == 1 else coarse @ matrix.T
            continue
        start = low // 2
        count = (high - 1) // 2 - start + 1
        left, here, right = (coarse.narrow(dim, start - first + step, count) for step in (-1, 0, 1))
        even = here.mul(0.75).add_(left, alpha=0.125).add_(right, alpha=0.125)
        odd = (here + right).mul_(0.5)
        both = torch.stack((even, odd), dim + 1).flatten(dim, dim + 1)
        coarse = both.narrow(dim, low - 2 * start, high - low)
    return coarse


@lru_cache(maxsize=4096)
def _subdivision(start: int, fine: int, coarse: int) -> Tensor:
    """Matrix (fine, coarse) from `coarse` coefficients to those at the half steps start .. start + fine - 1."""
    places = torch.arange(start, start + fine)[:, None] - 2 * torch.arange(coarse)
    return torch.tensor([0.75, 0.5, 0.125, 0.0])[places.abs().clamp(max=3)]


@dataclass(frozen=True)
class Flow:
    """How a view of a field is turned, stretched, scaled and bent."""

    angle: float
    """Direction of the fibres, radians from the columns' axis."""
    stretch: float
    """How much longer than wide the structures are, at least 1."""
    scale: float
    """Pixels to a step of the field."""
    bend: NoiseField
    """Displacement across and along the fibres (two channels), in units of `reach`; its steps are pixels."""
    reach: float
    """Standard deviation of the displacement, pixels."""

    def view(
        self, field: NoiseField, top: int, left: int, rows: int, cols: int, *, finest: float = 0.0, step: int = 1
    ) -> Tensor:
        """`field`, of one channel and as many levels as the bend, seen through the flow: (rows, cols).

        Without structures below `finest` pixels; with `step`, a power of two, only every so many pixels are worked out, and what is between
        them is linear. Two views of the same place agree up to rounding, whatever their windows.
        """
        step = min(step, 2 ** (field.levels - 1))
        if step > 1:
            flow = replace(self, bend=self.bend.every(step), reach=self.reach / step)
            return _between(
                lambda *place: flow.view(field.every(step), *place, finest=finest / step)[None],
                top, left, rows, cols, step,
            )[0]  # fmt: skip
        down = torch.arange(top, top + rows, dtype=torch.float32)[:, None]
        right = torch.arange(left, left + cols, dtype=torch.float32)[None, :]
        sine, cosine = math.sin(self.angle), math.cos(self.angle)
        # The bend is smooth: its finest cells have at least eight pixels where this leaves out any.
        sparse = max(2 ** (self.bend.levels - len(self.bend.tables) - 2), 1)
        across, along = _between(self.bend.every(sparse).window, top, left, rows, cols, sparse).mul_(self.reach)
        across = across.add_(down * cosine).sub_(right * sine).div_(self.scale)
        along = along.add_(right * cosine).add_(down * sine).div_(self.stretch * self.scale)
        first_row, rows_seen = _range(across)
        first_col, cols_seen = _range(along)
        canvas = field.window(first_row, first_col, rows_seen, cols_seen, finest / self.scale)
        grid = torch.empty(1, rows, cols, 2)
        torch.sub(along, first_col, out=grid[0, ..., 0]).mul_(2 / (cols_seen - 1)).sub_(1)
        torch.sub(across, first_row, out=grid[0, ..., 1]).mul_(2 / (rows_seen - 1)).sub_(1)
        return F.grid_sample(canvas[None], grid, align_corners=True, padding_mode="border")[0, 0]


def _between(
    coarse: Callable[[int, int, int, int], Tensor], top: int, left: int, rows: int, cols: int, step: int
) -> Tensor:
    """A window (C, rows, cols) from values (C, ..) at every `step`-th place, which `coarse` gives for a window in units of them."""
    if step == 1:
        return coarse(top, left, rows, cols)
    down, right = top % step, left % step
    height, width = (down + rows - 2) // step + 2, (right + cols - 2) // step + 2
    known = coarse(top // step, left // step, height, width)[None]
    size = ((height - 1) * step + 1, (width - 1) * step + 1)
    return F.interpolate(known, size, mode="bilinear", align_corners=True)[
        0, :, down : down + rows, right : right + cols
    ]


def _range(places: Tensor) -> tuple[int, int]:
    """First whole number below some places, and how many reach beyond the last."""
    least, most = (math.floor(float(bound)) for bound in places.aminmax())
    return least, most - least + 2
