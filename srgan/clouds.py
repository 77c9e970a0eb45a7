"""Synthetic clouds and their shadows over clear images: what supervises the generator.

A cloud is an optical thickness field, fractal noise cut off so that a set share of the tile is covered. Each band then follows an
energy-conserving two-stream layer over a Lambertian ground (Bohren, "Multiple scattering of light and some of its observable
consequences", Am. J. Phys. 55, 1987, equation 21; adding method for the ground),

    R = (1 - g) tau / (2 + (1 - g) tau),    T = 1 - R - A,    rho' = R + T^2 rho / (1 - R rho)

with A what the droplets or crystals absorb. The shadow is the same field, moved away from the sun and softened, which takes the direct
light and leaves the diffuse: shadows are bluish.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

ASYMMETRY = 0.85
"""g of cloud droplets in the visible and near infrared (Hu and Stamnes, J. Climate 6, 1993, figure 1)."""

WAVELENGTH = (0.443, 0.490, 0.560, 0.665, 0.705, 0.740, 0.783, 0.842, 0.865, 0.945, 1.375, 1.610, 2.190)
"""Central wavelengths of Sentinel-2A, micrometres (Sentinel-2 User Handbook, table 1)."""

ABSORBED_WATER = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.1, 0.14, 0.30)
ABSORBED_ICE = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.1, 0.42, 0.52)
"""Share of the reflected light that a thick cloud of droplets or crystals absorbs (after King et al., J. Appl. Meteor. 43, 2004: clouds
at 1.6 and 2.1 micrometres as against the visible)."""

ABOVE_LOW = (1, 1, 1, 1, 0.98, 1, 1, 1, 1, 0.45, 0.004, 1, 1)
ABOVE_HIGH = (1, 1, 1, 1, 1, 1, 1, 1, 1, 0.9, 0.75, 1, 1)
"""Two-way transmission of the water vapour above a low and a high cloud: B09 loses half, B10 sees high cloud only (Gao et al., J. Geophys. Res.
98, 1993, on 1.38 micrometres)."""

PAD = 64
"""Pixels around the tile in which clouds exist too, so that shadows may come in from outside."""


class Clouded(NamedTuple):
    """A batch with clouds over it."""

    image: Tensor
    """(B, 13, H, W) reflectance under cloud and shadow; untouched where not valid."""
    opacity: Tensor
    """(B, 13, H, W) share of the ground's light that does not arrive, by band, 0..1; shadow excluded."""
    cloud: Tensor
    """(B, 1, H, W) 1 where thin or thick cloud changes the image, else 0."""
    thin: Tensor
    """(B, 1, H, W) 1 where the ground can still be seen through the cloud."""
    shadow: Tensor
    """(B, 1, H, W) 1 where a cloud takes more than a tenth of the light."""


def add_clouds(
    image: Tensor,
    valid: Tensor,
    *,
    cover: Tensor,
    thickness: Tensor,
    height: Tensor,
    sun_azimuth: Tensor,
    shift: Tensor,
    generator: torch.Generator,
) -> Clouded:
    """Put clouds over clear ground. The same generator state gives the same clouds.

    image (B, 13, H, W) reflectance, valid (B, 1, H, W) 0 or 1. By sample, (B,): `cover` 0..1 share of the area under cloud; `thickness`
    optical thickness of the cores, > 0 (haze below 5, opaque above 30); `height` 0 low water cloud .. 1 cirrus; `sun_azimuth` degrees
    clockwise from north; `shift` displacement of the shadow, pixels, at most 64.
    """
    batch, _, rows, cols = image.shape
    field = thickness_field(batch, rows + 2 * PAD, cols + 2 * PAD, cover, thickness, generator)
    tau = field[..., PAD : PAD + rows, PAD : PAD + cols]
    above = _by_height(ABOVE_LOW, ABOVE_HIGH, height)
    absorbed = _by_height(ABSORBED_WATER, ABSORBED_ICE, height)
    # Thin haze scatters blue more; a thick cloud is white.
    slope = (1.3 * torch.exp(-thickness / 3)).view(-1, 1, 1, 1)
    tint = (torch.tensor(WAVELENGTH).view(1, -1, 1, 1) / 0.55) ** -slope
    scattered = (1 - ASYMMETRY) * tau * tint
    reflected = scattered / (2 + scattered)
    transmitted = (1 - reflected) * (1 - absorbed * reflected)

    lit = _shade(field, sun_azimuth, shift, rows, cols)
    diffuse = (0.45 * (0.55 / torch.tensor(WAVELENGTH)) ** 1.5).clamp(max=0.5).view(1, -1, 1, 1)
    ground = image * (lit + (1 - lit) * diffuse)
    clouded = above * (1 - absorbed) * reflected + transmitted**2 * ground / (1 - reflected * ground).clamp_min(0.1)
    clouded = clouded.clamp(0, 1.6)

    seen = reflected[:, 1:4].mean(1, keepdim=True)
    cloud = (seen > 0.01).to(image.dtype)
    return Clouded(
        torch.where(valid > 0, clouded, image),
        (1 - transmitted**2) * valid,
        cloud * valid,
        cloud * (seen < 0.35).to(image.dtype) * valid,
        (lit < 0.9).to(image.dtype) * valid,
    )


def thickness_field(
    batch: int, rows: int, cols: int, cover: Tensor, thickness: Tensor, generator: torch.Generator
) -> Tensor:
    """Optical thickness (B, 1, rows, cols): 0 outside clouds, `thickness` where they are densest; `cover` of the area is > 0."""
    noise = fractal_noise(batch, rows, cols, generator)
    flat = noise.flatten(1)
    ranked = flat.sort(1).values
    last = ranked.shape[1] - 1
    # The noise at the edge of the cloud, so that the share above it is the cover; a full cover starts below the least.
    edge = ranked.gather(1, ((1 - cover) * last).round().long().clamp(0, last)[:, None]) - 0.5 * (cover >= 1)[:, None]
    top = ranked[:, -1:] - edge
    inside = ((flat - edge) / top.clamp_min(1e-6)).clamp(0, 1)
    # Cumulus rises steeply from its edge: half the thickness within the first tenth of the way up.
    steep = 1 - torch.exp(-inside / 0.15)
    return (thickness[:, None] * steep).view(batch, 1, rows, cols) * (cover > 0).view(-1, 1, 1, 1)


def fractal_noise(batch: int, rows: int, cols: int, generator: torch.Generator, octaves: int = 6) -> Tensor:
    """Noise of falling amplitude from half the tile down to a few pixels, standard deviation about 1: (B, 1, rows, cols)."""
    total = torch.zeros(batch, 1, rows, cols)
    persistence = 0.45 + 0.2 * torch.rand(batch, 1, 1, 1, generator=generator)
    for octave in range(octaves):
        grid = torch.randn(batch, 1, 3 * 2**octave, 3 * 2**octave, generator=generator)
        layer = F.interpolate(grid, (rows, cols), mode="bicubic", align_corners=False)
        total = total + layer * persistence**octave
    return total / total.std((2, 3), keepdim=True).clamp_min(1e-6)


def shadow_offset(sun_azimuth: float, shift: float) -> tuple[int, int]:
    """Rows (down) and columns (right) by which a shadow lies beside its cloud: away from the sun.

    >>> shadow_offset(180.0, 10.0), shadow_offset(90.0, 10.0)
    ((-10, 0), (0, -10))
    """
    angle = math.radians(sun_azimuth)
    return round(math.cos(angle) * shift), round(-math.sin(angle) * shift)


def _shade(field: Tensor, sun_azimuth: Tensor, shift: Tensor, rows: int, cols: int) -> Tensor:
    """Share of the direct light that passes the clouds on its way to the ground, (B, 1, rows, cols)."""
    moved = []
    for sample in range(field.shape[0]):
        down, right = shadow_offset(float(sun_azimuth[sample]), float(shift[sample]))
        top, left = PAD - down, PAD - right
        moved.append(field[sample, :, max(top, 0) : max(top, 0) + rows, max(left, 0) : max(left, 0) + cols])
    soft = F.avg_pool2d(torch.stack(moved), 5, stride=1, padding=2, count_include_pad=False)
    return torch.exp(-(1 - ASYMMETRY) * soft)


def _by_height(low: tuple[float, ...], high: tuple[float, ...], height: Tensor) -> Tensor:
    """Table rows between low and high cloud, (B, 13, 1, 1)."""
    share = height[:, None]
    return ((1 - share) * torch.tensor(low) + share * torch.tensor(high))[..., None, None]
