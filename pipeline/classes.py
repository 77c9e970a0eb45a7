"""The classes of a cloud mask, and the two kinds of raster that hold them: the SCL of L2A and a user's own mask.

A `ClassSource` says the raw class of any window of the work grid, before growth. Class codes are those of the product's
`cloudmask.tif`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from catalogs.item import BandAsset
from pipeline.errors import InvalidScene, InvalidSettings
from pipeline.lookup import inside, nearest, pick, thin_grid
from pipeline.reader import BandReader, Header
from pipeline.scene import Scene, pixel_metres

NODATA, CLEAR, THIN, THICK, SHADOW, SNOW = range(6)
CLASSES = ("nodata", "clear", "thin", "thick", "shadow", "snow")
"""Names by class code."""
CLASSES_TAG = "DECLOUDER_CLASSES"
"""Tag of a raster that holds these class codes, already grown; its value is `1`."""

SCL_CLASSES = MappingProxyType(
    {
        0: CLEAR,  # nodata: the bands decide
        1: CLEAR,  # saturated or defective: the bands decide
        2: CLEAR,  # dark features: shadow only where geometry says so
        3: SHADOW,
        4: CLEAR,  # vegetation
        5: CLEAR,  # bare soil
        6: CLEAR,  # water
        7: CLEAR,  # unclassified
        8: THICK,  # medium probability
        9: THICK,  # high probability
        10: THIN,  # cirrus
        11: SNOW,
    }
)
"""Class of each value of the scene classification, Sen2Cor 2.11 Algorithm Theoretical Basis Document, table 3."""
_SCL_OVERSHOOT = 15  # an SCL compressed with loss rings a little beyond 11; anything more is another kind of raster
_SCL_TABLE = np.array([SCL_CLASSES.get(value, CLEAR) for value in range(_SCL_OVERSHOOT + 1)], np.uint8)
_SPECK_PIXEL = 30.0  # metres; on coarser grids a single pixel may well be a whole cumulus


class ClassSource(Protocol):
    """Raw classes of a scene, from whoever says so."""

    @property
    def method(self) -> str:
        """Who says so, for the product's metadata."""

    @property
    def final(self) -> bool:
        """True where the classes are to be taken as they are: neither shadows added nor grown."""

    @property
    def own_shadows(self) -> bool:
        """True where no shadow is to be added by geometry."""

    def read(self, rows: slice, cols: slice) -> NDArray[np.uint8]:
        """Class codes of a window of the work grid, uint8 (rows, cols); never NODATA."""

    def may_lack(self, rows: slice, cols: slice) -> NDArray[np.bool_] | None:
        """Where the bands may be without data, bool (rows, cols); None where the source cannot tell.

        It saves reading every band of a scene only to find that it is filled.
        """


def is_cloudy(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where `classes` are thin, thick or shadow."""
    return (classes >= THIN) & (classes <= SHADOW)


def despeckle(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`classes` with cloudy pixels made clear that have fewer than two cloudy ones among their eight neighbours.

    Outside the array everything counts as not cloudy: give a halo of one pixel.
    """
    cloudy = is_cloudy(classes)
    if not cloudy.any():
        return classes
    padded = np.pad(cloudy, 1).astype(np.uint8)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    neighbours = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]  # with the pixel itself
    return np.where(cloudy & (neighbours < 3), np.uint8(CLEAR), classes)


@dataclass(frozen=True)
class ClassArray:
    """Classes in memory on a grid of their own: what detectors give."""

    classes: NDArray[np.uint8]
    """(rows, cols) of `geobox`."""
    geobox: GeoBox
    target: GeoBox
    """Work grid, same CRS."""
    method: str
    own_shadows: bool
    final: bool = False

    def may_lack(self, rows: slice, cols: slice) -> None:
        """See `ClassSource`: a detector was given only what is filled."""

    def read(self, rows: slice, cols: slice) -> NDArray[np.uint8]:
        """See `ClassSource`; beyond the array's edge its last pixels count on."""
        index_rows, index_cols = nearest(self.geobox, self.target, rows, cols)
        height, width = self.classes.shape
        return pick(self.classes, np.clip(index_rows, 0, height - 1), np.clip(index_cols, 0, width - 1))


@dataclass(frozen=True)
class SceneClassification:
    """SCL of an L2A product, read window by window."""

    reader: BandReader
    asset: BandAsset
    geobox: GeoBox
    target: GeoBox
    method: str = "scl"
    own_shadows: bool = False
    final: bool = False

    @classmethod
    def of(cls, scene: Scene) -> SceneClassification:
        """The SCL of `scene`; InvalidSettings where it has none, InvalidScene where it is of another scene."""
        asset = scene.item.scl
        if asset is None:
            raise InvalidSettings(f"{scene.id}: no SCL: use --mask auto, csmask, s2cloudless or a raster")
        header = scene.reader.header(asset.href)
        if np.dtype(header.dtypes[asset.index - 1]).kind not in "ui":
            raise InvalidScene(f"{asset.href}: SCL holds {header.dtypes[asset.index - 1]} pixels, not classes")
        geobox = _grid(asset.href, header)
        slack = max(abs(geobox.transform.a), abs(scene.geobox.transform.a))
        own, other = geobox.boundingbox, scene.geobox.boundingbox
        covers = (
            own.left <= other.left + slack
            and own.right >= other.right - slack
            and own.bottom <= other.bottom + slack
            and own.top >= other.top - slack
        )
        if geobox.crs != scene.geobox.crs or not covers:
            raise InvalidScene(
                f"bands of different scenes: SCL ({asset.href}: {geobox.crs}, {own.bbox}) does not cover "
                f"{scene.bands[0].name} ({scene.bands[0].href}: {scene.geobox.crs}, {other.bbox})"
            )
        return cls(scene.reader, asset, geobox, scene.geobox)

    def read(self, rows: slice, cols: slice) -> NDArray[np.uint8]:
        """See `ClassSource`."""
        values, index = self._values(rows, cols)
        if values.max() > _SCL_OVERSHOOT:
            raise InvalidScene(f"{self.asset.href}: value {values.max()} is no class of an SCL (0..11)")
        classes = _SCL_TABLE[values]
        if max(pixel_metres(self.geobox)) <= _SPECK_PIXEL:
            classes = despeckle(classes)
        return pick(classes, *index)

    def may_lack(self, rows: slice, cols: slice) -> NDArray[np.bool_]:
        """See `ClassSource`: where the SCL is 0, "no data"."""
        values, index = self._values(rows, cols)
        lacking: NDArray[np.bool_] = pick(values, *index) == 0
        return lacking

    def _values(self, rows: slice, cols: slice) -> tuple[NDArray, tuple[NDArray, NDArray]]:
        """The SCL around a window of the work grid, and the index of each pixel of the window in it."""
        height, width = self.geobox.shape
        index_rows, index_cols = nearest(self.geobox, self.target, rows, cols)
        index_rows, index_cols = np.clip(index_rows, 0, height - 1), np.clip(index_cols, 0, width - 1)
        top, bottom = max(int(index_rows[0, 0]) - 1, 0), min(int(index_rows[-1, 0]) + 2, height)
        left, right = max(int(index_cols[0, 0]) - 1, 0), min(int(index_cols[0, -1]) + 2, width)
        values = self.reader.read(self.asset.href, self.asset.index, slice(top, bottom), slice(left, right))
        return values, (index_rows - top, index_cols - left)


@dataclass(frozen=True)
class MaskRaster:
    """A user's raster: non-zero is thick cloud, or our own class codes where `CLASSES_TAG` is set."""

    reader: BandReader
    href: str
    geobox: GeoBox
    target: GeoBox
    nodata: float | None
    method: str
    final: bool
    own_shadows: bool = True

    @classmethod
    def of(cls, scene: Scene, path: str) -> MaskRaster:
        """The raster at `path`; InvalidSettings where it is none, or does not overlap `scene`."""
        try:
            header = scene.reader.header(path)
        except InvalidScene as error:
            raise InvalidSettings(f"--mask {error}") from error
        try:
            geobox = _grid(path, header)
        except InvalidScene as error:
            raise InvalidSettings(f"--mask {error}") from error
        found = cls(
            scene.reader,
            path,
            geobox,
            scene.geobox,
            header.nodata[0],
            f"raster {Path(path).name}",
            header.tags.get(CLASSES_TAG) == "1",
        )
        if not (_meets(geobox, scene.geobox) or _meets(scene.geobox, geobox)):
            raise InvalidSettings(
                f"--mask {path}: does not overlap {scene.id} ({geobox.crs} {geobox.boundingbox.bbox} "
                f"against {scene.geobox.crs} {scene.geobox.boundingbox.bbox})"
            )
        return found

    def may_lack(self, rows: slice, cols: slice) -> None:
        """See `ClassSource`: a user's raster says nothing of the bands."""

    def read(self, rows: slice, cols: slice) -> NDArray[np.uint8]:
        """See `ClassSource`; outside the raster everything is clear."""
        index_rows, index_cols = nearest(self.geobox, self.target, rows, cols)
        within = inside(index_rows, index_cols, self.geobox.shape)
        if within.all():
            return self._read(index_rows, index_cols)
        classes = np.full(within.shape, CLEAR, np.uint8)
        if not within.any():
            return classes
        full_rows, full_cols = np.broadcast_arrays(index_rows, index_cols)
        # As one column of pixels, whatever their shape.
        classes[within] = self._read(full_rows[within][:, None], full_cols[within][:, None])[:, 0]
        return classes

    def _read(self, index_rows: NDArray[np.intp], index_cols: NDArray[np.intp]) -> NDArray[np.uint8]:
        top, left = int(index_rows.min()), int(index_cols.min())
        window = (slice(top, int(index_rows.max()) + 1), slice(left, int(index_cols.max()) + 1))
        values = pick(self.reader.read(self.href, 1, *window), index_rows - top, index_cols - left)
        empty = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
        if self.nodata is not None:
            empty |= values == self.nodata
        return self._classes(values, empty)

    def _classes(self, values: NDArray[Any], empty: NDArray[np.bool_]) -> NDArray[np.uint8]:
        if not self.final:
            return np.where(~empty & (values != 0), THICK, CLEAR).astype(np.uint8)
        wrong = ~empty & ((values < NODATA) | (values > SNOW))
        if wrong.any():
            raise InvalidSettings(f"--mask {self.href}: value {values[wrong][0]} is no class (0..{SNOW})")
        return np.where(empty | (values == NODATA), CLEAR, values).astype(np.uint8)


def _grid(href: str, header: Header) -> GeoBox:
    """Grid of a class raster; InvalidScene where it has none."""
    if header.crs is None or header.transform.is_identity:
        raise InvalidScene(f"{href}: not georeferenced: give it a CRS and a geotransform")
    if header.transform.b or header.transform.d:
        raise InvalidScene(f"{href}: a rotated grid: warp it first")
    return GeoBox(header.shape, header.transform, header.crs)


def _meets(source: GeoBox, target: GeoBox) -> bool:
    """Whether a pixel centre of `target` lies in `source`: exact within one CRS, else on a lattice of 512 an edge."""
    rows, cols = target.shape
    step = 1 if source.crs == target.crs else max(1, max(rows, cols) // 512)
    lattice = thin_grid(target, step)
    index_rows, index_cols = nearest(source, lattice, slice(0, lattice.shape[0]), slice(0, lattice.shape[1]))
    if source.crs == target.crs:  # the axes apart, to make no array of the whole grid
        zero = np.zeros((1, 1), np.intp)
        return bool(inside(index_rows, zero, source.shape).any() and inside(zero, index_cols, source.shape).any())
    return bool(inside(index_rows, index_cols, source.shape).any())
