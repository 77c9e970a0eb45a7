"""`Header`: what a raster file says about itself, and where its last block of pixels ends."""

from __future__ import annotations

import math
import threading
import warnings
from dataclasses import dataclass

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader

from catalogs.local import too_many_pixels
from pipeline.errors import InvalidScene

_MOST_BLOCK = 1 << 30
"""Bytes of a block of a file, decoded; a band of an MGRS tile as one strip has a quarter."""
REMOTE_PREFIXES = ("/vsicurl", "/vsis3", "/vsigs", "/vsiaz", "/vsiadls", "/vsiswift", "/vsioss", "/vsiwebhdfs")
"""How GDAL's paths begin of what lies beyond a network."""

warnings_lock = threading.RLock()
"""To be held around `warnings.catch_warnings`: it changes the whole process, hence one thread at a time."""


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


def check_size(dataset: DatasetReader, href: str) -> None:
    """Raise InvalidScene where a file claims more than can be read: pixels in all, or in one of its blocks, which is decoded whole.

    A file of a kilobyte can claim anything, and GDAL would ask for the memory.
    """
    if said := too_many_pixels(dataset.shape):
        raise InvalidScene(f"{href}: {said}")
    pixel = dataset.interleaving is not None and dataset.interleaving.name != "band"
    down, across = dataset.block_shapes[0]
    held = down * across * np.dtype(dataset.dtypes[0]).itemsize * (dataset.count if pixel else 1)
    if held > _MOST_BLOCK:
        raise InvalidScene(
            f"{href}: a block of {down} x {across} pixels takes {held / 2**30:.1f} GiB, and {_MOST_BLOCK >> 30} are read at most: "
            "rewrite it in tiles, gdal_translate -co TILED=YES"
        )


def read_header(dataset: DatasetReader) -> tuple[Header, int | None]:
    """The header, and the first byte behind the last block of a local TIFF."""
    with warnings_lock, warnings.catch_warnings():
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
    local = not dataset.name.startswith(REMOTE_PREFIXES) and "://" not in dataset.name
    return header, _blocks_end(dataset) if local and dataset.driver == "GTiff" else None


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
