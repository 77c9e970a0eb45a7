"""The item of a product: valid, true of the files beside it, and read by the tools that read its source."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pystac.validation
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension

from catalogs.item import BandAsset, SceneItem
from pipeline.cog import CogSink
from pipeline.layers import Layer, cloudmask_layer, confidence_layer, provenance_layer
from pipeline.preview import Preview
from pipeline.product import ModelRecord, Product, ProductRecord, ReferenceRecord
from pipeline.publish import is_published, publish, read_item
from pipeline.stac_item import build_item
from pipeline.zarr_store import ZarrSink
from tests.pipeline.extension_rules import offline_validator

SHARES = {"nodata": 0.1, "observed": 0.5, "blended": 0.1, "restored": 0.2, "generated": 0.15, "refused": 0.05}
CLOUDS = {"nodata": 0.1, "clear": 0.5, "thin": 0.1, "thick": 0.3, "shadow": 0.1, "snow": 0.0}


@pytest.fixture(autouse=True)
def _offline():
    former = pystac.validation.RegisteredValidator.get_validator()
    pystac.validation.set_validator(offline_validator())
    yield
    pystac.validation.set_validator(former)


def loaded(item: dict[str, Any]) -> pystac.Item:
    """Without links, which lead to files that are not there."""
    return pystac.Item.from_dict({**item, "links": []})


def made_source(**properties: Any) -> SceneItem:
    """A source in the style of Earth Search v1, with 10 m and 20 m bands."""
    ring = [[15.0, 45.0], [15.1, 45.0], [15.1, 45.1], [15.0, 45.1], [15.0, 45.0]]
    assets = {
        key: {
            "href": f"/data/{key}.tif",
            "title": f"{key} band",
            "gsd": 10,
            "eo:bands": [{"name": key, "common_name": common, "center_wavelength": 0.5}],
            "proj:shape": [10980, 10980],
            "proj:transform": [10, 0, 0, 0, -10, 0],
            "raster:bands": [
                {"nodata": 7, "data_type": "float32", "scale": 0.0001, "offset": -0.1, "spatial_resolution": 10}
            ],
            "file:checksum": "1220" + "0" * 64,
            "roles": ["data", "reflectance"],
        }
        for key, common in (("blue", "blue"), ("swir16", "swir16"))
    }
    stac = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [
            f"https://stac-extensions.github.io/{name}/schema.json"
            for name in ("eo/v1.1.0", "raster/v1.1.0", "projection/v1.1.0", "view/v1.0.0", "sar/v1.0.0")
        ],
        "id": "S2_SOURCE",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [15.0, 45.0, 15.1, 45.1],
        "properties": {
            "datetime": "2023-08-10T09:58:11.590000Z",
            "created": "2020-01-01T00:00:00Z",
            "platform": "sentinel-2b",
            "eo:cloud_cover": 69.3,
            "proj:epsg": 32601,
            "proj:bbox": [1, 2, 3, 4],
            "view:sun_azimuth": 150.5,
            "s2:processing_baseline": "05.09",
            "s2:high_proba_clouds_percentage": 43.5,
            "s2:nodata_pixel_percentage": 0.03,
            "earthsearch:boa_offset_applied": True,
            "earthsearch:s3_path": "s3://bucket/scene",
            "processing:software": {"sentinel2-to-stac": "0.1.1"},
            **properties,
        },
        "links": [
            {"rel": "license", "href": "https://example.com/license"},
            {"rel": "self", "href": "https://example.com/x"},
        ],
        "assets": assets,
    }
    bands = {
        "B02": BandAsset("B02", "blue", "/data/blue.tif", offset=0.0),
        "B11": BandAsset("B11", "swir16", "/data/swir16.tif", offset=0.0),
    }
    return SceneItem(
        id="S2_SOURCE",
        datetime=datetime(2023, 8, 10, 9, 58, 11, tzinfo=UTC),
        bands=bands,
        level="L2A",
        cloud_cover=69.3,
        origin="/catalogue/S2_SOURCE.json",
        stac=stac,
        left_out={"B12": "file is missing"},
    )


def grid(shape: tuple[int, int], size: float) -> GeoBox:
    return GeoBox(shape, Affine(size, 0, 499980, 0, -size, 5100000), "EPSG:32633")


def record(source: SceneItem | None = None, **changes: Any) -> ProductRecord:
    fine, coarse = grid((40, 60), 10), grid((20, 30), 20)
    values: dict[str, Any] = {
        "id": "S2_SOURCE_abc",
        "source": source or made_source(),
        "layers": (
            Layer("B02", "blue", fine, "uint16", 0),
            Layer("B11", "swir16", coarse, "uint16", None),
            provenance_layer(fine),
            confidence_layer(fine),
            cloudmask_layer(fine),
        ),
        "format": "cog",
        "key": "ab" * 32,
        "settings": {"tile": 256, "bands": ["B02", "B11"]},
        "model": ModelRecord("default", "cd" * 32, "srgan small", {"bands": ["B02"]}),
        "mask_method": "scl",
        "clouds": CLOUDS,
        "provenance": SHARES,
        "seam_score": 1.01,
        "confidence": {"blended": 97.25, "restored": 81.23456, "generated": 40.0},
        "references": (ReferenceRecord("S2_OTHER", "/catalogue/S2_OTHER.json", 3.0),),
        "skipped": {"S2_FAR": "40 days away"},
        "seconds": {"mask": 1.234567},
        "predecessor": "S2_SOURCE_old",
        "created": datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
    }
    return ProductRecord(**{**values, **changes})


def make_product(output: Path, made: ProductRecord) -> Path:
    staged = output / ".staging" / made.id
    sink = CogSink(staged, made.layers) if made.format == "cog" else ZarrSink(staged, made.id, made.layers)
    for layer in made.layers:
        top = 6 if layer.categories else 101 if layer.unit else 4000
        sink.write(layer.name, 0, np.random.default_rng(0).integers(1, top, layer.shape, dtype=layer.dtype))
    sink.close()
    preview = Preview(made.layers[0].shape)
    image = np.ones((3, *made.layers[0].shape), np.uint16)
    preview.add(0, image, image)
    preview.save(staged)
    return publish(staged, output, build_item(made))


@pytest.mark.parametrize("style", ["cog", "zarr"])
def test_a_published_item_is_valid_and_true_of_its_files(tmp_path, style):
    made = record(format=style)
    folder = make_product(tmp_path, made)
    assert is_published(tmp_path, made.id) is True
    item = pystac.Item.from_file(str(folder / f"{made.id}.json"))
    validated = item.validate()
    assert len(validated) == 1 + len(item.stac_extensions)
    assert item.datetime == datetime(2023, 8, 10, 9, 58, 11, 590000, tzinfo=UTC)
    for key, asset in item.assets.items():
        path = Path(asset.get_absolute_href())
        assert path.exists(), key
        if path.is_file():
            assert FileExtension.ext(asset).size == path.stat().st_size
    classes = ClassificationExtension.ext(item.assets["provenance"]).classes
    assert [(entry.value, entry.name) for entry in classes] == list(enumerate(SHARES))
    if style == "cog":
        for layer in made.layers:
            asset = item.assets[layer.key]
            projection = ProjectionExtension.ext(asset)
            with rasterio.open(asset.get_absolute_href()) as file:
                assert list(projection.shape) == [file.height, file.width]
                assert Affine(*projection.transform[:6]) == file.transform
                assert rasterio.CRS.from_user_input(projection.code) == file.crs
                assert asset.extra_fields["raster:bands"][0]["data_type"] == file.dtypes[0]
                assert asset.extra_fields["raster:bands"][0].get("nodata") == file.nodata
            assert asset.media_type == pystac.MediaType.COG
    else:
        assert item.assets["blue"].href.endswith("S2_SOURCE_abc.zarr/r10m/B02")
        assert item.assets["swir16"].href.endswith("S2_SOURCE_abc.zarr/r20m/B11")
        assert item.assets["zarr"].roles == ["data"]


def test_times_of_stages_are_told_and_which_was_the_limit():
    """An item of a product whose stages nobody timed says nothing of a limit."""
    timed = build_item(record(seconds={"network": 18.2345, "total": 24.6}, limit="network"))["properties"]
    assert timed["declouder:seconds"] == {"network": 18.23, "total": 24.6}
    assert timed["declouder:limit"] == "network"
    assert "declouder:limit" not in build_item(record())["properties"]


def test_rules_of_extensions_are_enforced():
    """The stand-ins for the schemas find what is wrong: else the test above shows nothing."""
    good = build_item(record())
    loaded(good).validate()
    for change in (
        lambda item: item["properties"].update({"eo:cloud_cover": 101}),
        lambda item: item["properties"].update({"processing:levle": "L2A"}),
        lambda item: item["assets"]["blue"].update({"proj:shape": [1.5, 2]}),
        lambda item: item["assets"]["blue"].update({"file:checksum": "abc"}),
        lambda item: item["assets"]["blue"]["raster:bands"][0].update({"data_type": "short"}),
        lambda item: item["assets"]["provenance"]["classification:classes"][1].pop("name"),
        lambda item: item["properties"].update({"version": 3}),
        lambda item: item.update({"bbox": "all"}),
        lambda item: item["properties"].pop("datetime"),
    ):
        bad = json.loads(json.dumps(good))
        change(bad)
        with pytest.raises((pystac.STACValidationError, pystac.errors.STACError)):
            loaded(bad).validate()


def test_what_still_holds_is_kept_and_what_does_not_is_gone():
    item = build_item(record())
    properties = item["properties"]
    source = made_source().stac
    for name in (
        "datetime",
        "platform",
        "view:sun_azimuth",
        "s2:processing_baseline",
        "s2:nodata_pixel_percentage",
        "earthsearch:boa_offset_applied",
    ):
        assert properties[name] == source["properties"][name]
    for name in ("proj:bbox", "s2:high_proba_clouds_percentage", "earthsearch:s3_path"):
        assert name not in properties
    assert (item["geometry"], item["bbox"]) == (source["geometry"], source["bbox"])
    assert properties["eo:cloud_cover"] == 5
    assert properties["declouder:source_cloud_cover"] == 69.3
    assert properties["proj:epsg"] == 32633
    assert properties["created"] == "2024-01-02T03:04:05Z"
    assert properties["processing:level"] == "L2A"
    assert set(properties["processing:software"]) == {"sentinel2-to-stac", "declouder"}
    assert properties["declouder:provenance"] == SHARES
    assert properties["declouder:bands_left_out"] == {"B12": "file is missing"}
    assert properties["declouder:model"]["sha256"] == "cd" * 32
    assert not any("sar/" in uri for uri in item["stac_extensions"])
    blue = item["assets"]["blue"]
    assert blue["title"] == "blue band"
    assert blue["eo:bands"] == source["assets"]["blue"]["eo:bands"]
    # Encoding as in the source, type and nodata as in the file; what was applied to the numbers is said beside it.
    assert blue["raster:bands"] == [
        {"scale": 0.0001, "offset": -0.1, "spatial_resolution": 10.0, "data_type": "uint16", "nodata": 0}
    ]
    assert blue["declouder:reflectance"] == {"scale": 1e-4, "offset": 0.0}
    assert "nodata" not in item["assets"]["swir16"]["raster:bands"][0]
    assert "file:checksum" not in blue
    json.dumps(item, allow_nan=False)


def test_confidence_is_described_where_it_is_and_averaged_by_class():
    item = build_item(record())
    assert item["properties"]["declouder:confidence"] == {"blended": 97.25, "restored": 81.23, "generated": 40.0}
    asset = item["assets"]["confidence"]
    assert asset["href"] == "./confidence.tif"
    assert asset["roles"] == ["data", "confidence"]
    assert "within 0.02 of the ground's reflectance" in asset["description"]
    assert asset["raster:bands"] == [
        {"spatial_resolution": 10.0, "data_type": "uint8", "nodata": 255, "unit": "%"},
    ]
    assert "confidence-pam" not in item["assets"]
    newer = build_item(record(replace(made_source(), stac={**made_source().stac, "stac_version": "1.1.0"})))
    asset = newer["assets"]["confidence"]
    assert (asset["data_type"], asset["nodata"], asset["unit"]) == ("uint8", 255, "%")
    loaded(newer).validate()


def test_of_a_product_that_is_a_source_nothing_of_our_own_is_kept():
    """The first network knew its errors, this one does not: its item must not say what the first one thought."""
    first = build_item(record(references=()))
    source = replace(made_source(), stac={**first, "id": "S2_SOURCE"})
    layers = tuple(layer for layer in record().layers if layer.name != "confidence")
    again = build_item(record(source, layers=layers, confidence={}, seam_score=None, key="ef" * 32))
    assert "confidence" not in again["assets"]
    assert not {"declouder:confidence", "declouder:seam_score"} & set(again["properties"])
    assert again["properties"]["declouder:run_key"] == "ef" * 32
    assert again["properties"]["platform"] == "sentinel-2b"


def test_links_lead_to_where_it_comes_from(tmp_path):
    folder = make_product(tmp_path, record())
    item = pystac.Item.from_file(str(folder / "S2_SOURCE_abc.json"))
    links = [(link.rel, link.href if link.rel != "root" else "") for link in item.links if link.rel != "self"]
    raw = read_item(tmp_path, "S2_SOURCE_abc")["links"]
    assert [(link["rel"], link["href"]) for link in raw] == [
        ("root", "../catalog.json"),
        ("parent", "../catalog.json"),
        ("derived_from", "/catalogue/S2_SOURCE.json"),
        ("derived_from", "/catalogue/S2_OTHER.json"),
        ("predecessor-version", "../S2_SOURCE_old/S2_SOURCE_old.json"),
        ("license", "https://example.com/license"),
    ]
    assert len(links) == len(raw)
    assert item.get_root().id == "declouder"
    assert Product("S2_SOURCE_abc", folder, read_item(tmp_path, "S2_SOURCE_abc")).path.is_file()
    assert Product("S2_SOURCE_abc", folder, read_item(tmp_path, "S2_SOURCE_abc")).provenance == SHARES


def test_signed_links_lose_their_secrets():
    source = replace(made_source(), origin="https://user:pw@example.com/items/S2.json?sig=secret")
    hrefs = [link["href"] for link in build_item(record(source))["links"]]
    assert "https://example.com/items/S2.json" in hrefs
    assert not any("secret" in href or "pw" in href for href in hrefs)


def test_bands_of_one_file_become_assets_of_their_own():
    """A source with one asset for several bands has one key for all of them."""
    bands = [{"name": "B02", "raster:scale": 1e-4}, {"name": "B03", "raster:scale": 1e-4}]
    source = made_source()
    stac = {
        **source.stac,
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "assets": {"image": {"href": "/data/image.tif", "roles": ["data"], "bands": bands}},
        "properties": {"datetime": "2023-08-10T09:58:11Z"},
    }
    names = {name: BandAsset(name, "image", "/data/image.tif", index) for index, name in ((1, "B02"), (2, "B03"))}
    layers = tuple(Layer(name, "image", grid((4, 6), 10), "uint16", 65535) for name in names)
    item = build_item(record(replace(source, stac=stac, bands=names), layers=layers, predecessor=None))
    assert [key for key in item["assets"] if key.startswith("B")] == ["B02", "B03"]
    assert item["assets"]["B03"]["bands"] == [bands[1]]
    assert item["assets"]["B03"]["href"] == "./B03.tif"
    assert (item["assets"]["B03"]["data_type"], item["assets"]["B03"]["nodata"]) == ("uint16", 65535)
    assert item["properties"]["proj:code"] == "EPSG:32633"
    assert item["stac_version"] == "1.1.0"
    loaded(item).validate()


def test_a_source_without_geometry_or_epsg_still_gives_a_valid_item():
    crs = "+proj=laea +lat_0=45 +lon_0=15 +datum=WGS84"
    source = made_source()
    stac = {**source.stac, "geometry": None, "properties": {"datetime": None}, "stac_extensions": ["eo", "view"]}
    stac.pop("bbox")
    layers = (Layer("B02", "blue", GeoBox((4, 6), Affine(10, 0, 0, 0, -10, 0), crs), "uint16", 0),)
    item = build_item(record(replace(source, stac=stac), layers=layers))
    assert item["properties"]["proj:code"] is None
    assert "Lambert" in item["properties"]["proj:wkt2"]
    assert item["properties"]["datetime"] == "2023-08-10T09:58:11Z"
    assert 14.9 < item["bbox"][0] < item["bbox"][2] < 15.1
    loaded(item).validate()
