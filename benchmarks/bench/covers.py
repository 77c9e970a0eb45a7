"""Masks of cloud, made for the purpose: full cover, large clustered systems, scattered cumulus; never a real cloud's shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.bench.scenes import write_raster


@dataclass(frozen=True)
class Cover:
    """How clouds lie over a scene."""

    name: str
    share: float
    """Of all pixels, 0..1."""
    grain: int
    """Pixels over which the noise is smoothed (one sigma): clouds are some four times as large. 0 = no structure, only for full cover."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share {self.share} of cover {self.name!r} must be above 0 and at most 1")
        if self.share < 1 and self.grain < 1:
            raise ValueError(f"grain {self.grain} of cover {self.name!r} must be at least 1 pixel")


FULL = Cover("full", 1.0, 0)
CLUSTERED = Cover("clustered", 0.35, 280)
"""Large systems. At 5, 20, 40 and 60 % cover they touch 17, 41, 64 and 81 % of the tiles of 256; real large systems 14, 40, 64 and 81 %."""
SCATTERED = Cover("scattered", 0.35, 70)
"""Cumulus over the whole scene. It touches 44, 89, 98 and 100 % of the tiles; real scattered cumulus 51, 87, 98 and 100 %."""


def clouds(cover: Cover, size: int, seed: int = 0) -> npt.NDArray[np.bool_]:
    """bool (size, size), True = cloud: smoothed noise above the quantile that gives the share.

    The noise is made on a coarser grid, about three cells to the grain, and enlarged bilinearly.
    """
    if cover.share == 1:
        return np.ones((size, size), np.bool_)
    cell = max(1, cover.grain // 3)
    cells = -(-size // cell) + 1
    noise = np.random.default_rng(seed).standard_normal((cells, cells), np.float32)
    smooth = gaussian_filter(noise, cover.grain / cell, mode="wrap")
    fine = np.asarray(Image.fromarray(smooth).resize((cells * cell,) * 2, Image.Resampling.BILINEAR))[:size, :size]
    # Every third pixel tells the quantile as well as all of them.
    level = np.quantile(fine[::3, ::3], 1 - cover.share)
    above: npt.NDArray[np.bool_] = fine > level
    return above


def make_cover(cover: Cover, work: Path, size: int) -> Path:
    """The cover as a raster of uint8 on the 10 m grid of a scene, 1 = cloud; written once below `work`."""
    path = work / "covers" / f"{cover.name}_{cover.share:g}_{cover.grain}_{size}.tif"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = clouds(cover, size).astype(np.uint8)
        part = path.with_suffix(".part.tif")
        write_raster(part, lambda row, rows: pixels[row : row + rows], size, 10, "uint8", None)
        part.replace(path)
    return path
