"""Reading the bands and writing the product's output profile: one Cloud Optimized GeoTIFF a band, as `pipeline.cog` writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from rasterio.windows import Window

from benchmarks.bench.job import Job

COG: Mapping[str, str] = {
    "driver": "COG",
    "BLOCKSIZE": "512",
    "COMPRESS": "ZSTD",
    "LEVEL": "1",
    "PREDICTOR": "STANDARD",
    "BIGTIFF": "IF_SAFER",
    "OVERVIEWS": "IGNORE_EXISTING",
    "OVERVIEW_RESAMPLING": "AVERAGE",
}
"""Options of GDAL's COG driver; tests compare them with the product's."""
TILED: Mapping[str, Any] = {
    "driver": "GTiff",
    "tiled": True,
    "blockxsize": 512,
    "blockysize": 512,
    "bigtiff": "if_safer",
}
"""A GeoTIFF that can be written by windows."""
PACKED: Mapping[str, Any] = {**TILED, "compress": "zstd", "zstd_level": 1, "predictor": 2}
"""The same, compressed as a COG is, without overviews."""


def settings(job: Job) -> rasterio.Env:
    """GDAL with the job's threads; overviews in the making are not compressed, which is much faster."""
    return rasterio.Env(GDAL_NUM_THREADS=str(job.threads), COG_TMP_COMPRESSION="NONE")


def target(job: Job, band: str) -> Path:
    """The file of a band of the product; its folder is made."""
    folder = Path(job.output)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{band}.tif"


def temporary(job: Job, band: str) -> Path:
    """A file beside the product's."""
    return target(job, band).with_suffix(".part.tif")


def profile_of(job: Job) -> dict[str, Any]:
    """Size, type, grid and nodata of the first band; all bands of these benchmarks share them."""
    with rasterio.open(next(iter(job.bands.values()))) as file:
        kept = ("width", "height", "dtype", "crs", "transform", "nodata")
        return {"count": 1, **{name: file.profile[name] for name in kept}}


def read_stack(job: Job) -> npt.NDArray[np.float32]:
    """float32 (bands, rows, cols), reflectance; behind the bands the mask, where the job has one and a network."""
    layers = [_read(path).astype(np.float32) / np.float32(10000) for path in job.bands.values()]
    if job.network and job.mask:
        layers.append((_read(job.mask) > 0).astype(np.float32))
    return np.stack(layers)


def numbers(reflectance: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Digital numbers: reflectance x 10000, rounded."""
    rounded: npt.NDArray[np.uint16] = np.clip(np.rint(reflectance * np.float32(10000)), 0, 65535).astype(np.uint16)
    return rounded


def write_stack(job: Job, pixels: npt.NDArray[np.uint16]) -> dict[str, str]:
    """Write (bands, rows, cols) as a COG each, through memory as rasterio does it; returns band -> file."""
    profile = profile_of(job)
    written = {}
    with settings(job):
        for name, band in zip(job.bands, pixels, strict=True):
            path = target(job, name)
            with rasterio.open(path, "w", **{**profile, **COG}) as file:
                file.write(band, 1)
            written[name] = str(path)
    return written


def convert(job: Job) -> dict[str, str]:
    """Make a COG of each temporary file, which is removed; returns band -> file."""
    written = {}
    with settings(job):
        for name in job.bands:
            source, path = temporary(job, name), target(job, name)
            rasterio.shutil.copy(str(source), str(path), **COG)
            source.unlink()
            written[name] = str(path)
    return written


@contextmanager
def opened(job: Job) -> Iterator[list[rasterio.DatasetReader]]:
    """The bands, and behind them the mask where the job has one and a network."""
    paths = [*job.bands.values(), *([job.mask] if job.network and job.mask else [])]
    with ExitStack() as stack:
        yield [stack.enter_context(rasterio.open(path)) for path in paths]


def windows(height: int, width: int, edge: int) -> Iterator[Window]:
    """Windows of edge x edge pixels, row by row, cut at the scene's end."""
    for row in range(0, height, edge):
        for col in range(0, width, edge):
            yield Window(col, row, min(edge, width - col), min(edge, height - row))


def offsets(length: int, tile: int, step: int) -> list[int]:
    """Starts of tiles along an axis; the last one is moved inside.

    >>> offsets(2048, 256, 224)
    [0, 224, 448, 672, 896, 1120, 1344, 1568, 1792]
    >>> offsets(600, 256, 224)
    [0, 224, 344]
    """
    if length <= tile:
        return [0]
    starts = list(range(0, length - tile + 1, step))
    return starts if starts[-1] == length - tile else [*starts, length - tile]


def _read(path: str) -> npt.NDArray:
    with rasterio.open(path) as file:
        pixels: npt.NDArray = file.read(1)
    return pixels
