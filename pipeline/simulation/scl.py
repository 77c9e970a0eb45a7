"""Scene classification of a simulated date, as good and as bad as Sen2Cor's."""

from __future__ import annotations

import numpy as np

from pipeline.simulation.noise import fractal
from pipeline.simulation.spectra import SIMULATED_BANDS
from pipeline.simulation.weather import Clouds

NODATA, DARK, SHADOW, VEGETATION, BARE, WATER, UNCLASSIFIED, CLOUD_MEDIUM, CLOUD_HIGH, CIRRUS = (
    0,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
)


def average(values: np.ndarray, factor: int) -> np.ndarray:
    """Mean of blocks of `factor` x `factor` pixels: (rows, cols) float32 to (rows / factor, cols / factor)."""
    if factor == 1:
        return values
    total = np.zeros((values.shape[0] // factor, values.shape[1] // factor), np.float32)
    for row in range(factor):
        for col in range(factor):
            total += values[row::factor, col::factor]
    return total / np.float32(factor * factor)


def classify(
    rng: np.random.Generator, ground: np.ndarray, water: np.ndarray, clouds: Clouds, valid: np.ndarray
) -> np.ndarray:
    """SCL (rows / 2, cols / 2) uint8 of an area of (rows, cols) 10 m pixels.

    `ground` is the cloud-free reflectance (bands, rows, cols), `water` and `valid` are bool (rows, cols).
    The cloud classes have the faults of the real ones: thin borders are missed, in places by a pixel or two, some of them are
    "unclassified", weak shadows are missed, and a few bright roofs are called cloud.
    """
    blue, red, nir, swir = (average(ground[SIMULATED_BANDS.index(name)], 2) for name in ("B02", "B04", "B8A", "B11"))
    shape = (red.shape[0], red.shape[1])
    doubt = fractal(rng, shape, 1.5, 12)
    cumulus, veil, shadow = (average(layer, 2) for layer in (clouds.cumulus, clouds.veil, clouds.shadow))

    classes = np.where((nir - red) > 0.4 * (nir + red), VEGETATION, BARE).astype(np.uint8)
    classes[(nir < 0.1) & (swir < 0.08)] = DARK
    classes[average(water.astype(np.float32), 2) > 0.5] = WATER
    edge = (cumulus > 0.5) & (rng.random(shape) < 0.4)
    classes[edge] = UNCLASSIFIED
    classes[shadow * (1 - 0.7 * (classes == WATER)) > 0.32 + 0.06 * doubt] = SHADOW
    classes[veil > 0.24 + 0.05 * doubt] = CIRRUS
    classes[(cumulus > 1.5 + 0.5 * doubt) | ((blue > 0.22) & (rng.random(shape) < 0.7))] = CLOUD_MEDIUM
    classes[cumulus > 5 + doubt] = CLOUD_HIGH
    classes[average(valid.astype(np.float32), 2) < 0.9] = NODATA
    return classes
