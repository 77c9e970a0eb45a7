from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pystac.validation
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.bands import BANDS
from catalogs.errors import InvalidItem, InvalidQuery
from catalogs.item import BandAsset, SceneItem
from catalogs.sources import known_sources, signed
from catalogs.stac import REMOTE, resolve_item
from tests.catalogs.conftest import make_item, make_raster, write_json

URL = "https://example.com/cat/item.json"


def of_item(stac: dict[str, Any], href: str = URL, **options: Any) -> SceneItem:
    item = resolve_item(stac, href, **options)
    # Whatever else: what leaves is a valid item (pystac brings the schema of 1.1), and can be sent to another process.
    pystac.validation.validate_dict({**item.stac, "stac_extensions": [], "stac_version": "1.1.0"})
    assert pickle.loads(pickle.dumps(item)) == item  # noqa: S301
    return item


def test_the_real_items_of_the_test_catalogue(shared_data: Path) -> None:
    paths = sorted((shared_data / "stac" / "earth-search" / "sentinel-2-l2a").glob("*/*.json"))
    assert len(paths) == 5
    for path in paths:
        stac = json.loads(path.read_text())
        item = of_item(stac, str(path))
        assert {band: asset.key for band, asset in item.bands.items()} == {
            "B02": "blue",
            "B03": "green",
            "B04": "red",
            "B08": "nir",
        }
        # The assets state -0.1, the item says that it is applied: applying it again would give negative reflectance.
        assert stac["assets"]["blue"]["raster:bands"][0]["offset"] == -0.1
        assert all((asset.offset, asset.scale, asset.nodata) == (0.0, 1e-4, 0) for asset in item.bands.values())
        assert all(Path(asset.href).is_file() for asset in item.bands.values())
        assert item.scl is not None
        assert Path(item.scl.href).name == "SCL.tif"
        assert (item.level, item.tile, item.baseline) == ("L2A", "33TWL", "05.09")
        assert item.cloud_cover == stac["properties"]["eo:cloud_cover"]
        assert set(item.left_out) == set(BANDS) - set(item.bands) - {"B10"}
        assert set(item.left_out.values()) == {REMOTE}
        assert item.stac["assets"]["blue"]["href"] == str(path.with_name("B02.tif"))
        assert item.stac["assets"]["red"]["href"] != stac["assets"]["red"]["href"]
        assert item.sun_elevation is not None
        assert 50 < item.sun_elevation < 60


def test_files_beside_an_item_count_as_copies_of_its_remote_assets(shared_data: Path) -> None:
    [path] = (shared_data / "stac" / "sentinel2_29RKH").glob("*/*.json")
    item = of_item(json.loads(path.read_text()), str(path))
    assert len(item.bands) == 12
    assert all(asset.href == str(path.with_name(f"{band}.tif")) for band, asset in item.bands.items())
    assert not item.left_out
    assert (item.baseline, item.bands["B02"].offset) == ("02.14", 0.0)


def test_planetary_computer_and_old_items(shared_data: Path) -> None:
    folder = shared_data / "stac_items"
    base = "odc-stac_S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531"
    for name, nodata in ((f"{base}.json", None), (f"{base}_raster_ext.json", 0)):
        item = of_item(json.loads((folder / name).read_text()), "https://planetarycomputer.microsoft.com/api/stac/v1/x")
        assert list(item.bands) == [band for band in BANDS if band != "B10"]
        assert item.bands["B02"].nodata == nodata
        assert item.bands["B8A"].href.endswith("_B8A_20m.tif")
        assert (item.level, item.tile, item.baseline, item.bands["B02"].offset) == ("L2A", "06VVN", "02.12", 0.0)
        assert item.sun_elevation == pytest.approx(90 - 37.9128805424161)
    old = of_item(json.loads((folder / "odc-stac_S2A_28QCH_20200714_0_L2A.json").read_text()))
    assert old.stac["stac_version"] == "1.1.0"
    assert (old.tile, old.level, old.baseline, old.bands["B02"].offset) == ("28QCH", "L2A", "02.14", 0.0)
    with pytest.raises(InvalidItem, match="no STAC item"):
        resolve_item(json.loads((folder / "odc-stac_sentinel-2-l2a.collection.json").read_text()), URL)


def test_planetary_computer_signs_or_says_that_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    [host] = known_sources()["planetary-computer"].sign
    monkeypatch.setitem(__import__("sys").modules, "planetary_computer", None)
    with pytest.raises(InvalidItem, match="pip install planetary-computer"):
        signed(f"https://{host}/x/B02.tif")
    for href in (
        f"https://{host}/x/B02.tif?sv=1&sig=abc",
        "https://example.com/x.tif",
        "/data/x.tif",
        "s3://eodata/x.jp2",
    ):
        assert signed(href) == href


def test_cdse_items_use_the_native_pixel_size() -> None:
    band = {"raster:scale": 0.0001, "raster:offset": -0.1, "nodata": 0, "data_type": "uint16", "type": "image/jp2"}
    folder = "s3://eodata/Sentinel-2/MSI/L2A/2023/08/10/X.SAFE/GRANULE/Y/IMG_DATA"
    keys = ("B02_60m", "B02_20m", "B02_10m", "B01_20m", "B01_60m", "B8A_20m", "B12_20m")
    assets = {
        key: band | {"href": f"{folder}/R{key[4:]}/T33TWL_{key}.jp2", "bands": [{"name": key[:3]}]} for key in keys
    }
    assets |= {"SCL_20m": {"href": f"{folder}/R20m/SCL_20m.jp2"}, "TCI_10m": {"href": f"{folder}/TCI.jp2"}}
    properties = {"s2:processing_baseline": None, "processing:version": "05.09"}
    item = of_item(make_item(assets=assets, stac_version="1.1.0", properties=properties, collection="sentinel-2-l2a"))
    assert [asset.key for asset in item.bands.values()] == ["B01_60m", "B02_10m", "B8A_20m", "B12_20m"]
    assert all((asset.scale, asset.offset, asset.nodata) == (1e-4, -0.1, 0) for asset in item.bands.values())
    assert item.scl is not None
    assert (item.scl.key, item.baseline, item.level) == ("SCL_20m", "05.09", "L2A")


@pytest.mark.parametrize(
    ("assets", "expected"),
    [
        ({"B2": {}, "b8a": {}}, {"B02": "B2", "B8A": "b8a"}),
        ({"B02_20m": {}, "B02_10m": {}}, {"B02": "B02_10m"}),
        ({"x": {"eo:bands": [{"name": "B04"}]}, "y": {"eo:bands": [{"name": "y", "common_name": "nir"}]}}, {"B04": "x", "B08": "y"}),
        ({"x": {"bands": [{"name": "B05", "eo:common_name": "rededge071"}]}, "z": {"bands": [{"eo:common_name": "rededge078"}]}}, {"B05": "x", "B07": "z"}),
        ({"red": {}, "red-jp2": {}, "visual": {"eo:bands": [{"name": "blue"}]}, "thumbnail": {}}, {"B04": "red"}),
        ({"red": {}, "B03": {"roles": ["overview"]}, "B02": {"type": "image/png"}}, {"B04": "red"}),
    ],
)  # fmt: skip
def test_bands_of_an_unknown_provider_are_read_from_its_assets(
    assets: dict[str, Any], expected: dict[str, str]
) -> None:
    item = of_item(
        make_item(assets={key: {"href": f"https://e.com/{key}.tif"} | asset for key, asset in assets.items()})
    )
    assert {band: asset.key for band, asset in item.bands.items()} == expected


def test_a_file_of_several_bands_is_read_by_index() -> None:
    bands = [{"name": "B04"}, {"name": "quality"}, {"name": "B08"}]
    item = of_item(make_item(assets={"data": {"href": "https://e.com/x.tif", "bands": bands}}))
    assert {band: (asset.key, asset.index) for band, asset in item.bands.items()} == {
        "B04": ("B04", 1),
        "B08": ("B08", 3),
    }


def test_local_and_remote_and_missing_files(tmp_path: Path) -> None:
    make_raster(tmp_path / "B02.tif")
    assets = {
        "B02": {"href": "./B02.tif"}, "B03": {"href": "https://e.com/B03.tif"}, "B04": {"href": "gone/B04.tif"},
        "SCL": {"href": "https://e.com/SCL.tif"},
    }  # fmt: skip
    path = str(write_json(tmp_path / "item.json", make_item(assets=assets)))
    item = of_item(make_item(assets=assets), path)
    assert list(item.bands) == ["B02"]
    assert item.scl is None
    assert item.left_out == {"B03": REMOTE, "B04": f"file not found: {tmp_path}/gone/B04.tif", "SCL": REMOTE}
    assert item.level == "L2A"
    with pytest.raises(InvalidItem, match=r"no band B04: file not found: .*gone/B04\.tif"):
        item.require_bands(["B02", "red"])
    with pytest.raises(InvalidItem, match="no band B03: remote asset of a local item"):
        item.require_bands(["green"])
    with pytest.raises(InvalidItem, match="no band B11: it has B02"):
        item.require_bands(["B11"])
    with pytest.raises(InvalidQuery, match="'B13' is no Sentinel-2 band"):
        item.require_bands(["B13"])
    # Without a local band the remote ones are what there is.
    del assets["B02"]
    assert list(of_item(make_item(assets=assets), path).bands) == ["B03"]
    del assets["B03"]
    with pytest.raises(InvalidItem, match=r"no Sentinel-2 band can be used \(B04: file not found"):
        of_item(make_item(assets=assets), path)


def test_selection_keeps_the_order_of_the_instrument() -> None:
    item = of_item(make_item(assets={name: {"href": f"https://e.com/{name}.tif"} for name in ("B12", "B04", "B02")}))
    assert list(item.bands) == ["B02", "B04", "B12"]
    assert list(item.require_bands(["swir22", "b2"]).bands) == ["B02", "B12"]


def test_the_boundary_is_the_catalogue_or_the_items_own_folder(tmp_path: Path) -> None:
    make_raster(tmp_path / "data" / "B02.tif")
    item = make_item(assets={"B02": {"href": "../data/B02.tif"}})
    path = str(write_json(tmp_path / "items" / "item.json", item))
    assert resolve_item(item, path, boundary=str(tmp_path)).bands["B02"].href == str(tmp_path / "data" / "B02.tif")
    with pytest.raises(InvalidItem, match="leaves the catalogue's folder"):
        resolve_item(item, path)
    absolute = make_item(assets={"B02": {"href": str(tmp_path / "data" / "B02.tif")}})
    assert resolve_item(absolute, path, boundary=str(tmp_path)).bands
    with pytest.raises(InvalidItem, match="leaves"):
        resolve_item(absolute, path)


def test_other_assets_that_leave_the_folder_are_dropped_not_followed() -> None:
    assets = {"B02": {"href": "B02.tif"}, "thumbnail": {"href": "file:///etc/passwd"}, "info": {"href": "info.json"}}
    item = of_item(make_item(assets=assets, links=[{"rel": "root", "href": "../catalog.json"}]))
    assert set(item.stac["assets"]) == {"B02", "info"}
    assert item.stac["assets"]["info"]["href"] == "https://example.com/cat/info.json"
    assert item.stac["links"] == [{"rel": "root", "href": "https://example.com/catalog.json"}]


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=12) | st.sampled_from(["..", ".hidden", "a/b", "a\nb", "x" * 201, "-x", "S2A_1.2"]))
def test_ids_can_always_name_a_folder(identifier: str) -> None:
    band = {"B02": BandAsset("B02", "B02", "/x")}
    when = resolve_item(make_item(), URL).datetime
    safe = (
        0 < len(identifier) <= 200
        and identifier[0] != "."
        and all(c.isascii() and (c.isalnum() or c in "._-") for c in identifier)
    )
    if safe:
        assert SceneItem(identifier, when, band).id == identifier
    else:
        with pytest.raises(InvalidItem, match="cannot name a folder"):
            SceneItem(identifier, when, band)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"type": "Collection"}, "no STAC item"),
        ({"assets": []}, "no STAC item"),
        ({"assets": {"B02": {"title": "x"}}}, "no href"),
        ({"assets": {}}, "no Sentinel-2 band"),
        ({"properties": {"datetime": "noon"}}, "STAC item|no time"),
        ({"properties": {"datetime": None}}, "STAC item|no time"),
        ({"properties": {"platform": "landsat-8"}}, "not of Sentinel-2"),
        ({"properties": {"earthsearch:boa_offset_applied": "yes"}}, "must be true or false"),
        ({"geometry": {"type": "Polygon", "coordinates": "x"}}, "geometry"),
        ({"geometry": {"type": "Point", "coordinates": [5e5, 5e6]}}, "no degrees"),
        ({"id": "../../etc"}, "cannot name a folder"),
        ({"stac_version": "0.6.0", "properties": 3}, "STAC item"),
    ],
)
def test_broken_items_are_refused_in_one_line(changes: dict[str, Any], reason: str) -> None:
    properties = changes.get("properties", {})
    item = make_item(**(changes if isinstance(properties, dict) else {}))
    item |= {"properties": properties} if not isinstance(properties, dict) else {}
    with pytest.raises(InvalidItem, match=reason) as error:
        resolve_item(item, URL)
    assert str(error.value).startswith(URL)
    assert "\n" not in str(error.value)


def members(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of every member below `value`."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, child in inner for found in ((*path, key), *members(child, (*path, key)))]


RICH = make_item(
    assets={
        "blue": {"href": "https://e.com/B02.tif", "type": "image/tiff", "roles": ["data"], "eo:bands": [{"name": "blue", "common_name": "blue"}],
                 "raster:bands": [{"scale": 0.0001, "offset": -0.1, "nodata": 0}]},
        "scl": {"href": "SCL.tif", "bands": [{"name": "SCL"}]},
        "data": {"href": "x.tif", "bands": [{"name": "B04"}, {"eo:common_name": "nir"}]},
    },
    properties={"eo:cloud_cover": 3, "view:sun_elevation": 50, "s2:mean_solar_zenith": 40, "earthsearch:boa_offset_applied": False, "platform": "sentinel-2b"},
    collection="c",
)  # fmt: skip
JUNK = [
    None,
    1,
    -1,
    "",
    [],
    {},
    [None],
    {"a": None},
    True,
    float("inf"),
    "x" * 5000,
    "../x",
    "https://[",
    "\x00",
    10**400,
]


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(members(RICH)),
    st.sampled_from(JUNK),
    st.sampled_from(["1.0.0", "1.0.0-beta.2"]),
    st.sampled_from([URL, "/x/item.json"]),
)
def test_any_junk_in_an_item_is_read_or_refused_in_one_line(
    path: tuple[Any, ...], junk: object, version: str, href: str
) -> None:
    item = copy.deepcopy(RICH) | {"stac_version": version}
    parent: Any = item
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = junk
    try:
        assert resolve_item(item, href).bands
    except InvalidItem as error:
        assert "\n" not in str(error)  # noqa: PT017 - both ends are right


def test_an_item_across_the_antimeridian_does_not_belt_the_earth() -> None:
    ring = [[179, 10], [-179, 10], [-179, 11], [179, 11], [179, 10]]
    item = of_item(make_item(geometry={"type": "Polygon", "coordinates": [ring]}))
    assert item.geometry is not None
    assert item.geometry.area == pytest.approx(2)
    none = of_item(make_item(geometry=None, bbox=[179, 10, -179, 11]))
    assert none.geometry is not None
    assert none.geometry.equals(item.geometry)
