"""`CloudMask`: the class of every pixel of the work grid, cleaned and grown, and who said so.

Built block by block into one byte per pixel. Raw classes come from a `ClassSource`; a pixel is nodata where all bands are;
cloud shadows that the source misses are added by geometry (`pipeline.shadows`); then cloud and shadow grow by a disc.
Every step depends on a bounded neighbourhood or on statistics of a fixed sample, so the result does not depend on `block`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.ahead import in_order
from pipeline.classes import CLASSES, CLEAR, NODATA, SHADOW, SNOW, THICK, THIN, ClassSource, is_cloudy
from pipeline.errors import InvalidScene, InvalidSettings
from pipeline.growth import GROW, dilate, effective_radius, reach
from pipeline.reader import step_for
from pipeline.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

Thing = TypeVar("Thing")

BLOCK = 1024
"""Edge of the blocks in which masks are made, pixels of the work grid."""
_SAMPLE = 250_000  # pixels of a band looked at to see whether there is anything


@dataclass(frozen=True, eq=False)
class CloudMask:
    """Classes after growth."""

    classes: NDArray[np.uint8]
    """(rows, cols) of the work grid: 0 nodata, 1 clear, 2 thin, 3 thick, 4 shadow, 5 snow."""
    method: str
    """Who said so: `scl`, `csmask 4-band l1c`, `raster clouds.tif`."""

    def __post_init__(self) -> None:
        if self.classes.dtype != np.uint8 or self.classes.ndim != 2:
            raise InvalidSettings(
                f"classes of a cloud mask are uint8 (rows, cols), not {self.classes.dtype} {self.classes.shape}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of the work grid."""
        return self.classes.shape[0], self.classes.shape[1]

    @property
    def fractions(self) -> Mapping[str, float]:
        """Share of the valid pixels by class name (without nodata); they sum to 1, or are all 0 without valid pixels."""
        counts = np.zeros(len(CLASSES), np.int64)
        for start in range(0, self.shape[0], BLOCK):
            counts += np.bincount(self.classes[start : start + BLOCK].ravel(), minlength=len(CLASSES))
        valid = max(int(counts[1:].sum()), 1)
        return MappingProxyType({name: float(counts[code] / valid) for code, name in enumerate(CLASSES) if code})

    def cloudy(self, rows: slice, cols: slice) -> NDArray[np.bool_]:
        """Where a window of the work grid is thin, thick or shadow; bool (rows, cols), True = to be restored."""
        return is_cloudy(self.classes[rows, cols])

    def valid(self, rows: slice, cols: slice) -> NDArray[np.bool_]:
        """Where a window of the work grid is not nodata."""
        valid: NDArray[np.bool_] = self.classes[rows, cols] != NODATA
        return valid


def make_cloud_mask(
    scene: Scene, method: str = "auto", grow_m: float = GROW, *, block: int = BLOCK, threads: int = 1
) -> CloudMask:
    """The mask of `scene` by `method`: auto, scl, s2cloudless, csmask, or the path of a raster.

    `grow_m`: metres by which cloud and shadow are grown (at least two pixels; 0: not at all). `block` bounds the memory of
    intermediate results, `threads` blocks are worked on at a time, and neither changes anything else. Raises InvalidSettings where the method does not fit the scene or is not
    installed, InvalidScene where the scene has no valid pixel or a raster of it is damaged, ReadFailed for a bad connection.
    """
    from pipeline.detectors import class_source

    if not grow_m >= 0:
        raise InvalidSettings(f"grow {grow_m} must be at least 0 metres")
    if block < 1:
        raise InvalidSettings(f"block {block} must be at least 1 pixel")
    source = class_source(scene, method)
    hint = _hint(scene, source) if _has_data(scene) else None
    classes = _raw_classes(scene, source, hint, block, threads)
    if not classes.any():
        raise InvalidScene(
            f"{scene.id}: no valid pixel, every band is nodata everywhere: leave the scene out, or check its files"
        )
    note = "" if source.own_shadows else _add_shadows(scene, classes, block, threads)
    if not source.final:
        _grow(classes, effective_radius(grow_m, scene.pixel_size), scene.pixel_size, block, threads)
    classes.setflags(write=False)
    return CloudMask(classes, source.method + note)


def blocks(shape: tuple[int, int], block: int) -> Iterator[tuple[slice, slice]]:
    """Windows (rows, cols) of at most `block` pixels an edge that cover `shape`, row by row."""
    for top in range(0, shape[0], block):
        for left in range(0, shape[1], block):
            yield slice(top, min(top + block, shape[0])), slice(left, min(left + block, shape[1]))


def nodata_everywhere(scene: Scene, source: ClassSource | None, rows: slice, cols: slice) -> NDArray[np.bool_]:
    """Where all bands are nodata in a window of the work grid; bool (rows, cols).

    No band is read where `source` rules that out. Coarse bands are asked first: mostly the first one shows valid pixels
    everywhere, and no other need be read.
    """
    lacking = None if source is None else source.may_lack(rows, cols)
    empty = np.ones((rows.stop - rows.start, cols.stop - cols.start), bool) if lacking is None else lacking
    if not empty.any():
        return empty
    if lacking is not None:
        # Mostly a corner of the window: read no more than the rectangle around it.
        inner_rows, inner_cols = _extent(lacking, axis=1), _extent(lacking, axis=0)
        corner = _nodata_in_bands(
            scene,
            slice(rows.start + inner_rows.start, rows.start + inner_rows.stop),
            slice(cols.start + inner_cols.start, cols.start + inner_cols.stop),
        )
        empty[inner_rows, inner_cols] &= corner
        return empty
    return _nodata_in_bands(scene, rows, cols)


def _extent(mask: NDArray[np.bool_], axis: int) -> slice:
    """First to last index along the other axis at which `mask` is True anywhere."""
    found = np.flatnonzero(mask.any(axis=axis))
    return slice(int(found[0]), int(found[-1]) + 1)


def _nodata_in_bands(scene: Scene, rows: slice, cols: slice) -> NDArray[np.bool_]:
    empty = np.ones((rows.stop - rows.start, cols.stop - cols.start), bool)
    for band in sorted(scene.bands, key=lambda band: (band.nodata is not None, -band.factor)):
        if band.nodata is None:
            return np.zeros_like(empty)
        factor = band.factor
        top, left = rows.start // factor, cols.start // factor
        window = slice(top, -(-rows.stop // factor)), slice(left, -(-cols.stop // factor))
        own = scene.read(band.name, *window) == band.nodata
        if factor > 1:
            at_rows = np.arange(rows.start, rows.stop) // factor - top
            at_cols = np.arange(cols.start, cols.stop) // factor - left
            own = own[at_rows[:, None], at_cols[None, :]]
        empty &= own
        if not empty.any():
            break
    return empty


def _has_data(scene: Scene) -> bool:
    """Whether a thinned sample of any band holds data; a classification that says so of an empty scene is not believed."""
    step = step_for(scene.shape, _SAMPLE)
    return any(
        band.nodata is None or bool((scene.read_decimated(band.name, step) != band.nodata).any())
        for band in sorted(scene.bands, key=lambda band: -band.factor)
    )


def _hint(scene: Scene, source: ClassSource) -> ClassSource:
    """Who says where the bands may be without data: the scene's own SCL, also where a user's raster takes its place as a mask."""
    from pipeline.classes import MaskRaster, SceneClassification

    if scene.item.scl is None or not isinstance(source, MaskRaster):
        return source
    # Else a whole band would be decoded for it. An SCL that is no good says nothing: the bands are asked then.
    with contextlib.suppress(InvalidScene):
        return SceneClassification.of(scene)
    return source


def _raw_classes(
    scene: Scene, source: ClassSource, hint: ClassSource | None, block: int, threads: int
) -> NDArray[np.uint8]:
    classes = np.empty(scene.shape, np.uint8)

    def work(window: tuple[slice, slice]) -> None:
        empty = nodata_everywhere(scene, hint, *window)
        if empty.all():
            classes[window] = NODATA
            return
        found = source.read(*window)
        classes[window] = np.where(empty, np.uint8(NODATA), found) if empty.any() else found

    _each(work, blocks(scene.shape, block), threads)
    return classes


def _each(work: Callable[[Thing], None], things: Iterable[Thing], threads: int) -> None:
    """Do all of it, a few at a time."""
    with contextlib.closing(in_order(work, things, threads)) as finished:
        for _ in finished:
            pass


def _add_shadows(scene: Scene, classes: NDArray[np.uint8], block: int, threads: int) -> str:
    """Turn clear pixels of `classes` into shadow where geometry and darkness say so; a note for the method."""
    from pipeline.shadows import find_shadows

    shadows = find_shadows(scene, classes)
    if shadows is None:
        return ""
    with shadows:

        def work(place: tuple[slice, slice]) -> None:
            window = classes[place]
            clear = window == CLEAR
            if clear.any():
                np.putmask(window, shadows.read(*place) & clear, SHADOW)

        _each(work, blocks(scene.shape, block), threads)
    return " + shadows by geometry"


def _grow(
    classes: NDArray[np.uint8], radius: float, pixel_size: tuple[float, float], block: int, threads: int = 1
) -> None:
    """Grow cloud and shadow in place: thick over thin over shadow, each over clear and snow, never over nodata.

    Strips of rows are overwritten from the top; the rows that the next strip needs as they were are kept aside.
    """
    if radius <= 0:
        return
    halo_rows, halo_cols = reach(radius, pixel_size)
    height, width = classes.shape
    strip = max(block, halo_rows)
    above = np.empty((0, width), np.uint8)
    for top in range(0, height, strip):
        bottom = min(top + strip, height)
        before = np.concatenate([above, classes[top : min(bottom + halo_rows, height)]])
        offset = above.shape[0]
        above = before[max(offset + bottom - top - halo_rows, 0) : offset + bottom - top]

        def work(left: int, before: NDArray[np.uint8] = before, offset: int = offset, top: int = top) -> None:
            right, bottom = min(left + block, width), min(top + strip, height)
            first, last = max(left - halo_cols, 0), min(right + halo_cols, width)
            around = before[:, first:last]
            if not is_cloudy(around).any():
                return
            core = (slice(offset, offset + bottom - top), slice(left - first, right - first))
            grown = around[core].copy()
            free = (grown == CLEAR) | (grown == SNOW)
            if free.any():
                for code in (SHADOW, THIN, THICK):  # the last one wins
                    np.putmask(grown, dilate(around == code, radius, pixel_size)[core] & free, code)
                classes[top:bottom, left:right] = grown

        _each(work, range(0, width, block), threads)
