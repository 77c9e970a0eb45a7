"""GDAL shows what a classification's values are called and how they look; without its programs rasterio is asked."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import rasterio
from rasterio.enums import ColorInterp

from pipeline.layers import CLOUD_CLASSES, CLOUD_COLOURS, PROVENANCE, PROVENANCE_COLOURS
from tests.interop.conftest import Made

LAYERS = [("provenance", PROVENANCE, PROVENANCE_COLOURS), ("cloudmask", CLOUD_CLASSES, CLOUD_COLOURS)]


def gdalinfo(path: Path, *options: str) -> str:
    if shutil.which("gdalinfo") is None:
        pytest.skip("gdalinfo is not installed: apt-get install gdal-bin")
    return subprocess.run(["gdalinfo", *options, str(path)], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("name", "classes", "colours"), LAYERS)
def test_gdalinfo_shows_the_colour_table_and_the_categories(made: Made, name: str, classes: Any, colours: Any) -> None:
    path = made.product.folder / f"{name}.tif"
    (band,) = json.loads(gdalinfo(path, "-json"))["bands"]
    assert band["colorInterpretation"] == "Palette"
    entries = band["colorTable"]["entries"]
    assert {value: tuple(entries[value]) for value in classes} == dict(colours)
    assert band["noDataValue"] == 0
    # The categories are in the text only.
    shown = gdalinfo(path).split("  Categories:\n")[1]
    assert dict(re.findall(r"^ +(\d): (\w+)$", shown, re.MULTILINE)) == {
        str(value): category for value, category in classes.items()
    }


def test_gdalinfo_sees_cogs_on_the_grid_that_the_item_states(made: Made) -> None:
    item = made.product_item()
    for key in made.raster_keys():
        asset = item.assets[key]
        found = json.loads(gdalinfo(Path(str(asset.get_absolute_href())), "-json"))
        assert found["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG", key
        assert found["size"] == asset.extra_fields["proj:shape"][::-1]
        left, width, _, top, _, height = found["geoTransform"]
        assert [width, 0, left, 0, height, top] == asset.extra_fields["proj:transform"]
        assert found["stac"]["proj:epsg"] == made.crs.to_epsg()


@pytest.mark.parametrize(("name", "classes", "colours"), LAYERS)
def test_rasterio_shows_them_too(made: Made, name: str, classes: Any, colours: Any) -> None:
    with rasterio.open(made.product.folder / f"{name}.tif") as file:
        assert file.colorinterp == (ColorInterp.palette,)
        table = file.colormap(1)
        assert {value: table[value] for value in classes} == dict(colours)
        tags = file.tags(1)
    assert {int(tag.removeprefix("class_")): text for tag, text in tags.items() if tag.startswith("class_")} == dict(
        classes
    )


def test_gdal_takes_a_product_apart_and_together_again(made: Made, tmp_path: Path) -> None:
    """A virtual mosaic of the bands of the finest grid, as users make it, holds the product's pixels."""
    if shutil.which("gdalbuildvrt") is None:
        pytest.skip("gdalbuildvrt is not installed: apt-get install gdal-bin")
    item = made.product_item()
    keys = [key for key in made.grids()[max(made.grids())] if key != "scl"]
    files = [str(item.assets[key].get_absolute_href()) for key in keys]
    mosaic = tmp_path / "bands.vrt"
    subprocess.run(["gdalbuildvrt", "-q", "-separate", str(mosaic), *files], check=True)
    with rasterio.open(mosaic) as stacked:
        assert stacked.count == len(keys)
        for number, path in enumerate(files, start=1):
            with rasterio.open(path) as file:
                assert (file.read(1) == stacked.read(number)).all()
                assert (file.transform, file.crs, file.nodata) == (stacked.transform, stacked.crs, stacked.nodata)
