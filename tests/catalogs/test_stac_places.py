from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rasterio
from rasterio.warp import transform_bounds
from shapely.geometry import box

from catalogs.aoi import parse_aoi
from catalogs.dates import parse_dates
from catalogs.errors import CatalogError, InvalidItem, InvalidQuery
from catalogs.places import Found, find_places
from catalogs.query import Query
from catalogs.splits import Splits
from tests.catalogs.conftest import make_catalog, make_item, make_raster, write_json

HALF = {"shape": (300, 300), "sparse_ok": True, "compress": "deflate", "tiled": True}
"""A grid that holds one chip of 256 and four of 128, of bands that take no space."""
ORIGIN = (501_400.0, 5_099_640.0)
"""A little before a corner of the lattice: multiples of 2560 m from the origin of the zone are at 501760 and 5099520."""


def find(root: Path | str, **options: Any) -> Found:
    return find_places(str(root), "stac", **options)


def item(folder: Path, identifier: str = "S2B_33TWL_20230810_0_L2A", **changes: Any) -> dict[str, Any]:
    """An item whose two bands, 10 and 20 m, are made in `folder`; `raster` goes to the bands."""
    raster = {"origin": ORIGIN, **HALF, **changes.pop("raster", {})}
    make_raster(folder / "B02.tif", **raster)
    rows, cols = raster["shape"]
    coarse = {**raster, "shape": (rows // 2, cols // 2), "pixel": 2 * raster.get("pixel", 10.0)}
    make_raster(folder / "B05.tif", **coarse)
    assets = {band: {"href": f"./{band}.tif"} for band in ("B02", "B05")}
    day = identifier.split("_")[2]
    moment = f"{day[:4]}-{day[4:6]}-{day[6:]}T09:58:11Z"
    properties = {"datetime": moment, "s2:datatake_id": f"GS2B_{day}T094549_033567_N05.09"}
    return make_item(identifier, assets, properties=properties | changes.pop("properties", {}), **changes)


def loose(root: Path, *dates: str, **changes: Any) -> list[Path]:
    """Items of some dates, each in a folder of its own, without a catalogue."""
    names = [f"S2B_33TWL_{date}_0_L2A" for date in dates]
    return [write_json(root / name / "item.json", item(root / name, name, **changes)) for name in names]


def test_the_real_catalogue(shared_data: Path) -> None:
    root = shared_data / "stac" / "earth-search"
    found = find(root)
    assert found.rejects == ()
    assert found.guard == 0
    days = [f"{date:%Y-%m-%d}" for image in [found.places[0].images] for date in [i.date for i in image] if date]
    assert days == ["2023-08-10", "2023-08-13", "2023-08-15", "2023-08-18", "2023-08-20"]
    # The items claim 10980 x 10980 pixels of 10 m; the files have 915 x 915 of 120 m.
    with rasterio.open(root / "sentinel-2-l2a" / "S2B_33TWL_20230810_0_L2A" / "B02.tif") as file:
        for place in found.places:
            assert (place.group, place.crs, len(place.images)) == ("33TWL", "EPSG:32633", 5)
            window = place.window
            assert window is not None
            assert window.row + window.height <= file.height
            assert window.col + window.width <= file.width
            bounds = rasterio.windows.bounds(
                rasterio.windows.Window(window.col, window.row, window.width, window.height), file.transform
            )
            assert place.id == f"33TWL_L2A_120_{bounds[0]:.0f}_{bounds[3]:.0f}"
            expected = box(*transform_bounds(file.crs, "EPSG:4326", *bounds))
            assert expected.buffer(1e-3).contains(place.geometry)
            assert place.geometry.area > 0.9 * expected.area
    windows = [place.window for place in found.places if place.window]
    assert len({(window.row, window.col) for window in windows}) == len(windows) == 6
    assert len(find(root, chip=128).places) == 42


def test_every_way_to_name_items_gives_the_same_places(shared_data: Path) -> None:
    root = shared_data / "stac" / "earth-search"
    places = find(root).places
    for source in (root / "catalog.json", root / "sentinel-2-l2a", root / "sentinel-2-l2a" / "collection.json"):
        assert find(source).places == places
    lone = root / "sentinel-2-l2a" / "S2A_33TWL_20230815_0_L2A"
    by_folder, by_file = find(lone), find(lone / "S2A_33TWL_20230815_0_L2A.json")
    assert by_folder.places == by_file.places
    assert [place.id for place in by_folder.places] == [place.id for place in places]
    # The folder above has no catalogue of its own: all items below it are taken.
    above = find(shared_data / "stac")
    assert {place.group for place in above.places} == {"33TWL", "29RKH"}
    assert [place for place in above.places if place.group == "33TWL"] == list(places)


def test_area_and_dates(shared_data: Path) -> None:
    root = shared_data / "stac" / "earth-search"
    two = find(root, query=Query(None, *parse_dates("2023-08-13/2023-08-15")))
    assert [len(place.images) for place in two.places] == [2] * 6
    part = find(root, query=Query(parse_aoi("15.3,45.8,15.4,45.9")))
    assert 0 < len(part.places) < 6
    assert set(part.places) <= set(find(root).places)
    with pytest.raises(InvalidQuery, match="nothing found of layout stac"):
        find(root, query=Query(None, *parse_dates("2020-01-01")))


def test_a_tile_that_the_splits_name(shared_data: Path) -> None:
    splits = Splits("mine", {"33TWL": "other"}, rest="train")
    root = shared_data / "stac"
    by_tile, by_block = (find(root, splits=splits, by=by) for by in ("tile", "block"))
    for found in (by_tile, by_block):
        named = {place.split for place in found.places if place.id.startswith("33TWL")}
        assert named == {"other"}
    assert {place.group for place in by_block.places if place.split == "train"} == {"32629_100_b-16_1"}


def test_blocks_have_a_guard_between_them(tmp_path: Path) -> None:
    # 16 chips of 128 a side from the first pixel of a block: 12 in it, 2 in the guard, 2 in the next block.
    period = 7 * 2560.0
    loose(tmp_path, "20230810", raster={"origin": (28 * period, -10 * period + 300 * period), "shape": (2048, 2048)})
    found = find(tmp_path, chip=128, by="block", splits=Splits("mine", rest="train"))
    assert len(found.places) == 14 * 14
    assert found.guard == 16 * 16 - 14 * 14
    sizes = sorted(sum(place.group == group for place in found.places) for group in {p.group for p in found.places})
    assert sizes == [4, 24, 24, 144]
    assert find(tmp_path, chip=256, by="block").guard == 64 - 49


def test_chips_on_ground_of_another_split_are_left_out(tmp_path: Path) -> None:
    # Two neighbouring tiles that share a strip one chip wide, as real ones share ten kilometres.
    size = {"shape": (512, 512)}
    for tile, x in (("33TWL", 501_760.0), ("33TXL", 501_760.0 + 2560)):
        name = f"S2B_{tile}_20230810_0_L2A"
        made = item(
            tmp_path / name, name, raster={"origin": (x, 5_099_520.0), **size}, properties={"grid:code": f"MGRS-{tile}"}
        )
        write_json(tmp_path / name / "item.json", made)
    apart = find(tmp_path, splits=Splits("mine", {"33TWL": "train", "33TXL": "test"}))
    assert {(place.group, place.id.split("_")[3]) for place in apart.places} == {
        ("33TXL", "504320"),
        ("33TXL", "506880"),
    }
    assert apart.guard == 4, "two lie on the shared strip, two beside it"
    alike = find(tmp_path, splits=Splits("mine", rest="train"))
    assert (len(alike.places), alike.guard) == (8, 0)


def test_bad_items_are_rejects(tmp_path: Path) -> None:
    dates = [f"202308{day}" for day in range(10, 20)]
    good, other, broken, missing, shifted, rotated, nowhere, words, *_ = loose(tmp_path, *dates)
    (broken.parent / "B05.tif").write_bytes(b"II*\0")
    for name in ("B02.tif", "B05.tif"):
        (missing.parent / name).unlink()
    write_json(shifted, item(shifted.parent, shifted.parent.name, raster={"origin": (ORIGIN[0] + 10, ORIGIN[1])}))
    make_raster(rotated.parent / "B05.tif", shape=(150, 150), pixel=20.0, origin=(900_000.0, 5_099_520.0))
    document = json.loads(nowhere.read_text())
    del document["properties"]["grid:code"]
    write_json(nowhere, document | {"id": "S2B_nowhere"})
    words.write_text("{not json")
    write_json(tmp_path / "notes.json", {"type": "note"})
    write_json(tmp_path / ".hidden" / "item.json", {"type": "Feature"})
    write_json(tmp_path / "half.json", {"type": "Feature", "id": "x"})

    found = find(tmp_path)
    assert [len(place.images) for place in found.places] == [4]
    assert {str(good), str(other)} <= {image.href for image in found.places[0].images}
    told = {reject.path: reject.reason for reject in found.rejects}
    assert set(told) == {
        str(path) for path in (broken, missing, shifted, rotated, nowhere, words, tmp_path / "half.json")
    }
    assert "B05.tif: cannot be read as a raster" in told[str(broken)]
    assert "file not found" in told[str(missing)]
    assert told[str(shifted)] == "lies on another grid than most dates of 33TWL"
    assert told[str(rotated)].endswith("covers other ground than the finest band of S2B_33TWL_20230815_0_L2A")
    assert told[str(nowhere)] == "names no MGRS tile, to which its chips could belong"
    assert told[str(words)].startswith("is not JSON")
    assert "no STAC item" in told[str(tmp_path / "half.json")]


def test_a_grid_without_a_lattice_rejects_its_items(tmp_path: Path) -> None:
    (path,) = loose(tmp_path, "20230810")
    for name, shape, size in (("B02.tif", (300, 300), 10.0), ("B05.tif", (150, 150), 20.0)):
        raster = make_raster(path.parent / name, shape=shape, pixel=size, origin=ORIGIN)
        with rasterio.open(raster, "r+") as file:
            file.transform = rasterio.Affine(size, 0, ORIGIN[0], 0, size, ORIGIN[1])
    with pytest.raises(InvalidQuery, match="not north up with square pixels"):
        find(tmp_path)


def test_levels_and_pixel_sizes_are_not_mixed(tmp_path: Path) -> None:
    loose(tmp_path / "a", "20230810", "20230813")
    loose(tmp_path / "b", "20230815", raster={"pixel": 20.0})
    name = "S2B_33TWL_20230818_0_L1C"
    write_json(tmp_path / name / "item.json", item(tmp_path / name, name))
    found = find(tmp_path)
    images = {tuple(place.id.split("_")[1:3]): len(place.images) for place in found.places}
    assert images == {("L2A", "10"): 2, ("L1C", "10"): 1, ("L2A", "20"): 1}


def test_an_item_among_others_in_one_document_has_no_href(tmp_path: Path) -> None:
    names = ("S2B_33TWL_20230810_0_L2A", "S2B_33TWL_20230813_0_L2A")
    features = [item(tmp_path / name, name) for name in names]
    for feature in features:
        for asset in feature["assets"].values():
            asset["href"] = f"./{feature['id']}/{asset['href'][2:]}"
    write_json(tmp_path / "found.json", {"type": "FeatureCollection", "features": features})
    with pytest.raises(InvalidQuery, match=r"2 rejected.*stands in one document with others"):
        find(tmp_path / "found.json")
    write_json(tmp_path / "found.json", {"type": "FeatureCollection", "features": features[:1]})
    with pytest.raises(InvalidQuery, match=r"1 rejected.*is a FeatureCollection, not an item"):
        find(tmp_path / "found.json")


def test_broken_links_of_a_catalogue_are_rejects(tmp_path: Path) -> None:
    made = item(tmp_path / "c" / "0")
    make_catalog(tmp_path, [made], [{"rel": "item", "href": "./gone/item.json"}])
    found = find(tmp_path)
    assert len(found.places) == 1
    assert [(Path(reject.path).name, reject.reason) for reject in found.rejects] == [("item.json", "no such file")]


@pytest.fixture
def far_away(tmp_path: Path) -> Iterator[str]:
    """URL under which another process serves `tmp_path`."""
    program = [sys.executable, str(Path(__file__).with_name("range_server.py")), str(tmp_path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.terminate()


def test_items_and_bands_far_away(tmp_path: Path, far_away: str) -> None:
    made = item(tmp_path / "c" / "0")
    second = item(tmp_path / "c" / "1", "S2B_33TWL_20230813_0_L2A")
    third = item(tmp_path / "c" / "2", "S2B_33TWL_20230815_0_L2A")
    make_catalog(tmp_path, [made, second, third])
    shutil.rmtree(tmp_path / "c" / "2")
    url = far_away
    found = find(f"{url}/catalog.json")
    (place,) = found.places
    assert [image.href for image in place.images] == [f"{url}/c/0/item.json", f"{url}/c/1/item.json"]
    assert [reject.path for reject in found.rejects] == [f"{url}/c/2/item.json"]

    # A local item with remote bands.
    local = tmp_path / "local"
    document = json.loads((tmp_path / "c" / "0" / "item.json").read_text())
    for asset in document["assets"].values():
        asset["href"] = f"{url}/c/0/{asset['href'][2:]}"
    path = write_json(local / "item.json", document)
    (place,) = find(local).places
    assert [image.href for image in place.images] == [str(path)]
    document["assets"]["B02"]["href"] = f"{url}/gone.tif?sig=secret"
    write_json(path, document)
    with pytest.raises(InvalidQuery, match=r"nothing found.*gone\.tif: cannot be read as a raster") as raised:
        find(local)
    assert "secret" not in str(raised.value)


def test_an_api_needs_an_area() -> None:
    with pytest.raises(InvalidQuery, match="an API holds the whole Earth"):
        find("earth-search")


@pytest.mark.parametrize("source", ["nowhere", "catalog.json"])
def test_roots_that_are_none(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "catalog.json").write_text("no json")
    with pytest.raises(CatalogError) as raised:
        find(source)
    assert isinstance(raised.value, InvalidQuery | InvalidItem)
    assert source in str(raised.value)
    assert "\n" not in str(raised.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidQuery, match=r"empty: nothing found of layout stac \(0 rejected\)"):
        find("empty")
