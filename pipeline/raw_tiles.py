"""`raw_tiles`: a block's tiles as they were read, for networks that make reflectance on their own device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.classes import is_cloudy
from pipeline.composite import refine
from pipeline.harmonise import Harmonisation
from pipeline.window import _padded, inside
from srgan.tile import Bringing, RawTile

if TYPE_CHECKING:
    from pipeline.tiling import Tile
    from pipeline.window import At, BandPixels, TileInputs, Window


def can_be_raw(window: Window) -> bool:
    """Whether a device can do by itself what brings the window's other dates to the scene's level."""
    return all(isinstance(date.harmonise, Harmonisation) for date in window.dates)


def raw_tiles(inputs: TileInputs) -> Iterator[RawTile]:
    """The same tiles as `inputs` gives, in its order, as 16-bit numbers. `can_be_raw` must hold of its window."""
    return (raw_tile(inputs.window, tile) for tile in inputs.tiles)


def raw_tile(window: Window, tile: Tile) -> RawTile:
    """What `window.input(tile)` is made of: made into reflectance, the two are the same bit for bit."""
    height, width = window.shape
    at: At = (
        inside(slice(tile.rows.start, min(tile.rows.stop, height)), window.rows),
        inside(slice(tile.cols.start, min(tile.cols.stop, width)), window.cols),
    )
    dates = window.dates
    shape = (len(dates), len(window.bands), at[0].stop - at[0].start, at[1].stop - at[1].start)
    references, clear = np.zeros(shape, np.uint16), np.zeros((shape[0], *shape[2:]), np.bool_)
    for i, date in enumerate(dates):
        clear[i] = date.clear[at]
        references[i] = _numbers(date.bands, at)
    return RawTile(
        cloudy=_padded(_numbers(window.bands, at), tile.size),
        levels=_levels(window.bands),
        mask=_padded(is_cloudy(window.classes[at]), tile.size),
        valid=_padded(window.complete[at], tile.size),
        references=_padded(references, tile.size),
        reference_levels=np.stack([_levels(date.bands) for date in dates])
        if dates
        else np.zeros((0, 2, shape[1]), np.float32),
        bringing=tuple(_bringing(date.harmonise) for date in dates if isinstance(date.harmonise, Harmonisation)),
        reference_valid=_padded(clear, tile.size),
        days=tuple(date.days for date in dates),
    )


def _numbers(bands: tuple[BandPixels, ...], at: At) -> npt.NDArray[np.uint16]:
    """(C, rows, cols) DN on the work grid, coarse pixels repeated."""
    out = np.empty((len(bands), at[0].stop - at[0].start, at[1].stop - at[1].start), np.uint16)
    for i, band in enumerate(bands):
        f = band.factor
        first, left = at[0].start // f, at[1].start // f
        native = refine(band.pixels[first : -(-at[0].stop // f), left : -(-at[1].stop // f)], f)
        out[i] = native[
            at[0].start - first * f : at[0].stop - first * f, at[1].start - left * f : at[1].stop - left * f
        ]
    return out


def _levels(bands: tuple[BandPixels, ...]) -> npt.NDArray[np.float32]:
    return np.array([[band.scale for band in bands], [band.offset for band in bands]], np.float32)


def _bringing(harmonise: Harmonisation) -> Bringing:
    count, cross = len(harmonise.fits), harmonise.cross
    nothing = np.zeros(count, np.float32)
    return Bringing(
        gain=np.array([fit.gain for fit in harmonise.fits], np.float32),
        offset=np.array([fit.offset for fit in harmonise.fits], np.float32),
        matrix=np.zeros((count, count), np.float32) if cross is None else cross.matrix,
        shift=nothing if cross is None else cross.offset,
        low=nothing if cross is None else cross.low,
        high=nothing if cross is None else cross.high,
        trust=harmonise.trust,
    )
