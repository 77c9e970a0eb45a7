"""xarray opens a Zarr product by what its item says, and rioxarray finds CRS and transform in it."""

from __future__ import annotations

import numpy as np
import rasterio
import rioxarray  # noqa: F401 (the accessor `rio`)
import xarray as xr

from tests.interop.conftest import Made, pixels


def test_every_asset_leads_to_an_array_with_its_grid(stored: tuple[Made, Made]) -> None:
    cog, zarr = stored
    item = zarr.product_item()
    store = item.assets["zarr"].get_absolute_href()
    assert store is not None
    layers = {key: asset for key, asset in item.assets.items() if ".zarr/" in asset.href}
    assert set(layers) == set(cog.raster_keys())
    for key, asset in layers.items():
        group, name = str(asset.get_absolute_href()).removeprefix(f"{store}/").split("/")
        path = cog.product.folder / f"{name}.tif"
        with xr.open_zarr(store, group=group) as data, rasterio.open(path) as file:
            found = data[name]
            assert found.rio.crs == file.crs
            assert found.rio.transform() == file.transform
            assert found.rio.nodata == file.nodata
            assert found.rio.shape == tuple(asset.extra_fields["proj:shape"])
            assert found.dtype == file.dtypes[0]
            np.testing.assert_array_equal(found.values, pixels(path), err_msg=key)


def test_the_store_opens_whole(stored: tuple[Made, Made]) -> None:
    cog, zarr = stored
    with xr.open_datatree(str(zarr.product_item().assets["zarr"].get_absolute_href()), engine="zarr") as tree:
        names = {name for group in tree.children.values() for name in group.data_vars}
        assert len(tree.children) == len(cog.grids())
    assert names == {path.stem for path in cog.product.folder.glob("*.tif")}


def test_a_map_of_it_can_be_reprojected(stored: tuple[Made, Made]) -> None:
    """What users do next: nearest neighbour keeps classes, and nodata stays nodata."""
    store = stored[1].product_item().assets["zarr"].get_absolute_href()
    group = str(stored[1].product_item().assets["provenance"].href).split("/")[-2]
    with xr.open_zarr(str(store), group=group) as data:
        turned = data.provenance.rio.reproject("EPSG:4326")
        assert turned.rio.crs.to_epsg() == 4326
        assert set(np.unique(turned)) <= {0, *np.unique(data.provenance)}
        assert turned.rio.nodata == 0
