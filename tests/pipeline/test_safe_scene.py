"""A SAFE folder through the engine: JPEG 2000 on three grids, an offset that is still to be applied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from catalogs.files import open_sources
from pipeline.engine import decloud_scene
from pipeline.settings import DecloudSettings
from tests.catalogs.test_safe import make_safe

from .made import write_raster

SIDE = 60
"""Pixels of the 10 m grid: 600 m."""


def filled_safe(folder: Path, baseline: str, side: int = SIDE) -> Path:
    """An L2A product whose land has DN 1600 and whose one cloud, 200 m wide, DN 8000. `side`: pixels of 10 m."""
    safe = make_safe(folder, "L2A", baseline)
    for path in safe.rglob("*.jp2"):
        gsd = int(path.stem.rpartition("_")[2].rstrip("m"))
        edge = side * 10 // gsd
        cloud = np.zeros((edge, edge), bool)
        middle = slice(edge // 3, edge // 3 + max(200 // gsd, 1))
        cloud[middle, middle] = True
        if "_SCL_" in path.name:
            pixels = np.where(cloud, 9, 4).astype(np.uint8)
        else:
            pixels = np.where(cloud, 8000, 1600).astype(np.uint16)
        path.unlink()
        write_raster(path, pixels, resolution=gsd, driver="JP2OpenJPEG", nodata=None)
    return safe


@pytest.mark.parametrize(("baseline", "offset"), [("05.09", -0.1), ("02.09", 0.0)])
def test_a_safe_folder_becomes_a_product(tmp_path, baseline, offset):
    [item] = open_sources([str(filled_safe(tmp_path, baseline))], None)
    # With the fill alone, the cloud takes on the land around it: its DN tell whether the offset went both ways.
    settings = DecloudSettings(references=0, max_generated=1, tile=256, grow=20.0, feather=0.0)
    product = decloud_scene(item, tmp_path / "out", settings)
    for name, asset in item.bands.items():
        with rasterio.open(asset.href) as before, rasterio.open(product.folder / f"{name}.tif") as after:
            assert (after.crs, after.transform, after.shape) == (before.crs, before.transform, before.shape)
            assert after.nodata == 0
            source, result = before.read(1), after.read(1)
        assert np.array_equal(result[0], source[0])
        middle = source.shape[0] // 2
        assert abs(int(result[middle, middle]) - 1600) < 700, name
        assert asset.offset == offset
    assert product.item["properties"]["s2:processing_baseline"] == baseline
