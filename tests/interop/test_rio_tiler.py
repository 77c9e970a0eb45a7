"""rio-tiler, and whatever is built on it, reads statistics and a tile of every asset."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import rasterio
import xarray as xr
from PIL import Image
from rio_tiler.io import Reader, STACReader
from rio_tiler.io.xarray import XarrayReader

from pipeline.layers import CLOUD_CLASSES, CLOUD_COLOURS, PROVENANCE, PROVENANCE_COLOURS
from tests.interop.conftest import Made

pytestmark = [
    # Neither Earth Search nor we state statistics; rio-tiler then measures them itself.
    pytest.mark.filterwarnings("ignore:Some statistics data in STAC are invalid:UserWarning"),
    # A tile of a small scene is larger than the scene's overviews.
    pytest.mark.filterwarnings("ignore:Adding dataset's alpha band:UserWarning"),
]
CLASSES = {"provenance": (PROVENANCE, PROVENANCE_COLOURS), "cloudmask": (CLOUD_CLASSES, CLOUD_COLOURS)}


def test_it_finds_every_raster_and_nothing_else(made: Made) -> None:
    with STACReader(str(made.product.path)) as reader:
        assert sorted(reader.assets) == sorted(made.raster_keys())
        assert reader.crs == made.crs
        with rasterio.open(made.product.folder / "provenance.tif") as file:
            assert tuple(reader.bounds) == pytest.approx(tuple(file.bounds))


def test_statistics_of_every_asset_are_those_of_its_pixels(made: Made) -> None:
    item = made.product_item()
    with STACReader(str(made.product.path)) as reader:
        for key in made.raster_keys():
            (found,) = reader.statistics(assets=[key], max_size=None)[key].values()
            with rasterio.open(item.assets[key].get_absolute_href()) as file:
                there = file.read(1, masked=True)
            assert (found.min, found.max, found.valid_pixels) == (there.min(), there.max(), there.count()), key
            assert found.mean == pytest.approx(there.mean())


def test_a_tile_of_every_asset_shows_the_scene(made: Made) -> None:
    with STACReader(str(made.product.path)) as reader:
        west, south, east, north = reader.get_geographic_bounds(rasterio.CRS.from_epsg(4326))
        tile = reader.tms.tile((west + east) / 2, (south + north) / 2, reader.maxzoom)
        for key in made.raster_keys():
            image = reader.tile(tile.x, tile.y, tile.z, assets=[key])
            assert image.data.shape == (1, 256, 256), key
            assert image.mask.any(), key
            assert len(image.render(img_format="PNG")) > 100
            if key in CLASSES:
                assert set(np.unique(image.array.compressed())) <= set(CLASSES[key][0]), key


@pytest.mark.parametrize("name", ["provenance", "cloudmask"])
def test_classes_bring_their_colours(made: Made, name: str) -> None:
    classes, colours = CLASSES[name]
    with Reader(str(made.product.folder / f"{name}.tif")) as reader:
        colormap = reader.colormap
        assert colormap is not None
        assert {value: tuple(colormap[value]) for value in classes} == dict(colours)
        image = reader.read()
    painted = np.asarray(Image.open(BytesIO(image.render(img_format="PNG", colormap=colormap))).convert("RGB"))
    for value in np.unique(image.data[0][image.data[0] > 0]):
        shown = painted[image.data[0] == value]
        assert (shown == colours[value][:3]).all()


def test_it_reads_a_zarr_store_as_it_reads_the_cog(stored: tuple[Made, Made]) -> None:
    cog, zarr = stored
    path = zarr.product.folder / f"{zarr.product.id}.zarr"
    group = next(found.parent.name for found in path.glob("*/provenance"))
    with (
        Reader(str(cog.product.folder / "provenance.tif")) as reader,
        xr.open_zarr(path, group=group) as data,
        XarrayReader(data.provenance) as other,
    ):
        assert other.crs == reader.crs
        assert tuple(other.bounds) == pytest.approx(tuple(reader.bounds))
        ((one,), (two,)) = (found.statistics().values() for found in (reader, other))
        assert (one.min, one.max, one.mean, one.unique) == (two.min, two.max, two.mean, two.unique)
        west, south, east, north = reader.get_geographic_bounds(rasterio.CRS.from_epsg(4326))
        tile = reader.tms.tile((west + east) / 2, (south + north) / 2, reader.maxzoom)
        first, second = (found.tile(tile.x, tile.y, tile.z).array.filled(0) for found in (reader, other))
    # Each is warped by another way of GDAL, so a pixel between two may fall to either.
    assert first.any()
    assert (first != second).mean() < 0.001
