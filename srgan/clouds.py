"""Synthetic clouds and their shadows over clear images: what supervises the generator.

Each layer of a `Sky` is an optical thickness field (`srgan.thickness`). Its shadow is the same field seen from where the sun's rays come, so
that shadows fall into the tile from clouds outside it. By band, layers are laid over the ground from the lowest to the highest with
`srgan.optics`; shadows fall on the ground. Where there is no cloud, no shadow and no haze, the
image stays what it was, bit for bit.

A sample depends on its sky and its generator alone, not on its place in a batch; no global random numbers are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan import optics
from srgan.errors import InvalidSpec
from srgan.noise import NoiseField, fractal_noise
from srgan.sky import Layer, Sky, random_sky
from srgan.thickness import SHAPES, ThicknessField

__all__ = ["Clouded", "Layer", "Sky", "add_clouds", "fractal_noise", "random_sky"]

SUN_WIDTH = 0.0093
"""Angle under which the sun is seen, radians: how fast a shadow's edge softens with the cloud's height."""

LEAST_SHADE = 0.03
"""Loss of direct light at which a shadow begins: what is below is nothing at all, so that masks hold everything that changes."""

HAZE_TOP = 500.0
"""Height of the haze, metres."""

THIN = 0.4
"""Share of the ground's green light above which the ground can still be seen."""

BRIGHTEST = 1.6
"""Greatest reflectance of a lit cloud: what the generator can say."""

PIXELS = (10, 20, 60)
"""Sizes of the bands' own pixels, metres."""

Maps = dict[int, Tensor]
"""(H, W) by size of pixel."""


class Clouded(NamedTuple):
    """A batch with clouds over it."""

    image: Tensor
    """(B, 13, H, W) reflectance under cloud and shadow; untouched where not valid."""
    opacity: Tensor
    """(B, 13, H, W) share of the ground's light that does not arrive, by band, 0..1; shadow excluded."""
    cloud: Tensor
    """(B, 1, H, W) 1 where cloud or haze, however thin, changes the image, else 0."""
    thin: Tensor
    """(B, 1, H, W) 1 where the ground can still be seen through the cloud: more than 0.4 of its green light arrives."""
    shadow: Tensor
    """(B, 1, H, W) 1 where the shadow of a cloud, however faint, changes the ground."""


@dataclass(frozen=True)
class _Slab:
    """A layer over the tile, ready for the bands; maps (H, W) by size of the band's pixels."""

    tau: Maps
    light: Maps | None
    """Factor of the slopes on the cloud's own light; None = 1."""
    lit: Tensor | None
    """(H, W) share of the direct light that reaches the ground; None = all."""
    phase: optics.Phase | None
    """None = haze."""
    height: float
    radius: float

    @cached_property
    def white(self) -> dict[int, tuple[Tensor, Tensor]]:
        """R and T^2 by size of pixel, for all bands in which the cloud absorbs next to nothing."""
        found = {}
        for pixel, tau in self.tau.items():
            reflected, passed = optics.two_stream(tau, optics.ASYMMETRY[self.phase or "water"])
            found[pixel] = reflected, passed.square_()
        return found

    def layer(self, band: int) -> tuple[Tensor, Tensor]:
        """R and T^2 (H, W) in a band."""
        row = optics.TABLE[band]
        tau = self.tau[row.pixel]
        if self.phase is None:
            thinner = tau * (row.wavelength / 0.55) ** -optics.HAZE_SLOPE
            reflected, passed = optics.two_stream(thinner, optics.HAZE_ASYMMETRY)
        else:
            absorbed = optics.coalbedo(band, self.phase, self.radius)
            if absorbed < optics.LEAST_COALBEDO:
                return self.white[row.pixel]
            reflected, passed = optics.two_stream(tau, optics.ASYMMETRY[self.phase], absorbed)
        return reflected, passed.square_()


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
    clouded = Clouded(*(torch.empty_like(part) for part in (image, image, valid, valid, valid)))
    for number, (sky, generator) in enumerate(zip(skies, generators, strict=True)):
        _cover(image[number], valid[number, 0] > 0, sky, generator, Clouded(*(part[number] for part in clouded)))
    return clouded


def _cover(image: Tensor, valid: Tensor, sky: Sky, generator: torch.Generator, into: Clouded) -> None:
    """Fill `into` for one sample, band by band: what a band needs stays in the processor's cache."""
    rows, cols = valid.shape
    slabs = [_haze(sky, rows, cols, generator)] if sky.haze > 0 else []
    layers = sorted((layer for layer in sky.layers if layer.cover > 0), key=lambda layer: layer.height)
    slabs.extend(_slab(layer, sky, rows, cols, generator) for layer in layers)
    shade = _shade([slab.lit for slab in slabs if slab.lit is not None], sky.resolution)
    nothing, clear = torch.zeros(()), torch.ones(())
    cloud, shadow = torch.zeros_like(valid), torch.zeros_like(valid)
    for slab in slabs:
        for tau in slab.tau.values():
            cloud |= tau > 0
    for lost in shade.values():
        shadow |= lost > 0
    changed = (cloud | shadow) & valid
    for band, row in enumerate(optics.TABLE):
        seen, passed = image[band], torch.ones(())
        if shade:
            seen = torch.addcmul(seen, seen, shade[row.pixel], value=row.sky - 1)
        for slab in slabs:
            seen, through = _through(seen, slab, band, sky)
            passed = through * passed if passed.dim() else through
        torch.where(changed, seen.clamp(0, BRIGHTEST), image[band], out=into.image[band])
        torch.where(changed, 1 - passed, nothing, out=into.opacity[band])
        if row.band == "B03":
            clear = passed
    into.cloud[0] = cloud & valid
    into.thin[0] = cloud & valid & (clear > THIN)
    into.shadow[0] = shadow & valid


def _through(below: Tensor, slab: _Slab, band: int, sky: Sky) -> tuple[Tensor, Tensor]:
    """What a band sees of `below` (H, W) through a slab, and the share of the light from below that arrives, T^2."""
    reflected, passed = slab.layer(band)
    brightness, added = optics.air(band, slab.height, sky.sun_zenith, sky.moisture)
    lit = brightness if slab.light is None else slab.light[optics.TABLE[band].pixel] * brightness
    return optics.over(below, reflected, passed, lit, added), passed


def _haze(sky: Sky, rows: int, cols: int, generator: torch.Generator) -> _Slab:
    field = NoiseField.draw(generator, 8, persistence=0.3)
    tau = sky.haze * torch.exp(0.25 * field.window(0, 0, rows, cols)[0])
    return _Slab(dict.fromkeys(PIXELS, tau), None, None, None, HAZE_TOP, 0.0)


def _slab(layer: Layer, sky: Sky, rows: int, cols: int, generator: torch.Generator) -> _Slab:
    field = ThicknessField.draw(layer, sky.resolution, generator)
    tau, level = field.over_tile(rows, cols)
    phase: optics.Phase = "ice" if layer.kind == "cirrus" else "water"
    asymmetry = optics.ASYMMETRY[phase]
    cosine = math.cos(math.radians(sky.sun_zenith))
    # The sun is a disc: the edge of a shadow is as wide as it looks from the cloud, along the slant.
    soft = layer.height / cosine * SUN_WIDTH / sky.resolution
    down, right = sky.shadow(layer.height)
    above, behind = field.shadow(level, -down, -right, rows, cols, soft)
    # Light scattered near its old direction still counts as direct (Joseph et al., J. Atmos. Sci. 33, 1976: f = g^2).
    direct = torch.exp(above * (-(1 - asymmetry**2) / cosine))
    diffuse = float((optics.two_stream(above, asymmetry)[1] - direct).clamp_min_(0).mul_(behind).mean())
    direct = direct.sub_(1).mul_(behind).add_(1)
    # T^2 of the layer overhead has its share of the loss in it already: the shadow takes what is lost beyond that.
    lit = direct.add_(diffuse).div_(optics.two_stream(tau, asymmetry)[1]).clamp_(max=1)
    relief = SHAPES[layer.form].relief
    light = _by_pixel(_slopes(tau, sky, relief), sky.resolution) if relief > 0 else None
    return _Slab(_by_pixel(tau, sky.resolution), light, lit, phase, layer.height, layer.radius)


def _shade(lit: list[Tensor], resolution: float) -> Maps:
    """Share of the direct light that the ground loses to all layers, 0..1; no maps without layers."""
    if not lit:
        return {}
    lost = 1 - reduce(torch.mul, lit)
    return _by_pixel(lost.sub_(LEAST_SHADE).clamp_min_(0).div_(1 - LEAST_SHADE), resolution)


def _slopes(tau: Tensor, sky: Sky, relief: float) -> Tensor:
    """Factor on the light of a cloud's top, about 1: brighter where it falls away towards the sun, (H, W)."""
    top = F.pad(torch.log1p(tau)[None, None], (2, 2, 2, 2), mode="replicate")[0, 0]
    down = top[4:, 2:-2] - top[:-4, 2:-2]
    right = top[2:-2, 4:] - top[2:-2, :-4]
    angle = math.radians(sky.sun_azimuth)
    steep = 0.75 * math.tan(math.radians(min(sky.sun_zenith, 70)))
    facing = (down * (steep * math.cos(angle))).sub_(right, alpha=steep * math.sin(angle))
    return facing.tanh_().mul_(relief).add_(1)


def _by_pixel(values: Tensor, resolution: float) -> Maps:
    """`values` (H, W) as bands of 10, 20 and 60 m see them: means over their pixels, repeated."""
    rows, cols = values.shape
    found = {}
    for pixel in PIXELS:
        factor = round(pixel / resolution)
        if factor <= 1:
            found[pixel] = values
            continue
        padded = F.pad(values[None], (0, -cols % factor, 0, -rows % factor), mode="replicate")[0]
        coarse = padded.view(-1, factor, padded.shape[1]).sum(1)
        coarse = coarse.view(len(coarse), -1, factor).sum(2).div_(factor**2)
        wide = coarse.repeat_interleave(factor, 1)[:, :cols]
        found[pixel] = wide.repeat_interleave(factor, 0)[:rows]
    return found
