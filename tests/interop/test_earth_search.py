"""The item of Earth Search of 2023 and the item of its product differ in nothing that a reader relies on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import rasterio

from tests.interop.conftest import Decloud, Made

BANDS = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08"}
ABOUT_THE_FILE = {"spatial_resolution", "data_type", "nodata"}
"""Fields of `raster:bands` that are those of the file: the samples have 120 m where their items say 10."""
GONE = {
    # Of classes of pixels that are no longer there, or of the source's place.
    "earthsearch:s3_path", "earthsearch:payload_id", "s2:dark_features_percentage", "s2:cloud_shadow_percentage",
    "s2:vegetation_percentage", "s2:not_vegetated_percentage", "s2:water_percentage", "s2:unclassified_percentage",
    "s2:medium_proba_clouds_percentage", "s2:high_proba_clouds_percentage", "s2:thin_cirrus_percentage", "s2:snow_ice_percentage",
}  # fmt: skip
TRUE_AGAIN = {"created", "updated", "eo:cloud_cover", "processing:software"}
"""Stated again for the product."""


@pytest.fixture(scope="module")
def made(real: Decloud) -> Made:
    return real("cog")


@pytest.fixture(scope="module")
def before(made: Made) -> dict[str, Any]:
    item: dict[str, Any] = json.loads(Path(str(made.source.origin)).read_text(encoding="utf-8"))
    return item


@pytest.fixture(scope="module")
def after(made: Made) -> dict[str, Any]:
    item: dict[str, Any] = json.loads(made.product.path.read_text(encoding="utf-8"))
    return item


def test_keys_and_descriptions_of_bands_are_the_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert after["stac_version"] == before["stac_version"] == "1.0.0"
    for key in BANDS:
        old, new = before["assets"][key], after["assets"][key]
        for name in ("eo:bands", "roles", "gsd", "title", "type"):
            assert new[name] == old[name], (key, name)
        (old_band,), (new_band,) = old["raster:bands"], new["raster:bands"]
        assert set(new_band) == set(old_band)
        assert {name for name in new_band if new_band[name] != old_band[name]} == {"spatial_resolution"}
        assert {*ABOUT_THE_FILE} <= set(new_band)
    assert after["assets"]["scl"]["title"] == before["assets"]["scl"]["title"]


def test_every_field_of_the_projection_is_true_of_the_files(made: Made, after: dict[str, Any]) -> None:
    assert set(after["assets"]) >= {*BANDS, "scl"}
    for key in (*BANDS, "scl"):
        asset = after["assets"][key]
        with rasterio.open(made.product.folder / asset["href"]) as file:
            assert asset["proj:shape"] == list(file.shape)
            assert asset["proj:transform"] == list(file.transform)[:6]
            assert after["properties"]["proj:epsg"] == file.crs.to_epsg()
            (band,) = asset["raster:bands"]
            assert (band["data_type"], band["nodata"]) == (file.dtypes[0], file.nodata)
            assert band["spatial_resolution"] == file.res[0]


def test_properties_are_kept_or_stated_again(before: dict[str, Any], after: dict[str, Any]) -> None:
    old, new = before["properties"], after["properties"]
    assert set(old) - set(new) == GONE
    assert {name for name in set(old) & set(new) if old[name] != new[name]} == TRUE_AGAIN
    assert {name.split(":")[0] for name in set(new) - set(old)} == {"declouder", "processing", "version"}
    assert after["geometry"] == before["geometry"]
    assert after["bbox"] == before["bbox"]
    assert set(before["stac_extensions"]) - set(after["stac_extensions"]) == set()


def test_what_is_not_there_is_named(made: Made, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Assets of the source that the product lacks are bands left out with a reason, or no bands of reflectance."""
    missing = {key for key in before["assets"] if key not in after["assets"]}
    reflectance = {key for key in missing if "eo:bands" in before["assets"][key] and not key.endswith("-jp2")} - {
        "visual"
    }
    assert len(reflectance) == len(after["properties"]["declouder:bands_left_out"]) == len(made.source.left_out)
