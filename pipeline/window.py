"""`Window`: the pixels that the tiles of a block look at, read once at native resolutions; `TileInputs`: what the network sees of them.

A window is read where the files are. The inputs are made of it where the network is, here or on another machine: parts of
them can be pickled, and hold no more than the pixels that their tiles look at, as 16-bit numbers, and neither paths nor URLs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.classes import is_cloudy
from pipeline.composite import refine
from pipeline.inference import TileInput
from pipeline.tiling import Tile

if TYPE_CHECKING:
    from pipeline.block import SceneJob
    from pipeline.references import Reference
    from pipeline.scene import SceneBand

At = tuple[slice, slice]
"""Rows and columns, counted from the start of a window."""


@dataclass(frozen=True)
class BandPixels:
    """One band of one date in a window."""

    pixels: npt.NDArray[np.uint16] = field(repr=False)
    """(rows / factor, cols / factor) DN."""
    factor: int
    """Work pixels to a pixel of this band, per axis."""
    scale: float
    """reflectance = DN * scale + offset."""
    offset: float
    """Reflectance units."""

    def reflectance(self, at: At, out: npt.NDArray[np.float32]) -> None:
        """Reflectance on the work grid, into `out`, by repeating coarse pixels: their mean is again the coarse pixel."""
        f = self.factor
        first, left = at[0].start // f, at[1].start // f
        native = self.pixels[first : -(-at[0].stop // f), left : -(-at[1].stop // f)]
        if f == 1:
            np.multiply(native, np.float32(self.scale), out=out)
            out += np.float32(self.offset)
            return
        values = refine(native * np.float32(self.scale) + np.float32(self.offset), f)
        top, side = at[0].start - first * f, at[1].start - left * f
        out[:] = values[top : top + out.shape[0], side : side + out.shape[1]]

    def cut(self, at: At) -> BandPixels:
        """The same in a part of the window, edges on whole cells."""
        f = self.factor
        return replace(self, pixels=self.pixels[tuple(slice(a.start // f, -(-a.stop // f)) for a in at)])


@dataclass(frozen=True)
class DatePixels:
    """Another date in a window."""

    bands: tuple[BandPixels, ...]
    """In the order of the scene's bands."""
    clear: npt.NDArray[np.bool_] = field(repr=False)
    """bool (rows, cols), True = clear and with data in every band."""
    harmonise: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
    """Reflectances (C, ...) of this date -> the same at the scene's level."""
    days: float
    """Signed distance to the scene, days."""


@dataclass(frozen=True)
class Window:
    """What the tiles of a block look at."""

    rows: slice
    cols: slice
    """Window of the work grid, edges on whole cells; inside the scene."""
    shape: tuple[int, int]
    """(rows, cols) of the scene's work grid."""
    cell: int
    """Work pixels per pixel of the coarsest band."""
    bands: tuple[BandPixels, ...]
    """The scene's, in its order."""
    classes: npt.NDArray[np.uint8] = field(repr=False)
    """(rows, cols), classes of the cloud mask."""
    complete: npt.NDArray[np.bool_] = field(repr=False)
    """bool (rows, cols), True = data in every band: what the network may look at."""
    present: npt.NDArray[np.bool_] = field(repr=False)
    """bool (rows, cols), True = data in some band: what may be restored, each band where it has data."""
    dates: tuple[DatePixels, ...] = ()
    """The references'; none where no tile is to be run."""

    @classmethod
    def around(cls, job: SceneJob, rows: slice, cols: slice, tiles: Sequence[Tile]) -> Window:
        """Read what `tiles` and the block itself need. Raises InvalidScene or ReadFailed."""
        scene = job.scene
        rows, cols = extent(job, rows, cols, tiles)
        shape = (rows.stop - rows.start, cols.stop - cols.start)
        complete, present = np.ones(shape, np.bool_), np.zeros(shape, np.bool_)
        bands = []
        for band in scene.bands:
            pixels = scene.read(band.name, coarse(rows, band), coarse(cols, band))
            bands.append(BandPixels(pixels, band.factor, band.scale, band.offset))
            if band.nodata is None:
                present[:] = True
                continue
            has = refine(pixels != band.nodata, band.factor)
            complete &= has
            present |= has
        dates = tuple(_date(job, reference, rows, cols) for reference in job.references) if tiles else ()
        classes = job.classes[rows, cols]
        return cls(rows, cols, scene.shape, job.cell, tuple(bands), classes, complete, present, dates)

    def inputs(self, tiles: Sequence[Tile]) -> TileInputs:
        """What the network sees of `tiles`, in their order."""
        return TileInputs(self, tuple(tiles))

    def filled(self, tile: Tile) -> npt.NDArray[np.bool_]:
        """bool (tile, tile), True = the scene has data in some band; False behind the scene's end."""
        rows, cols, at = self._shared(tile)
        filled = np.zeros((tile.size, tile.size), np.bool_)
        filled[: rows.stop - rows.start, : cols.stop - cols.start] = self.present[at]
        return filled

    def input(self, tile: Tile) -> TileInput:
        """What the network sees of one tile."""
        _, _, at = self._shared(tile)
        valid = self.complete[at]
        cloudy = _reflectances(self.bands, at)
        _blank(cloudy, valid)
        references = np.empty((len(self.dates), *cloudy.shape), np.float32)
        reference_valid = np.empty((len(self.dates), *valid.shape), np.bool_)
        for i, date in enumerate(self.dates):
            reference_valid[i] = date.clear[at]
            references[i] = date.harmonise(_reflectances(date.bands, at))
            _blank(references[i], reference_valid[i])
        return TileInput(
            cloudy=_padded(cloudy, tile.size),
            mask=_padded(is_cloudy(self.classes[at]).astype(np.float32), tile.size),
            valid=_padded(valid, tile.size),
            references=_padded(references, tile.size),
            reference_valid=_padded(reference_valid, tile.size),
            days=tuple(date.days for date in self.dates),
        )

    def cut(self, tiles: Sequence[Tile]) -> Window:
        """The smallest window that `tiles` can be made from."""
        height, width = self.shape
        rows = _widened([tile.rows for tile in tiles], self.cell, height)
        cols = _widened([tile.cols for tile in tiles], self.cell, width)
        at = (inside(rows, self.rows), inside(cols, self.cols))
        return replace(
            self,
            rows=rows,
            cols=cols,
            bands=tuple(band.cut(at) for band in self.bands),
            classes=self.classes[at],
            complete=self.complete[at],
            present=self.present[at],
            dates=tuple(
                replace(date, bands=tuple(band.cut(at) for band in date.bands), clear=date.clear[at])
                for date in self.dates
            ),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels and masks."""
        bands = chain(self.bands, *(date.bands for date in self.dates))
        masks = (self.classes, self.complete, self.present, *(date.clear for date in self.dates))
        return sum(band.pixels.nbytes for band in bands) + sum(mask.nbytes for mask in masks)

    def _shared(self, tile: Tile) -> tuple[slice, slice, At]:
        """The part of a tile inside the scene, in work pixels and counted from the window's start."""
        height, width = self.shape
        rows, cols = shared(tile.rows, slice(0, height)), shared(tile.cols, slice(0, width))
        return rows, cols, (inside(rows, self.rows), inside(cols, self.cols))


@dataclass(frozen=True)
class TileInputs:
    """Inputs of some tiles, made one by one as they are asked for."""

    window: Window
    tiles: tuple[Tile, ...]
    """In the order of the answers."""

    def __iter__(self) -> Iterator[TileInput]:
        return map(self.window.input, self.tiles)

    def parts(self, most: int) -> Iterator[TileInputs]:
        """The same in parts of at most `most` tiles, neighbours in a row, each with the pixels that it looks at and no others."""
        part: list[Tile] = []
        for tile in self.tiles:
            if part and (len(part) >= most or tile.row != part[-1].row or tile.col > part[-1].cols.stop):
                yield self._part(part)
                part = []
            part.append(tile)
        if part:
            yield self._part(part)

    def _part(self, tiles: Sequence[Tile]) -> TileInputs:
        return TileInputs(self.window.cut(tiles), tuple(tiles))


def _reflectances(bands: Sequence[BandPixels], at: At) -> npt.NDArray[np.float32]:
    """(C, rows, cols) of a part of a window."""
    values = np.empty((len(bands), at[0].stop - at[0].start, at[1].stop - at[1].start), np.float32)
    for band, out in zip(bands, values, strict=True):
        band.reflectance(at, out)
    return values


def _blank(values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> None:
    """Set (C, rows, cols) to 0 where not valid."""
    if not valid.all():
        np.copyto(values, np.float32(0), where=~valid)


def _date(job: SceneJob, reference: Reference, rows: slice, cols: slice) -> DatePixels:
    clear = reference.valid(rows, cols).copy()
    bands = []
    for band in job.scene.bands:
        other = reference.scene.band(band.name)
        pixels = reference.scene.read(band.name, coarse(rows, band), coarse(cols, band))
        if other.nodata is not None:
            clear &= ~refine(pixels == other.nodata, band.factor)
        bands.append(BandPixels(pixels, band.factor, other.scale, other.offset))
    return DatePixels(tuple(bands), clear, reference.harmonise, reference.days)


def extent(job: SceneJob, rows: slice, cols: slice, tiles: Sequence[Tile]) -> tuple[slice, slice]:
    """Rows and columns of the work grid that a block and its tiles look at, on whole cells, inside the scene."""
    height, width = job.scene.shape
    return (
        _widened([rows, *(tile.rows for tile in tiles)], job.cell, height),
        _widened([cols, *(tile.cols for tile in tiles)], job.cell, width),
    )


def shared(a: slice, b: slice) -> slice:
    """What two windows have in common."""
    return slice(max(a.start, b.start), min(a.stop, b.stop))


def inside(window: slice, frame: slice) -> slice:
    """`window` counted from the start of `frame`."""
    return slice(window.start - frame.start, window.stop - frame.start)


def coarse(window: slice, band: SceneBand) -> slice:
    """A window of the work grid on whole cells, in the band's own pixels."""
    return slice(window.start // band.factor, -(-window.stop // band.factor))


def _widened(windows: list[slice], cell: int, length: int) -> slice:
    """The smallest window on whole cells that holds all of them."""
    start, stop = min(w.start for w in windows), max(w.stop for w in windows)
    return slice(start // cell * cell, min(-(-stop // cell) * cell, length))


def _padded(array: npt.NDArray, size: int) -> npt.NDArray:
    """The last two axes filled up to `size` by mirroring, for scenes smaller than a tile."""
    if array.shape[-2:] == (size, size):
        return array
    if array.size == 0:
        return np.zeros((*array.shape[:-2], size, size), array.dtype)
    return np.pad(array, [(0, 0)] * (array.ndim - 2) + [(0, size - n) for n in array.shape[-2:]], mode="symmetric")
