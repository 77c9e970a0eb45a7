"""The simulated area: what is written agrees with itself, with its metadata and with independent readers."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from rasterio.warp import transform_bounds
from scipy.signal import fftconvolve
from shapely.geometry import box, shape

from catalogs.bands import BANDS
from pipeline.errors import InvalidSettings, WriteFailed
from pipeline.simulation.simulate import DATES, Simulated, SimulatedDate, simulate_area, swath
from pipeline.simulation.spectra import SIMULATED_BANDS
from pipeline.simulation.weather import Weather

SIZE = 240
FEW = (
    SimulatedDate(0, Weather()),
    SimulatedDate(5, Weather(cumulus=0.2, cell=500, base=700)),
    SimulatedDate(10, Weather(cumulus=0.1, cell=500, base=700, veil=1.5), missing=0.3),
)


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return simulate_area(tmp_path_factory.mktemp("area"), seed=5, size=SIZE, dates=FEW)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def home(area: Simulated, item: str) -> Path:
    return area.catalogue.parent / "sentinel-2-l2a" / item


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_area(tmp_path / name, seed=seed, size=96, dates=FEW[:2])
    first, again, other = (digests(tmp_path / name) for name in "abc")
    assert len(first) == 2 * (2 * len(SIMULATED_BANDS) + 2) + 2
    assert first == again
    assert {name for name in first if name.endswith(".tif")} == {
        name for name in other if first[name] != other[name] and name.endswith(".tif")
    }


def test_a_date_does_not_depend_on_which_others_are_asked_for(area: Simulated, tmp_path: Path) -> None:
    alone = simulate_area(tmp_path, seed=5, size=SIZE, dates=[FEW[1]])
    name = area.items[1]
    assert np.array_equal(read(home(alone, alone.items[0]) / "B04.tif"), read(home(area, name) / "B04.tif"))


def test_bands_nest_on_one_grid(area: Simulated) -> None:
    for item in area.items:
        for name in (*SIMULATED_BANDS, "SCL"):
            gsd = 20 if name == "SCL" else BANDS[name].gsd
            with rasterio.open(home(area, item) / f"{name}.tif") as dataset:
                assert dataset.crs.to_epsg() == 32633
                assert dataset.shape == (SIZE * 10 // gsd,) * 2
                assert dataset.transform[:6] == (gsd, 0, 540000, 0, -gsd, 5352000)
                assert (dataset.transform.c % 60, dataset.transform.f % 60) == (0, 0)
                assert dataset.dtypes == (("uint8",) if name == "SCL" else ("uint16",))
                assert dataset.nodata == 0
                assert dataset.profile["tiled"]


def test_scene_and_truth_agree_where_nothing_is_in_the_way(area: Simulated) -> None:
    clear, cumulus, veil = area.items
    for name in SIMULATED_BANDS:
        assert np.array_equal(read(home(area, clear) / f"{name}.tif"), read(area.truth / clear / f"{name}.tif"))
    for item in (cumulus, veil):
        for name in ("B02", "B8A", "B09"):
            seen, truth = read(home(area, item) / f"{name}.tif"), read(area.truth / item / f"{name}.tif")
            assert np.array_equal(seen == 0, truth == 0)
            share = float((seen == truth).mean())
            assert 0.1 < share < 0.9, f"{item} {name}: {share}"


def test_nodata_is_the_outside_of_the_swath_and_only_that(area: Simulated) -> None:
    for item, date in zip(area.items, FEW, strict=True):
        outside = ~swath(SIZE, date.missing)
        assert np.array_equal(read(home(area, item) / "B08.tif") == 0, outside)
        for name in ("B11", "B09", "SCL"):
            factor = 2 if name != "B09" else 6
            touched = outside.reshape(SIZE // factor, factor, SIZE // factor, factor).any(axis=(1, 3))
            assert np.array_equal(read(home(area, item) / f"{name}.tif") == 0, touched)
    assert not outside[0, 0]
    assert not outside[-1, 0]
    assert outside[-1, -1]
    assert outside.mean() == pytest.approx(0.3 - math.tan(math.radians(14)) / 2, abs=0.01)


def test_shadows_lie_where_the_sun_of_the_item_throws_them(area: Simulated) -> None:
    item = area.items[1]
    blue, nir = (
        [read(folder / f"{name}.tif").astype(float) for folder in (home(area, item), area.truth / item)]
        for name in ("B02", "B08")
    )
    cloud = (blue[0] - blue[1] > 1500).astype(float)
    shadow = (nir[0] < 0.6 * nir[1]).astype(float)
    match = fftconvolve(shadow - shadow.mean(), (cloud - cloud.mean())[::-1, ::-1], mode="same")
    row, col = np.unravel_index(np.argmax(match), match.shape)
    down, right = row - (SIZE - 1) // 2, col - (SIZE - 1) // 2
    sun = json.loads((home(area, item) / f"{item}.json").read_text())["properties"]
    away = math.degrees(math.atan2(right, -down)) % 360
    assert abs((away - sun["view:sun_azimuth"] - 180 + 180) % 360 - 180) < 8
    height = 10 * math.hypot(down, right) * math.tan(math.radians(sun["view:sun_elevation"]))
    assert 650 < height < 1100  # from the base at 700 m to the tops


def test_catalogue_is_valid_and_complete(area: Simulated) -> None:
    catalogue = pystac.Catalog.from_file(str(area.catalogue))
    items = list(catalogue.get_items(recursive=True))
    assert tuple(item.id for item in items) == area.items
    collection = next(catalogue.get_children())
    for thing in (catalogue, collection, *items):
        thing.stac_extensions = []  # their schemas are on the network; the core's come with pystac
        assert thing.validate()
    for item in items:
        assert item.properties["earthsearch:boa_offset_applied"] is True
        assert item.properties["s2:processing_baseline"] == "05.09"
        assert item.datetime is not None
        assert item.datetime.tzinfo is not None
        assert set(item.assets) == {BANDS[name].common_name for name in SIMULATED_BANDS} | {"scl"}
        for asset in item.assets.values():
            with rasterio.open(asset.get_absolute_href()) as dataset:
                stated = asset.to_dict()
                assert list(dataset.shape) == stated["proj:shape"]
                assert list(dataset.transform)[:6] == stated["proj:transform"]
                assert stated["raster:bands"][0]["data_type"] == dataset.dtypes[0]


def test_footprint_holds_the_valid_pixels(area: Simulated) -> None:
    full, cut = (json.loads((home(area, item) / f"{item}.json").read_text()) for item in (area.items[0], area.items[2]))
    with rasterio.open(home(area, area.items[0]) / "B02.tif") as dataset:
        bounds = box(*transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds))
    assert shape(full["geometry"]).intersection(bounds).area == pytest.approx(shape(full["geometry"]).area, rel=1e-3)
    valid = float((read(home(area, area.items[2]) / "B02.tif") > 0).mean())
    assert shape(cut["geometry"]).area / shape(full["geometry"]).area == pytest.approx(valid, abs=0.005)
    west, south, east, north = (float(value) for value in area.aoi.split(","))
    assert shape(full["geometry"]).contains(box(west, south, east, north))


def test_classification_agrees_with_the_pixels_but_is_a_little_small(area: Simulated) -> None:
    item = area.items[1]
    stated = json.loads((home(area, item) / f"{item}.json").read_text())["properties"]["eo:cloud_cover"]
    classes = read(home(area, item) / "SCL.tif")
    cloud = np.isin(classes, (8, 9, 10))
    assert stated == pytest.approx(100 * cloud.mean(), abs=1e-3)
    seen, truth = (
        read(folder / "B02.tif").astype(float).reshape(SIZE // 2, 2, SIZE // 2, 2).mean(axis=(1, 3)) / 1e4
        for folder in (home(area, item), area.truth / item)
    )
    thick = seen - truth > 0.25
    assert cloud[thick].mean() > 0.97
    hidden = seen - truth > 0.02
    assert 0.5 < cloud[hidden].mean() < 0.97
    assert (hidden | (truth > 0.2))[cloud].mean() > 0.97
    clear = read(home(area, area.items[0]) / "SCL.tif")
    assert np.isin(clear, (3, 8, 9, 10)).mean() < 0.02
    assert {4, 5, 6} <= set(np.unique(clear).tolist())


def test_names_the_cloudy_dates(area: Simulated) -> None:
    assert area.cloudy == area.items[1:]
    assert area.dates == "2023-07-08/2023-07-18"


def test_reflectance_is_stored_without_an_offset(area: Simulated) -> None:
    red, nir = (read(area.truth / area.items[0] / f"{name}.tif").astype(float) for name in ("B04", "B08"))
    assert 100 < np.percentile(red, 5) < np.percentile(red, 95) < 3000
    assert np.median((nir - red) / (nir + red)) > 0.3


def test_default_dates_begin_and_end_clear() -> None:
    cover = [date.weather.cumulus + date.weather.veil for date in DATES]
    assert max(cover[0], cover[-1]) < 0.01 < min(cover[1:-1])


@pytest.mark.parametrize(("size", "reason"), [(100, "multiple of 6"), (90, "at least 96")])
def test_refuses_a_size_that_does_not_fit(tmp_path: Path, size: int, reason: str) -> None:
    with pytest.raises(InvalidSettings, match=reason):
        simulate_area(tmp_path / "area", size=size)
    assert not (tmp_path / "area").exists()


@pytest.mark.parametrize("days", [(), (3, 3), (5, 0)])
def test_refuses_dates_out_of_order(tmp_path: Path, days: tuple[int, ...]) -> None:
    with pytest.raises(InvalidSettings, match="must ascend"):
        simulate_area(tmp_path, size=96, dates=[SimulatedDate(day, Weather()) for day in days])


@pytest.mark.parametrize("wrong", [{"day": -1}, {"missing": 1.0}, {"missing": -0.1}])
def test_refuses_an_impossible_date(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidSettings, match="must"):
        SimulatedDate(**{"day": 0, "weather": Weather(), **wrong})


def test_says_where_it_could_not_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteFailed, match="file"):
        simulate_area(tmp_path / "file", size=96, dates=FEW[:1])
