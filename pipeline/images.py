"""`ImageReader`: a window of one dated image as 13 bands of reflectance with its classes, whatever kind of file it is.

An image is a raster of 13 bands (SEN12MS-CR, SEN12MS-CR-TS: L1C, DN = reflectance times 10000) or a STAC item, whose
metadata say what its DN mean. Only the window is read; of the coarser bands every pixel is repeated, as the engine does
when it shows a tile to the network. Clouds come from the item's SCL where there is one, else from s2cloudless.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from catalogs.bands import BANDS
from catalogs.errors import CatalogError, SourceUnavailable
from catalogs.files import open_sources
from catalogs.item import BandAsset, SceneItem
from catalogs.places import Window
from catalogs.sources import signed
from pipeline import classes as raw
from pipeline.classes import ClassArray, ClassSource
from pipeline.detectors import class_source, on_work_grid, s2cloudless
from pipeline.errors import InvalidScene, InvalidSettings
from pipeline.radiometry import check_radiometry
from pipeline.scene import Scene, open_scene
from srgan.store import CLEAR, CLOUD, NODATA, SHADOW

LARGEST = 10_000
"""Largest value that is stored; brighter pixels (sun on cloud) are cut there, as in SEN12MS-CR."""
_METRES = 21.0  # of a pixel that s2cloudless sees: 2 x 2, also where they are 10.00005 m on a geographic grid
_AVERAGE, _DILATION = 4, 2  # of those pixels; at 60 m, s2cloudless' usual grid, cumulus smaller than 100 m are lost
_KEPT = 24  # open scenes of up to 14 files: the dates of a place, so that its neighbour finds them open
_TO_STORED = np.zeros(len(raw.CLASSES), np.uint8)
_TO_STORED[[raw.CLEAR, raw.THIN, raw.THICK, raw.SHADOW, raw.SNOW]] = CLEAR, CLOUD, CLOUD, SHADOW, CLEAR


@dataclass(frozen=True, eq=False)
class ChipImage:
    """One date of one chip."""

    href: str
    values: NDArray[np.uint16]
    """(13, rows, cols), reflectance times 10000, 0..10000; 0 where there is no data, and in bands that are not there."""
    classes: NDArray[np.uint8]
    """(rows, cols): 0 no data, 1 clear, 2 cloud, 3 shadow."""
    bands: tuple[str, ...]
    """Bands that hold data, in the order of `BANDS`."""
    mask: str
    """Who made the classes: `s2cloudless`, `scl`, ..."""
    level: Literal["L1C", "L2A"] | None
    metres: float
    """Larger edge of a pixel."""
    scl_snow: NDArray[np.bool_] | None = None
    """Snow (rows, cols) by the scene classification; None without one."""

    def reflectance(self, band: str) -> NDArray[np.float32]:
        """One band as reflectance, float32 (rows, cols)."""
        values: NDArray[np.float32] = self.values[tuple(BANDS).index(band)].astype(np.float32) / np.float32(1e4)
        return values

    def has(self, *bands: str) -> bool:
        """Whether all these bands hold data."""
        return set(bands) <= set(self.bands)


class ImageReader:
    """Reads images; keeps the last few open. Not for several threads at once. Close it, or use it as a context manager."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, str, str], tuple[Scene, ClassSource]] = OrderedDict()
        self._failed: dict[tuple[str, str, str], Exception] = {}
        self._checked: set[str] = set()
        self._found: dict[tuple[str, str], ClassArray] = {}

    def read(self, href: str, layout: str, window: Window | None, mask: str = "auto") -> ChipImage:
        """The image at `href` in `window` (None: all of it); `mask` as in `pipeline.detectors.class_source`.

        Raises InvalidScene for a file that is missing, damaged or holds nothing but zeros, and for a window outside it;
        InvalidSettings where no mask can be made, ReadFailed for a bad connection, CatalogError for a broken item.
        """
        scene, source = self._opened(href, layout, mask)
        height, width = scene.shape
        part = window or Window(0, 0, height, width)
        if part.row + part.height > height or part.col + part.width > width:
            raise InvalidScene(f"{href}: holds {height} x {width} pixels, no window {part}: make the pair table again")
        rows, cols = slice(part.row, part.row + part.height), slice(part.col, part.col + part.width)
        values = np.zeros((len(BANDS), part.height, part.width), np.uint16)
        # As in the engine a pixel is without data where all bands are: a dark one may well be 0 in some of them.
        valid = np.zeros((part.height, part.width), bool)
        for index, name in enumerate(BANDS):
            if any(band.name == name for band in scene.bands):
                reflectance, known = on_work_grid(scene, name, rows, cols)
                values[index] = np.rint(reflectance * 1e4).clip(0, LARGEST)
                valid |= known
        valid &= values.any(0)
        if window is None and not valid.any():
            raise InvalidScene(f"{href}: holds nothing but zeros: fetch it again")
        values[:, ~valid] = 0
        found = source.read(rows, cols)
        return ChipImage(
            href=href,
            values=values,
            classes=np.where(valid, _TO_STORED[found], np.uint8(NODATA)),
            bands=tuple(band.name for band in scene.bands),
            mask=source.method,
            level=scene.item.level,
            metres=max(scene.pixel_size),
            scl_snow=(found == raw.SNOW) & valid if source.method == "scl" else None,
        )

    def close(self) -> None:
        """Close every open file."""
        while self._open:
            self._open.popitem()[1][0].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self, href: str, layout: str, mask: str) -> tuple[Scene, ClassSource]:
        key = (href, layout, mask)
        if key in self._failed:
            raise self._failed[key].with_traceback(None)
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        try:
            self._open[key] = self._fresh(href, layout, mask)
        except (InvalidScene, InvalidSettings, CatalogError) as error:
            if not isinstance(error, SourceUnavailable):  # which passes; of all else the next chip would find the same
                self._failed[key] = error
            raise
        while len(self._open) > _KEPT:
            self._open.popitem(last=False)[1][0].close()
        return self._open[key]

    def _fresh(self, href: str, layout: str, mask: str) -> tuple[Scene, ClassSource]:
        """The scene and its mask. What takes a look at the whole of a tile is done once, however often it is opened."""
        scene = open_scene(item_of(href, layout))
        try:
            if layout != "stac":
                return scene, s2cloudless(scene, _METRES, average_over=_AVERAGE, dilation=_DILATION)
            if href not in self._checked:
                check_radiometry(scene)
                self._checked.add(href)
            source = self._found.get((href, mask)) or class_source(scene, mask)
            if isinstance(source, ClassArray):
                self._found[href, mask] = source
            return scene, source
        except BaseException:
            scene.close()
            raise


def item_of(href: str, layout: str) -> SceneItem:
    """The item of an image: read and resolved for `stac`, else made for a raster of 13 bands. Raises CatalogError."""
    if layout == "stac":
        (item,) = open_sources([href])
        bands = {name: replace(asset, href=signed(asset.href)) for name, asset in item.bands.items()}
        scl = item.scl and replace(item.scl, href=signed(item.scl.href))
        return replace(item, bands=bands, scl=scl)
    # Neither date nor place are asked of it; its DN are reflectance times 10000 by the definition of the data set.
    bands = {name: BandAsset(name, name, href, index) for index, name in enumerate(BANDS, 1)}
    return SceneItem(
        id=Path(href).stem, datetime=datetime(1970, 1, 1, tzinfo=UTC), bands=bands, level="L1C", origin=href
    )
