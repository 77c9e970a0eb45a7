"""The main job on real data: five dates of one tile from a static catalogue, as COG and as Zarr, held against rasterio."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import rioxarray  # noqa: F401  (the accessor `rio`)
import xarray as xr
from rio_cogeo.cogeo import cog_validate

from catalogs.aoi import parse_aoi
from catalogs.dates import parse_dates
from catalogs.search import Query, search
from pipeline.runner import RunReport, run_scenes
from pipeline.settings import DecloudSettings, Resources

from .extension_rules import offline_validator

BANDS = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08"}


def found(shared_data: Path) -> list:
    start, end = parse_dates("2023-08-01/2023-08-31")
    area = parse_aoi("15.2,45.2,16.2,45.9")
    return list(search(Query(area, start, end), str(shared_data / "stac/earth-search/catalog.json")))


def run(items: list, output: Path, candidates: list | None = None, **changes) -> RunReport:
    settings = DecloudSettings(**({"checkpoint": "identity"} | changes))
    return run_scenes(items, output, settings, candidates=candidates or items, resources=Resources(block=512))


def _pixels(path: str) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.fixture(scope="module")
def items(shared_data: Path) -> list:
    return found(shared_data)


@pytest.fixture(scope="module")
def cogs(items: list, tmp_path_factory: pytest.TempPathFactory) -> RunReport:
    return run(items, tmp_path_factory.mktemp("cogs"))


def test_five_products_and_a_catalogue(items, cogs):
    assert [outcome.state for outcome in cogs.outcomes] == ["done"] * 5
    output = cogs.outcomes[0].product.folder.parent
    catalog = pystac.Catalog.from_file(str(output / "catalog.json"))
    assert {item.properties["declouder:source"] for item in catalog.get_items()} == {item.id for item in items}
    assert not list((output / ".staging").glob("*"))


def test_every_file_is_what_it_replaces(items, cogs):
    for item, outcome in zip(items, cogs.outcomes, strict=True):
        folder = outcome.product.folder
        with rasterio.open(folder / "provenance.tif") as file:
            provenance = file.read(1)
        assert (provenance >= 2).any()
        complete = np.logical_and.reduce([_pixels(item.bands[name].href) != 0 for name in BANDS.values()])
        for key, name in BANDS.items():
            path = folder / f"{name}.tif"
            assert cog_validate(str(path), strict=True, quiet=True)[0]
            with rasterio.open(item.bands[name].href) as before, rasterio.open(path) as after:
                for attribute in ("crs", "transform", "shape", "dtypes", "nodata", "count"):
                    assert getattr(after, attribute) == getattr(before, attribute), (key, attribute)
                assert after.driver == "GTiff"
                source, product = before.read(1), after.read(1)
            assert np.array_equal(product[provenance == 1], source[provenance == 1])
            assert np.array_equal(product == 0, source == 0)
            # Identity returns what it sees, which is all of a pixel or nothing: were the offset applied once more, a
            # thousand would be missing.
            assert np.abs(product.astype(int) - source)[complete].max() <= 1


def test_items_are_valid_and_their_checksums_right(items, cogs):
    for item, outcome in zip(items, cogs.outcomes, strict=True):
        product = outcome.product
        parsed = pystac.Item.from_file(str(product.path))
        parsed.validate(validator=offline_validator())
        source = json.loads(Path(item.origin).read_text())
        for key, name in BANDS.items():
            asset = parsed.assets[key]
            assert asset.extra_fields["eo:bands"] == source["assets"][key]["eo:bands"]
            band = asset.extra_fields["raster:bands"][0]
            assert (band["scale"], band["offset"]) == (0.0001, -0.1)
            assert asset.extra_fields["proj:shape"] == [915, 915]
            digest = hashlib.sha256((product.folder / f"{name}.tif").read_bytes()).hexdigest()
            assert asset.extra_fields["file:checksum"] == f"1220{digest}"
        assert parsed.properties["earthsearch:boa_offset_applied"] is True
        assert sum(share for name, share in product.provenance.items() if name != "nodata") == pytest.approx(
            1, abs=1e-4
        )
        links = [link.get_href() for link in parsed.links if link.rel == "derived_from"]
        assert Path(links[0]).name == f"{item.id}.json"


def test_zarr_holds_the_same_pixels(items, cogs, tmp_path):
    report = run(items[:2], tmp_path, items, format="zarr")
    for outcome, cog in zip(report.outcomes, cogs.outcomes, strict=False):
        assert outcome.state == "done"
        store = outcome.product.folder / f"{outcome.product.id}.zarr"
        groups = [path.parent.name for path in store.glob("*/B02")]
        data = xr.open_zarr(store, group=groups[0])
        for name in (*BANDS.values(), "provenance", "cloudmask"):
            with rasterio.open(cog.product.folder / f"{name}.tif") as file:
                assert np.array_equal(data[name].values, file.read(1)), name
                assert data[name].dtype == file.dtypes[0]
                assert data.rio.crs == file.crs
                assert data.rio.transform() == file.transform


def test_a_second_run_does_nothing_and_says_so(items, cogs):
    output = cogs.outcomes[0].product.folder.parent
    before = {path: path.stat().st_mtime_ns for path in output.glob("S2*/**/*")}
    start = time.perf_counter()
    again = run(items, output)
    seconds = (time.perf_counter() - start) / len(items)
    assert [outcome.state for outcome in again.outcomes] == ["unchanged"] * 5
    assert {path: path.stat().st_mtime_ns for path in output.glob("S2*/**/*")} == before
    assert seconds < 3


def test_another_parameter_makes_another_product_that_follows_the_first(items, tmp_path):
    item = items[3]
    first = run([item], tmp_path, references=0, max_generated=1).outcomes[0].product
    second = run([item], tmp_path, references=0, max_generated=1, grow=0).outcomes[0].product
    assert first.id != second.id
    links = [link for link in second.item["links"] if link["rel"] == "predecessor-version"]
    assert [link["title"] for link in links] == [first.id]
    assert {path.name for path in tmp_path.glob("S2*")} == {first.id, second.id}


def test_a_damaged_product_is_made_again(items, tmp_path):
    item = items[2]
    product = run([item], tmp_path, references=0).outcomes[0].product
    path = product.folder / "B03.tif"
    good = path.read_bytes()
    path.write_bytes(good[:-100] + b"x" * 100)
    again = run([item], tmp_path, references=0).outcomes[0]
    assert again.state == "done"
    assert path.read_bytes() == good


def test_mostly_clouds_without_other_dates_is_refused_not_guessed(items, tmp_path):
    outcome = run([items[0]], tmp_path, references=0).outcomes[0]
    assert outcome.state == "invalid"
    assert "made up without a clear other date" in outcome.reason
    assert "--max-generated" in outcome.reason
    assert not list(tmp_path.glob("S2*"))


def test_other_dates_help_where_the_clouds_are(items, tmp_path):
    """18 August restored with 13 August or without, held against 15 August, which neither run has seen."""
    by_day = {item.datetime.day: item for item in items}
    cloudy, other, truth = by_day[18], by_day[13], by_day[15]
    with rasterio.open(truth.scl.href) as file:
        clear = np.isin(file.read(1), [4, 5, 6])

    def error(folder: Path, where: np.ndarray) -> float:
        squares = []
        for name in BANDS.values():
            with rasterio.open(folder / f"{name}.tif") as made, rasterio.open(truth.bands[name].href) as seen:
                squares.append(((made.read(1).astype(float) - seen.read(1))[where] * 1e-4) ** 2)
        return float(np.sqrt(np.mean(squares)))

    folders = []
    for candidates in ([other], []):
        settings = DecloudSettings(references=1, max_generated=1)
        report = run_scenes([cloudy], tmp_path / str(len(candidates)), settings, candidates=candidates)
        folders.append(report.outcomes[0].product.folder)
    with rasterio.open(folders[0] / "provenance.tif") as file:
        where = (file.read(1) == 3) & clear
    assert where.sum() > 100_000
    with_dates, without = (error(folder, where) for folder in folders)
    cloudy_input = error(Path(cloudy.bands["B02"].href).parent, where)
    assert with_dates < 0.6 * without < 0.6 * cloudy_input
    for folder in folders:
        provenance, confidence = (_pixels(str(folder / f"{name}.tif")) for name in ("provenance", "confidence"))
        assert cog_validate(str(folder / "confidence.tif"), strict=True, quiet=True)[0]
        assert np.array_equal(confidence == 100, provenance == 1)
        assert np.array_equal(confidence == 255, provenance == 0)
        assert (confidence[provenance == 5] == 0).all()
        item = pystac.Item.from_file(str(folder / f"{folder.name}.json"))
        item.validate(validator=offline_validator())
        digest = hashlib.sha256((folder / "confidence.tif").read_bytes()).hexdigest()
        assert item.assets["confidence"].extra_fields["file:checksum"] == f"1220{digest}"
