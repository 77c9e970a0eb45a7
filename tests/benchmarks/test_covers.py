"""Masks of cloud made for benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from benchmarks.bench.covers import CLUSTERED, FULL, SCATTERED, Cover, clouds, make_cover


def tiles_touched(mask: np.ndarray, tile: int = 256) -> float:
    rows, cols = (length // tile for length in mask.shape)
    return float(mask[: rows * tile, : cols * tile].reshape(rows, tile, cols, tile).any(axis=(1, 3)).mean())


@pytest.mark.parametrize("cover", [CLUSTERED, SCATTERED, Cover("fine", 0.1, 3), Cover("much", 0.9, 40)])
@pytest.mark.parametrize("size", [1000, 2048])
def test_the_share_is_met(cover: Cover, size: int) -> None:
    mask = clouds(cover, size)
    assert mask.shape == (size, size)
    assert mask.mean() == pytest.approx(cover.share, abs=0.01)


def test_full_cover_is_full() -> None:
    assert clouds(FULL, 300).all()


def test_large_systems_leave_tiles_clear_where_scattered_clouds_do_not() -> None:
    large, scattered = (
        np.mean([tiles_touched(clouds(cover, 2048, seed)) for seed in range(3)]) for cover in (CLUSTERED, SCATTERED)
    )
    assert large < 0.75 < 0.9 < scattered


def test_clouds_depend_on_the_seed_alone() -> None:
    np.testing.assert_array_equal(clouds(CLUSTERED, 700, 3), clouds(CLUSTERED, 700, 3))
    assert (clouds(CLUSTERED, 700, 3) != clouds(CLUSTERED, 700, 4)).any()


def test_the_raster_holds_the_clouds(tmp_path: Path) -> None:
    path = make_cover(SCATTERED, tmp_path, 700)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1) > 0, clouds(SCATTERED, 700))
        assert (file.dtypes, file.res) == (("uint8",), (10, 10))
    before = path.stat().st_mtime_ns
    assert make_cover(SCATTERED, tmp_path, 700).stat().st_mtime_ns == before


@pytest.mark.parametrize(("share", "grain", "says"), [(0, 5, "share 0 "), (1.1, 5, "share 1.1"), (0.5, 0, "grain 0")])
def test_impossible_covers_are_refused(share: float, grain: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Cover("odd", share, grain)
