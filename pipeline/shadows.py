"""Cloud shadows by geometry: clear pixels that are dark and lie where a cloud's shadow must fall.

Strategy. Classifications miss shadows on bright or mixed ground, and some detectors know none. A false shadow replaces a
clear pixel, though, so three things must agree: (1) the pixel is dark in the near infrared against its surroundings and
is no water; (2) a cloud lies towards the sun, at a distance that (3) fits the cloud height of the neighbourhood
(`pipeline.shadowfit`). Where no distance stands out, nothing is added. The matching runs on a thinned grid of about 60 m over
the whole scene; only the darkness is judged at full resolution. Without the sun's position its direction must stand out.

Fails for shadows over water, on snow, and of clouds outside the scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from pipeline.classes import CLEAR, SHADOW, THICK, THIN
from pipeline.detectors import on_work_grid
from pipeline.lookup import nearest, thin_grid
from pipeline.scene import FACTORS, Scene, open_scene, pixel_metres
from pipeline.shadowfit import CELL, count_around, estimated_path, pooled, shadow_path, shadow_zone

_METRES = 60.0  # edge of a thinned pixel, where the scene is finer
_DARK = 0.6  # of the surroundings' near infrared
_LAND = 0.1  # reflectance; where the surroundings are darker than that, shadow and water look the same
_FEWEST = 200  # clear thinned pixels that tell the surroundings' brightness
_COMPACT = 0.4  # share of a 3 x 3 neighbourhood that is dark


@dataclass(frozen=True, eq=False)
class Shadows:
    """Where shadows are to be added; close it, or use it as a context manager."""

    source: Scene
    """Holds the near-infrared band."""
    band: str
    """Near-infrared band."""
    grid: GeoBox
    """Thinned grid."""
    limit: NDArray[np.float32]
    """(rows, cols) of `grid`: near-infrared reflectance below which a pixel is shadow; 0 where none may be."""
    target: GeoBox
    """Work grid of the masked scene."""
    owns_source: bool
    """Whether `source` was opened for this."""

    def read(self, rows: slice, cols: slice) -> NDArray[np.bool_]:
        """Shadow in a window of the work grid, bool (rows, cols), whatever its class was."""
        limit = self.limit[nearest(self.grid, self.target, rows, cols)]
        if not limit.any():
            return np.zeros(limit.shape, bool)
        at_rows, at_cols = nearest(self.source.geobox, self.target, rows, cols)
        top, left = int(at_rows[0, 0]), int(at_cols[0, 0])
        window = slice(top, int(at_rows[-1, 0]) + 1), slice(left, int(at_cols[0, -1]) + 1)
        nir, known = on_work_grid(self.source, self.band, *window)
        shadow: NDArray[np.bool_] = np.where(known, nir, np.inf)[at_rows - top, at_cols - left] < limit
        return shadow

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.owns_source:
            self.source.close()


def find_shadows(scene: Scene, classes: NDArray[np.uint8]) -> Shadows | None:
    """Shadows that `classes` (raw, uint8 (rows, cols) of the work grid) miss; None where nothing can be said.

    Nothing can be said without a near-infrared band, without cloud, or where neither the sun's position is known nor its
    direction stands out.
    """
    band = next((name for name in ("B08", "B8A") if name in scene.item.bands), None)
    if band is None or not ((classes == THICK) | (classes == THIN)).any():
        return None
    wanted = [name for name in (band, "B03") if name in scene.item.bands]
    own = {member.name for member in scene.bands}
    source = scene if own.issuperset(wanted) else open_scene(scene.item, sorted(own | set(wanted)))
    try:
        limit, grid = _limits(source, band, wanted, scene, classes)
    except BaseException:
        if source is not scene:
            source.close()
        raise
    if limit is None:
        if source is not scene:
            source.close()
        return None
    return Shadows(source, band, grid, limit, scene.geobox, source is not scene)


def _limits(
    source: Scene, band: str, wanted: list[str], scene: Scene, classes: NDArray[np.uint8]
) -> tuple[NDArray[np.float32] | None, GeoBox]:
    """`Shadows.limit` and its grid; None where no shadow is to be added."""
    step = _step(source, wanted)
    grid = thin_grid(source.geobox, step)
    index_rows, index_cols = nearest(scene.geobox, grid, slice(0, grid.shape[0]), slice(0, grid.shape[1]))
    thinned = classes[np.minimum(index_rows, scene.shape[0] - 1), np.minimum(index_cols, scene.shape[1] - 1)]
    nir, known = _thinned(source, band, step)
    if "B03" in wanted:
        green, _ = _thinned(source, "B03", step)
        known &= green <= nir  # water is brighter in the green
    clear = (thinned == CLEAR) & known
    around = _surroundings(nir, clear)
    limit = np.where(around >= _LAND, around * np.float32(_DARK), np.float32(0))
    seen = thinned == SHADOW
    dark = (clear & (nir < limit)) | seen
    cloud, ground = (thinned == THICK) | (thinned == THIN), clear | seen

    pixel = pixel_metres(grid)
    azimuth, elevation = scene.item.sun_azimuth, scene.item.sun_elevation
    if azimuth is not None and elevation is not None:
        path = shadow_path(azimuth, elevation, pixel)
    else:
        path = estimated_path(cloud, ground, dark, pixel)
    zone = shadow_zone(cloud, ground, dark, path)
    zone &= count_around(dark) >= _COMPACT * 9
    limit[~(zone & known)] = 0
    return (limit if limit.any() else None), grid


def _step(source: Scene, wanted: list[str]) -> int:
    """Work pixels to a thinned one: the largest ratio of grids that stays within 60 m and fits the wanted bands."""
    factors = [source.band(name).factor for name in wanted]
    fits = [
        step
        for step in FACTORS
        if step * max(source.pixel_size) <= _METRES * 1.01 and all(step % f == 0 or f % step == 0 for f in factors)
    ]
    return max(fits, default=1)


def _thinned(source: Scene, name: str, step: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Reflectance of the band on the thinned grid, float32, and where it has data."""
    band = source.band(name)
    pixels = source.read_decimated(name, step)
    known = np.ones(pixels.shape, bool) if band.nodata is None else pixels != band.nodata
    return pixels * np.float32(band.scale) + np.float32(band.offset), known


def _surroundings(nir: NDArray[np.float32], clear: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Median of the clear pixels in each cell and its neighbours, linear in between; 0 where too few are known."""
    rows, cols = (-(-length // CELL) for length in nir.shape)
    enough = pooled(clear) >= _FEWEST
    medians = np.zeros((rows, cols), np.float32)
    for row, col in zip(*np.nonzero(enough), strict=True):
        window = (
            slice(max(row - 1, 0) * CELL, (row + 2) * CELL),
            slice(max(col - 1, 0) * CELL, (col + 2) * CELL),
        )
        medians[row, col] = np.median(nir[window][clear[window]])
    if not enough.any():
        return np.zeros_like(nir)
    medians[~enough] = np.median(medians[enough])
    return _interpolation(nir.shape[0], rows) @ medians @ _interpolation(nir.shape[1], cols).T


def _interpolation(length: int, cells: int) -> NDArray[np.float32]:
    """(length, cells) weights that draw straight lines between the cells' middles."""
    position = np.clip((np.arange(length) + 0.5) / CELL - 0.5, 0, cells - 1)
    first = np.minimum(position.astype(np.intp), max(cells - 2, 0))
    weights = np.zeros((length, cells), np.float32)
    weights[np.arange(length), first] = 1 - (position - first)
    if cells > 1:
        weights[np.arange(length), first + 1] = position - first
    return weights
