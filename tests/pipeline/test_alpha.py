"""The cloud's own edge: zero outside, one inside, the same from any window with a halo."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.alpha import alpha_halo, cloud_alpha


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(0, 40), st.integers(0, 40))
def test_a_window_with_its_halo_gives_the_whole_scenes_alpha(seed, feather, top, left):
    rng = np.random.default_rng(seed)
    nodata = rng.random((64, 64)) < 0.02
    cloudy = np.kron(rng.random((8, 8)) < 0.5, np.ones((8, 8), bool)) & ~nodata
    whole = cloud_alpha(cloudy, ~cloudy & ~nodata, feather)
    halo = alpha_halo(feather)
    rows, cols = slice(max(top - halo, 0), top + 24 + halo), slice(max(left - halo, 0), left + 24 + halo)
    part = cloud_alpha(cloudy[rows, cols], (~cloudy & ~nodata)[rows, cols], feather)
    inner = part[top - rows.start : top - rows.start + 24, left - cols.start : left - cols.start + 24]
    assert np.array_equal(inner, whole[top : top + 24, left : left + 24])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_alpha_is_the_distance_to_clear_land_by_brute_force(seed, feather):
    rng = np.random.default_rng(seed)
    cloudy = np.kron(rng.random((4, 4)) < 0.6, np.ones((5, 5), bool))
    alpha = cloud_alpha(cloudy, ~cloudy, feather)
    clear = np.argwhere(~cloudy)
    for row, col in np.argwhere(cloudy):
        nearest = np.sqrt(((clear - (row, col)) ** 2).sum(axis=1)).min() if len(clear) else np.inf
        assert np.isclose(alpha[row, col], min(nearest / (feather + 1), 1.0))
    assert not alpha[~cloudy].any()


def test_nothing_fades_towards_nodata_or_the_scenes_edge():
    cloudy = np.ones((10, 10), bool)
    cloudy[:, 7:] = False
    alpha = cloud_alpha(cloudy, np.zeros((10, 10), bool), 4)
    assert (alpha[:, :7] == 1).all()
    assert not alpha[:, 7:].any()
