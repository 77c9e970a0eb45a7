"""The cube without an area's grid: the products' own pixels, whatever the order in which they came; or one line that says why not."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import odc.geo.xr  # noqa: F401 (registers .odc)
import pytest
import rasterio
import rioxarray  # noqa: F401 (registers .rio)
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalogs.aoi import parse_aoi
from catalogs.dates import parse_dates
from catalogs.query import Query
from catalogs.search import search
from pipeline import durable
from pipeline.cube import AreaGrid, CubeState, append_products, read_cube_state
from pipeline.engine import decloud_scene
from pipeline.errors import InvalidScene, InvalidSettings, ReadFailed, WriteFailed
from pipeline.settings import DecloudSettings
from tests.disks import small_disk
from tests.pipeline.made_cube import DAY, NODATA, files_of, made_pixels, made_product, opened

GROUPS = {36: "r10m", 18: "r20m", 6: "r60m"}
EVERY = set(made_pixels(0))
FEW = {"B02", "B05", "provenance", "confidence"}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five products of four dates, COG and Zarr by turns; the last one follows the second. The first has no confidence."""
    return published(tmp_path_factory.mktemp("series"), EVERY)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same with fewer layers, for what is done many times."""
    return published(tmp_path_factory.mktemp("few"), FEW)


def published(output: Path, names: set[str]) -> list[Path]:
    made = [
        made_product(
            output,
            f"S2_{index}",
            chosen(made_pixels(index, confidence=index > 0), names),
            when=DAY + timedelta(days=index),
            format=("cog", "zarr")[index % 2],
        )
        for index in range(4)
    ]
    return [*made, made_product(output, "S2_1", chosen(made_pixels(9), names), when=DAY + timedelta(days=1), version=1)]


def chosen(pixels: dict[str, np.ndarray], names: set[str]) -> dict[str, np.ndarray]:
    return {name: array for name, array in pixels.items() if name in names}


def expected(index: int) -> dict[str, np.ndarray]:
    """The pixels of one of `series`; without confidence 255 everywhere."""
    pixels = made_pixels((0, 1, 2, 3, 9)[index], confidence=index > 0)
    return {"confidence": np.full((36, 30), 255, np.uint8)} | pixels


def assert_holds(cube: Path, indexes: list[int], layers: set[str] | None = None) -> None:
    """The cube's steps are these of `series`, or of what has these layers, bit for bit; confidence is there if any of them has it."""
    found = opened(cube)
    names = {name for name in layers or EVERY if name != "confidence" or indexes != [0]}
    assert {name.split("/")[1] for name in found} == names
    for name in names:
        array = found[f"{GROUPS[expected(1)[name].shape[0]]}/{name}"]
        np.testing.assert_array_equal(array.values, [expected(index)[name] for index in indexes], err_msg=name)


def test_plain_xarray_reads_the_pixels_of_the_products_on_their_grid(tmp_path, series):
    state = append_products(tmp_path / "cube.zarr", series[:4])
    assert state.products == tuple(folder.name for folder in series[:4])
    assert state.times == tuple(DAY + timedelta(days=index) for index in range(4))
    assert set(state.groups) == {"r10m", "r20m", "r60m"}
    assert read_cube_state(tmp_path / "cube.zarr") == state
    assert_holds(tmp_path / "cube.zarr", [0, 1, 2, 3])
    with xr.open_zarr(tmp_path / "cube.zarr", group="r10m") as data:
        assert data.B02.dims == ("time", "y", "x")
        assert data.B02.dtype == "uint16"
        assert data.provenance.dtype == "uint8"
        assert data.B02.data.chunks[0] == (1, 1, 1, 1)
        assert data.sel(time="2023-08-12").item_id.values.tolist() == ["S2_2"]
        assert data.product_id.values.tolist() == list(state.products)
        assert data.time.dt.microsecond.values.tolist() == [24000] * 4
        with rasterio.open(series[0] / "B02.tif") as file:  # an oracle that knows nothing of Zarr
            assert data.rio.transform() == file.transform
            assert data.rio.crs == file.crs
            assert data.B02.rio.nodata == file.nodata
            np.testing.assert_array_equal(data.B02[0].values, file.read(1))
        assert data.odc.geobox.shape == (36, 30)
        reflectance = data.B02 * data.reflectance_scale + data.reflectance_offset
        np.testing.assert_allclose(reflectance[2].values, expected(2)["B02"] * 1e-4)
        assert data.provenance.attrs["flag_meanings"].startswith("nodata observed blended")
    with xr.open_datatree(tmp_path / "cube.zarr", engine="zarr") as tree:
        assert set(tree.children) == {"r10m", "r20m", "r60m"}


def test_the_same_products_again_change_no_byte(tmp_path, series):
    cube = tmp_path / "cube.zarr"
    append_products(cube, series[:2])
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in cube.rglob("*")}
    assert append_products(cube, series[:2]) == append_products(cube, series[1:2]) == read_cube_state(cube)
    assert append_products(cube, []) == read_cube_state(cube)
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in cube.rglob("*")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cube.zarr.lock", "cube.zarr"]


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(windows=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_cube_depends_on_its_products_and_not_on_their_order(tmp_path_factory, few, windows):
    cube = tmp_path_factory.mktemp("order") / "cube.zarr"
    for window in windows:
        append_products(cube, [few[index] for index in window])
    seen = {index for window in windows for index in window}
    held = sorted(seen - ({1} if 4 in seen else set()), key=lambda index: 1 if index == 4 else index)
    assert read_cube_state(cube).products == tuple(few[index].name for index in held)
    assert_holds(cube, held, FEW)
    with xr.open_zarr(cube, group="r10m") as data:
        assert data.indexes["time"].is_monotonic_increasing


def test_a_late_scene_gets_its_place_and_old_pixels_are_not_copied(tmp_path, series):
    cube = tmp_path / "cube.zarr"
    append_products(cube, [series[0], series[3]])
    inode = (cube / "r10m/B02/c.1.0.0").stat().st_ino
    append_products(cube, [series[2]])
    assert_holds(cube, [0, 2, 3])
    assert (cube / "r10m/B02/c.2.0.0").stat().st_ino == inode
    record = json.loads((cube / "zarr.json").read_text())["attributes"]["declouder:cube"]
    assert record["reordered"] == 1


def test_an_append_at_the_end_disturbs_no_reader(tmp_path, series):
    cube = tmp_path / "cube.zarr"
    append_products(cube, series[:2])
    with xr.open_zarr(cube, group="r10m") as before:
        append_products(cube, series[2:4])
        np.testing.assert_array_equal(before.B02[1].values, expected(1)["B02"])
    assert json.loads((cube / "zarr.json").read_text())["attributes"]["declouder:cube"]["reordered"] == 0


def test_a_successor_takes_the_place_of_its_predecessor_for_good(tmp_path, series):
    cube = tmp_path / "cube.zarr"
    append_products(cube, series[:3])
    link = next(
        x
        for x in json.loads((series[4] / f"{series[4].name}.json").read_text())["links"]
        if x["rel"] == "predecessor-version"
    )
    assert link["title"] == series[1].name
    state = append_products(cube, [series[4]])
    assert state.products == (series[0].name, series[4].name, series[2].name)
    assert_holds(cube, [0, 4, 2])
    again = append_products(cube, [series[1], series[0]])
    assert again.products == state.products
    assert again.passed_over == {series[1].name: f"a later product of S2_1 is there: {series[4].name}"}
    both = append_products(tmp_path / "other.zarr", [series[4], series[1]])
    assert both.products == (series[4].name,)
    assert set(both.passed_over) == {series[1].name}


def test_a_product_that_was_made_again_is_read_again(tmp_path):
    folder = made_product(tmp_path / "out", "S2_0", made_pixels(1))
    append_products(tmp_path / "cube.zarr", [folder])
    shutil.rmtree(folder)
    assert made_product(tmp_path / "out", "S2_0", made_pixels(2)) == folder
    append_products(tmp_path / "cube.zarr", [folder])
    np.testing.assert_array_equal(opened(tmp_path / "cube.zarr")["r10m/B02"][0].values, made_pixels(2)["B02"])


def test_two_scenes_of_one_moment_both_stand(tmp_path):
    made = [made_product(tmp_path / "out", name, made_pixels(seed)) for seed, name in enumerate(("S2_b", "S2_a"))]
    assert append_products(tmp_path / "cube.zarr", made).products == (made[1].name, made[0].name)


@pytest.mark.parametrize("nodata", [65535, None])
def test_nodata_is_that_of_the_products(tmp_path, nodata):
    pixels = made_pixels(0)
    pixels["B02"][:] = 0 if nodata is None else nodata
    append_products(tmp_path / "cube.zarr", [made_product(tmp_path / "out", "S2_0", pixels, nodata=nodata)])
    found = opened(tmp_path / "cube.zarr")["r10m/B02"]
    assert found.rio.nodata == nodata
    np.testing.assert_array_equal(found[0].values, pixels["B02"])


def test_files_are_cut_by_step_whatever_the_size(tmp_path):
    rng = np.random.default_rng(0)
    shape = (1032, 540)
    pixels = {"B02": rng.integers(1, 99, shape, np.uint16), "provenance": np.ones(shape, np.uint8)}
    cube = tmp_path / "cube.zarr"
    append_products(cube, [made_product(tmp_path / "out", "S2_0", pixels)])
    array = zarr.open_array(cube, path="r10m/B02", mode="r")
    assert (array.chunks, array.shards) == ((1, 512, 512), (1, 1024, 1024))
    assert sorted(path.name for path in (cube / "r10m/B02").iterdir()) == ["c.0.0.0", "c.0.1.0", "zarr.json"]
    np.testing.assert_array_equal(array[0], pixels["B02"])


def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system whose C library has no `renameat2`."""
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())


def test_where_folders_cannot_change_names_the_former_cube_is_put_aside(tmp_path, series, monkeypatch):
    without_exchange(monkeypatch)
    cube = tmp_path / "cube.zarr"
    append_products(cube, series[:2])
    former = read_cube_state(cube)
    append_products(cube, series[2:3])
    assert_holds(cube, [0, 1, 2])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cube.zarr.lock", "cube.zarr"]
    # Killed between the two renames:
    cube.rename(tmp_path / ".cube.zarr.former")
    assert read_cube_state(cube).products == (*former.products, series[2].name)
    append_products(cube, series[3:4])
    assert_holds(cube, [0, 1, 2, 3])


def test_an_exchange_is_one_step_and_a_failed_one_is_told(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not durable.exchange(tmp_path / "one", tmp_path / "two"):
        pytest.skip("this file system cannot exchange names")
    assert (tmp_path / "one" / "two").exists()
    assert (tmp_path / "two" / "one").exists()
    with pytest.raises(FileNotFoundError):
        durable.exchange(tmp_path / "one", tmp_path / "three")


def test_without_hard_links_pixels_are_copied(tmp_path, series, monkeypatch):
    def refused(self: Path, target: Path) -> None:  # noqa: ARG001
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refused)
    append_products(tmp_path / "cube.zarr", series[:1])
    append_products(tmp_path / "cube.zarr", series[1:2])
    assert_holds(tmp_path / "cube.zarr", [0, 1])


def empty(path: Path) -> None:
    path.mkdir()


def a_file(path: Path) -> None:
    path.write_text("a")


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("mine")


def foreign(path: Path) -> None:
    zarr.create_group(path, zarr_format=3).create_array("a", shape=(1,), dtype="uint8")


def version_two(path: Path) -> None:
    zarr.create_group(path, zarr_format=2)


def an_array(path: Path) -> None:
    zarr.create_array(path, shape=(1,), dtype="uint8", zarr_format=3)


def torn(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text('{"attributes": {"declou')


def newer(path: Path) -> None:
    zarr.create_group(path, zarr_format=3, attributes={"declouder:cube": {"version": 2}})


def odd(path: Path) -> None:
    zarr.create_group(path, zarr_format=3, attributes={"declouder:cube": {"version": 1, "level": 3}})


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (a_file, "is there already and is no cube"),
        (a_folder, "is there already and is no cube"),
        (version_two, "is there already and is no cube"),
        (foreign, "a Zarr store, but no cube that declouder made"),
        (an_array, "a Zarr store, but no cube that declouder made"),
        (torn, "its zarr.json is damaged"),
        (newer, "a cube of version 2, this declouder writes 1"),
        (odd, "its record is damaged at level"),
    ],
)
def test_what_is_no_cube_is_left_alone(tmp_path, series, make, reason):
    cube = tmp_path / "cube.zarr"
    make(cube)
    before = [(path, path.is_file() and path.read_bytes()) for path in sorted(tmp_path.rglob("*"))]
    for attempt in (lambda: append_products(cube, series[:1]), lambda: read_cube_state(cube)):
        with pytest.raises(InvalidSettings, match=reason) as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert str(cube) in str(caught.value)
        assert "choose another --cube" in str(caught.value)
    assert [(path, path.is_file() and path.read_bytes()) for path in sorted(tmp_path.rglob("*"))] == before


def test_nothing_and_an_empty_folder_are_a_cube_without_steps(tmp_path, series):
    assert read_cube_state(tmp_path / "cube.zarr") == CubeState(tmp_path / "cube.zarr")
    assert append_products(tmp_path / "cube.zarr", []).products == ()
    assert list(tmp_path.iterdir()) == []
    empty(tmp_path / "cube.zarr")
    assert len(append_products(tmp_path / "cube.zarr", series[:1]).times) == 1


def edited(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / f"{folder.name}.json"
    item = json.loads(path.read_text())
    edit(item)
    path.write_text(json.dumps(item))


def cut(folder: Path) -> None:
    (folder / "B02.tif").write_bytes((folder / "B02.tif").read_bytes()[:-9])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / f"{f.name}.json").unlink(), "no complete product"),
        (shutil.rmtree, "no complete product"),
        (cut, "damaged: B02.tif: content differs"),
        (lambda f: (f / "provenance.tif").unlink(), "damaged: "),
        (lambda f: edited(f, lambda i: i["properties"].pop("declouder:source")), "no product of declouder"),
        (lambda f: edited(f, lambda i: i["properties"].update(created="soon")), "no product of declouder"),
        (lambda f: edited(f, lambda i: i["assets"].pop("manifest")), "no product of declouder"),
        (lambda f: edited(f, lambda i: i["assets"]["provenance"].update({"classification:classes": []})), "its provenance has the classes"),
        (lambda f: edited(f, lambda i: i["assets"]["blue"].update({"declouder:reflectance": {"scale": 1, "offset": 0}})), "2 different scales"),
        (lambda f: edited(f, lambda i: i["properties"]["processing:software"].update(declouder="7.0")), "made by declouder 7.0, this is"),
        (lambda f: edited(f, lambda i: i["properties"]["processing:software"].update(declouder="x")), "made by declouder x, this is"),
    ],
)  # fmt: skip
def test_a_bad_product_leaves_the_cube_as_it_was(tmp_path, series, damage, reason):
    cube, folder = tmp_path / "cube.zarr", made_product(tmp_path / "out", "S2_7", made_pixels(7))
    append_products(cube, series[:1])
    before = files_of(cube)
    damage(folder)
    with pytest.raises(InvalidScene, match=reason) as caught:
        append_products(cube, [series[1], folder])
    assert "\n" not in str(caught.value)
    assert folder.name in str(caught.value)
    assert files_of(cube) == before
    assert not list(tmp_path.glob(".cube.zarr.[!l]*"))


def fewer(pixels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in pixels.items() if name != "B03"}


@pytest.mark.parametrize(
    ("pixels", "other", "reason"),
    [
        (fewer(made_pixels(7)), {}, r"has B01 B02 B05, .* has B01 B02 B03 B05"),
        (made_pixels(7, (30, 30)), {}, r"is on EPSG:32633 at \(499980, 5.1e\+06\), .*: merge tiles with --grid"),
        (made_pixels(7), {"origin": (599940.0, 5100000.0)}, "merge tiles with --grid"),
        (made_pixels(7), {"crs": "EPSG:32632"}, "merge tiles with --grid"),
        (made_pixels(7), {"origin": (499985.0, 5100000.0)}, "merge tiles with --grid"),
        (made_pixels(7), {"resolution": 20.0}, "merge tiles with --grid"),
        (made_pixels(7), {"nodata": 65535}, "nodata of B0. is 65535, in .* it is 0"),
        (made_pixels(7), {"level": "L1C"}, "level L1C, .* has L2A"),
    ],
)
def test_a_product_that_does_not_fit_is_refused(tmp_path, series, pixels, other, reason):
    cube, folder = tmp_path / "cube.zarr", made_product(tmp_path / "out", "S2_7", pixels, **other)
    append_products(cube, series[:1])
    before = files_of(cube)
    with pytest.raises(InvalidScene, match=reason) as caught:
        append_products(cube, [folder])
    assert "give another --cube" in str(caught.value)
    assert files_of(cube) == before


def test_another_offset_stands_in_its_coordinate(tmp_path, series):
    late = made_product(tmp_path / "out", "S2_7", made_pixels(7), when=DAY + timedelta(days=9), offset=-0.1)
    append_products(tmp_path / "cube.zarr", [series[0], late])
    with xr.open_zarr(tmp_path / "cube.zarr", group="r20m") as data:
        assert data.reflectance_offset.values.tolist() == [0.0, -0.1]


def test_a_cube_that_lost_a_file_is_not_continued(tmp_path, series):
    cube = tmp_path / "cube.zarr"
    append_products(cube, series[:1])
    (cube / "r10m/B02/c.0.0.0").unlink()
    with pytest.raises(ReadFailed, match=r"damaged: 6 of 7 files of 2023-08-10T10:00:31Z"):
        append_products(cube, series[1:2])
    assert read_cube_state(cube).products == (series[0].name,)


@pytest.mark.parametrize("limit", [300, 2000, 6000])
def test_a_full_disk_leaves_the_former_cube_and_no_rubbish(tmp_path, series, limit):
    cube = tmp_path / "cube.zarr"
    append_products(cube, series[:1])
    before = files_of(cube)
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(
            WriteFailed, match=r"cube\.zarr: no space left on the disk: free some, or choose another --cube"
        ):
            append_products(cube, series[1:3])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert files_of(cube) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cube.zarr.lock", "cube.zarr"]
    append_products(cube, series[1:3])
    assert_holds(cube, [0, 1, 2])


def appended(cube: Path, product: Path) -> bool:
    """Whether there was room for it; without, the reason must be told."""
    try:
        append_products(cube, [product])
    except WriteFailed as error:
        if "no space left on the disk" not in str(error):
            raise
        return False
    return True


def test_a_disk_that_is_really_full(tmp_path, series):
    with small_disk(tmp_path / "disk", "700k") as disk:
        cube, room, stored = disk / "cube.zarr", True, 0
        while room:
            room = appended(cube, series[stored])
            stored += room
        assert sorted(path.name for path in disk.iterdir()) == [".cube.zarr.lock", "cube.zarr"]
        assert read_cube_state(cube).products == tuple(folder.name for folder in series[:stored])
        assert_holds(cube, list(range(stored)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_one_line(tmp_path, series):
    append_products(tmp_path / "cube.zarr", series[:1])
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(WriteFailed, match="no permission to write: choose another --cube"):
            append_products(tmp_path / "cube.zarr", series[1:2])
        assert len(read_cube_state(tmp_path / "cube.zarr").times) == 1
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, series):
    (tmp_path / "file").write_text("")
    with pytest.raises((WriteFailed, InvalidSettings), match=r"cube\.zarr: ") as caught:
        append_products(tmp_path / "file" / "cube.zarr", series[:1])
    assert "\n" not in str(caught.value)


def test_times_are_utc(tmp_path, series):
    assert all(
        time.tzinfo == UTC or time.utcoffset() == timedelta(0)
        for time in append_products(tmp_path / "c", series[:2]).times
    )


def test_nodata_of_every_layer_is_stated(tmp_path, series):
    append_products(tmp_path / "cube.zarr", series[1:2])
    for name, array in opened(tmp_path / "cube.zarr").items():
        assert array.attrs["nodata"] == NODATA.get(name.split("/")[1], 0)


def test_opening_reads_metadata_and_coordinates_only(tmp_path, series, monkeypatch):
    """However many steps and pixels there are: that is what keeps it under two seconds."""
    append_products(tmp_path / "cube.zarr", series[:3])
    real, keys = zarr.storage.LocalStore.get, []

    async def note(self, key, *arguments, **named):
        keys.append(key)
        return await real(self, key, *arguments, **named)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", note)
    with xr.open_zarr(tmp_path / "cube.zarr", group="r10m") as data:
        assert data.sizes["time"] == 3
    chunks = {key for key in keys if not key.endswith((".json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"))}
    assert chunks <= {f"r10m/{name}/c/0" for name in ("time", "x", "y")} | {"r10m/spatial_ref/c"}
    assert len(keys) < 16


def test_a_disk_that_is_mounted_read_only(tmp_path, series):
    with small_disk(tmp_path / "disk", "4m") as disk:
        append_products(disk / "cube.zarr", series[:1])
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(WriteFailed, match=r"cube\.zarr: no permission to write: choose another --cube"):
            append_products(disk / "cube.zarr", series[1:2])
        assert read_cube_state(disk / "cube.zarr").products == (series[0].name,)
        assert_holds(disk / "cube.zarr", [0])


def test_real_scenes_as_the_engine_publishes_them(tmp_path, shared_data):
    scenes = search(
        Query(None, *parse_dates("2023-08-13/2023-08-15")), str(shared_data / "stac/earth-search/catalog.json")
    )
    settings = DecloudSettings(checkpoint="identity", references=0)
    products = [decloud_scene(scene, tmp_path / "out", settings).folder for scene in scenes]
    assert len(products) == 2
    state = append_products(tmp_path / "cube.zarr", products)
    grid = AreaGrid.parse("auto", parse_aoi("15.2,45.2,15.6,45.5"))
    append_products(tmp_path / "area.zarr", products, grid=grid)
    assert state.groups == ("r120m",)
    with (
        xr.open_zarr(tmp_path / "cube.zarr", group="r120m") as cube,
        xr.open_zarr(tmp_path / "area.zarr", group="r120m") as crop,
    ):
        for index, product in enumerate(products):
            for name in ("B02", "B03", "B04", "B08", "SCL", "provenance", "cloudmask"):
                with rasterio.open(product / f"{name}.tif") as file:
                    pixels = file.read(1)
                    window = file.window(*crop.rio.bounds()).round_offsets().round_lengths()
                    part = file.read(1, window=window)
                np.testing.assert_array_equal(cube[name][index].values, pixels)
                np.testing.assert_array_equal(crop[name][index].values, part)
