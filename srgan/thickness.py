"""`ThicknessField`: the optical thickness of one layer of cloud, on the whole plane.

Noise seen through a bent flow is cut off at the level at which the tile's cover is met. Inside, the thickness is log-normal, as the liquid water
path of real cloud is (Cahalan et al., J. Atmos. Sci. 51, 1994): partly it grows from the edge to the core, partly it is texture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan.noise import Flow, NoiseField
from srgan.sky import Layer

LEAST = 0.04
"""Optical thickness at which a cloud begins: what is below is nothing at all, so that masks hold everything that changes."""


@dataclass(frozen=True)
class Shape:
    """How a form of cloud looks."""

    persistence: float
    """Amplitude of each octave relative to the one before."""
    billows: int
    """First octave of round bulges; 99 = none."""
    variation: float
    """Standard deviation of the logarithm of the optical thickness."""
    inward: float
    """Share of it that goes from edge to core, 0..1; the rest is texture."""
    edge: float
    """Width of the edge, metres."""
    stretch: float
    """Length of the structures relative to their width."""
    reach: float
    """Displacement by the domain warp, relative to the size."""
    relief: float
    """How much slopes towards the sun are brighter."""


SHAPES = {
    "cumulus": Shape(0.55, 2, 0.75, 0.75, 60, 1, 0.04, 0.35),
    "stratus": Shape(0.5, 99, 0.40, 0.6, 400, 1.3, 0.06, 0.08),
    "fibres": Shape(0.6, 99, 0.9, 0.75, 300, 6, 0.08, 0.0),
}
"""By the names of `srgan.sky.Form`."""


@dataclass(frozen=True)
class ThicknessField:
    """Random numbers of a layer, and what the tile says of them."""

    layer: Layer
    shape: Shape
    field: NoiseField
    flow: Flow
    resolution: float
    """Metres per pixel."""

    @classmethod
    def draw(cls, layer: Layer, resolution: float, generator: torch.Generator) -> ThicknessField:
        """A field of this layer."""
        shape = SHAPES[layer.form]
        cell = max(layer.size / resolution / 2, 2.0)
        octaves = int(math.log2(cell))
        field = NoiseField.draw(generator, octaves, shape.persistence, billows=shape.billows)
        bend = NoiseField.draw(generator, max(octaves - 1, 1), 0.4, channels=2)
        # Isotropic structures need no turn, and less of the field without it.
        angle = math.pi * float(torch.rand((), generator=generator)) if shape.stretch > 1 else 0.0
        flow = Flow(angle, shape.stretch, cell / 2**octaves, bend, shape.reach * 2 * cell)
        return cls(layer, shape, field, flow, resolution)

    def over_tile(self, rows: int, cols: int) -> tuple[Tensor, Level]:
        """Optical thickness (rows, cols) over the tile itself, and the level at which its cover is met."""
        total = self.flow.view(self.field, 0, 0, rows, cols)
        level = Level.find(total, self.layer.cover)
        texture = total - _smooth(total, max(round(self.layer.size / self.resolution / 8), 2))
        return self._thickness(total, texture, level), level

    def shadow(self, level: Level, top: int, left: int, rows: int, cols: int, soft: float) -> Tensor:
        """Optical thickness (rows, cols) on the way from the sun to a window, with edges and structures at least `soft` pixels wide."""
        total = self.flow.view(self.field, top, left, rows, cols, max(soft, 4.0))
        return self._thickness(total, None, level, soft)

    def _thickness(self, total: Tensor, texture: Tensor | None, level: Level, soft: float = 0.0) -> Tensor:
        inward, variation = self.shape.inward, self.shape.variation
        logarithm = (total - level.mean).mul_(variation * inward / level.spread)
        if texture is not None:
            spread = max(float(texture.std(correction=0)), 1e-6)
            logarithm.add_(texture, alpha=variation * math.sqrt(1 - inward**2) / spread)
        width = max(self.shape.edge / self.resolution, soft, 1.0)
        ramp = (total - level.edge).div_(level.slope * width).add_(0.5 * soft / width).clamp_(0, 1)
        ramp = ramp * ramp * (3 - 2 * ramp)
        tau = logarithm.clamp_(-4, 2.5).exp_().mul_(ramp).mul_(self.layer.thickness)
        return tau.sub_(LEAST).clamp_min_(0)


def _smooth(values: Tensor, step: int) -> Tensor:
    """`values` (rows, cols) without what is smaller than about `step` pixels."""
    rows, cols = values.shape
    step = min(step, rows, cols)
    coarse = F.avg_pool2d(values[None, None], step, ceil_mode=True, count_include_pad=False)
    return F.interpolate(coarse, (rows, cols), mode="bilinear")[0, 0]


@dataclass(frozen=True)
class Level:
    """Where a cover cuts a tile's noise."""

    edge: float
    """Value at the edge of the cloud: the share of the tile above it is the cover."""
    mean: float
    """Mean of the values above it."""
    spread: float
    """Their standard deviation, > 0."""
    slope: float
    """Mean difference between neighbouring pixels, > 0: turns a difference of values into pixels."""

    @classmethod
    def find(cls, total: Tensor, cover: float) -> Level:
        """The level of a tile's noise (rows, cols); a cover of 1 has no edge."""
        step = 4 if total.numel() > 4096 else 1
        ranked = total[::step, ::step].flatten().sort().values
        start = min(round((1 - cover) * len(ranked)), len(ranked) - 1)
        inside = ranked[start:]
        spread = float(inside.std(correction=0))
        slope = float((total[1:] - total[:-1]).abs_().mean()) if len(total) > 1 else 0.0
        edge = float(ranked[start]) if cover < 1 else -1e6
        return cls(edge, float(inside.mean()), max(spread, 1e-3), max(slope, 1e-4))
