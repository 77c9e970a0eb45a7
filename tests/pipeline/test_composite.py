"""Composition changes what alpha names and nothing else, whatever the network says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.composite import coarsen_max, coarsen_mean, compose_band, refine

SHAPE = (12, 12)
dns = hnp.arrays(np.uint16, SHAPE, elements=st.one_of(st.integers(0, 65535), st.sampled_from([0, 1, 65534, 65535])))
outputs = hnp.arrays(np.float32, SHAPE, elements=st.floats(width=32, allow_nan=True, allow_infinity=True))
alphas = hnp.arrays(np.float32, SHAPE, elements=st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1, width=32)))


@settings(deadline=None, max_examples=150)
@given(dns, outputs, alphas, st.sampled_from([None, 0, 300, 65535]), st.sampled_from([0.0, -0.1]))
def test_postconditions_hold_for_any_mask_and_any_output(source, restored, alpha, nodata, offset):
    out, refused = compose_band(source, restored, alpha, 1e-4, offset, nodata)
    assert out.dtype == np.uint16
    assert np.array_equal(out[alpha == 0], source[alpha == 0])
    bad = ~np.isfinite(restored)
    assert np.array_equal(out[bad], source[bad])
    missing = np.zeros(SHAPE, bool) if nodata is None else source == nodata
    assert np.array_equal(refused, bad & (alpha > 0) & ~missing)
    if nodata is not None:
        assert np.array_equal(out == nodata, missing)


@settings(deadline=None, max_examples=50)
@given(dns, alphas)
def test_an_identical_restoration_changes_nothing(source, alpha):
    out, _ = compose_band(source, source.astype(np.float32) * np.float32(1e-4), alpha, 1e-4, 0.0, None)
    assert np.abs(out.astype(int) - source).max() <= 1


def test_mixture_and_offset_are_in_reflectance():
    source = np.full((1, 1), 6000, np.uint16)
    restored = np.full((1, 1), 0.2, np.float32)
    full, _ = compose_band(source, restored, np.ones((1, 1), np.float32), 1e-4, -0.1, 0)
    assert full[0, 0] == 3000
    half, _ = compose_band(source, restored, np.full((1, 1), 0.5, np.float32), 1e-4, -0.1, 0)
    assert half[0, 0] == 4500


@pytest.mark.parametrize("factor", [1, 2, 3, 6])
def test_coarsening_undoes_refining(factor):
    coarse = np.random.default_rng(1).random((4, 5)).astype(np.float32)
    fine = refine(coarse, factor)
    assert fine.shape == (4 * factor, 5 * factor)
    assert np.array_equal(coarsen_mean(fine, np.ones(fine.shape, bool), factor), coarse)
    assert np.array_equal(coarsen_max(fine, factor), coarse)


def test_a_mean_leaves_missing_pixels_and_their_nan_out():
    values = np.float32([[1, np.nan], [3, np.nan]])
    valid = np.array([[True, False], [True, False]])
    assert coarsen_mean(values, valid, 2).tolist() == [[2.0]]
    assert coarsen_mean(values, np.zeros((2, 2), bool), 2).tolist() == [[0.0]]
