"""Scenes of neighbouring tiles and of one day on the area's grid: copied where grids are aligned, and who leads is settled."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 (registers .rio)
import shapely
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scipy import ndimage
from shapely.geometry import box

from catalogs.aoi import parse_aoi
from pipeline.areagrid import AreaGrid
from pipeline.cube import append_products, read_cube_state
from pipeline.cube_plan import solar_day
from pipeline.errors import InvalidScene, InvalidSettings, ReadFailed
from pipeline.placement import aligned, meets, place
from pipeline.warp import pixel_ratio, warped
from tests.pipeline.made_cube import DAY, ORIGIN, files_of, made_pixels, made_product, opened

X, Y = ORIGIN


def area(left: float, bottom: float, right: float, top: float, crs: str = "EPSG:32633"):
    """A box of map units as an area in degrees, a little smaller, so that rounding adds no pixels."""
    project = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform
    return shapely.transform(box(left + 1, bottom + 1, right - 1, top - 1), project, interleaved=False)


FEW = ("B02", "B05", "B01", "provenance", "confidence")
"""One band of each resolution, and layers of ours."""


def few(seed: int) -> dict[str, np.ndarray]:
    return {name: array for name, array in made_pixels(seed).items() if name in FEW}


def pair(output: Path, days: int = 0) -> list[Path]:
    """Two tiles of one zone and day, 30 columns each, that overlap by 12; of few layers, for what is appended many times."""
    when = DAY + timedelta(days=days)
    return [
        made_product(output, f"S2_a{days}", few(10 + days), when=when),
        made_product(output, f"S2_b{days}", few(20 + days), when=when + timedelta(seconds=9), origin=(X + 180, Y)),
    ]


RANKS = {1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 0: 9}


def merged(parts: list[tuple[dict[str, np.ndarray], int]], shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """What the merging should give, pixel by pixel in plain Python: (pixels, first column) by id, on one row of tiles."""
    result: dict[str, np.ndarray] = {}
    for factor, names in {
        1: ("B02", "B03", "provenance", "confidence", "cloudmask"),
        2: ("B05", "SCL"),
        6: ("B01",),
    }.items():
        rows, cols = shape[0] // factor, shape[1] // factor
        source = np.zeros((rows, cols), np.uint16)
        made = {
            name: np.full((rows, cols), 255 if name == "confidence" else 0, parts[0][0][name].dtype) for name in names
        }
        for row in range(rows):
            for col in range(cols):
                best = 9
                for number, (pixels, first) in enumerate(parts, 1):
                    at = col - first // factor
                    if not 0 <= at < pixels[names[0]].shape[1]:
                        continue
                    cell = pixels["provenance"][row * factor : (row + 1) * factor, at * factor : (at + 1) * factor]
                    rank = max((RANKS[int(value)] for value in cell.flat if value), default=9)
                    if rank < best:
                        best, source[row, col] = rank, number
                        for name in names:
                            made[name][row, col] = pixels[name][row, at]
        result |= made | {f"source{factor}": source}
    return result


@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 999))
def test_two_tiles_of_a_day_are_one_step_and_the_better_pixel_leads(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("pair")
    one, other = made_pixels(seed), made_pixels(seed + 1)
    products = [
        made_product(folder / "out", "S2_b", other, when=DAY, origin=(X + 180, Y), format="zarr"),
        made_product(folder / "out", "S2_a", one, when=DAY + timedelta(seconds=9)),
    ]
    grid = AreaGrid.parse("auto", area(X, Y - 360, X + 480, Y))
    state = append_products(folder / "cube.zarr", products, grid=grid)
    assert state.times == (DAY,)
    found = opened(folder / "cube.zarr")
    wanted = merged([(one, 0), (other, 18)], (36, 48))
    for factor, group in {1: "r10m", 2: "r20m", 6: "r60m"}.items():
        np.testing.assert_array_equal(found[f"{group}/source"][0].values, wanted[f"source{factor}"])
    for name in ("B02", "B03", "B05", "B01", "provenance", "confidence", "cloudmask", "SCL"):
        (array,) = (array for key, array in found.items() if key.endswith(f"/{name}"))
        np.testing.assert_array_equal(array[0].values, wanted[name], err_msg=name)
    with xr.open_zarr(folder / "cube.zarr", group="r10m") as data:
        assert data.item_id.values.tolist() == ["S2_a S2_b"]
        assert data.product_id.values.tolist() == [" ".join(sorted(product.name for product in products))]


def test_windows_in_any_order_and_a_day_in_two_windows_give_the_same_cube(tmp_path):
    days = [pair(tmp_path / "out", number) for number in range(3)]
    grid = AreaGrid.parse("EPSG:32633,10", area(X, Y - 360, X + 480, Y))
    append_products(tmp_path / "one.zarr", [product for day in days for product in day], grid=grid)
    for window in ([days[2][1], days[0][0]], [days[1][0], days[1][1]], [days[2][0]], [days[0][1]], days[0]):
        state = append_products(tmp_path / "other.zarr", window, grid=grid)
    assert state.products == read_cube_state(tmp_path / "one.zarr").products
    one, other = opened(tmp_path / "one.zarr"), opened(tmp_path / "other.zarr")
    assert one.keys() == other.keys()
    for name in one:
        xr.testing.assert_identical(one[name], other[name])


def test_a_crop_of_one_tile_is_a_window_of_it(tmp_path):
    product = made_product(tmp_path / "out", "S2_a", made_pixels(1))
    grid = AreaGrid.parse("auto", area(X + 65, Y - 295, X + 175, Y - 125))
    append_products(tmp_path / "cube.zarr", [product], grid=grid)
    found = opened(tmp_path / "cube.zarr")["r10m/B02"]
    assert found.rio.transform() == Affine(10, 0, X + 60, 0, -10, Y - 120)
    wanted = np.where(made_pixels(1)["provenance"] == 0, 0, made_pixels(1)["B02"])[12:30, 6:18]
    np.testing.assert_array_equal(found[0].values, wanted)


def test_a_lost_product_of_a_day_that_must_be_merged_again_is_named(tmp_path):
    day = pair(tmp_path / "out")
    grid = AreaGrid.parse("auto", area(X, Y - 360, X + 480, Y))
    append_products(tmp_path / "cube.zarr", day[:1], grid=grid)
    before = files_of(tmp_path / "cube.zarr")
    moved = day[0].rename(tmp_path / day[0].name)
    with pytest.raises(ReadFailed, match="is not there any more; its day must be merged again: put it back") as caught:
        append_products(tmp_path / "cube.zarr", day[1:], grid=grid)
    assert day[0].name in str(caught.value)
    assert files_of(tmp_path / "cube.zarr") == before
    append_products(tmp_path / "cube.zarr", [moved, day[1]], grid=grid)
    assert len(read_cube_state(tmp_path / "cube.zarr").products) == 2


def test_a_scene_beside_the_area_is_passed_over(tmp_path):
    day = [*pair(tmp_path / "out"), made_product(tmp_path / "out", "S2_far", few(3), origin=(X + 6000, Y))]
    grid = AreaGrid.parse("auto", area(X, Y - 360, X + 480, Y))
    for _ in range(2):
        state = append_products(tmp_path / "cube.zarr", day, grid=grid)
        assert len(state.products) == 2
        assert state.passed_over == {day[2].name: "lies outside the area's grid"}


def test_scenes_of_different_offset_are_not_mixed(tmp_path):
    one = made_product(tmp_path / "out", "S2_a", made_pixels(1))
    other = made_product(tmp_path / "out", "S2_b", made_pixels(2), offset=-0.1, origin=(X + 180, Y))
    with pytest.raises(InvalidScene, match="2023-08-10: scenes of different scale and offset cannot be merged"):
        append_products(tmp_path / "c.zarr", [one, other], grid=AreaGrid.parse("auto", area(X, Y - 360, X + 480, Y)))
    assert not (tmp_path / "c.zarr").exists()


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> tuple[Path, Path]:
    """A cube of the first product of a pair on the area's grid, and the second product; nothing is to change them."""
    folder = tmp_path_factory.mktemp("begun")
    first, second = pair(folder / "out")
    append_products(folder / "c.zarr", [first], grid=AreaGrid.parse("auto", area(X, Y - 360, X + 480, Y)))
    return folder / "c.zarr", second


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        (None, "has scenes merged on EPSG:32633 .*: give the --grid that it was made with"),
        (AreaGrid.parse("EPSG:32633,20", area(X, Y - 360, X + 480, Y)), "not EPSG:32633,20 with nearest"),
        (AreaGrid.parse("EPSG:32632,10", area(X, Y - 360, X + 480, Y)), "not EPSG:32632,10 with nearest"),
        (AreaGrid.parse("auto,cubic", area(X, Y - 360, X + 480, Y)), "not EPSG:32633,10 with cubic"),
        (AreaGrid.parse("auto", area(X, Y - 360, X + 580, Y)), "--aoi another area"),
    ],
)
def test_another_grid_than_the_cube_has_is_refused(begun, grid, reason):
    cube, second = begun
    before = files_of(cube)
    with pytest.raises(InvalidSettings, match=reason):
        append_products(cube, [second], grid=grid)
    assert files_of(cube) == before


def test_a_cube_of_its_scenes_grid_takes_no_grid(tmp_path):
    first, second = pair(tmp_path / "out")
    append_products(tmp_path / "c.zarr", [first])
    with pytest.raises(InvalidSettings, match="has the grid of its scenes: leave --grid away"):
        append_products(tmp_path / "c.zarr", [second], grid=AreaGrid.parse("auto", area(X, Y - 360, X + 480, Y)))


def test_days_are_those_of_the_sun():
    """Eastern Australia is passed over at about midnight UTC."""
    for moment, longitude, day in (
        (datetime(2023, 8, 9, 23, 58, tzinfo=UTC), 151.0, "2023-08-10"),
        (datetime(2023, 8, 10, 0, 12, tzinfo=UTC), 151.0, "2023-08-10"),
        (datetime(2023, 8, 10, 21, 0, tzinfo=UTC), -157.0, "2023-08-10"),
        (datetime(2023, 8, 10, 10, 0, tzinfo=UTC), 15.0, "2023-08-10"),
    ):
        assert solar_day(moment, longitude) == day


@pytest.mark.parametrize("kernel", ["nearest", "bilinear", "cubic"])
def test_a_tile_of_the_next_zone_comes_by_the_kernel_asked_for(tmp_path, kernel):
    """Against pixel centres projected one by one: exact for nearest and classes, within rounding for bilinear."""
    x, y = Transformer.from_crs("EPSG:32633", "EPSG:32632", always_xy=True).transform(X, Y)
    origin = (round(x / 60) * 60.0, round(y / 60) * 60.0)
    rng = np.random.default_rng(3)
    pixels = {"B02": rng.integers(1000, 3000, (60, 60), np.uint16), "provenance": np.ones((60, 60), np.uint8)}
    pixels["provenance"][::2] = 3
    product = made_product(tmp_path / "out", "S2_a", pixels, origin=origin, crs="EPSG:32632")
    grid = AreaGrid.parse(f"EPSG:32633,10,{kernel}", area(X + 120, Y - 480, X + 480, Y - 120))
    append_products(tmp_path / "cube.zarr", [product], grid=grid)
    found = opened(tmp_path / "cube.zarr")
    data = found["r10m/B02"]
    assert data.rio.crs == "EPSG:32633"
    project = Transformer.from_crs("EPSG:32633", "EPSG:32632", always_xy=True).transform
    east, north = project(*np.meshgrid(data.x.values, data.y.values))
    col, row = (east - origin[0]) / 10, (origin[1] - north) / 10
    centre = np.floor(row).astype(int), np.floor(col).astype(int)
    assert (centre[0].min(), centre[1].min()) >= (0, 0)
    np.testing.assert_array_equal(found["r10m/provenance"][0].values, pixels["provenance"][centre])
    np.testing.assert_array_equal(found["r10m/source"][0].values, 1)
    if kernel == "nearest":
        np.testing.assert_array_equal(data[0].values, pixels["B02"][centre])
    elif kernel == "bilinear":
        wanted = ndimage.map_coordinates(pixels["B02"].astype(float), [row - 0.5, col - 0.5], order=1)
        assert np.abs(data[0].values - wanted).max() < 5
    else:
        assert (data[0].values != pixels["B02"][centre]).mean() > 0.9


@settings(deadline=None, max_examples=10)
@given(
    cuts=st.lists(st.integers(1, 99), max_size=4),
    kernel=st.sampled_from(["bilinear", "cubic", "average"]),
    size=st.sampled_from([10, 20, 30]),
)
def test_a_warp_does_not_depend_on_stripes(cuts, kernel, size):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 9000, (120, 120), np.uint16)
    source = GeoBox((120, 120), Affine(10, 0, 699960, 0, -10, 5000040), "EPSG:32632")
    x, y = Transformer.from_crs("EPSG:32632", "EPSG:32633", always_xy=True).transform(700560, 4999440)
    rows = 1000 // size
    target = GeoBox((rows, rows), Affine(size, 0, round(x) - 500, 0, -size, round(y) + 500), "EPSG:32633")
    ratio = pixel_ratio(source, target)
    whole = warped(values, source, target, 0, kernel, ratio)
    edges = sorted({0, rows, *(cut for cut in cuts if cut < rows)})
    parts = [
        warped(values, source, target[first:last, :], 0, kernel, ratio) for first, last in itertools.pairwise(edges)
    ]
    assert (whole > 0).mean() > 0.8
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@settings(deadline=None, max_examples=60)
@given(
    dx=st.integers(-40, 40),
    dy=st.integers(-40, 40),
    shift=st.sampled_from([0.0, 0.05, 5.0, 2.5]),
    crs=st.sampled_from([32633, 32632]),
)
def test_every_target_pixel_takes_the_pixel_that_holds_its_centre(dx, dy, shift, crs):
    source = GeoBox((20, 25), Affine(10, 0, X, 0, -10, Y), "EPSG:32633")
    x, y = Transformer.from_crs("EPSG:32633", f"EPSG:{crs}", always_xy=True).transform(X, Y)
    x, y = (X, Y) if crs == 32633 else (round(x, -1), round(y, -1))
    target = GeoBox((22, 18), Affine(10, 0, x + 10 * dx + shift, 0, -10, y + 10 * dy), f"EPSG:{crs}")
    values = np.arange(1, 501, dtype=np.uint16).reshape(20, 25)
    result = np.zeros((22, 18), np.uint16)
    placed = place(source, target)
    if placed is not None:
        result[placed.target] = placed.take(values[placed.source], 0)
    assert (aligned(source, target) is not None) == (crs == 32633 and shift < 0.1)
    columns, rows = np.meshgrid(np.arange(18) + 0.5, np.arange(22) + 0.5)
    project = Transformer.from_crs(f"EPSG:{crs}", "EPSG:32633", always_xy=True).transform
    east, north = project(target.transform.c + 10 * columns, target.transform.f - 10 * rows)
    nudge = 0 if aligned(source, target) is None else shift
    col, row = np.floor((east - nudge - X) / 10 + 1e-6).astype(int), np.floor((Y - north) / 10 + 1e-6).astype(int)
    inside = (row >= 0) & (row < 20) & (col >= 0) & (col < 25)
    wanted = np.where(inside, values[np.clip(row, 0, 19), np.clip(col, 0, 24)], 0)
    np.testing.assert_array_equal(result, wanted)
    assert (placed is None) == (not inside.any())
    assert placed is None or meets(source, target)


def scene(left: float = X, size: float = 10, crs: str = "EPSG:32633") -> GeoBox:
    return GeoBox((60, 60), Affine(size, 0, left, 0, -size, Y), crs)


def test_auto_takes_the_zone_of_the_area_and_the_finest_pixel_in_any_order():
    grid = AreaGrid.parse("auto", area(X, Y - 300, X + 300, Y))
    scenes = [scene(crs="EPSG:32632"), scene(crs="EPSG:32634"), scene(crs="EPSG:32634"), scene(size=20), scene()]
    for order in (scenes, scenes[::-1]):
        found = grid.resolve(order)
        assert (found.crs.epsg, found.resolution.x, found.shape) == (32633, 10, (30, 30))
    assert grid.resolve(scenes[:3]).crs.epsg == 32634
    south = AreaGrid.parse("auto", parse_aoi("15.1,-45.3,15.2,-45.2"))
    assert south.resolve([scene(crs="EPSG:32733"), scene()]).crs.epsg == 32733


@pytest.mark.parametrize(("left", "anchor"), [(X, 0), (X + 30, 30), (X + 7, 7), (X - 53, 7)])
def test_the_grid_begins_where_the_scenes_do(left, anchor):
    grid = AreaGrid.parse("EPSG:32633,10", area(X + 100, Y - 300, X + 300, Y - 100))
    found = grid.resolve([scene(left)])
    assert aligned(scene(left), found) is not None
    assert (found.transform.c - X) % 60 == anchor
    assert all(count % 6 == 0 for count in found.shape)
    bounds = found.boundingbox
    assert bounds.left <= X + 101 <= X + 299 <= bounds.right
    assert bounds.bottom <= Y - 299 <= Y - 101 <= bounds.top


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "write auto, or a CRS"),
        ("EPSG:32633", "write auto, or a CRS"),
        ("EPSG:32633,ten", "write auto, or a CRS"),
        ("EPSG:32633,10,linear", "write auto, or a CRS"),
        ("nearest", "write auto, or a CRS"),
        ("EPSG:1,10", "no CRS that is known"),
        ("EPSG:4979,10", "has 3 axes"),
        ("EPSG:32633,0", "must be above 0"),
        ("EPSG:32633,-10", "must be above 0"),
        ("EPSG:32633,nan", "must be above 0"),
        ("EPSG:32633,inf", "must be above 0"),
        ("EPSG:4326,10", "a pixel of 10 is larger than the area in EPSG:4326"),
        ("EPSG:32633,0.001", "pixels of the area: take larger pixels"),
    ],
)
def test_a_wrong_grid_is_one_line(text, reason):
    with pytest.raises(InvalidSettings, match=reason) as caught:
        AreaGrid.parse(text, area(X, Y - 300, X + 300, Y)).resolve([scene()])
    assert str(caught.value).startswith("--grid")
    assert "\n" not in str(caught.value)


def test_degrees_are_a_grid_too(tmp_path):
    product = made_product(tmp_path / "out", "S2_a", made_pixels(1) | {"provenance": np.ones((36, 30), np.uint8)})
    grid = AreaGrid.parse("EPSG:4326,0.0001", area(X + 60, Y - 300, X + 240, Y - 60))
    append_products(tmp_path / "cube.zarr", [product], grid=grid)
    found = opened(tmp_path / "cube.zarr")
    assert {name.split("/")[0] for name in found} == {"r0.0001deg", "r0.0002deg", "r0.0006deg"}
    data = found["r0.0001deg/B02"]
    lon, lat = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True).transform(X + 155, Y - 155)
    with rasterio.open(product / "B02.tif") as file:
        (wanted,) = next(file.sample([(X + 155, Y - 155)]))
    step = data.sel(x=lon, y=lat, method="nearest")
    nearby = made_pixels(1)["B02"][14:18, 14:18]
    assert int(step[0]) in nearby
    assert wanted in nearby
