"""Cloud masks: classes from SCL and rasters, growth against scipy's distance transform, no trace of the blocks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.warp import Resampling, reproject
from scipy import ndimage

from pipeline.classes import CLEAR, NODATA, SHADOW, SNOW, THICK, THIN, despeckle, is_cloudy
from pipeline.cloudmask import CloudMask, _grow, blocks, make_cloud_mask
from pipeline.errors import InvalidScene, InvalidSettings
from pipeline.growth import dilate, effective_radius, reach
from pipeline.scene import open_scene

from .made import made_item, made_item_of, write_raster

RNG = np.random.default_rng(11)
CODES = np.array([NODATA, CLEAR, THIN, THICK, SHADOW, SNOW], np.uint8)


def within(mask: np.ndarray, radius: float, pixel: tuple[float, float]) -> np.ndarray:
    """Oracle: scipy's exact Euclidean distance over the whole array."""
    if not mask.any():
        return np.zeros_like(mask)
    return ndimage.distance_transform_edt(~mask, sampling=pixel) <= radius * (1 + 1e-9)


def grown_oracle(classes: np.ndarray, radius: float, pixel: tuple[float, float]) -> np.ndarray:
    grown = classes.copy()
    free = (classes == CLEAR) | (classes == SNOW)
    for code in (SHADOW, THIN, THICK):
        grown[within(classes == code, radius, pixel) & free] = code
    return grown


sizes = st.sampled_from([(10.0, 10.0), (120.0, 120.0), (20.0, 11.3), (60.0, 100.0)])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60), st.floats(1, 400), sizes)
def test_dilation_equals_the_distance_transform(seed: int, rows: int, cols: int, radius: float, pixel) -> None:
    mask = np.random.default_rng(seed).random((rows, cols)) < 0.02
    np.testing.assert_array_equal(dilate(mask, radius, pixel), within(mask, radius, pixel))


def test_a_pixel_exactly_at_the_radius_belongs_to_the_disc() -> None:
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    grown = dilate(mask, 50.0, (10.0, 10.0))
    assert not grown[0, 0]
    assert dilate(mask, 40.0, (10.0, 10.0))[0, 4]
    assert not dilate(mask, 39.9, (10.0, 10.0))[0, 4]
    assert dilate(mask, 50.0, (10.0, 10.0))[1, 8]  # 3, 4, 5
    assert reach(50.0, (10.0, 10.0)) == (5, 5)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 70),
    st.integers(1, 70),
    st.floats(0, 150),
    st.integers(1, 40),
    st.sampled_from([(10.0, 10.0), (7.0, 11.0)]),
)
def test_growth_by_strips_equals_growth_of_the_whole(
    seed: int, rows: int, cols: int, radius: float, block: int, pixel: tuple[float, float]
) -> None:
    rng = np.random.default_rng(seed)
    classes = rng.choice(CODES, (rows, cols), p=[0.1, 0.75, 0.03, 0.03, 0.03, 0.06])
    grown = classes.copy()
    _grow(grown, radius, pixel, block)
    np.testing.assert_array_equal(grown, grown_oracle(classes, radius, pixel) if radius > 0 else classes)


def test_growth_never_touches_nodata_and_keeps_cloud_classes() -> None:
    classes = RNG.choice(CODES, (50, 50), p=[0.2, 0.6, 0.05, 0.05, 0.05, 0.05])
    grown = classes.copy()
    _grow(grown, 30.0, (10.0, 10.0), 16)
    assert (grown[classes == NODATA] == NODATA).all()
    kept = is_cloudy(classes)
    np.testing.assert_array_equal(grown[kept], classes[kept])


def test_at_least_two_pixels_or_none() -> None:
    assert effective_radius(1.0, (10.0, 10.0)) == 20.0
    assert effective_radius(0.0, (10.0, 10.0)) == 0.0


def test_despeckle_takes_single_pixels_only() -> None:
    classes = np.full((7, 9), CLEAR, np.uint8)
    classes[1, 1] = THICK
    classes[3:5, 4:6] = SHADOW
    cleaned = despeckle(classes)
    assert cleaned[1, 1] == CLEAR
    assert (cleaned == SHADOW).sum() == 4


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 60))
def test_blocks_cover_every_pixel_once(rows: int, cols: int, block: int) -> None:
    count = np.zeros((rows, cols), int)
    for window in blocks((rows, cols), block):
        count[window] += 1
    assert (count == 1).all()


def scl_scene(folder: Path, scl: np.ndarray, factor: int = 2, **changes):
    rows, cols = (length * factor for length in scl.shape)
    return made_item(folder, {"B02": np.full((rows, cols), 900, np.uint16)}, scl=scl, **changes)


def test_every_class_of_the_scl(tmp_path: Path) -> None:
    scl = np.repeat(np.arange(12, dtype=np.uint8)[None], 3, axis=0)
    with open_scene(scl_scene(tmp_path / "s", scl, resolution=60.0)) as scene:
        mask = make_cloud_mask(scene, "scl", 0)
    assert mask.method == "scl"
    expected = [CLEAR, CLEAR, CLEAR, SHADOW, CLEAR, CLEAR, CLEAR, CLEAR, THICK, THICK, THIN, SNOW]
    np.testing.assert_array_equal(mask.classes, np.repeat([np.repeat(expected, 2)], 6, axis=0))
    assert mask.fractions == pytest.approx(
        {"clear": 7 / 12, "thin": 1 / 12, "thick": 2 / 12, "shadow": 1 / 12, "snow": 1 / 12}
    )


def test_nodata_is_where_all_bands_are_and_the_bands_decide(tmp_path: Path) -> None:
    fine, coarse = np.full((12, 12), 900, np.uint16), np.full((6, 6), 900, np.uint16)
    fine[:, :5] = 0
    coarse[:, :2] = 0  # covers work columns 0..3
    item = made_item(tmp_path / "s", {"B02": fine, "B05": coarse}, scl=np.zeros((6, 6)))
    with open_scene(item) as scene:
        classes = make_cloud_mask(scene, "auto", 0).classes
    assert (classes[:, :4] == NODATA).all()
    assert (classes[:, 4:] == CLEAR).all()


def test_a_scene_without_data_is_refused(tmp_path: Path) -> None:
    item = made_item(tmp_path / "s", {"B02": np.zeros((8, 8), np.uint16)}, scl=np.full((8, 8), 9))
    with open_scene(item) as scene, pytest.raises(InvalidScene, match="s: no valid pixel"):
        make_cloud_mask(scene)


@pytest.mark.parametrize(
    ("changed", "error"),
    [({"origin": (600000.0, 5100000.0)}, "does not cover"), ({"crs": "EPSG:32634"}, "does not cover")],
)
def test_an_scl_of_another_scene_is_refused(tmp_path: Path, changed: dict, error: str) -> None:
    item = scl_scene(tmp_path / "s", np.full((6, 6), 4))
    write_raster(tmp_path / "s/SCL.tif", np.full((6, 6), 4, np.uint8), resolution=20.0, **changed)
    with open_scene(item) as scene, pytest.raises(InvalidScene, match=rf"bands of different scenes: SCL .*{error}"):
        make_cloud_mask(scene)


def test_an_scl_that_is_none_is_refused(tmp_path: Path) -> None:
    with (
        open_scene(scl_scene(tmp_path / "s", np.full((6, 6), 97))) as scene,
        pytest.raises(InvalidScene, match="value 97"),
    ):
        make_cloud_mask(scene)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_blocks_leave_no_trace(tmp_path: Path, factor: int) -> None:
    scl = RNG.choice([0, 3, 4, 5, 8, 9, 10, 11], (44, 35), p=[0.02, 0.04, 0.6, 0.2, 0.04, 0.04, 0.04, 0.02])
    item = scl_scene(tmp_path / "s", scl, factor)
    with open_scene(item) as scene:
        whole = make_cloud_mask(scene, "auto", 45.0, block=4096).classes
        for block in (7, 32, 61):
            np.testing.assert_array_equal(make_cloud_mask(scene, "auto", 45.0, block=block).classes, whole)
    assert is_cloudy(whole).any()


def test_real_scene_does_not_depend_on_blocks(shared_data: Path) -> None:
    folder = shared_data / "stac/earth-search/sentinel-2-l2a/S2A_33TWL_20230818_0_L2A"
    with open_scene(made_item_of(folder, ["B03", "B08"], sun=(156.7, 55.66))) as scene:
        whole = make_cloud_mask(scene, block=2048)
        assert whole.method == "scl + shadows by geometry"
        assert 0.4 < whole.fractions["thick"] < 0.6
        np.testing.assert_array_equal(make_cloud_mask(scene, block=300).classes, whole.classes)


def raster_scene(tmp_path: Path):
    return open_scene(made_item(tmp_path / "s", {"B02": np.full((40, 60), 900, np.uint16)}))


def test_a_users_raster_is_cloud_where_it_is_not_zero(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60), np.float32)
    pixels[5:9, 5:9], pixels[20, :], pixels[30:32, 50:55] = 0.3, np.nan, -9999
    path = write_raster(tmp_path / "clouds.tif", pixels, nodata=-9999)
    with raster_scene(tmp_path) as scene:
        mask = make_cloud_mask(scene, str(path), 0)
    expected = np.full((40, 60), CLEAR)
    expected[5:9, 5:9] = THICK
    np.testing.assert_array_equal(mask.classes, expected)
    assert mask.method == "raster clouds.tif"


def test_a_users_raster_on_another_grid_equals_gdals_nearest(tmp_path: Path) -> None:
    pixels = (RNG.random((90, 90)) < 0.3).astype(np.uint8)
    path = write_raster(
        tmp_path / "clouds.tif", pixels, resolution=0.0001, origin=(14.998, 46.0545), crs="EPSG:4326", nodata=None
    )
    with raster_scene(tmp_path) as scene, rasterio.open(path) as source:
        mask = make_cloud_mask(scene, str(path), 0, block=17)
        oracle = np.zeros((40, 60), np.uint8)
        reproject(
            rasterio.band(source, 1),
            oracle,
            dst_transform=scene.geobox.transform,
            dst_crs=str(scene.geobox.crs),
            resampling=Resampling.nearest,
            tolerance=0,
        )
    assert 0.05 < oracle.mean() < 0.5
    np.testing.assert_array_equal(mask.classes == THICK, oracle == 1)


def test_our_own_classes_are_taken_as_they_are(tmp_path: Path) -> None:
    classes = RNG.integers(0, 6, (40, 60)).astype(np.uint8)
    path = write_raster(tmp_path / "cloudmask.tif", classes, nodata=None, tags={"DECLOUDER_CLASSES": "1"})
    with raster_scene(tmp_path) as scene:
        np.testing.assert_array_equal(
            make_cloud_mask(scene, str(path), 150.0).classes, np.where(classes == NODATA, CLEAR, classes)
        )
        write_raster(path, classes + 4, nodata=None, tags={"DECLOUDER_CLASSES": "1"})
        scene.close()
        with pytest.raises(InvalidSettings, match=r"cloudmask.tif: value \d is no class"):
            make_cloud_mask(scene, str(path), 150.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"origin": (600000.0, 5100000.0)}, "does not overlap s"),
        ({"crs": "EPSG:4326", "origin": (100.0, 10.0), "resolution": 0.001}, "does not overlap s"),
        ({"crs": None}, "not georeferenced"),
    ],
)
def test_a_users_raster_that_does_not_fit_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    path = write_raster(tmp_path / "clouds.tif", np.ones((9, 9), np.uint8), **change)
    with raster_scene(tmp_path) as scene, pytest.raises(InvalidSettings, match=rf"--mask .*clouds.tif.*{message}"):
        make_cloud_mask(scene, str(path))


def test_a_small_raster_inside_the_scene_overlaps(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "clouds.tif", np.ones((1, 1), np.uint8), resolution=10.0, origin=(500180.0, 5099900.0)
    )
    with raster_scene(tmp_path) as scene:
        classes = make_cloud_mask(scene, str(path), 0).classes
    assert np.argwhere(classes == THICK).tolist() == [[10, 20]]


def test_bad_settings(tmp_path: Path) -> None:
    with raster_scene(tmp_path) as scene:
        with pytest.raises(InvalidSettings, match="grow -1"):
            make_cloud_mask(scene, "auto", -1.0)
        with pytest.raises(InvalidSettings, match="grow nan"):
            make_cloud_mask(scene, "auto", math.nan)
        with pytest.raises(InvalidSettings, match="no such file"):
            make_cloud_mask(scene, str(tmp_path / "gone.tif"))
        with pytest.raises(InvalidSettings, match="no SCL: use --mask"):
            make_cloud_mask(scene, "scl")
    with pytest.raises(InvalidSettings, match="uint8"):
        CloudMask(np.zeros((3, 3), bool), "made")
