"""Weights of all tiles sum to 1 at every pixel, and no scene edge is feathered."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from pipeline.blending import axis_weights, tile_weights
from pipeline.tiling import Axis

from .test_tiling import axes, axes_up_to

few_tiles = axes_up_to(90)
"""Every tile of two axes is looked at: as many as the product of theirs."""


@settings(deadline=None, max_examples=80)
@given(few_tiles, few_tiles)
def test_weights_are_a_partition_of_unity(vertical, horizontal):
    horizontal = Axis(horizontal.length, vertical.tile, vertical.overlap, vertical.grid)
    total = np.zeros((vertical.length + 2 * vertical.tile, horizontal.length + 2 * vertical.tile), np.float64)
    for row in vertical.starts:
        for col in horizontal.starts:
            weights = tile_weights(vertical, horizontal, row, col)
            assert (weights >= 0).all()
            total[row : row + vertical.tile, col : col + vertical.tile] += weights
    assert np.abs(total[: vertical.length, : horizontal.length] - 1).max() < 1e-6
    assert not total[vertical.length :].any()


@given(axes)
def test_scene_edges_are_not_feathered(axis):
    weights = axis_weights(axis)
    others = [s for s in axis.starts[1:] if s == 0]
    assert not others
    assert weights[0, 0] == pytest.approx(1.0)
    last = min(axis.tile, axis.length - axis.starts[-1]) - 1
    assert weights[-1, last] == pytest.approx(1.0)


def test_a_tile_fades_out_towards_its_neighbour():
    weights = axis_weights(Axis(600, 256, 64))
    assert weights[0, 191] == 1.0
    assert (np.diff(weights[0, 191:]) < 0).all()
    with pytest.raises(ValueError, match="not in tuple"):
        tile_weights(Axis(600, 256, 64), Axis(600, 256, 64), 5, 0)
