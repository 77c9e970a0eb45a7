"""`BandReader`: pixels of raster files by window, from many threads, with every failure turned into one of our errors.

GDAL datasets must not be used by two threads at once, and opening one costs a read of its headers. So the reader keeps
a pool of open datasets for each file: a read borrows one, or opens one more, and puts it back. Pools are never pickled.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.session import DummySession
from rasterio.windows import Window

from catalogs.errors import SourceUnavailable
from catalogs.remote import gdal_options, is_gone, redact_logs, shown, vsi_path, waits, why_not_opened
from catalogs.sources import signed
from pipeline.decoded import Chunk, Decoded, Layout
from pipeline.errors import InvalidScene, PipelineError, ReadFailed
from pipeline.header import REMOTE_PREFIXES, check_size, read_header, warnings_lock
from pipeline.header import Header as Header
from pipeline.integrity import came_whole, check_file

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

# One decoding thread: with more, JP2OpenJPEG decodes ahead in threads whose errors GDAL only prints, and a broken tile
# comes back as zeros. Bands and blocks are read in parallel instead.
# The block cache is GDAL's own, 5 % of the machine's memory where nobody says otherwise: blocks are read once.
_OPTIONS: dict[str, Any] = {"GDAL_NUM_THREADS": "1", "GDAL_CACHEMAX": 64 << 20}

_UNCLEAR = ("not recognized", "Range downloading not supported")
_STRIP = 2_000_000  # pixels of a band read at once for thinning; at least a row of blocks
# Real formats only: a VRT or a WMS description named `B02.tif` would read whatever file or address it names.
_DRIVERS = ("GTiff", "JP2OpenJPEG", "HFA", "ENVI", "PNG")

_PERHAPS = "perhaps only now"

redact_logs()


class _Undecoded(ReadFailed):
    """All bytes came, and could not be decoded: once, by a server that mixed them up, or each time."""


def is_remote(href: str) -> bool:
    """Whether reading `href` needs the network, so that a failure may pass.

    >>> is_remote("https://example.com/B02.tif"), is_remote("/data/B02.tif"), is_remote("/vsizip//data/a.zip/B02.tif")
    (True, False, False)
    """
    scheme = urlsplit(href).scheme
    return href.startswith(REMOTE_PREFIXES) or (len(scheme) > 1 and "://" in href and scheme not in {"file", "zip"})


def local_path(href: str) -> Path | None:
    """The plain local file that `href` names, or None for anything else (remote, inside an archive)."""
    if href.startswith("file://"):
        return Path(url2pathname(urlsplit(href).path))
    return None if "://" in href or href.startswith("/vsi") else Path(href)


class BandReader:
    """Reads windows of raster files; safe in threads, picklable (open files are not carried along)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[str, list[DatasetReader]] = {}
        self._epoch = 0
        self._decoded: Decoded | None = None
        self._layouts: dict[tuple[str, int], Layout] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def close(self) -> None:
        """Close every open file; one that is in use is closed when its read ends. A later read opens anew."""
        with self._lock:
            self._epoch += 1
            idle = [dataset for pool in self._idle.values() for dataset in pool]
            self._idle.clear()
        for dataset in idle:
            dataset.close()

    def header(self, href: str) -> Header:
        """Headers of `href`; local files are checked to be complete.

        Raises InvalidScene for a missing, truncated or foreign file, ReadFailed for a remote one that may come back.
        """
        path = local_path(href)
        if path is not None and not path.is_file():
            what = "is a folder, not a raster file" if path.is_dir() else "no such file"
            raise InvalidScene(f"{href}: {what}: check the path, or fetch the file again")
        header, blocks_end = self._with(href, read_header)
        if path is not None:
            check_file(path, blocks_end)
        return header

    def keep(self, decoded: Decoded) -> None:
        """From now on read by chunks, through `decoded`; arrays from `read` may then be shared, and cannot be written to."""
        self._decoded = decoded

    def chunks(self, href: str, index: int, rows: slice, cols: slice) -> list[Chunk]:
        """The chunks of a band that a window touches."""
        layout = self._layout(href, index)
        return [Chunk(href, index, row, col) for row in layout.down(rows) for col in layout.across(cols)]

    def read_chunk(self, chunk: Chunk) -> NDArray[Any]:
        """A whole chunk, in the file's type; kept where `keep` has been told of a place. Raises as `read` does."""
        window = self._layout(chunk.href, chunk.band).window(chunk.row, chunk.col)
        if self._decoded is None:
            return self._read(chunk.href, chunk.band, *window)
        return self._decoded.get(chunk, lambda: self._read(chunk.href, chunk.band, *window))

    def read(self, href: str, index: int, rows: slice, cols: slice) -> NDArray[Any]:
        """Window of band `index` (from 1), (rows, cols), in the file's type.

        Raises ValueError for a window outside the file, InvalidScene or ReadFailed where the pixels cannot be had.
        """
        if self._decoded is None:
            return self._read(href, index, rows, cols)
        layout = self._layout(href, index)
        layout.check(href, rows, cols)
        chunks = self.chunks(href, index, rows, cols)
        pixels = np.empty((rows.stop - rows.start, cols.stop - cols.start), layout.dtype)
        for chunk in chunks:
            (down, across), part = layout.window(chunk.row, chunk.col), self.read_chunk(chunk)
            top, left = max(down.start, rows.start), max(across.start, cols.start)
            bottom, right = min(down.stop, rows.stop), min(across.stop, cols.stop)
            inner = part[top - down.start : bottom - down.start, left - across.start : right - across.start]
            if len(chunks) == 1:
                return inner
            pixels[top - rows.start : bottom - rows.start, left - cols.start : right - cols.start] = inner
        return pixels

    def _layout(self, href: str, index: int) -> Layout:
        if (href, index) not in self._layouts:
            self._layouts[href, index] = self._with(href, lambda dataset: _layout_of(dataset, index))
        return self._layouts[href, index]

    def _read(self, href: str, index: int, rows: slice, cols: slice) -> NDArray[Any]:
        def work(dataset: DatasetReader) -> NDArray[Any]:
            _layout_of(dataset, index).check(href, rows, cols)
            window = Window.from_slices(rows, cols)
            with _reading(href, f"rows {rows.start}-{rows.stop}, cols {cols.start}-{cols.stop}"):
                pixels: NDArray[Any] = dataset.read(index, window=window)
                return pixels

        return self._with(href, work)

    def read_decimated(self, href: str, index: int, step: int) -> NDArray[Any]:
        """Band `index` thinned to every `step`-th pixel, (ceil(rows / step), ceil(cols / step)), in the file's type.

        Overviews are used where there are some, so for averages and statistics, not for classes.
        """
        if step < 1:
            raise ValueError(f"step {step} must be at least 1")

        def work(dataset: DatasetReader) -> NDArray[Any]:
            with _reading(href, f"every {step}th pixel"):
                if any(1 < factor <= step for factor in dataset.overviews(index)):
                    shape = (math.ceil(dataset.height / step), math.ceil(dataset.width / step))
                    pixels: NDArray[Any] = dataset.read(index, out_shape=shape)
                    return pixels
                return _every(dataset, index, step)

        return self._with(href, work)

    def _with(self, href: str, work: Callable[[DatasetReader], _T]) -> _T:
        """What `work` makes of the open file; what may pass is tried again from the opening on, with growing waits.

        Bytes that came each time, and could be decoded at none, are damaged where they lie.
        """
        damaged = True
        for wait in waits() if is_remote(href) else ():
            try:
                with self._borrow(href) as dataset:
                    return work(dataset)
            except ReadFailed as error:
                damaged = damaged and isinstance(error, _Undecoded)
                _log.warning("%s; trying again in %.1f s", error, wait)
                time.sleep(wait)
        try:
            with self._borrow(href) as dataset:
                return work(dataset)
        except _Undecoded as error:
            if damaged:
                raise InvalidScene(str(error).replace(_PERHAPS, "it is damaged")) from error
            raise

    @contextmanager
    def _borrow(self, href: str) -> Iterator[DatasetReader]:
        """An open dataset for this thread alone; it returns to the pool unless something went wrong with it."""
        with _environment(href):
            with self._lock:
                epoch = self._epoch
                pool = self._idle.get(href)
                dataset = pool.pop() if pool else None
            if dataset is None:
                dataset = _open(href)
            try:
                check_size(dataset, shown(href))
                yield dataset
            except BaseException:
                dataset.close()
                raise
            with self._lock:
                keep = epoch == self._epoch
                if keep:
                    self._idle.setdefault(href, []).append(dataset)
            if not keep:
                dataset.close()


def _layout_of(dataset: DatasetReader, index: int) -> Layout:
    return Layout.of(dataset.shape, dataset.block_shapes[index - 1], dataset.dtypes[index - 1])


def _every(dataset: DatasetReader, index: int, step: int) -> NDArray[Any]:
    """Every `step`-th pixel from full resolution, by strips of whole blocks.

    GDAL's own thinning asks its block cache for every pixel: 45 s for a band of 10980 x 10980, against 2 s.
    """
    height, width = dataset.shape
    at_rows = np.minimum(np.arange(0, height, step) + step // 2, height - 1)
    at_cols = np.minimum(np.arange(0, width, step) + step // 2, width - 1)
    pixels = np.empty((len(at_rows), len(at_cols)), dataset.dtypes[index - 1])
    block_rows = dataset.block_shapes[index - 1][0]
    strip = block_rows * max(1, _STRIP // (block_rows * width))
    for top in range(0, height, strip):
        wanted = (at_rows >= top) & (at_rows < top + strip)
        if wanted.any():
            window = Window.from_slices(slice(top, min(top + strip, height)), slice(0, width))
            pixels[wanted] = dataset.read(index, window=window)[at_rows[wanted] - top][:, at_cols]
    return pixels


def _environment(href: str, *, sidecars: bool = False) -> rasterio.Env:
    if not is_remote(href):
        return rasterio.Env(**_OPTIONS)
    # GDAL finds credentials by itself; rasterio's sessions would bring others.
    return rasterio.Env(session=DummySession(), **_OPTIONS, **gdal_options(sidecars=sidecars))


def _open(href: str) -> DatasetReader:
    try:
        with warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            if not is_remote(href):
                return DatasetReader(href, driver=list(_DRIVERS))
            path = vsi_path(signed(href))
            dataset = DatasetReader(path, driver=list(_DRIVERS))
            if dataset.crs is None:
                # Its grid may stand in a file beside it.
                dataset.close()
                with _environment(href, sidecars=True):
                    dataset = DatasetReader(path, driver=list(_DRIVERS))
            return dataset
    except SourceUnavailable as error:
        raise ReadFailed(shown(str(error))) from error
    except (RasterioError, OSError) as error:
        raise _translated(href, "cannot be opened", error) from error


@contextmanager
def _reading(href: str, window: str) -> Iterator[None]:
    try:
        yield
    except (RasterioIOError, OSError) as error:
        raise _translated(href, f"{window} cannot be read", error) from error


def _translated(href: str, what: str, error: BaseException) -> PipelineError:
    cause = shown(" ".join(str(error.__cause__ or error).split()))
    if not is_remote(href):
        return InvalidScene(f"{href}: {what}, the file is missing, truncated or damaged: {cause}")
    may_pass = not is_gone(cause)
    if may_pass and any(text in cause for text in _UNCLEAR):
        may_pass, cause = why_not_opened(href)
    if may_pass:
        kind = _Undecoded if came_whole(error) else ReadFailed
        return kind(f"{shown(href)}: {what}, {_PERHAPS}: {cause}")
    return InvalidScene(f"{shown(href)}: {what}, it is missing, damaged or not yours to read: {cause}")


def step_for(shape: tuple[int, int], pixels: int) -> int:
    """Smallest multiple of 6 (or 1) that thins `shape` to at most `pixels`: it fits every nested grid.

    >>> step_for((10980, 10980), 1_000_000), step_for((100, 100), 1_000_000)
    (12, 1)
    """
    step = math.sqrt(np.prod(shape, dtype=float) / pixels)
    return 1 if step <= 1 else 6 * math.ceil(step / 6)
