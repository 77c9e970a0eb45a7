"""Tiles cover the scene; the needed ones cover every pixel that is replaced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InvalidSettings
from pipeline.tiling import Axis, TilePlan, plan_tiles


def axes_up_to(longest: int) -> st.SearchStrategy[Axis]:
    return st.tuples(st.sampled_from([1, 2, 8]), st.integers(1, 8), st.integers(0, 4)).flatmap(
        lambda drawn: st.builds(
            Axis,
            st.integers(1, longest),
            st.just(drawn[0] * drawn[1] * 2),
            st.just(drawn[0] * min(drawn[2], drawn[1])),
            st.just(drawn[0]),
        )
    )


axes = axes_up_to(400)


@given(axes)
def test_tiles_cover_the_axis_with_at_least_the_overlap(axis):
    covered = np.zeros(axis.length, int)
    for start in axis.starts:
        assert start >= 0
        covered[start : start + axis.tile] += 1
    assert covered.min() >= 1
    for before, after in zip(axis.starts, axis.starts[1:], strict=False):
        assert before + axis.tile - after >= axis.overlap
    assert all(start % axis.grid == 0 for start in axis.starts)
    if axis.length >= axis.tile:
        assert 0 <= axis.starts[-1] + axis.tile - axis.length < axis.grid


@given(axes, st.data())
def test_touching_finds_the_tiles_that_share_a_pixel(axis, data):
    start = data.draw(st.integers(0, axis.length - 1))
    stop = data.draw(st.integers(start + 1, axis.length))
    expected = [i for i, s in enumerate(axis.starts) if max(s, start) < min(s + axis.tile, stop)]
    assert list(axis.touching(slice(start, stop))) == expected


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 8), st.sampled_from([1, 2, 6]), st.integers(0, 2**32 - 1))
def test_every_tile_over_a_coarse_pixel_that_changes_is_needed(rows, cols, overlap, cell, seed):
    target = np.random.default_rng(seed).random((rows, cols)) < 0.01
    plan = plan_tiles(target, 16, overlap, cell)
    changing = np.zeros_like(target)
    for row, col in np.argwhere(target) // cell * cell:
        changing[row : row + cell, col : col + cell] = True
    for i, top in enumerate(plan.vertical.starts):
        for j, left in enumerate(plan.horizontal.starts):
            assert plan.needed[i, j] == changing[top : top + 16, left : left + 16].any()


def test_clear_scenes_need_no_tile_and_order_is_by_row():
    plan = plan_tiles(np.zeros((600, 600), bool), 256, 64)
    assert (plan.total, plan.count) == (9, 0)
    full = plan_tiles(np.ones((600, 600), bool), 256, 64)
    tiles = list(full.touching(slice(0, 600), slice(0, 600)))
    assert tiles == sorted(tiles)
    assert len(tiles) == full.count == 9


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "message"),
    [
        (512, 512, 600, "overlap 600 must lie between 0 and half the tile size 512"),
        (0, 256, 0, "a scene of 0 pixels has no tiles"),
        (10, 0, 0, "tile size 0 must be at least 1"),
        (10, 8, -1, "overlap -1 must lie between 0 and half the tile size 8"),
    ],
)
def test_impossible_axes_are_refused(length, tile, overlap, message):
    with pytest.raises(InvalidSettings, match=message):
        Axis(length, tile, overlap)


def test_a_plan_of_another_shape_is_refused():
    with pytest.raises(InvalidSettings, match="needed has shape"):
        TilePlan(Axis(100, 64, 0), Axis(100, 64, 0), np.ones((3, 3), bool))


def test_an_overlap_off_the_networks_grid_names_one_that_fits():
    with pytest.raises(
        InvalidSettings, match="overlap 70 puts tiles of 256 off the network's grid of 32 pixels: take 96"
    ):
        Axis(1000, 256, 70, 32)
    assert Axis(1000, 256, 96, 32).starts == (0, 160, 320, 480, 640, 768)
