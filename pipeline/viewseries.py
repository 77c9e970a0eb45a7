"""`Vegetation`: the mean NDVI of a product, apart for what the sensor saw on the date and for the product as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.composite import Provenance
from pipeline.errors import InvalidScene
from pipeline.productview import ProductView
from pipeline.viewlayers import ViewLayers

RED, NEAR = "B04", "B08"
GRID = 512
"""Pixels of the longer side of the grid on which means are taken; COG overviews of that size are small to read."""
_CLOUDY = (2, 3, 4)
"""Classes of the cloud mask: thin, thick, shadow."""
_DARK = 0.01
"""Sum of both reflectances below which a quotient is noise."""


@dataclass(frozen=True)
class Vegetation:
    """Means over the pixels of one product."""

    observed: float | None
    """Mean NDVI of the pixels that were seen on the date, clear; None without any."""
    whole: float | None
    """Mean NDVI of all that the product shows of the ground: what was left cloudy or refused does not count."""
    seen: float
    """Share of the pixels that are not nodata of which `observed` is the mean, 0..1."""
    made: float
    """Share of those of `whole` that were blended, restored or generated, 0..1."""


def why_no_ndvi(view: ProductView) -> str | None:
    """What a product lacks for an NDVI; None where it has all."""
    if view.out_of_reach:
        return "no NDVI: its bands are in a Zarr store of a bucket, which this page does not read"
    missing = [name for name in (RED, NEAR, "provenance") if name not in view.rasters]
    if missing:
        return f"no NDVI without {' and '.join(missing)}"
    silent = [name for name in (RED, NEAR) if name not in view.encodings]
    return f"no NDVI: the item does not say what the numbers of {' and '.join(silent)} mean" if silent else None


def vegetation(view: ProductView) -> Vegetation:
    """Mean NDVI of a product, from its thinned bands, in reflectance as its item says that they are encoded.

    Raises InvalidScene where `why_no_ndvi` has a reason, or for damaged files; ReadFailed.
    """
    reason = why_no_ndvi(view)
    if reason is not None:
        raise InvalidScene(f"{view.id}: {reason}")
    with ViewLayers(view, GRID) as pixels:
        stored = [pixels.read(name) for name in (RED, NEAR)]
        provenance = pixels.read("provenance")
        mask = pixels.read("cloudmask") if "cloudmask" in view.rasters else np.zeros_like(provenance)
    red, near = (
        np.float32(view.encodings[name][0]) * band.astype(np.float32) + np.float32(view.encodings[name][1])
        for name, band in zip((RED, NEAR), stored, strict=True)
    )
    return mean_ndvi(red, near, provenance, np.isin(mask, _CLOUDY))


def mean_ndvi(
    red: NDArray[np.float32], near: NDArray[np.float32], provenance: NDArray[np.uint8], cloudy: NDArray[np.bool_]
) -> Vegetation:
    """Means over arrays of one shape (rows, columns): reflectance, provenance, and what the mask calls cloud or shadow.

    >>> red, near = np.float32([[0.1, 0.1, 0.1]]), np.float32([[0.3, 0.1, 0.9]])
    >>> mean_ndvi(red, near, np.uint8([[1, 3, 5]]), np.array([[False, True, True]]))
    Vegetation(observed=0.5, whole=0.25, seen=0.3333, made=0.5)
    """
    total = red + near
    known = (provenance != Provenance.NODATA) & (total > _DARK)
    ndvi = np.divide(near - red, total, out=np.zeros_like(total), where=known).clip(-1, 1)
    # A pixel that is the source's own and cloudy was left so.
    left = (provenance == Provenance.REFUSED) | ((provenance == Provenance.OBSERVED) & cloudy)
    seen = known & (provenance == Provenance.OBSERVED) & ~cloudy
    shown = known & ~left
    return Vegetation(_mean(ndvi, seen), _mean(ndvi, shown), _share(seen, known), _share(shown & ~seen, shown))


def _mean(values: NDArray[np.float32], where: NDArray[np.bool_]) -> float | None:
    return round(float(values[where].mean(dtype=np.float64)), 4) if where.any() else None


def _share(part: NDArray[np.bool_], of: NDArray[np.bool_]) -> float:
    return round(float(np.count_nonzero(part)) / max(int(np.count_nonzero(of)), 1), 4)
