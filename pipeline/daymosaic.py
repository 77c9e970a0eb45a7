"""`DayMosaic`: the scenes of one day, of neighbouring tiles, orbits or satellites, as one scene on the area's grid.

Where several hold data one leads, pixel by pixel: observed before blended before restored before generated before refused; among equals
the one whose source id comes first, then the product id. A pixel of a coarser band counts as its worst work pixel does. All bands,
classes and percents of a group of one resolution come from the scene that leads there, and the layer `source` says which.

Pixels on a grid that is aligned with the area's are copied. From another grid (the next UTM zone) classes and percents come by nearest
neighbour, and bands as the area's grid says: by nearest neighbour unless asked otherwise, because every value is then one that a product
holds, with the provenance that it has there; what interpolates mixes neighbours of different provenance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from catalogs.bands import BANDS
from pipeline.areagrid import Resampling
from pipeline.composite import Provenance, coarsen_max
from pipeline.cube_record import SOURCE
from pipeline.cube_source import ProductPixels
from pipeline.layers import Layer
from pipeline.placement import Placement, place
from pipeline.warp import pixel_ratio, warped

_NONE = 255
RANK = np.array(
    [_NONE, *range(Provenance.OBSERVED, Provenance.REFUSED + 1)] + [_NONE] * (255 - Provenance.REFUSED), np.uint8
)
"""Rank by provenance: the lower leads; nodata never does."""
_HALO = 16  # source pixels around a window: as far as a cubic kernel reaches onto pixels eight times as large


class DayMosaic:
    """A `StepSource` of several products."""

    def __init__(self, members: Sequence[ProductPixels], fine: GeoBox, resampling: Resampling = "nearest") -> None:
        """members: in the order in which `source` counts them. fine: the area's finest grid."""
        self._members = tuple(members)
        self._fine = fine
        self._resampling = resampling
        self._stripe: tuple[GeoBox, NDArray[np.uint16]] | None = None
        self._placements: dict[tuple[int, GeoBox], Placement | None] = {}

    def read(self, layer: Layer, rows: slice) -> NDArray[Any] | None:
        """See `StepSource`; stripes of one grid are best asked for one after another, all layers of each."""
        if layer.name != SOURCE and not any(layer.name in member.layers for member in self._members):
            return None
        stripe = layer.geobox[rows, :]
        leader = self._leader(layer.geobox, stripe)
        if layer.name == SOURCE:
            return leader
        fill = 0 if layer.nodata is None else layer.nodata
        result = np.full(leader.shape, fill, layer.dtype)
        for number, member in enumerate(self._members, 1):
            if layer.name not in member.layers or not (leader == number).any():
                continue
            placed = self._place(number, member.layers[layer.name].geobox, stripe)
            if placed is None:
                continue
            led = leader[placed.target] == number
            result[placed.target][led] = self._values(member, layer, placed, stripe, fill)[led]
        return result

    def _leader(self, grid: GeoBox, stripe: GeoBox) -> NDArray[np.uint16]:
        """uint16 (rows, cols): the number of the member that leads, from 1; 0 where none holds data."""
        if self._stripe is not None and self._stripe[0] == stripe:
            return self._stripe[1]
        self._placements.clear()
        factor = round(float(grid.transform.a / self._fine.transform.a))
        best = np.full(stripe.shape, _NONE, np.uint8)
        leader = np.zeros(stripe.shape, np.uint16)
        for number, member in enumerate(self._members, 1):
            cells = coarse(member.geobox, factor)
            placed = self._place(number, cells, stripe)
            if placed is None:
                continue
            rank = placed.take(_rank(member, placed, factor), _NONE)
            there = best[placed.target]
            better = rank < there
            there[better] = rank[better]
            leader[placed.target][better] = number
        self._stripe = stripe, leader
        return leader

    def _place(self, number: int, grid: GeoBox, stripe: GeoBox) -> Placement | None:
        key = (number, grid)
        if key not in self._placements:
            self._placements[key] = place(grid, stripe)
        return self._placements[key]

    def _values(
        self, member: ProductPixels, layer: Layer, placed: Placement, stripe: GeoBox, fill: int
    ) -> NDArray[Any]:
        if placed.index is None or self._resampling == "nearest" or layer.name not in BANDS:
            return placed.take(member.window(layer.name, *placed.source), fill)
        grid = member.layers[layer.name].geobox
        window = tuple(
            slice(max(part.start - _HALO, 0), min(part.stop + _HALO, count))
            for part, count in zip(placed.source, grid.shape, strict=True)
        )
        pixels = member.window(layer.name, window[0], window[1])
        ratio = pixel_ratio(grid, layer.geobox)
        return warped(pixels, grid[window], stripe[placed.target], layer.nodata, self._resampling, ratio)


def coarse(fine: GeoBox, factor: int) -> GeoBox:
    """The grid of cells of `factor` x `factor` pixels; the last ones may stick out."""
    t = fine.transform
    rows, cols = (-(-int(count) // factor) for count in fine.shape)
    return GeoBox((rows, cols), Affine(t.a * factor, 0.0, t.c, 0.0, t.e * factor, t.f), fine.crs)


def _rank(member: ProductPixels, placed: Placement, factor: int) -> NDArray[np.uint8]:
    """Rank of each cell of the window: that of its worst pixel; pixels without data do not count."""
    height, width = member.geobox.shape
    rows, cols = (slice(part.start * factor, part.stop * factor) for part in placed.source)
    provenance = member.window(
        "provenance", slice(rows.start, min(rows.stop, height)), slice(cols.start, min(cols.stop, width))
    )
    if factor > 1:
        # Provenance is ordered as ranks are, with nodata (0) below: the largest is the worst.
        padded = np.zeros((rows.stop - rows.start, cols.stop - cols.start), np.uint8)
        padded[: provenance.shape[0], : provenance.shape[1]] = provenance
        provenance = coarsen_max(padded, factor)
    ranks: NDArray[np.uint8] = RANK[provenance]
    return ranks
