"""Synthetic clouds and their shadows over clear images: what supervises the generator.

Each layer of a `Sky` is an optical thickness field: noise seen through a bent flow, cut off so that the cover is met, with log-normal values
inside (Cahalan et al., J. Atmos. Sci. 51, 1994, on the log-normal of liquid water path). Its shadow is the same field seen from where the
sun's rays come, so that shadows fall into the tile from clouds outside it. By band, layers are laid over the ground from the lowest to the
highest with `srgan.optics`. Where there is no cloud, no shadow and no haze, the image stays what it was, bit for bit.

A sample depends on its sky and its generator alone, not on its place in a batch; no global random numbers are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan import optics
from srgan.errors import InvalidSpec
from srgan.noise import Flow, NoiseField, fractal_noise
from srgan.sky import Layer, Sky, random_sky

__all__ = ["Clouded", "Layer", "Sky", "add_clouds", "fractal_noise", "random_sky"]

SUN_WIDTH = 0.0093
"""Angle under which the sun is seen, radians: how fast a shadow's edge softens with the cloud's height."""

LEAST = 0.04
"""Optical thickness at which a cloud begins: what is below is nothing at all, so that masks hold everything that changes."""

LEAST_SHADE = 0.03
"""Loss of direct light at which a shadow begins, likewise."""

BRIGHTEST = 1.6
"""Greatest reflectance of a lit cloud: what the generator can say."""


@dataclass(frozen=True)
class Shape:
    """How a form of cloud looks."""

    persistence: float
    """Amplitude of each octave relative to the one before."""
    variation: float
    """Standard deviation of the logarithm of the optical thickness."""
    inward: float
    """Share of it that goes from edge to core; the rest is texture."""
    edge: float
    """Width of the edge, metres."""
    stretch: float
    """Length of the structures relative to their width."""
    reach: float
    """Displacement by the domain warp, relative to the size."""
    relief: float
    """How much slopes towards the sun are brighter."""


SHAPES: dict[str, Shape] = {
    "cumulus": Shape(0.55, 0.75, 0.75, 40, 1, 0.04, 0.35),
    "stratus": Shape(0.5, 0.40, 0.6, 400, 1.3, 0.06, 0.08),
    "fibres": Shape(0.6, 0.9, 0.75, 300, 6, 0.08, 0.0),
}


class Clouded(NamedTuple):
    """A batch with clouds over it."""

    image: Tensor
    """(B, 13, H, W) reflectance under cloud and shadow; untouched where not valid."""
    opacity: Tensor
    """(B, 13, H, W) share of the ground's light that does not arrive, by band, 0..1; shadow excluded."""
    cloud: Tensor
    """(B, 1, H, W) 1 where cloud or haze, however thin, changes the image, else 0."""
    thin: Tensor
    """(B, 1, H, W) 1 where the ground can still be seen through the cloud: 0.4 of its green light arrives."""
    shadow: Tensor
    """(B, 1, H, W) 1 where the shadow of a cloud, however faint, changes the ground."""


class _Slab(NamedTuple):
    """A layer over the tile, ready for the bands; maps (H, W) by size of the band's pixels."""

    tau: dict[int, Tensor]
    light: dict[int, Tensor] | None
    """Factor of the slopes on the cloud's own light; None = 1."""
    lit: dict[int, Tensor] | None
    """Share of the direct light that reaches what lies below; None = all."""
    phase: optics.Phase | None
    """None = haze."""
    height: float


def add_clouds(image: Tensor, valid: Tensor, skies: Sequence[Sky], generators: Sequence[torch.Generator]) -> Clouded:
    """Put a sky over each clear image of a batch.

    image (B, 13, H, W) reflectance, any H and W; valid (B, 1, H, W) 0 or 1, where it is 0 the image is kept; a sky and a generator for each sample.
    A band that is absent gets clouds over whatever it holds: the caller clears it, as for the generator. Raises InvalidSpec where the
    numbers do not agree.
    """
    if image.dim() != 4 or image.shape[1] != len(optics.TABLE) or valid.shape != (len(image), 1, *image.shape[2:]):
        raise InvalidSpec(
            f"image {tuple(image.shape)} and valid {tuple(valid.shape)} must be (B, 13, H, W) and (B, 1, H, W)"
        )
    if not len(image) == len(skies) == len(generators):
        raise InvalidSpec(f"{len(image)} images need as many skies ({len(skies)}) and generators ({len(generators)})")
    samples = [_cover(*sample) for sample in zip(image, valid, skies, generators, strict=True)]
    return Clouded(*(torch.stack(parts) for parts in zip(*samples, strict=True)))


def _cover(image: Tensor, valid: Tensor, sky: Sky, generator: torch.Generator) -> Clouded:
    rows, cols = image.shape[1:]
    slabs = [_haze(sky, rows, cols, generator)] if sky.haze > 0 else []
    layers = sorted((layer for layer in sky.layers if layer.cover > 0), key=lambda layer: layer.height)
    slabs.extend(_slab(layer, sky, rows, cols, generator) for layer in layers)
    result, clear = image.clone(), torch.ones_like(image)
    for band, row in enumerate(optics.TABLE):
        seen = image[band]
        for slab in slabs:
            seen = _through(seen, slab, band, row, sky, clear[band])
        result[band] = seen
    cloud, shadow = torch.zeros(rows, cols), torch.zeros(rows, cols)
    for slab in slabs:
        for tau in slab.tau.values():
            cloud = torch.maximum(cloud, (tau > 0).float())
        for lit in (slab.lit or {}).values():
            shadow = torch.maximum(shadow, (lit < 1).float())
    inside = valid[0] > 0
    result = torch.where(((cloud + shadow) > 0) & inside, result.clamp(0, BRIGHTEST), image)
    thin = cloud * (clear[2] > 0.4)
    keep = inside.float()
    return Clouded(result, (1 - clear) * keep, (cloud * keep)[None], (thin * keep)[None], (shadow * keep)[None])


def _through(below: Tensor, slab: _Slab, band: int, row: optics.Row, sky: Sky, clear: Tensor) -> Tensor:
    """What a band sees of `below` (H, W) through a slab; `clear`, the share of light that passes all slabs, is brought up to date."""
    tau = slab.tau[row.pixel]
    if slab.phase is None:
        tau = tau * (row.wavelength / 0.55) ** -optics.HAZE_SLOPE
        reflected, transmitted = optics.two_stream(tau, optics.HAZE_ASYMMETRY)
        brightness: Tensor | float = 1.0
    else:
        reflected, transmitted = optics.two_stream(tau, optics.ASYMMETRY[slab.phase], optics.coalbedo(band, slab.phase))
        brightness = optics.above(band, slab.height, sky.moisture)
        if slab.light is not None:
            brightness = slab.light[row.pixel] * brightness
    if slab.lit is not None:
        below = below * (1 - (1 - row.sky) * (1 - slab.lit[row.pixel]))
    clear.mul_(transmitted).mul_(transmitted)
    return optics.over(below, reflected, transmitted, brightness)


def _haze(sky: Sky, rows: int, cols: int, generator: torch.Generator) -> _Slab:
    field = NoiseField.draw(generator, 3000 / sky.resolution, octaves=2)
    tau = sky.haze * torch.exp(0.25 * field.window(0, 0, rows, cols))
    return _Slab(_by_pixel(tau, sky.resolution), None, None, None, 0.0)


def _slab(layer: Layer, sky: Sky, rows: int, cols: int, generator: torch.Generator) -> _Slab:
    field = ThicknessField.draw(layer, sky, generator)
    tau = field.over_tile(rows, cols)
    cosine = math.cos(math.radians(sky.sun_zenith))
    phase: optics.Phase = "ice" if layer.kind == "cirrus" else "water"
    asymmetry = optics.ASYMMETRY[phase]
    # The sun is a disc: the edge of a shadow is as wide as it looks from the cloud, along the slant.
    width = 2 * round(layer.height / cosine * SUN_WIDTH / sky.resolution / 2) + 1
    down, right = sky.shadow(layer.height)
    pad = width // 2
    shifted = field.window(-down - pad, -right - pad, rows + 2 * pad, cols + 2 * pad, finest=width)
    shifted = F.avg_pool2d(F.avg_pool2d(shifted[None], (width, 1), 1), (1, width), 1)[0]
    # Light scattered near its old direction still counts as direct (Joseph et al., J. Atmos. Sci. 33, 1976: f = g^2).
    direct = torch.exp(shifted * (-(1 - asymmetry**2) / cosine))
    diffuse = (optics.two_stream(shifted, asymmetry)[1] - direct).clamp_min(0).mean()
    # T^2 of the layer overhead has its share of the loss in it already: the shadow takes what is lost beyond that.
    overhead = optics.two_stream(tau, asymmetry)[1]
    lit = ((direct + diffuse) / overhead).clamp(max=1)
    lit = 1 - ((1 - lit) - LEAST_SHADE).clamp_min(0) / (1 - LEAST_SHADE)
    relief = SHAPES[layer.form].relief
    light = _by_pixel(_slopes(tau, sky, relief), sky.resolution) if relief > 0 else None
    return _Slab(_by_pixel(tau, sky.resolution), light, _by_pixel(lit, sky.resolution), phase, layer.height)


@dataclass(frozen=True)
class ThicknessField:
    """Optical thickness of a layer on the whole plane."""

    layer: Layer
    shape: Shape
    field: NoiseField
    flow: Flow
    resolution: float
    levels: list[float]
    """Found by the tile: value of the noise at the edge of the cloud, its mean and spread inside, and its mean slope by pixel."""

    @classmethod
    def draw(cls, layer: Layer, sky: Sky, generator: torch.Generator) -> ThicknessField:
        """The random numbers of one layer."""
        shape = SHAPES[layer.form]
        cell = layer.size / sky.resolution / 2
        field = NoiseField.draw(generator, cell, shape.persistence)
        bend = tuple(NoiseField.draw(generator, cell / 1.5, octaves=3) for _ in range(2))
        angle = math.pi * float(torch.rand((), generator=generator))
        flow = Flow(angle, shape.stretch, (bend[0], bend[1]), shape.reach * cell * 2)
        return cls(layer, shape, field, flow, sky.resolution, [])

    def over_tile(self, rows: int, cols: int) -> Tensor:
        """(rows, cols) over the tile itself, which sets the level at which the cover is met."""
        coarse, fine = self.flow.view(self.field, 0, 0, rows, cols, split=3)
        total = coarse + fine
        ranked = total.flatten()[:: max(1, total.numel() // 8192)].sort().values
        count = len(ranked)
        start = round((1 - self.layer.cover) * (count - 1))
        edge = float(ranked[start]) if self.layer.cover < 1 else -1e6
        above = ranked[start:]
        slope = float((total[1:] - total[:-1]).abs().mean()) if rows > 1 else 1.0
        self.levels[:] = [edge, float(above.mean()), float(above.std()) if count - start > 1 else 1.0, max(slope, 1e-6)]
        return self._thickness(coarse, fine)

    def window(self, top: int, left: int, rows: int, cols: int, finest: float = 0.0) -> Tensor:
        """(rows, cols) elsewhere, at the tile's level."""
        coarse, fine = self.flow.view(self.field, top, left, rows, cols, finest, split=3)
        return self._thickness(coarse, fine)

    def _thickness(self, coarse: Tensor, fine: Tensor) -> Tensor:
        edge, mean, spread, slope = self.levels
        total = coarse + fine
        inward = (total - mean) / max(spread, 1e-6)
        texture = math.sqrt(1 - self.shape.inward**2)
        logarithm = self.shape.variation * (self.shape.inward * inward + texture * fine * 2)
        away = (total - edge) / slope * (self.resolution / self.shape.edge)
        ramp = away.clamp(0, 1)
        ramp = ramp * ramp * (3 - 2 * ramp)
        tau = self.layer.thickness * torch.exp(logarithm.clamp(-4, 2.5)) * ramp
        return (tau - LEAST).clamp_min(0)


def _slopes(tau: Tensor, sky: Sky, relief: float) -> Tensor:
    """Factor on the light of a cloud's top, about 1: brighter where it falls away towards the sun, (H, W)."""
    top = torch.log1p(tau)
    top = F.avg_pool2d(F.pad(top[None, None], (3, 3, 3, 3), mode="replicate"), 3, 1)[0, 0]
    down = (top[4:, 2:-2] - top[:-4, 2:-2]) / 4
    right = (top[2:-2, 4:] - top[2:-2, :-4]) / 4
    angle = math.radians(sky.sun_azimuth)
    facing = down * math.cos(angle) - right * math.sin(angle)
    steep = math.tan(math.radians(min(sky.sun_zenith, 70)))
    return 1 + relief * torch.tanh(3 * steep * facing)


def _by_pixel(values: Tensor, resolution: float) -> dict[int, Tensor]:
    """`values` (H, W) as bands of 10, 20 and 60 m see them: means over their pixels, repeated."""
    found = {}
    for pixel in (10, 20, 60):
        factor = round(pixel / resolution)
        if factor <= 1:
            found[pixel] = values
            continue
        coarse = F.avg_pool2d(values[None, None], factor, ceil_mode=True, count_include_pad=False)
        found[pixel] = F.interpolate(coarse, scale_factor=factor)[0, 0, : values.shape[0], : values.shape[1]]
    return found
