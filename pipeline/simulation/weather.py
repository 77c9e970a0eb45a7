"""`Weather` and what it does to a picture: cumulus with shadows that fit the sun, and an ice veil.

A pixel under a cloud of optical thickness tau is seen through a two-stream layer above a bright ground:
`R = (1-g) tau / (2 + (1-g) tau)`, `T = 1 - R`, `seen = R + T^2 ground / (1 - R ground)` with g = 0.85 for water
droplets (Bohren 1987). The ground itself loses the direct share of its light where a cloud stands between it and the sun.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.errors import InvalidSettings
from pipeline.simulation.noise import fractal, smoothstep
from pipeline.simulation.spectra import CLOUD_ALBEDO, DIRECT, SIMULATED_BANDS, VEIL_THICKNESS
from pipeline.simulation.sun import Sun

_ASYMMETRY = 0.85
_PIXEL = 10


@dataclass(frozen=True)
class Weather:
    """What hides the ground on one date."""

    cumulus: float = 0.0
    """Share of the area under cumulus, 0..0.9."""
    cell: float = 1500.0
    """Size of the cumulus clouds, metres."""
    base: float = 1300.0
    """Height of the base of cumulus above the ground, metres."""
    veil: float = 0.0
    """Greatest optical thickness of the ice veil, 0..3; 0 = none."""

    def __post_init__(self) -> None:
        if not 0 <= self.cumulus <= 0.9:
            raise InvalidSettings(f"cumulus {self.cumulus} must be between 0 and 0.9 of the area")
        if not self.cell > 0 or not self.base > 0:
            raise InvalidSettings(f"cumulus of {self.cell} m at {self.base} m: both must be positive")
        if not 0 <= self.veil <= 3:
            raise InvalidSettings(f"veil {self.veil} must be an optical thickness between 0 and 3")


@dataclass(frozen=True)
class Clouds:
    """Clouds above one area; float32 (rows, cols), rows from north to south."""

    cumulus: np.ndarray
    """Optical thickness of water cloud, at least 0."""
    veil: np.ndarray
    """Optical thickness of ice cloud at 0.6 micrometres, at least 0."""
    lit: np.ndarray
    """Light on the top of the cumulus, about 1: brighter towards the sun."""
    shadow: np.ndarray
    """Share of the direct light that is kept from the ground, 0..1."""

    def cover(self, ground: np.ndarray) -> np.ndarray:
        """What is seen of `ground` (bands, rows, cols), reflectance; equal to it where there is no cloud or shadow."""
        seen = np.empty_like(ground)
        water = _reflected(self.cumulus)
        through = (1 - water) ** 2
        for band in range(len(SIMULATED_BANDS)):
            below = ground[band] * (1 - DIRECT[band] * self.shadow)
            reflected = water * CLOUD_ALBEDO[band]
            below = reflected * self.lit + through * below / (1 - reflected * below)
            reflected = _reflected(self.veil * VEIL_THICKNESS[band])
            passed = 1 - reflected if band < len(SIMULATED_BANDS) - 2 else 1 - 1.25 * reflected  # ice absorbs SWIR
            seen[band] = reflected + passed**2 * below / (1 - reflected * below)
        return seen


def make_clouds(rng: np.random.Generator, size: int, weather: Weather, sun: Sun) -> Clouds:
    """Clouds over `size` x `size` pixels of 10 m, some of whose shadows come from clouds outside the area.

    Postcondition: the shadow of a cloud at height h lies `sun.shadow(h)` from it.
    """
    from scipy.ndimage import gaussian_filter

    reach = max(abs(way) for way in sun.shadow(weather.base + 1200)) / _PIXEL
    pad = 16 + int(np.ceil(reach))
    shape = (size + 2 * pad, size + 2 * pad)
    inner = np.s_[pad : pad + size, pad : pad + size]
    thickness = np.zeros(shape, np.float32)
    lit = np.ones(shape, np.float32)
    shadow = np.zeros(shape, np.float32)
    if weather.cumulus > 0:
        cell = weather.cell / _PIXEL
        field = fractal(rng, shape, 2.15, cell) + 0.5 * fractal(rng, shape, 2.0, 6 * cell)
        field += 0.05 * fractal(rng, shape, 1.0, 0.25 * cell)
        excess = np.clip(field - np.quantile(field[inner], 1 - weather.cumulus), 0, None)
        thickness = gaussian_filter((22 * excess ** np.float32(1.4)).clip(0, 45).astype(np.float32), 0.9, truncate=3)
        thickness[thickness < 0.1] = 0
        tops = 420 * np.sqrt(excess) + 30 * fractal(rng, shape, 1.3, 0.3 * cell)
        north, east = np.gradient(gaussian_filter(tops, 1.0), _PIXEL)
        facing = -east * np.sin(sun.azimuth_radians) + north * np.cos(sun.azimuth_radians)
        lit = np.clip(1 + 0.26 * np.tanh(1.2 * facing) + 0.03 * fractal(rng, shape, 1.2, 12), 0.55, 1.25)
        stopped = 1 - np.exp(-0.3 * thickness)
        for above in (0.0, 150.0, 300.0):
            down, right = (round(way / _PIXEL) for way in sun.shadow(weather.base + above))
            moved = np.roll(np.where(tops >= above, stopped, 0), (down, right), axis=(0, 1))
            np.maximum(shadow, moved, out=shadow)
        shadow = gaussian_filter(shadow, 0.8, truncate=3)
        shadow[shadow < 0.02] = 0
    veil = np.zeros(shape, np.float32)
    if weather.veil > 0:
        streaks = fractal(rng, shape, 2.0, 0.5 * size, stretch=(0.45, 1.6)) + 0.25 * fractal(rng, shape, 1.6, 40)
        veil = (weather.veil * smoothstep(streaks, 0.1, 2.6)).astype(np.float32)
        veil[veil < 0.02] = 0
    return Clouds(
        cumulus=thickness[inner].copy(),
        veil=veil[inner].copy(),
        lit=lit[inner].astype(np.float32),
        shadow=shadow[inner].astype(np.float32),
    )


def _reflected(thickness: np.ndarray) -> np.ndarray:
    """Share of the light that a layer of this optical thickness sends back, 0..1."""
    scaled = np.float32(1 - _ASYMMETRY) * thickness
    return (scaled / (2 + scaled)).astype(np.float32)
