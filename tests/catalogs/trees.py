"""Small trees in the layouts of the training data: headers as in the data sets, pixels of zeros that take no space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.catalogs.conftest import make_raster

SIDES = ("s2", "s2_cloudy")


def pair_path(root: Path, side: str, patch: int, roi: int = 1, seed: str = "1158", season: str = "spring") -> Path:
    """Where the data set keeps one side of a patch."""
    return root / f"ROIs{seed}_{season}_{side}" / f"{side}_{roi}" / f"ROIs{seed}_{season}_{side}_{roi}_p{patch}.tif"


def make_patch(path: Path, **changes: Any) -> Path:
    """A whole patch of Sentinel-2, or what `changes` make of it."""
    radar = "_s1_" in path.name or path.name.startswith("s1_")
    header = {"count": 2, "dtype": "float32"} if radar else {"count": 13, "dtype": "uint16"}
    # One tiny block a band, none of them stored: as quick as a header can be written.
    return make_raster(path, **{"shape": (256, 256), "sparse_ok": True, "compress": "deflate", **header, **changes})


def make_pair(root: Path, patch: int, sides: tuple[str, ...] = SIDES, roi: int = 1, **changes: Any) -> dict[str, Path]:
    """The files of one patch of SEN12MS-CR."""
    return {side: make_patch(pair_path(root, side, patch, roi), **changes) for side in sides}


def series_path(
    root: Path, number: int, day: str, patch: int, roi: int = 73, seed: str = "1868", sensor: str = "s2"
) -> Path:
    """Where the data set keeps one image of a series."""
    name = f"{sensor}_ROIs{seed}_{roi}_ImgNo_{number}_{day}_patch_{patch}.tif"
    return root / f"ROIs{seed}" / str(roi) / sensor.upper() / str(number) / name
