"""Products: records that cannot be, and products of real scenes read by a tool that reads their source."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import odc.stac
import pystac
import pystac.validation
import pytest
import rasterio
from odc.geo.geobox import GeoBox

from catalogs.files import open_sources
from pipeline.cog import CogSink
from pipeline.errors import WriteFailed
from pipeline.layers import Layer, provenance_layer
from pipeline.preview import Preview
from pipeline.publish import publish
from pipeline.stac_item import build_item
from tests.pipeline.extension_rules import offline_validator
from tests.pipeline.test_stac_item import record


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"provenance": {"invented": 0.5}}, r"unknown provenance \['invented'\]"),
        ({"provenance": {"observed": 1.5}}, "must be 0..1"),
        ({"clouds": {"thin": -0.1}}, "must be 0..1"),
        ({"confidence": {"restored": 100.5}}, r"mean confidence \{'restored': 100.5\} must be 0..100 of a class"),
        ({"confidence": {"invented": 50.0}}, "mean confidence .*invented"),
        ({"layers": ()}, "once each"),
        ({"created": datetime(2024, 1, 1)}, "has no time zone"),  # noqa: DTZ001
    ],
)
def test_a_record_that_cannot_be_is_refused(change, reason):
    with pytest.raises(WriteFailed, match=reason):
        record(**change)


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # odc-geo's, as the next
@pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning")
@pytest.mark.parametrize(
    "name",
    [
        "stac/earth-search/sentinel-2-l2a/S2B_33TWL_20230810_0_L2A/S2B_33TWL_20230810_0_L2A.json",
        "stac/sentinel2_29RKH/S2A_29RKH_20200219_0_L2A/S2A_29RKH_20200219_0_L2A.json",
    ],
)
def test_products_of_real_items_are_valid_and_load_like_their_source(tmp_path, shared_data, name):
    """odc-stac reads the product by the source's own asset keys, on the grid of the files."""
    (source,) = open_sources([str(shared_data / name)], None)
    names = [band for band in ("B02", "B03", "B11") if band in source.bands]
    layers, pixels = [], {}
    for band in names:
        with rasterio.open(source.bands[band].href) as file:
            box = GeoBox((file.height, file.width), file.transform, file.crs)
            layers.append(Layer(band, source.bands[band].key, box, "uint16", int(file.nodata)))
            pixels[band] = file.read(1)
    made = record(source, id=f"{source.id}_x", layers=(*layers, provenance_layer(layers[0].geobox)), predecessor=None)
    staged = tmp_path / ".staging" / made.id
    sink = CogSink(staged, made.layers)
    for layer in made.layers:
        sink.write(layer.name, 0, pixels.get(layer.name, np.ones(layer.shape, np.uint8)))
    sink.close()
    preview = Preview(layers[0].shape, nodata=0)
    preview.add(0, *[np.stack([pixels["B02"]] * 3)] * 2)
    preview.save(staged)
    folder = publish(staged, tmp_path, build_item(made))
    item = pystac.Item.from_file(str(folder / f"{made.id}.json"))
    former = pystac.validation.RegisteredValidator.get_validator()
    pystac.validation.set_validator(offline_validator())
    try:
        item.validate()
    finally:
        pystac.validation.set_validator(former)
    for layer in layers:
        pinned = odc.stac.load([item], bands=[layer.key], geobox=layer.geobox)
        assert pinned[layer.key].dtype == np.uint16
        np.testing.assert_array_equal(pinned[layer.key].values[0], pixels[layer.name])
        free = odc.stac.load([item], bands=[layer.key], chunks={})
        assert free.odc.geobox.shape == layer.geobox.shape
