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

SCORES = torch.tensor([-2.5, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.5])
"""Standard Gaussian values at which a tile's noise is matched."""


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
    "cumulus": Shape(0.59, 2, 1.0, 0.9, 130, 1, 0.012, 0.18),
    "stratus": Shape(0.58, 99, 0.45, 0.7, 300, 1.3, 0.03, 0.06),
    "fibres": Shape(0.72, 99, 0.9, 0.8, 400, 5, 0.05, 0.0),
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
        octaves = max(round(math.log2(cell)), 1)
        field = NoiseField.draw(generator, octaves, shape.persistence, billows=shape.billows)
        bend = NoiseField.draw(generator, octaves, 0.5, channels=2, octaves=2)
        # Isotropic structures need no turn, and less of the field without it.
        angle = math.pi * float(torch.rand((), generator=generator)) if shape.stretch > 1 else 0.0
        flow = Flow(angle, shape.stretch, cell / 2**octaves, bend, shape.reach * 2 * cell)
        return cls(layer, shape, field, flow, resolution)

    def over_tile(self, rows: int, cols: int) -> tuple[Tensor, Level]:
        """Optical thickness (rows, cols) over the tile itself, and the level at which its cover is met."""
        total = self.flow.view(self.field, 0, 0, rows, cols)
        level = Level.find(total, self.layer.cover)
        texture = total - _smooth(total, max(round(self.layer.size / self.resolution / 8), 2))
        variation = self.shape.variation * math.sqrt(1 - self.shape.inward**2)
        spread = max(float(texture.std(correction=0)), 1e-6)
        inside = self._thickness(total, level).mul_(texture.mul_(variation / spread).exp_())
        return inside.mul_(self._edge(total, level, self.shape.edge / self.resolution)), level

    def shadow(self, level: Level, top: int, left: int, rows: int, cols: int, soft: float) -> tuple[Tensor, Tensor]:
        """What is between the sun and a window: optical thickness inside the cloud, and share of the sun's disc behind it, (rows, cols).

        Edges and structures are at least `soft` pixels wide.
        """
        step = 2 ** min(max(int(math.log2(max(soft, 1.0))), 1), 3)
        total = self.flow.view(self.field, top, left, rows, cols, finest=soft, step=step)
        # Little cloud takes most of the direct light, so a shadow is darker further out than its cloud is bright.
        width = max(soft, self.shape.edge / self.resolution / 3)
        return self._thickness(total, level), self._edge(total, level, width, soft / 2)

    def _thickness(self, total: Tensor, level: Level) -> Tensor:
        """Without texture and edge."""
        score = level.score(total).mul_(self.shape.variation * self.shape.inward)
        return score.exp_().mul_(self.layer.thickness)

    def _edge(self, total: Tensor, level: Level, width: float, out: float = 0.0) -> Tensor:
        """0 outside the cloud, 1 inside, rising over `width` pixels, from `out` pixels outside the edge."""
        if self.layer.cover == 1:
            return torch.ones_like(total)
        width = max(width, 1.0)
        rise = (total - level.edge).div_(level.slope * width).add_(out / width).clamp_(0, 1)
        return rise * rise * (3 - 2 * rise)


def _smooth(values: Tensor, step: int) -> Tensor:
    """`values` (rows, cols) without what is smaller than about `step` pixels."""
    rows, cols = values.shape
    step = min(step, rows, cols)
    coarse = F.avg_pool2d(values[None, None], step, ceil_mode=True, count_include_pad=False)
    return F.interpolate(coarse, (rows, cols), mode="bilinear")[0, 0]


@dataclass(frozen=True)
class Level:
    """Where a cover cuts a tile's noise, and how the values above are spread."""

    edge: float
    """Value at the edge of the cloud: the share of the tile above it is the cover."""
    knots: tuple[float, ...]
    """Values inside the cloud whose shares are those of `SCORES`, rising."""
    slope: float
    """Mean difference between neighbouring pixels, > 0: turns a difference of values into pixels."""

    @classmethod
    def find(cls, total: Tensor, cover: float) -> Level:
        """The level of a tile's noise (rows, cols)."""
        step = 4 if total.numel() > 4096 else 1
        ranked = total[::step, ::step].flatten().sort().values
        last = len(ranked) - 1
        shares = torch.cat([torch.zeros(1), torch.special.ndtr(SCORES)])
        places = ((1 - cover + cover * shares) * last).round().long()
        # Never twice the same value, also where the cover is next to nothing.
        edge, *knots = (ranked[places] + 1e-5 * torch.arange(len(places))).tolist()
        slope = float((total[1:] - total[:-1]).abs_().mean()) if len(total) > 1 else 0.0
        return cls(edge, tuple(knots), max(slope, 1e-4))

    def score(self, total: Tensor) -> Tensor:
        """Values made Gaussian: like `total`, mean 0 and variance 1 inside the tile's cloud, -2.5 at its edge and outside."""
        scores: list[float] = SCORES.tolist()
        rises = [
            (right - left) / (after - before)
            for left, right, before, after in zip(scores, scores[1:], self.knots, self.knots[1:], strict=False)
        ]
        # A line with a bend at every knot.
        bounded = total.clamp(self.knots[0], self.knots[-1])
        result = (bounded - self.knots[0]).mul_(rises[0]).add_(scores[0])
        for knot, before, after in zip(self.knots[1:-1], rises, rises[1:], strict=False):
            result.add_((bounded - knot).clamp_min_(0), alpha=after - before)
        return result
