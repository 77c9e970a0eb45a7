"""Farmland of the simulated landscape: blocks of long strips, each with a crop that grows or is harvested."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.simulation.noise import fractal
from pipeline.simulation.spectra import SPECTRA

_CROPS = ("maize", "beet", "sunflower", "meadow", "vine", "cereal", "stubble", "soil", "loess")
_SHARES = (0.21, 0.07, 0.08, 0.16, 0.04, 0.16, 0.16, 0.08, 0.04)


@dataclass(frozen=True)
class Parcels:
    """Fields of one area."""

    labels: np.ndarray
    """int32 (rows, cols), number of the parcel."""
    margin: np.ndarray
    """float32 (rows, cols), 0..1: share of the pixel that is grass margin or track between parcels."""
    texture: np.ndarray
    """float32 (rows, cols), about 1: soil and growth inside parcels, and the rows of machines."""
    crop: np.ndarray
    """int (parcels,), index of `_CROPS`."""
    cover: np.ndarray
    """float32 (parcels,), 0..1: share of the ground that the crop hides on day 0."""
    growth: np.ndarray
    """float32 (parcels,), change of `cover` a day."""
    brightness: np.ndarray
    """float32 (parcels,), about 1."""
    harvest: np.ndarray
    """float32 (parcels,), day of harvest; infinite where there is none."""
    loess: np.ndarray
    """float32 (parcels,), 0..1: how bright the soil is."""

    def spectra(self, day: float) -> np.ndarray:
        """Reflectance of every parcel `day` days after the first date: (parcels, bands)."""
        table = np.stack([SPECTRA[name] for name in _CROPS])
        soil = SPECTRA["soil"] + self.loess[:, None] * (SPECTRA["loess"] - SPECTRA["soil"])
        cover = np.clip(self.cover + self.growth * day, 0.05, 1)[:, None]
        standing = cover * table[self.crop] + (1 - cover) * soil
        gone = np.clip((day - self.harvest) / 2, 0, 1)[:, None]
        bare = 0.75 * SPECTRA["stubble"] + 0.25 * soil
        spectra: np.ndarray = (standing + gone * (bare - standing)) * self.brightness[:, None]
        return spectra.astype(np.float32)


def make_parcels(rng: np.random.Generator, size: int) -> Parcels:
    """Farmland of `size` x `size` pixels of 10 m.

    Blocks are Voronoi cells with slightly bent borders. Each has its own direction and width of strips, and strips are
    cut across at irregular places: so neighbours share a direction, as parcels do that were once divided.
    """
    from scipy.spatial import KDTree

    rows, cols = np.mgrid[0:size, 0:size].astype(np.float32)
    warp = 5 * np.stack([fractal(rng, (size, size), 3.0, 90), fractal(rng, (size, size), 3.0, 90)])
    count = max(6, round((size / 62) ** 2))
    centres = rng.uniform(-0.05 * size, 1.05 * size, (count, 2))
    points = np.stack([rows + warp[0], cols + warp[1]], axis=-1).reshape(-1, 2)
    distance, nearest = KDTree(centres).query(points, k=2)
    block = nearest[:, 0].reshape(size, size)
    border = ((distance[:, 1] - distance[:, 0]) / 2).reshape(size, size).astype(np.float32)

    grain = rng.uniform(0, np.pi)
    angle = (grain + rng.normal(0, 0.45, count) + np.pi / 2 * (rng.random(count) < 0.3)).astype(np.float32)
    width = np.exp(rng.normal(np.log(9.0), 0.45, count)).clip(3.2, 26).astype(np.float32)
    length = (width * rng.uniform(2.2, 5.0, count)).clip(14, 70).astype(np.float32)
    phase = rng.uniform(0, 6.28, (3, count)).astype(np.float32)

    bent = 0.35 * warp
    along = np.cos(angle)[block] * (cols + bent[1]) + np.sin(angle)[block] * (rows + bent[0])
    across = -np.sin(angle)[block] * (cols + bent[1]) + np.cos(angle)[block] * (rows + bent[0])
    strip = across / width[block]
    strip += np.float32(0.3) * np.sin(strip * 2.3 + phase[0][block])  # monotone: 0.3 * 2.3 < 1
    strip_number = np.floor(strip).astype(np.int64)
    cut = along / length[block] + 0.5 * np.sin(strip_number * 2.1 + phase[1][block]).astype(np.float32)
    cut += np.float32(0.3) * np.sin(cut * 2.3 + phase[2][block])
    cut_number = np.floor(cut).astype(np.int64)

    key = (block.astype(np.int64) * 4096 + strip_number + 2048) * 4096 + cut_number + 2048
    numbers, labels = np.unique(key, return_inverse=True)
    parcels = len(numbers)

    def edge(value: np.ndarray, scale: np.ndarray) -> np.ndarray:
        fraction = value - np.floor(value)
        pixels: np.ndarray = np.minimum(fraction, 1 - fraction) * scale
        return pixels

    near = np.minimum(edge(strip, width[block]), edge(cut, length[block]))
    margin = np.maximum(0.38 * np.clip(0.9 - near, 0, 1), 0.85 * np.clip(1.15 - border, 0, 1)).astype(np.float32)

    crop = rng.choice(len(_CROPS), parcels, p=_SHARES)
    ripe = np.isin(crop, [_CROPS.index(name) for name in ("cereal", "stubble", "soil", "loess")])
    cover = np.where(ripe, rng.uniform(0.7, 1, parcels), rng.beta(5, 1.8, parcels))
    growth = np.where(ripe, 0, rng.normal(0.002, 0.003, parcels))
    falls = rng.random(parcels) < np.where(crop == _CROPS.index("cereal"), 0.25, 0.015)
    harvest = np.where(falls, rng.uniform(0, 24, parcels), np.inf)
    period = rng.uniform(2.1, 4.5, parcels)
    strength = rng.gamma(1.5, 0.012, parcels)
    label_map = labels.reshape(size, size).astype(np.int32)
    lines = np.sin(across * (2 * np.pi / period)[label_map].astype(np.float32)) * strength[label_map]
    patches = 0.055 * fractal(rng, (size, size), 1.6, 25) + 0.02 * fractal(rng, (size, size), 0.6, 4)
    texture = 1 + patches + lines
    return Parcels(
        labels=label_map,
        margin=margin,
        texture=texture.astype(np.float32).clip(0.6, 1.5),
        crop=crop,
        cover=cover.astype(np.float32),
        growth=growth.astype(np.float32),
        brightness=np.exp(rng.normal(0, 0.09, parcels)).astype(np.float32),
        harvest=harvest.astype(np.float32),
        loess=rng.beta(1.2, 2.2, parcels).astype(np.float32),
    )
