from __future__ import annotations

import itertools
import json
import math
import pickle
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pystac.validation
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.shutil import copy
from rasterio.warp import transform_bounds

from catalogs.bands import BANDS, band_name, find_band
from catalogs.errors import CatalogError, InvalidItem, InvalidQuery
from catalogs.files import open_sources
from catalogs.geotiff import UNKNOWN_TIME
from catalogs.item import _ID, SceneItem
from catalogs.names import band_in, common_id, date_in, tile_in
from catalogs.stac import resolve_item
from tests.catalogs.conftest import make_item, make_raster, write_json

NAMES = ("B02", "B03", "B04", "B08")


def opened(*paths: Path | str, bands: list[str] | None = None) -> list[SceneItem]:
    scenes = open_sources([str(path) for path in paths], bands)
    for scene in scenes:
        # The made-up item is valid, deterministic, portable, and means the same when it is read as an item.
        pystac.validation.validate_dict({**scene.stac, "stac_extensions": [], "stac_version": "1.1.0"})
        json.dumps(scene.stac, allow_nan=False)
        assert pickle.loads(pickle.dumps(scene)) == scene  # noqa: S301
    assert open_sources([str(path) for path in paths], bands) == scenes
    return scenes


def test_the_seven_plain_files_are_one_scene(shared_data: Path) -> None:
    paths = sorted((shared_data / "scenes" / "S2_L1C_31U_512x1024_10m").glob("*.tif"))
    [scene] = opened(*paths)
    assert scene.id == "ref_input_S2"
    assert list(scene.bands) == ["B02", "B03", "B04", "B08", "B8A", "B09", "B11"]
    assert all(Path(asset.href).stem.endswith(band) for band, asset in scene.bands.items())
    assert all((asset.scale, asset.offset, asset.nodata) == (1e-4, 0.0, None) for asset in scene.bands.values())
    # No date in the names; the netCDF that they were made from says days since 2019-04-11, value 0.
    assert (scene.datetime, scene.level, scene.scl) == (datetime(2019, 4, 11, tzinfo=UTC), "L1C", None)
    with rasterio.open(paths[0]) as file:
        expected = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    assert scene.geometry is not None
    assert scene.geometry.bounds == pytest.approx(expected, abs=1e-5)
    assert open_sources([str(path) for path in reversed(paths)])[0] == scene


def test_files_beside_an_item_are_a_scene_with_scl(shared_data: Path) -> None:
    [scene] = opened(*(shared_data / "stac" / "sentinel2_29RKH").glob("*/*.tif"))
    assert len(scene.bands) == 12
    assert scene.scl is not None
    assert (scene.id, scene.level, scene.tile) == ("S2A_29RKH_20200219_0_L2A", "L2A", "29RKH")
    assert scene.datetime == datetime(2020, 2, 19, tzinfo=UTC)


def test_thirteen_bands_without_names_are_never_guessed(shared_data: Path) -> None:
    [path] = (shared_data / "SEN12MSCR").glob("*/*/ROIs2017_winter_s2_102_p926.tif")
    with pytest.raises(InvalidItem, match="13 bands have no names: name all 13 with --bands"):
        open_sources([str(path)])
    with pytest.raises(InvalidItem, match="name all 13, not 4, with --bands"):
        open_sources([str(path)], list(NAMES))
    [scene] = opened(path, bands=list(BANDS))
    assert [asset.index for asset in scene.bands.values()] == list(range(1, 14))
    assert (scene.id, scene.level, scene.datetime) == (path.stem, "L1C", UNKNOWN_TIME)
    assert scene.stac["properties"]["declouder:datetime_unknown"] is True
    # Another order of the file is another mapping.
    assert open_sources([str(path)], [*reversed(BANDS)])[0].bands["B12"].index == 1


@pytest.mark.parametrize(
    "descriptions", [NAMES, ("blue", "green", "red", "nir"), ("B02 (490 nm)", "b3", "Band_B04", "NIR")]
)
def test_described_bands_are_found_and_selected(tmp_path: Path, descriptions: tuple[str, ...]) -> None:
    path = make_raster(tmp_path / "stack_2023-08-10.tif", 4, descriptions=descriptions)
    [scene] = opened(path)
    assert {name: asset.index for name, asset in scene.bands.items()} == dict(zip(NAMES, range(1, 5), strict=True))
    assert scene.datetime == datetime(2023, 8, 10, tzinfo=UTC)
    [some] = opened(path, bands=["nir", "B02"])
    assert {name: asset.index for name, asset in some.bands.items()} == {"B02": 1, "B08": 4}
    with pytest.raises(InvalidItem, match="no band B11"):
        open_sources([str(path)], ["B11"])
    # Read as an item, the made-up one gives the same bands.
    again = resolve_item(scene.stac, str(path))
    assert again.bands == scene.bands


def test_bands_that_are_not_described_are_left_alone(tmp_path: Path) -> None:
    path = make_raster(tmp_path / "stack.tif", 3, descriptions=("B04", "", "SCL"))
    [scene] = opened(path)
    assert list(scene.bands) == ["B04"]
    assert scene.scl is not None
    assert (scene.scl.index, scene.level) == (3, "L2A")
    with pytest.raises(InvalidItem, match="bands 1 and 2 are both called B02"):
        open_sources([str(make_raster(tmp_path / "twice.tif", 2, descriptions=("B02", "blue")))])


def test_single_bands_without_names_take_them_from_the_argument(tmp_path: Path) -> None:
    paths = [make_raster(tmp_path / f"{letter}.tif") for letter in "xyz"]
    [scene] = opened(*paths, bands=["B04", "B03", "B02"])
    assert {name: Path(asset.href).stem for name, asset in scene.bands.items()} == {"B02": "z", "B03": "y", "B04": "x"}
    with pytest.raises(InvalidItem, match=r"x\.tif: neither its name nor its description"):
        open_sources([str(path) for path in paths])
    with pytest.raises(InvalidItem, match="neither its name"):
        open_sources([str(path) for path in paths], ["B04", "B03"])


def test_a_name_and_a_description_may_not_disagree(tmp_path: Path) -> None:
    assert list(opened(make_raster(tmp_path / "x_B02.tif", descriptions=("blue",)))[0].bands) == ["B02"]
    assert list(opened(make_raster(tmp_path / "x.tif", descriptions=("B03",)))[0].bands) == ["B03"]
    with pytest.raises(InvalidItem, match="is it B04, as its name says, or B03"):
        open_sources([str(make_raster(tmp_path / "x_B04.tif", descriptions=("B03",)))])


def test_scl_files(tmp_path: Path) -> None:
    stack = make_raster(tmp_path / "stack.tif", 2, descriptions=("B02", "B03"))
    scl = make_raster(tmp_path / "stack_SCL.tif", dtype="uint8", pixel=20.0, shape=(6, 4))
    [scene] = opened(stack, scl)
    assert scene.scl is not None
    assert scene.scl.href == str(scl)
    with pytest.raises(InvalidItem, match="without a band"):
        open_sources([str(scl)])


def test_several_scenes_keep_their_order(tmp_path: Path) -> None:
    first = make_raster(tmp_path / "first.tif", 2, descriptions=("B02", "B03"))
    singles = [make_raster(tmp_path / f"second_{name}.tif") for name in ("B02", "B03")]
    third = write_json(tmp_path / "third.json", make_item("third"))
    assert [scene.id for scene in opened(singles[0], third, first, singles[1])] == ["second", "third", "first"]
    assert [list(scene.bands) for scene in opened(singles[0], third, first, bands=["B02"])] == [["B02"]] * 3


@pytest.mark.parametrize(
    ("names", "changes", "reason"),
    [
        (("a/x_B02", "b/x_B02"), {}, "are both B02"),
        (("T33TWL_x_B02", "T33TVL_x_B03"), {}, "tiles 33TWL and 33TVL"),
        (("x_20230810_B02", "x_20230813_B03"), {}, "dates 2023-08-10 and 2023-08-13:"),
        (("x_20230810T094549_B02", "x_20230810T094551_B03"), {}, "dates 2023-08-10 09:45:49 and 2023-08-10 09:45:51:"),
        (("x_B02", "x_B03"), {"crs": "EPSG:32634"}, "different CRSs"),
        (("x_B02", "x_B03"), {"origin": (500_120.0, 5_100_000.0)}, "cover"),
        (("x_B02", "x_B03"), {"shape": (24, 8)}, "cover"),
        (("x_B02", "x_SCL"), {"pixel": 20.0}, "cover"),
    ],
)
def test_bands_of_different_scenes(
    tmp_path: Path, names: tuple[str, str], changes: dict[str, Any], reason: str
) -> None:
    first, second = (tmp_path / f"{name}.tif" for name in names)
    make_raster(first)
    make_raster(second, **changes)
    with pytest.raises(InvalidItem, match=f"bands of different scenes: .*{reason}"):
        open_sources([str(first), str(second)])


@pytest.mark.parametrize(
    ("scale_offset", "expected"),
    [(None, (1e-4, 0.0)), ((1.0, 0.0), (1e-4, 0.0)), ((1e-4, -0.1), (1e-4, -0.1)), ((0.002, 0.0), (0.002, 0.0))],
)
def test_the_files_own_scale_and_offset_are_honoured(
    tmp_path: Path, scale_offset: Any, expected: tuple[float, float]
) -> None:
    [scene] = opened(make_raster(tmp_path / "x_B02.tif", scale_offset=scale_offset))
    assert (scene.bands["B02"].scale, scene.bands["B02"].offset) == expected


@pytest.mark.parametrize("scale_offset", [(1.0, -1000.0), (1e-4, -1000.0), (-1e-4, 0.0), (10000.0, 0.0)])
def test_a_scale_that_gives_no_reflectance_is_refused(tmp_path: Path, scale_offset: tuple[float, float]) -> None:
    with pytest.raises(InvalidItem, match="give no reflectance"):
        open_sources([str(make_raster(tmp_path / "x_B02.tif", scale_offset=scale_offset))])


def test_dates_by_name_tag_and_folder(tmp_path: Path) -> None:
    tag = {"TIFFTAG_DATETIME": "2021:02:03 04:05:06"}
    day = datetime(2023, 8, 10, tzinfo=UTC)
    assert opened(make_raster(tmp_path / "20230810T094549_B02.tif", tags=tag))[0].datetime == day.replace(
        hour=9, minute=45, second=49
    )
    assert opened(make_raster(tmp_path / "x_B02.tif", tags=tag))[0].datetime == datetime(
        2021, 2, 3, 4, 5, 6, tzinfo=UTC
    )
    assert opened(make_raster(tmp_path / "S2_20230810" / "B02.tif"))[0].datetime == day
    assert opened(make_raster(tmp_path / "x20230230_B02.tif"))[0].datetime == UNKNOWN_TIME


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text_B02.tif").write_text("no raster")
    (tmp_path / "list.json").write_text("[]")
    whole = make_raster(tmp_path / "whole_B02.tif").read_bytes()
    (tmp_path / "short_B02.tif").write_bytes(whole[:6])
    write_json(tmp_path / "collection.json", {"type": "Collection"})
    make_raster(tmp_path / "nocrs_B02.tif", crs=None)
    make_raster(tmp_path / "far_B02.tif", origin=(9e9, 9e9))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", "b")
    reasons = {
        "gone.tif": "no such file", "folder": "is no SAFE folder", "text_B02.tif": "cannot be read as a raster",
        "short_B02.tif": "cannot be read as a raster", "list.json": "no STAC object", "collection.json": "name it with --catalog",
        "nocrs_B02.tif": "has no CRS", "far_B02.tif": "does not fit its CRS|outside the Earth", "x.zip": "unpack it", "gone.json": "no such file",
    }  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(CatalogError, match=reason) as error:
            open_sources([str(tmp_path / name)])
        assert name in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(InvalidQuery, match="no source"):
        open_sources([])
    for bands in ([], ["B02", "blue"]):
        with pytest.raises(InvalidQuery, match="must name each band once"):
            open_sources([str(tmp_path / "whole_B02.tif")], bands)


@pytest.mark.parametrize("suffix", [".tif", ".jp2", ".vrt"])
def test_a_file_that_reads_other_files_is_none(tmp_path: Path, suffix: str) -> None:
    secret = make_raster(tmp_path / "secret_B02.tif")
    virtual = tmp_path / "catalogue" / f"x_B02{suffix}"
    virtual.parent.mkdir()
    copy(str(secret), str(virtual), driver="VRT")
    with rasterio.open(virtual) as file:
        assert file.driver == "VRT", "what GDAL reads unless it is told not to"
    web = tmp_path / f"web_B02{suffix}"
    web.write_text(
        '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/${z}/${x}/${y}.png</ServerUrl></Service>'
        "<DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>9</UpperLeftY><LowerRightX>9</LowerRightX><LowerRightY>0"
        "</LowerRightY><TileLevel>1</TileLevel></DataWindow><Projection>EPSG:4326</Projection></GDAL_WMS>"
    )
    for path in (virtual, web):
        with pytest.raises(InvalidItem, match="only GeoTIFF and JPEG 2000 are") as error:
            open_sources([str(path)])
        assert path.name in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("driver", ["GTiff", "HFA", "ENVI"])
def test_formats_that_hold_their_own_pixels_are_read(tmp_path: Path, driver: str) -> None:
    [scene] = opened(make_raster(tmp_path / "x_20230810_B02.img", driver=driver))
    assert list(scene.bands) == ["B02"]


@pytest.mark.parametrize(
    ("transform", "crs", "reason"),
    [
        (Affine(math.nan, 0, 500_000, 0, -10, 5_100_000), "EPSG:32633", "is none"),
        (Affine(10, 0, math.inf, 0, -10, 5_100_000), "EPSG:32633", "is none"),
        (Affine(10, 10, 500_000, 10, 10, 5_100_000), "EPSG:32633", "is none"),
        (Affine(1e-3, 0, 500_000, 0, -1e-3, 5_100_000), "EPSG:32633", "pixels of 0.001 x 0.001 m"),
        (Affine(10, 0, 500_000, 0, -2e5, 5_100_000), "EPSG:32633", r"pixels of 10 x 2e\+05 m"),
        (Affine(10, 0, 15, 0, -10, 45), "EPSG:4326", r"pixels of 1.11e\+06"),
        (Affine(1e-8, 0, 15, 0, -1e-8, 45), "EPSG:4326", "pixels of 0.00111"),
    ],
)
def test_grids_on_which_nothing_can_be_placed(tmp_path: Path, transform: Affine, crs: str, reason: str) -> None:
    path = make_raster(tmp_path / "x_B02.tif", crs=crs)
    with rasterio.open(path, "r+") as file:
        file.transform = transform
    with pytest.raises(InvalidItem, match=reason) as error:
        open_sources([str(path)])
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("pixel", "crs", "origin"),
    [
        (0.01, "EPSG:32633", (500_000.0, 5_100_000.0)),
        (1e-4, "EPSG:4326", (15.0, 45.0)),
        (30.0, "EPSG:2263", (9e5, 2e5)),
    ],
)
def test_fine_coarse_and_odd_units_are_grids(
    tmp_path: Path, pixel: float, crs: str, origin: tuple[float, float]
) -> None:
    assert opened(make_raster(tmp_path / "x_B02.tif", pixel=pixel, crs=crs, origin=origin))


def test_a_file_without_a_grid(tmp_path: Path) -> None:
    path = make_raster(tmp_path / "grid_B02.tif", driver="PNG", crs=None)
    path.with_suffix(".tif.aux.xml").unlink(missing_ok=True)
    Path(f"{path}.aux.xml").unlink(missing_ok=True)
    with pytest.raises(InvalidItem, match="is not georeferenced"):
        open_sources([str(path)])


def test_a_raster_across_the_antimeridian(tmp_path: Path) -> None:
    [scene] = opened(
        make_raster(
            tmp_path / "fiji_B02.tif", crs="EPSG:32760", origin=(800_000, 8_100_000), pixel=10_000, shape=(10, 10)
        )
    )
    assert scene.geometry is not None
    assert len(scene.geometry.geoms) == 2  # type: ignore[attr-defined]
    assert scene.geometry.area < 2


SEPARATORS = st.sampled_from("_-. ")
WORDS = st.sampled_from(["S2A", "x", "10m", "T33TWL", "20230810", "MSIL1C", "ROIs1868", "p12"])


@settings(deadline=None, max_examples=80)
@given(st.sampled_from([*BANDS, "SCL"]), st.lists(WORDS, max_size=4), st.integers(0, 4), SEPARATORS, st.booleans())
def test_band_tokens_are_found_wherever_they_stand(
    band: str, words: list[str], place: int, separator: str, lower: bool
) -> None:
    parts = [*words[:place], band.lower() if lower else band, *words[place:]]
    assert band_in(separator.join(parts)) == band
    assert band_in(separator.join(words)) is None


def test_tokens_are_whole() -> None:
    assert band_in("AB02_x") is None
    assert band_in("B02_B03") is None
    assert band_in("B02_blue") == "B02"
    assert band_in("B13") is None
    assert tile_in("33TWLX_T33TW") is None
    assert date_in("p120230810") is None
    assert date_in("20231301_20230812").day == 12  # type: ignore[union-attr]
    assert {find_band(name) for name in itertools.chain(BANDS, (band.common_name for band in BANDS.values()))} == set(
        BANDS
    )
    assert band_name(" rededge075 ") == "B06"


@settings(deadline=None, max_examples=80)
@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4), st.text(max_size=10))
def test_made_up_ids_can_always_name_a_folder(stems: list[str], fallback: str) -> None:
    assert _ID.fullmatch(common_id(stems, fallback))
