from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catalogs.aoi import parse_aoi
from catalogs.dates import parse_dates
from catalogs.errors import CatalogError, InvalidItem, InvalidQuery
from catalogs.newest import newest
from catalogs.query import Query
from catalogs.search import SearchResult, search
from catalogs.stac import resolve_item
from tests.catalogs.conftest import make_catalog, make_item, make_raster, write_json

AUGUST = parse_dates("2023-08-01/2023-08-31")
CROATIA = parse_aoi("15.2,45.2,16.2,45.9")
FIVE = [
    "S2B_33TWL_20230810_0_L2A", "S2B_33TWL_20230813_0_L2A", "S2A_33TWL_20230815_0_L2A", "S2A_33TWL_20230818_0_L2A",
    "S2B_33TWL_20230820_0_L2A",
]  # fmt: skip


def ids(result: SearchResult) -> list[str]:
    return [item.id for item in result]


def polygon(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    return {
        "type": "Polygon",
        "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
    }


def test_the_test_catalogue_by_file_and_by_folder(shared_data: Path) -> None:
    folder = shared_data / "stac" / "earth-search"
    for source in (
        folder / "catalog.json",
        folder,
        folder / "sentinel-2-l2a",
        folder / "sentinel-2-l2a" / "collection.json",
    ):
        result = search(Query(CROATIA, *AUGUST), str(source))
        assert ids(result) == FIVE
        assert result.problems == ()
    assert [item.cloud_cover and round(item.cloud_cover) for item in result] == [69, 2, 0, 46, 8]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(), FIVE),
        (Query(CROATIA, *parse_dates("2023-08-13/2023-08-15")), FIVE[1:3]),
        (Query(CROATIA, *parse_dates("2023-08-15")), FIVE[2:3]),
        (Query(CROATIA, *parse_dates("2023-09-01/..")), []),
        (Query(parse_aoi("17,45,18,46")), []),
        (Query(parse_aoi("-170,45,15.1,46")), FIVE),
        (Query(tile="33TWL"), FIVE),
        (Query(tile="t33twl"), FIVE),
        (Query(tile="33TVL"), []),
        (Query(level="L2A"), FIVE),
        (Query(level="L1C"), []),
        (Query(ids=(FIVE[3], FIVE[0])), [FIVE[0], FIVE[3]]),
    ],
)
def test_filters(shared_data: Path, query: Query, expected: list[str]) -> None:
    assert ids(search(query, str(shared_data / "stac" / "earth-search"))) == expected


def test_queries_that_contradict_themselves() -> None:
    start, end = AUGUST
    with pytest.raises(InvalidQuery, match="crossed"):
        Query(start=end, end=start)
    with pytest.raises(InvalidQuery, match="time zone"):
        Query(start=start.replace(tzinfo=None))


def test_a_catalogue_over_http_gives_the_same_scenes(shared_data: Path, serve_folder: Callable[[Path], str]) -> None:
    url = serve_folder(shared_data / "stac")
    result = search(Query(CROATIA, *AUGUST), f"{url}/earth-search/catalog.json")
    assert ids(result) == FIVE
    # A remote item has no local files, so nothing is left out.
    first = result[0]
    assert first.bands["B02"].href == f"{url}/earth-search/sentinel-2-l2a/{FIVE[0]}/B02.tif"
    assert len(first.bands) == 12
    assert not first.left_out


def test_broken_links_among_good_ones_are_reported(tmp_path: Path, serve_folder: Callable[[Path], str]) -> None:
    (tmp_path / "elsewhere.json").write_text(json.dumps(make_item("outside")))
    links = [{"rel": "item", "href": href} for href in ("gone.json", "text.json", "list.json", "what.json", "bad.json")]
    links += [{"rel": "item", "href": "../../elsewhere.json"}, {"rel": "child", "href": "collection.json"}]
    root = tmp_path / "k"
    entry = make_catalog(root, [make_item("one"), make_item("two", properties={"s2:datatake_id": ""})], links)
    (root / "c" / "text.json").write_text("{not json")
    write_json(root / "c" / "list.json", [1, 2])
    write_json(root / "c" / "what.json", {"type": "Thing"})
    write_json(root / "c" / "bad.json", make_item("a/b"))
    reasons = {
        "text.json": "is not JSON",
        "list.json": "no STAC object",
        "what.json": "no STAC catalogue",
        "bad.json": "cannot name a folder",
    }
    for source, gone in ((str(entry), "no such file"), (serve_folder(root) + "/catalog.json", "status 404")):
        result = search(Query(), source)
        assert ids(result) == ["one", "two"]
        by_name = {problem.href.rpartition("/")[2]: problem.reason for problem in result.problems}
        assert set(by_name) == {"gone.json", "collection.json", *reasons}
        assert "leaves the catalogue's folder" in by_name["collection.json"]
        for name, reason in (reasons | {"gone.json": gone}).items():
            assert reason in by_name[name]
        assert not any("\n" in problem.reason for problem in result.problems)


def test_items_may_use_files_anywhere_below_the_root_but_not_above(tmp_path: Path) -> None:
    make_raster(tmp_path / "k" / "data" / "B02.tif")
    make_raster(tmp_path / "secret" / "B02.tif")
    inside = make_item("inside", {"B02": {"href": "../../data/B02.tif"}})
    outside = make_item("outside", {"B02": {"href": "../../../secret/B02.tif"}})
    result = search(Query(), str(make_catalog(tmp_path / "k", [inside, outside])))
    assert ids(result) == ["inside"]
    assert result[0].bands["B02"].href == str(tmp_path / "k" / "data" / "B02.tif")
    [problem] = result.problems
    assert "secret" in problem.reason


def test_sources_that_are_no_catalogue(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("hello")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    write_json(tmp_path / "thing.json", {"a": 1})
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "nan.json").write_text('{"type": "Catalog", "id": NaN}')
    (tmp_path / "folder").mkdir()
    reasons = {
        "text.json": "is not JSON", "binary.json": "is not JSON", "thing.json": "no STAC catalogue", "deep.json": "is not JSON",
        "nan.json": "is not JSON", "folder": "no catalogue in this folder", "gone.json": "no such catalogue.*earth-search",
    }  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(CatalogError, match=reason) as error:
            search(Query(), str(tmp_path / name))
        assert name in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(InvalidItem, match="path or http"):
        search(Query(), "gs://bucket/catalog.json")


def test_a_lone_item_and_a_feature_collection(tmp_path: Path) -> None:
    one = write_json(tmp_path / "one.json", make_item("one"))
    assert ids(search(Query(), str(one))) == ["one"]
    several = {
        "type": "FeatureCollection",
        "features": [make_item("one"), 7, make_item("two", properties={"datetime": "2023-08-11T00:00:00Z"})],
    }
    result = search(Query(), str(write_json(tmp_path / "items.json", several)))
    # Same datatake and tile: the greater id of two that are equal in everything else.
    assert ids(result) == ["two"]
    assert len(result.problems) == 1
    with pytest.raises(InvalidItem, match="cannot name a folder"):
        search(Query(), str(write_json(tmp_path / "bad.json", make_item("../x"))))


def test_the_folder_of_a_run_is_a_catalogue(tmp_path: Path, shared_data: Path) -> None:
    source = search(Query(ids=(FIVE[1],)), str(shared_data / "stac" / "earth-search"))[0]
    folder = tmp_path / "out" / "product"
    assets = {}
    for asset in source.bands.values():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(asset.href, folder / f"{asset.band}.tif")
        assets[asset.key] = {
            "href": f"./{asset.band}.tif",
            "bands": [{"name": asset.band, "raster:scale": asset.scale, "raster:offset": asset.offset}],
        }
    assets["provenance"] = {"href": "./provenance.tif", "roles": ["metadata"]}
    write_json(
        folder / "product.json",
        {**source.stac, "id": "product", "assets": assets, "links": [{"rel": "collection", "href": "../c.json"}]},
    )
    entry = {
        "type": "Catalog",
        "id": "run",
        "stac_version": "1.1.0",
        "description": "x",
        "links": [{"rel": "item", "href": "./product/product.json"}],
    }
    write_json(tmp_path / "out" / "catalog.json", entry)
    [product] = search(Query(CROATIA, *AUGUST), str(tmp_path / "out"))
    assert {band: (asset.key, asset.offset) for band, asset in product.bands.items()} == {
        band: (asset.key, asset.offset) for band, asset in source.bands.items()
    }


def processed(
    identifier: str, baseline: str, sequence: str = "0", generated: str = "", **changes: Any
) -> dict[str, Any]:
    properties = {
        "s2:processing_baseline": baseline,
        "s2:sequence": sequence,
        "s2:generation_time": generated,
    } | changes.pop("properties", {})
    properties.setdefault("s2:datatake_id", f"GS2B_20230810T094549_033567_N{baseline}")
    return make_item(identifier, properties=properties, **changes)


@pytest.mark.parametrize("seed", range(4))
def test_the_newest_processing_wins_whatever_the_order(tmp_path: Path, seed: int) -> None:
    later = {"datetime": "2023-08-10T09:58:11.999Z"}
    items = [
        processed("old", "02.09", "3"), processed("a", "05.09", "1", "2023-08-10T13:00:00Z"), processed("b", "05.09", "0", "2024-01-01T00:00:00Z"),
        processed("newest", "05.09", "1", "2023-12-01T00:00:00Z", properties=later), processed("c", "05.09", "1", ""),
        processed("other-tile", "02.09", properties={"grid:code": "MGRS-33TVL"}),
        processed("other-pass", "02.09", properties={"s2:datatake_id": "GS2A_20230810T100000_1_N02.09"}),
        processed("other-level", "02.09", properties={"s2:product_type": "S2MSI1C"}),
        processed("other-part", "05.09", geometry=polygon(15.9, 45, 17, 46)),
    ]  # fmt: skip
    random.Random(seed).shuffle(items)  # noqa: S311
    result = search(Query(), str(make_catalog(tmp_path, items)))
    assert sorted(ids(result)) == ["newest", "other-level", "other-part", "other-pass", "other-tile"]
    keys = [(item.datetime, item.tile or "", item.id) for item in result]
    assert keys == sorted(keys)


def test_without_a_datatake_the_second_decides() -> None:
    def item(identifier: str, baseline: str, moment: str) -> Any:
        properties = {"s2:datatake_id": "", "datetime": moment, "s2:processing_baseline": baseline}
        return resolve_item(make_item(identifier, properties=properties), "https://e.com/i.json")

    first, second = item("x", "02.09", "2023-08-10T09:58:11.1Z"), item("y", "05.09", "2023-08-10T09:58:11.9Z")
    assert newest([first, second]) == newest([second, first]) == [second]
    third = item("z", "05.09", "2023-08-10T09:58:12.0Z")
    assert newest([first, third]) == [first, third]


def test_items_without_a_tile_are_never_duplicates() -> None:
    items = [resolve_item(make_item(name, properties={"grid:code": ""}), f"https://e.com/{name}.json") for name in "ab"]
    assert newest(items) == items


def test_results_are_sequences() -> None:
    result = SearchResult(tuple(resolve_item(make_item(name), "https://e.com/i.json") for name in "ab"))
    assert len(result) == 2
    assert result[0].id == "a"
    assert [item.id for item in result[1:]] == ["b"]
    assert result[1] in result
