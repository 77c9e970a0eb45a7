"""What is looked at in a contender's product."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

from benchmarks.bench.products import changed, digest, size
from benchmarks.bench.scenes import MadeScene

ALL = 4 * 600 * 600


@pytest.fixture
def copies(scene: MadeScene, tmp_path: Path) -> dict[str, str]:
    return {name: str(shutil.copy(path, tmp_path / f"{name}.tif")) for name, path in scene.files.items()}


def alter(path: str, row: int, col: int) -> None:
    with rasterio.open(path, "r+") as file:
        pixels = file.read(1)
        pixels[row, col] += 1
        file.write(pixels, 1)


def cloud_at(folder: Path, like: str, row: int, col: int) -> str:
    """A mask with one cloudy pixel."""
    path = folder / "cloud.tif"
    with rasterio.open(like) as file:
        mask = np.zeros(file.shape, np.uint8)
        profile = {**file.profile, "dtype": "uint8", "nodata": None}
    mask[row, col] = 1
    with rasterio.open(path, "w", **profile) as file:
        file.write(mask, 1)
    return str(path)


def test_a_copy_has_changed_nothing(scene: MadeScene, copies: dict[str, str]) -> None:
    assert changed(copies, scene.files) == (0, ALL)


@pytest.mark.parametrize(("row", "col"), [(0, 0), (511, 599), (512, 0), (599, 599)])
def test_one_changed_value_is_found(scene: MadeScene, copies: dict[str, str], row: int, col: int) -> None:
    alter(copies["B04"], row, col)
    assert changed(copies, scene.files) == (1, ALL)


def test_what_may_change_is_not_counted(scene: MadeScene, copies: dict[str, str], tmp_path: Path) -> None:
    cloud = cloud_at(tmp_path, copies["B02"], 300, 300)
    alter(copies["B02"], 300, 300)
    alter(copies["B02"], 300, 305)
    assert changed(copies, scene.files, cloud) == (1, ALL - 4)
    assert changed(copies, scene.files, cloud, reach=4)[0] == 1
    assert changed(copies, scene.files, cloud, reach=5)[0] == 0


def test_a_product_that_lacks_a_band_or_lies_elsewhere_is_refused(scene: MadeScene, copies: dict[str, str]) -> None:
    with rasterio.open(copies["B03"], "r+") as file:
        file.transform = rasterio.Affine(10, 0, 0, 0, -10, 0)
    with pytest.raises(ValueError, match="not on the grid"):
        changed(copies, scene.files)
    del copies["B03"]
    with pytest.raises(ValueError, match="lacks B03"):
        changed(copies, scene.files)


def test_the_digest_is_of_pixels_not_of_files(copies: dict[str, str]) -> None:
    before = digest(copies)
    with rasterio.open(copies["B08"]) as file:
        pixels, profile = file.read(1), {**file.profile, "compress": "deflate"}
    with rasterio.open(copies["B08"], "w", **profile) as file:
        file.write(pixels, 1)
    assert digest(copies) == before
    alter(copies["B08"], 17, 4)
    assert digest(copies) != before


def test_size_is_that_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"123")
    (tmp_path / "c").write_bytes(b"4567")
    assert size(tmp_path) == 7
