"""Shadows by geometry: planted ones are found with and without the sun, and nothing is found where none are."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.classes import CLEAR, SHADOW
from pipeline.cloudmask import make_cloud_mask
from pipeline.scene import open_scene
from pipeline.shadowfit import CELL, count_around, moved, pooled, shadow_path, shadow_zone, widened
from pipeline.shadows import find_shadows

from .made import made_item, made_item_of

RNG = np.random.default_rng(2)
SIZE, RESOLUTION = 160, 60.0
AZIMUTH, ELEVATION, HEIGHT = 150.0, 45.0, 1500.0


def blobs(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mask = np.zeros((SIZE, SIZE), bool)
    for row, col in rng.integers(5, SIZE - 5, (count, 2)):
        mask[row - 3 : row + 4, col - 3 : col + 4] = True
    return mask


def planted(height: float = HEIGHT) -> tuple[np.ndarray, np.ndarray]:
    """Clouds, and their shadows on the ground where no cloud hides them."""
    cloud = blobs(45, 8)
    far = height / math.tan(math.radians(ELEVATION)) / RESOLUTION
    shift = round(math.cos(math.radians(AZIMUTH)) * far), round(-math.sin(math.radians(AZIMUTH)) * far)
    return cloud, moved(cloud, shift) & ~cloud


def made(folder: Path, cloud: np.ndarray, shadow: np.ndarray, **changes):
    land = RNG.normal(3000, 200, (SIZE, SIZE))
    nir = np.where(cloud, 7000, np.where(shadow, 0.4 * land, land)).astype(np.uint16)
    green = np.where(cloud, 7000, np.where(shadow, 400, 900)).astype(np.uint16)
    scl = np.where(cloud, 9, 4)
    return made_item(folder, {"B03": green, "B08": nir}, scl=scl, resolution=RESOLUTION, **changes)


@pytest.mark.parametrize("sun", [{"sun_azimuth": AZIMUTH, "sun_elevation": ELEVATION}, {}], ids=["known", "unknown"])
def test_planted_shadows_are_found_and_hardly_anything_else(tmp_path: Path, sun: dict) -> None:
    cloud, shadow = planted()
    with open_scene(made(tmp_path / "s", cloud, shadow, **sun)) as scene:
        mask = make_cloud_mask(scene, "auto", 0)
    found = mask.classes == SHADOW
    assert mask.method == "scl + shadows by geometry"
    assert (found & shadow).sum() > 0.9 * shadow.sum()
    assert (found & ~shadow).sum() < 0.02 * shadow.sum()


@pytest.mark.parametrize("sun", [{"sun_azimuth": AZIMUTH, "sun_elevation": ELEVATION}, {}], ids=["known", "unknown"])
def test_dark_ground_that_is_no_shadow_stays_clear(tmp_path: Path, sun: dict) -> None:
    with open_scene(made(tmp_path / "s", blobs(45, 8), blobs(45, 99) & ~blobs(45, 8), **sun)) as scene:
        mask = make_cloud_mask(scene, "auto", 0)
    assert mask.method == "scl"
    assert not (mask.classes == SHADOW).any()


def test_clouds_and_dark_fields_that_meet_by_chance() -> None:
    path = shadow_path(AZIMUTH, ELEVATION, (RESOLUTION, RESOLUTION))
    shares = []
    for seed in range(20):
        cloud, dark = blobs(45, seed), blobs(45, 1000 + seed) & ~blobs(45, seed)
        shares.append((shadow_zone(cloud, ~cloud, dark, path) & dark).sum() / dark.sum())
    assert np.mean(shares) < 0.02


def test_water_is_no_shadow(tmp_path: Path) -> None:
    cloud, lake = planted()
    nir = np.where(cloud, 7000, np.where(lake, 200, 3000)).astype(np.uint16)
    green = np.where(cloud, 7000, np.where(lake, 600, 900)).astype(np.uint16)
    item = made_item(
        tmp_path / "s",
        {"B03": green, "B08": nir},
        scl=np.where(cloud, 9, 6 * lake + 4 * ~lake),
        resolution=RESOLUTION,
        sun_azimuth=AZIMUTH,
        sun_elevation=ELEVATION,
    )
    with open_scene(item) as scene:
        assert not (make_cloud_mask(scene, "auto", 0).classes == SHADOW).any()


def test_fine_grids_are_judged_at_full_resolution(tmp_path: Path) -> None:
    cloud, shadow = (np.repeat(np.repeat(mask, 3, 0), 3, 1) for mask in planted())
    nir = np.where(cloud, 7000, np.where(shadow, 1000, 3000)).astype(np.uint16)
    bright = np.zeros_like(shadow)
    bright[::7, ::7] = True  # sunlit specks inside shadows
    nir[bright & ~cloud] = 3000
    item = made_item(
        tmp_path / "s",
        {"B02": nir, "B8A": nir},
        scl=np.where(cloud, 9, 4),
        resolution=20.0,
        sun_azimuth=AZIMUTH,
        sun_elevation=ELEVATION,
    )
    with open_scene(item, ["B02"]) as scene:  # the band that is needed is not among the chosen
        whole = make_cloud_mask(scene, "auto", 0)
        found = whole.classes == SHADOW
        np.testing.assert_array_equal(make_cloud_mask(scene, "auto", 0, block=100).classes, whole.classes)
    assert not found[bright & ~cloud].any()
    assert (found & shadow).sum() > 0.85 * (shadow & ~bright).sum()
    assert not (found & ~shadow).any()


def test_nothing_can_be_said_without_near_infrared_cloud_or_a_high_sun(tmp_path: Path) -> None:
    cloud, shadow = planted()
    item = made(tmp_path / "s", cloud, shadow, sun_azimuth=AZIMUTH, sun_elevation=5.0)
    with open_scene(item) as scene:
        assert find_shadows(scene, np.where(cloud, 3, 1).astype(np.uint8)) is None
        assert find_shadows(scene, np.full((SIZE, SIZE), CLEAR, np.uint8)) is None
    blind = made_item(tmp_path / "t", {"B03": np.full((9, 9), 500, np.uint16)})
    with open_scene(blind) as scene:
        assert find_shadows(scene, np.full((9, 9), 3, np.uint8)) is None


def test_two_heights_in_one_place() -> None:
    low, high = planted(900.0), planted(3600.0)
    cloud = low[0]
    dark = low[1].copy()
    dark[80:] = high[1][80:]
    path = shadow_path(AZIMUTH, ELEVATION, (RESOLUTION, RESOLUTION))
    zone = shadow_zone(cloud, ~cloud, dark & ~cloud, path)
    assert (zone & dark).sum() > 0.9 * (dark & ~cloud).sum()


@pytest.mark.parametrize(
    ("azimuth", "expected"), [(180.0, (-1, 0)), (0.0, (1, 0)), (90.0, (0, -1)), (270.0, (0, 1)), (135.0, (-1, -1))]
)
def test_shadows_fall_away_from_the_sun(azimuth: float, expected: tuple[int, int]) -> None:
    path = shadow_path(azimuth, 45.0, (60.0, 60.0))
    assert {tuple(np.sign(step)) for step in path} == {expected}
    lengths = [math.hypot(*step) * 60 for step in path]
    assert lengths[0] == pytest.approx(200, abs=60)
    assert lengths[-1] == pytest.approx(10_000, abs=90)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 130), st.integers(1, 130), st.integers(-9, 9), st.integers(-9, 9))
def test_pooling_counting_and_moving_equal_scipy(seed: int, rows: int, cols: int, down: int, right: int) -> None:
    mask = np.random.default_rng(seed).random((rows, cols)) < 0.4
    np.testing.assert_array_equal(
        moved(mask, (down, right)), ndimage.shift(mask.astype(np.uint8), (down, right), order=0) > 0
    )
    kernel = np.ones((3, 3), int)
    np.testing.assert_array_equal(count_around(mask), ndimage.convolve(mask.astype(int), kernel, mode="constant"))
    np.testing.assert_array_equal(widened(mask), ndimage.binary_dilation(mask, kernel))
    cells = np.array(
        [[mask[r : r + CELL, c : c + CELL].sum() for c in range(0, cols, CELL)] for r in range(0, rows, CELL)]
    )
    np.testing.assert_array_equal(pooled(mask), ndimage.convolve(cells, kernel, mode="constant"))


def test_real_shadows_that_the_scl_found_are_found_again(shared_data: Path) -> None:
    folder = shared_data / "stac/earth-search/sentinel-2-l2a/S2B_33TWL_20230820_0_L2A"
    for sun in ((153.2, 54.3), None):
        with open_scene(made_item_of(folder, ["B03", "B08"], sun)) as scene:
            scl = scene.reader.read(scene.item.scl.href, 1, slice(0, 915), slice(0, 915))
            classes = np.where(np.isin(scl, (8, 9)), 3, 1).astype(np.uint8)  # as if it knew no shadow
            with find_shadows(scene, classes) as shadows:
                found = shadows.read(slice(0, 915), slice(0, 915)) & (classes == CLEAR)
        assert (found & (scl == 3)).sum() > 0.75 * found.sum()
        assert found.mean() > 0.015
