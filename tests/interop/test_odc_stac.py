"""odc-stac and pystac load a product as they load its source."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import odc.stac
import pystac
import pytest

from tests.interop.conftest import Made

# odc-geo calls what shapely announces to give up.
pytestmark = pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning")
OWN = {"provenance", "confidence", "cloudmask"}


@pytest.fixture(autouse=True)
def _beside() -> Iterator[None]:
    """The grid of the samples of 33TWL stands in files beside them, which odc-stac does not look for by itself."""
    odc.stac.configure_rio(GDAL_DISABLE_READDIR_ON_OPEN="FALSE")
    yield
    odc.stac.configure_rio()


def test_what_was_there_loads_as_before(made: Made) -> None:
    """The same call on both items: the same variables on the same grid, of the same type, clear pixels equal."""
    source, product = made.source_item(), made.product_item()
    assert len(made.grids()) == (1 if made.source.tile == "33TWL" else 3)
    for shape, keys in made.grids().items():
        before, after = (odc.stac.load([item], bands=keys) for item in (source, product))
        assert after.odc.geobox == before.odc.geobox
        assert after.odc.geobox.shape == shape
        assert (after.time == before.time).all()
        assert list(after.data_vars) == list(before.data_vars) == keys
        clear = made.observed(shape)
        assert 0 < clear.sum() < clear.size
        for key in keys:
            assert after[key].dtype == before[key].dtype
            assert after[key].attrs == before[key].attrs, key
            np.testing.assert_array_equal(after[key].values[0][clear], before[key].values[0][clear])
        changed = [key for key in keys if not after[key].equals(before[key])]
        # The identity gives back what it sees, but for the rounding of means.
        network = made.product.item["properties"]["declouder:model"]["name"] != "identity"
        assert "scl" not in changed
        assert not network or changed == [key for key in keys if key != "scl"]


def test_layers_of_ours_come_along(made: Made) -> None:
    """Without naming bands everything is loaded: what the source had and was processed, and what says where it comes from."""
    item = made.product_item()
    loaded = odc.stac.load([item], chunks={})
    own = OWN & set(item.assets)
    assert own >= {"provenance", "cloudmask"}
    assert set(loaded.data_vars) == {*made.keys, *own}
    provenance = odc.stac.load([item], bands=["provenance"]).provenance
    assert set(np.unique(provenance)) <= set(range(6))
    assert provenance.nodata == 0
    assert provenance.odc.geobox.shape == max(made.grids())


def test_the_folder_is_a_catalogue_that_pystac_walks(made: Made) -> None:
    catalogue = pystac.Catalog.from_file(str(made.product.folder.parent / "catalog.json"))
    (item,) = catalogue.get_items()
    assert item.id == made.product.id
    assert item.get_root() is catalogue
    parent = item.get_parent()
    assert parent is not None
    assert parent.id == catalogue.id
    (stac_source,) = (
        link.resolve_stac_object().target
        for link in item.links
        if link.rel == "derived_from" and link.title == made.source.id
    )
    assert stac_source.datetime == item.datetime
    assert stac_source.geometry == item.geometry
    for key in made.keys:
        assert item.assets[key].media_type == pystac.MediaType.COG
        assert item.assets[key].roles == stac_source.assets[key].roles
