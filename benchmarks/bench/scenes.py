"""`MadeScene`: a scene of any size as single-band GeoTIFFs, made by repeating an image in mirrors, so that no artificial edge appears."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from benchmarks.bench.images import Images
from catalogs.bands import BANDS

TEN = ("B02", "B03", "B04", "B08")
"""The bands of 10 m."""
TWELVE = tuple(name for name in BANDS if name != "B10")
"""The bands of L2A."""
ORIGIN = (499980.0, 5100000.0)
CRS = "EPSG:32633"
STRIPE = 512
NODATA = 0


@dataclass(frozen=True)
class MadeScene:
    """Single-band files of one scene, each at its native resolution."""

    folder: Path
    size: int
    """Edge in pixels of 10 m."""
    bands: tuple[str, ...]

    @property
    def files(self) -> dict[str, str]:
        """Band -> file."""
        return {name: str(self.folder / f"T33TWL_20230818T100031_{name}.tif") for name in self.bands}

    @property
    def pixels(self) -> int:
        """Pixels of all bands."""
        return sum((self.size // (BANDS[name].gsd // 10)) ** 2 for name in self.bands)


def make_scene(images: Images, work: Path, size: int, bands: Sequence[str] = TEN) -> MadeScene:
    """Write the bands of a scene of size x size pixels of 10 m below `work`, once.

    Raises ValueError where the bands' pixels do not fit into the size.
    """
    coarse = [name for name in bands if size * 10 % BANDS[name].gsd]
    if coarse:
        raise ValueError(f"size {size}: {', '.join(coarse)} would end within a pixel; give a multiple of 6")
    kind = "real" if images.real else "simulated"
    scene = MadeScene(work / "scenes" / f"{kind}_{size}_{len(bands)}", size, tuple(bands))
    done = scene.folder / "done.json"
    if not done.is_file():
        scene.folder.mkdir(parents=True, exist_ok=True)
        for name, file in scene.files.items():
            gsd = BANDS[name].gsd
            write_raster(
                Path(file), repeated(images.band(name), size * 10 // gsd), size * 10 // gsd, gsd, "uint16", NODATA
            )
        done.write_text(json.dumps(list(bands)), encoding="utf-8")
    return scene


def repeated(image: npt.NDArray, size: int) -> Callable[[int, int], npt.NDArray]:
    """`image` mirrored at each repetition: (first row, rows) -> stripe (rows, size).

    >>> repeated(np.array([[1, 2], [3, 4]]), 5)(1, 3)
    array([[3, 4, 4, 3, 3],
           [3, 4, 4, 3, 3],
           [1, 2, 2, 1, 1]])
    """
    across = _mirrored(image.shape[1], size)

    def stripe(row: int, rows: int) -> npt.NDArray:
        return image[_mirrored(image.shape[0], row + rows)[row:]][:, across]

    return stripe


def write_raster(
    path: Path, stripe: Callable[[int, int], npt.NDArray], size: int, gsd: float, dtype: str, nodata: int | None
) -> None:
    """Write a square tiled GeoTIFF, ZSTD 1 with blocks of 512, from a function that gives its rows."""
    profile = {"driver": "GTiff", "count": 1, "dtype": dtype, "width": size, "height": size, "nodata": nodata}
    storage = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "zstd", "zstd_level": 1, "predictor": 2}
    with rasterio.open(
        path, "w", **profile, **storage, crs=CRS, transform=from_origin(*ORIGIN, gsd, gsd), num_threads="all_cpus"
    ) as file:
        for row, rows in stripes(size):
            file.write(stripe(row, rows), 1, window=Window(0, row, size, rows))


def stripes(size: int) -> Iterator[tuple[int, int]]:
    """First row and number of rows of each stripe."""
    return ((row, min(STRIPE, size - row)) for row in range(0, size, STRIPE))


def _mirrored(length: int, count: int) -> npt.NDArray[np.intp]:
    """0 .. length - 1, then back, and so on: `count` numbers."""
    once = np.arange(length)
    return np.resize(np.concatenate([once, once[::-1]]), count)
