"""What a pixel's ground is, by standard spectral indices, and how much of it is seen through a cloud."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

UNKNOWN, WATER, SNOW, VEGETATION, OTHER = 0, 1, 2, 3, 4
GROUND = ("unknown", "water", "snow", "vegetation", "built-up or bare")
"""Names of the classes, by code."""
SNOWY, SNOW_NIR, SNOW_GREEN = 0.4, 0.11, 0.1
"""Snow: NDSI, NIR and green above these (Hall, Riggs, Salomonson, Remote Sens. Environ. 54, 1995: MODIS SNOWMAP), as in the gate."""
WET = 0.0
"""Water: MNDWI above this (Xu, Int. J. Remote Sens. 27, 2006); without shortwave infrared NDWI (McFeeters, Int. J. Remote Sens. 17, 1996)."""
WATER_NIR = 0.15
"""Reflectance that no water has in the near infrared: above it, MNDWI has found patches of snow."""
GREEN = 0.4
"""Vegetation: NDVI above this; sparse grass and crops in their first weeks are below."""

CLOUD_LEVEL = 0.6
"""Reflectance of thick cloud in the visible, against which opacity is estimated."""
THIN = 0.3
"""Opacity below which the ground is still seen."""
VISIBLE = ("B02", "B03", "B04")


def ground_classes(truth: NDArray[np.float32], bands: Sequence[str], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Class of each pixel, uint8 (H, W), codes of `GROUND`; `UNKNOWN` where not `known` (H, W), and without B03, B04 and B08.

    truth (C, H, W) reflectance of clear ground. Snow comes before water, which has the same index as it; without B11 there is no snow:
    it counts as built-up or bare. What is neither water, snow nor vegetation is built-up or bare: no index tells roofs from soil.
    """
    if not {"B03", "B04", "B08"} <= set(bands):
        return np.zeros(known.shape, np.uint8)
    green, red, near = (truth[bands.index(name)] for name in ("B03", "B04", "B08"))
    classes = np.full(known.shape, OTHER, np.uint8)
    wetness = _index(green, truth[bands.index("B11")] if "B11" in bands else near)
    classes[(wetness > WET) & (near < WATER_NIR)] = WATER
    # After water: dark conifers reflect as little in the shortwave infrared as the air above them does in green.
    classes[_index(near, red) > GREEN] = VEGETATION
    if "B11" in bands:  # the NDSI is the same quotient as the MNDWI
        classes[(wetness > SNOWY) & (near > SNOW_NIR) & (green > SNOW_GREEN)] = SNOW
    classes[~known] = UNKNOWN
    return classes


def opacity(
    image: NDArray[np.float32], truth: NDArray[np.float32], bands: Sequence[str], where: NDArray[np.bool_]
) -> float:
    """Upper quartile over the pixels `where` (H, W) of (image - truth) / (0.6 - truth) in the visible; NaN where that says nothing.

    Of a mixture of ground and thick cloud the quotient is the cloud's share. The quartile and not the median, because most of a cumulus
    field's mask is fringe: it is thick where a quarter of it is. Ground brighter than half a reflectance is left out: snow and cloud look
    alike. Of two dates it holds as far as the ground did not change: a difference of 0.03 moves it by about 0.06.
    """
    seen = [index for index, name in enumerate(bands) if name in VISIBLE]
    if not seen:
        return float("nan")
    before, after = (part[seen][:, where].mean(axis=0, dtype=np.float64) for part in (truth, image))
    dark = before < 0.5
    if not dark.any():
        return float("nan")
    return float(np.quantile((after[dark] - before[dark]) / (CLOUD_LEVEL - before[dark]), 0.75))


def _index(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalised difference (first - second) / (first + second); 0 where both are 0."""
    total = first + second
    quotient = np.zeros_like(total)
    np.divide(first - second, total, out=quotient, where=total > 0)
    return quotient
