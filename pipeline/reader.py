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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.session import DummySession
from rasterio.windows import Window

from catalogs.errors import SourceUnavailable
from catalogs.remote import gdal_options, is_gone, redact_logs, shown, vsi_path, waits, why_not_opened
from catalogs.sources import signed
from pipeline.errors import InvalidScene, PipelineError, ReadFailed
from pipeline.integrity import check_file

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_REMOTE_PREFIXES = ("/vsicurl", "/vsis3", "/vsigs", "/vsiaz", "/vsiadls", "/vsiswift", "/vsioss", "/vsiwebhdfs")

# One decoding thread: with more, JP2OpenJPEG decodes ahead in threads whose errors GDAL only prints, and a broken tile
# comes back as zeros. Bands and blocks are read in parallel instead.
# The block cache is GDAL's own, 5 % of the machine's memory where nobody says otherwise: blocks are read once.
_OPTIONS: dict[str, Any] = {"GDAL_NUM_THREADS": "1", "GDAL_CACHEMAX": 64 << 20}

_UNCLEAR = ("not recognized", "Range downloading not supported")
_STRIP = 2_000_000  # pixels of a band read at once for thinning; at least a row of blocks
# Real formats only: a VRT or a WMS description named `B02.tif` would read whatever file or address it names.
_DRIVERS = ("GTiff", "JP2OpenJPEG", "HFA", "ENVI", "PNG")

# warnings.catch_warnings changes the whole process, hence one thread at a time.
_warnings_lock = threading.RLock()

redact_logs()


def is_remote(href: str) -> bool:
    """Whether reading `href` needs the network, so that a failure may pass.

    >>> is_remote("https://example.com/B02.tif"), is_remote("/data/B02.tif"), is_remote("/vsizip//data/a.zip/B02.tif")
    (True, False, False)
    """
    scheme = urlsplit(href).scheme
    return href.startswith(_REMOTE_PREFIXES) or (len(scheme) > 1 and "://" in href and scheme not in {"file", "zip"})


def local_path(href: str) -> Path | None:
    """The plain local file that `href` names, or None for anything else (remote, inside an archive)."""
    if href.startswith("file://"):
        return Path(url2pathname(urlsplit(href).path))
    return None if "://" in href or href.startswith("/vsi") else Path(href)


@dataclass(frozen=True)
class Header:
    """What a file says about itself."""

    shape: tuple[int, int]
    """(rows, cols)."""
    transform: Affine
    """Pixel corner -> CRS coordinates; the identity where the file has none."""
    crs: CRS | None
    """None where the file has none."""
    dtypes: tuple[str, ...]
    """Type of the pixels, a value per band."""
    nodata: tuple[float | None, ...]
    """Value without data, a value per band."""
    descriptions: tuple[str | None, ...]
    """Name, per band."""
    tags: dict[str, str]
    """Metadata of the file (default domain)."""


class BandReader:
    """Reads windows of raster files; safe in threads, picklable (open files are not carried along)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[str, list[DatasetReader]] = {}
        self._epoch = 0

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
        header, blocks_end = self._with(href, _header)
        if path is not None:
            check_file(path, blocks_end)
        return header

    def read(self, href: str, index: int, rows: slice, cols: slice) -> NDArray[Any]:
        """Window of band `index` (from 1), (rows, cols), in the file's type.

        Raises ValueError for a window outside the file, InvalidScene or ReadFailed where the pixels cannot be had.
        """

        def work(dataset: DatasetReader) -> NDArray[Any]:
            height, width = dataset.shape
            if not (0 <= rows.start < rows.stop <= height and 0 <= cols.start < cols.stop <= width):
                raise ValueError(f"{href}: window rows {rows}, cols {cols} is not inside {height} x {width} pixels")
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
        """What `work` makes of the open file; what may pass is tried again from the opening on, with growing waits."""
        for wait in waits() if is_remote(href) else ():
            try:
                with self._borrow(href) as dataset:
                    return work(dataset)
            except ReadFailed as error:
                _log.warning("%s; trying again in %.1f s", error, wait)
                time.sleep(wait)
        with self._borrow(href) as dataset:
            return work(dataset)

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
        with _warnings_lock, warnings.catch_warnings():
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


def _header(dataset: DatasetReader) -> tuple[Header, int | None]:
    """The header, and the first byte behind the last block of a local TIFF."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        header = Header(
            shape=dataset.shape,
            transform=dataset.transform,
            crs=dataset.crs,
            dtypes=dataset.dtypes,
            nodata=dataset.nodatavals,
            descriptions=dataset.descriptions,
            tags=dataset.tags(),
        )
    local = not dataset.name.startswith(_REMOTE_PREFIXES) and "://" not in dataset.name
    return header, _blocks_end(dataset) if local and dataset.driver == "GTiff" else None


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
        return ReadFailed(f"{shown(href)}: {what}, perhaps only now: {cause}")
    return InvalidScene(f"{shown(href)}: {what}, it is missing, damaged or not yours to read: {cause}")


def _blocks_end(dataset: DatasetReader) -> int | None:
    """First byte behind the last block of a TIFF's full-resolution pixels; None where no block is stored."""
    ends = []
    indexes = dataset.indexes if dataset.interleaving and dataset.interleaving.name == "band" else (1,)
    for index in indexes:
        block_rows, block_cols = dataset.block_shapes[index - 1]
        for row in range(math.ceil(dataset.height / block_rows)):
            for col in range(math.ceil(dataset.width / block_cols)):
                offset = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=index)
                size = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=index)
                if offset is not None and size is not None:
                    ends.append(int(offset) + int(size))
    return max(ends, default=None)


def step_for(shape: tuple[int, int], pixels: int) -> int:
    """Smallest multiple of 6 (or 1) that thins `shape` to at most `pixels`: it fits every nested grid.

    >>> step_for((10980, 10980), 1_000_000), step_for((100, 100), 1_000_000)
    (12, 1)
    """
    step = math.sqrt(np.prod(shape, dtype=float) / pixels)
    return 1 if step <= 1 else 6 * math.ceil(step / 6)
