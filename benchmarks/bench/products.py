"""What came out: pixels changed where nothing should change, a digest of all pixels, bytes on the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window
from scipy.ndimage import distance_transform_edt

from benchmarks.bench.scenes import stripes


def changed(files: Mapping[str, str], sources: Mapping[str, str], cloudy: str = "", reach: int = 0) -> tuple[int, int]:
    """(values that differ from the source where nothing should change, values that were compared).

    cloudy: raster on the finest grid, non-zero = may change, and so may what lies within `reach` pixels of it; empty: nothing may.
    Raises ValueError where a file is not on its source's grid or missing.
    """
    if missing := sorted(set(sources) - set(files)):
        raise ValueError(f"the product lacks {', '.join(missing)}")
    clear = None
    if cloudy:
        with rasterio.open(cloudy) as file:
            mask = file.read(1) > 0
        clear = ~mask if reach == 0 or not mask.any() else distance_transform_edt(~mask) > reach
    differing = compared = 0
    for name, source in sources.items():
        with rasterio.open(files[name]) as made, rasterio.open(source) as given:
            if (made.shape, made.transform, made.crs) != (given.shape, given.transform, given.crs):
                raise ValueError(f"{files[name]}: not on the grid of {source}")
            for row, rows in stripes(given.height):
                window = Window(0, row, given.width, rows)
                differ = made.read(1, window=window) != given.read(1, window=window)
                if clear is not None:
                    here = clear[row : row + rows]
                    differ &= here
                    compared += int(here.sum())
                else:
                    compared += differ.size
                differing += int(np.count_nonzero(differ))
    return differing, compared


def digest(files: Mapping[str, str]) -> str:
    """sha256 over the pixels of all files, by name: the same pixels have the same digest, however they were compressed."""
    total = hashlib.sha256()
    for name in sorted(files):
        with rasterio.open(files[name]) as file:
            total.update(f"{name} {file.shape} {file.dtypes[0]}".encode())
            for row, rows in stripes(file.height):
                total.update(np.ascontiguousarray(file.read(1, window=Window(0, row, file.width, rows))).data)
    return total.hexdigest()


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
