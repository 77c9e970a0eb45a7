"""`BandReader`: pixels of raster files by window, from many threads, with every failure turned into one of our errors.

GDAL datasets must not be used by two threads at once, and opening one costs a read of its headers. So the reader keeps
a pool of open datasets for each file: a read borrows one, or opens one more, and puts it back. Pools are never pickled.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pipeline.errors import InvalidScene, PipelineError, ReadFailed
from pipeline.integrity import check_file

_REMOTE_PREFIXES = ("/vsicurl", "/vsis3", "/vsigs", "/vsiaz", "/vsiadls", "/vsiswift", "/vsioss", "/vsiwebhdfs")
_GONE = ("response code: 404", "response code: 403", "response code: 410", "does not exist", "no such file")

# One decoding thread: with more, JP2OpenJPEG decodes ahead in threads whose errors GDAL only prints, and a broken tile
# comes back as zeros. Bands and blocks are read in parallel instead.
# The block cache is GDAL's own, 5 % of the machine's memory where nobody says otherwise: blocks are read once.
_LOCAL: dict[str, Any] = {"GDAL_NUM_THREADS": "1", "GDAL_CACHEMAX": 64 << 20}
# A listing of the remote folder costs a request per file, and no sidecar of a product is wanted from there.
_REMOTE = _LOCAL | {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
}

_STRIP = 2_000_000  # pixels of a band read at once for thinning; at least a row of blocks
# Real formats only: a VRT or a WMS description named `B02.tif` would read whatever file or address it names.
_DRIVERS = ("GTiff", "JP2OpenJPEG", "HFA", "ENVI", "PNG")

# warnings.catch_warnings changes the whole process, hence one thread at a time.
_warnings_lock = threading.Lock()


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
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with self._borrow(href) as dataset:
                header = Header(
                    shape=dataset.shape,
                    transform=dataset.transform,
                    crs=dataset.crs,
                    dtypes=dataset.dtypes,
                    nodata=dataset.nodatavals,
                    descriptions=dataset.descriptions,
                    tags=dataset.tags(),
                )
                blocks_end = _blocks_end(dataset) if path is not None and dataset.driver == "GTiff" else None
        if path is not None:
            check_file(path, blocks_end)
        return header

    def read(self, href: str, index: int, rows: slice, cols: slice) -> NDArray[Any]:
        """Window of band `index` (from 1), (rows, cols), in the file's type.

        Raises ValueError for a window outside the file, InvalidScene or ReadFailed where the pixels cannot be had.
        """
        with self._borrow(href) as dataset:
            height, width = dataset.shape
            if not (0 <= rows.start < rows.stop <= height and 0 <= cols.start < cols.stop <= width):
                raise ValueError(f"{href}: window rows {rows}, cols {cols} is not inside {height} x {width} pixels")
            window = Window.from_slices(rows, cols)
            with _reading(href, f"rows {rows.start}-{rows.stop}, cols {cols.start}-{cols.stop}"):
                pixels: NDArray[Any] = dataset.read(index, window=window)
                return pixels

    def read_decimated(self, href: str, index: int, step: int) -> NDArray[Any]:
        """Band `index` thinned to every `step`-th pixel, (ceil(rows / step), ceil(cols / step)), in the file's type.

        Overviews are used where there are some, so for averages and statistics, not for classes.
        """
        if step < 1:
            raise ValueError(f"step {step} must be at least 1")
        with self._borrow(href) as dataset, _reading(href, f"every {step}th pixel"):
            if any(1 < factor <= step for factor in dataset.overviews(index)):
                shape = (math.ceil(dataset.height / step), math.ceil(dataset.width / step))
                pixels: NDArray[Any] = dataset.read(index, out_shape=shape)
                return pixels
            return _every(dataset, index, step)

    @contextmanager
    def _borrow(self, href: str) -> Iterator[DatasetReader]:
        """An open dataset for this thread alone; it returns to the pool unless something went wrong with it."""
        with rasterio.Env(**(_REMOTE if is_remote(href) else _LOCAL)):
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


def _open(href: str) -> DatasetReader:
    try:
        if not is_remote(href):
            return DatasetReader(href, driver=list(_DRIVERS))
        # `rasterio.open` finds the credentials of a bucket, but takes no list of drivers.
        dataset: DatasetReader = rasterio.open(href)
        if dataset.driver not in _DRIVERS:
            dataset.close()
            raise InvalidScene(
                f"{href}: a file of GDAL's {dataset.driver} format is not read from afar; use {_DRIVERS[0]}"
            )
        return dataset
    except (RasterioError, OSError) as error:
        raise _translated(href, "cannot be opened", error) from error


@contextmanager
def _reading(href: str, window: str) -> Iterator[None]:
    try:
        yield
    except (RasterioIOError, OSError) as error:
        raise _translated(href, f"{window} cannot be read", error) from error


def _translated(href: str, what: str, error: BaseException) -> PipelineError:
    cause = " ".join(str(error.__cause__ or error).split())
    if is_remote(href) and not any(text in cause.lower() for text in _GONE):
        return ReadFailed(f"{href}: {what}, perhaps only now: {cause}")
    return InvalidScene(f"{href}: {what}, the file is missing, truncated or damaged: {cause}")


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
