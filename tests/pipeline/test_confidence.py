"""Confidence: the probability that it says it is, of the worst band group, and 100 for nothing but untouched pixels."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.block import SceneJob, block_edges, compute_block
from pipeline.composite import Provenance
from pipeline.confidence import (
    MEANING,
    NEAR,
    NODATA,
    composed_spread,
    confidence_of,
    group_of,
    groups_of,
    percent,
)
from pipeline.inference import Identity
from pipeline.tiling import plan_tiles
from srgan.spec import BANDS, GROUPS

from .fakes import ArrayScene, Smoother, made_job
from .test_block import sizes

TWO = ("VIS", "red edge")
"""Groups of the bands of `made_job` (B02, B05; B09 is of none)."""


def exact(spread: float) -> int:
    """The formula to two hundred digits."""
    getcontext().prec = 200
    return int(100 * (1 - (-Decimal(NEAR) / Decimal(spread)).exp())) if spread > 0 else 99


@given(st.floats(2.0**-14, 5, width=32))
def test_percents_are_those_of_the_formula(spread):
    assert percent(np.float32([spread]))[0] == exact(spread)


def test_percents_where_the_formula_ends():
    spreads = np.float32([0, 1e-30, NEAR / 4.6, NEAR / 4.61, 3, np.inf, np.nan])
    assert percent(spreads).tolist() == [99, 99, 98, 99, 0, 0, 0]
    grid = np.linspace(0, 1, 10_001, dtype=np.float32)
    assert (np.diff(percent(grid).astype(int)) <= 0).all()
    assert set(percent(grid)) == set(range(1, 100))


def test_a_percent_does_not_depend_on_where_a_pixel_lies_in_memory():
    spread = np.random.default_rng(1).exponential(0.03, (97, 61)).astype(np.float32)
    expected = percent(spread)
    for view in (spread[:, ::-1][:, ::-1], np.asfortranarray(spread), np.repeat(spread, 3, axis=1)[:, ::3]):
        assert np.array_equal(percent(view), expected)
    assert np.array_equal(np.stack([percent(row) for row in spread]), expected)


@pytest.mark.parametrize("alpha", [1.0, 0.4])
@pytest.mark.parametrize("scale", [0.004, 0.02, 0.1])
def test_it_is_the_share_of_pixels_that_are_near_the_ground(alpha, scale):
    rng = np.random.default_rng(5)
    ground = rng.uniform(0.05, 0.4, 400_000)
    restored = ground + rng.laplace(0, scale, ground.size)
    composed = (1 - alpha) * ground + alpha * restored
    near = 100 * np.mean(np.abs(composed - ground) <= NEAR)
    said = float(percent(np.float32([alpha * scale]))[0])
    assert said - 0.3 <= near < said + 1.3


def test_every_band_of_a_group_is_known_and_the_others_are_of_none():
    assert {band: group_of(band) for band in BANDS if group_of(band) is None} == {"B01": None, "B09": None, "B10": None}
    assert groups_of(BANDS) == tuple(GROUPS)
    assert groups_of(["B09", "B10", "B01"]) == ()
    assert groups_of(["B8A", "B07", "B04"]) == ("VIS", "red edge", "NIR")
    assert all(name in MEANING for name in GROUPS)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4))
def test_the_spread_is_that_of_the_worst_band_as_the_band_is_composed(seed, down, across):
    rng = np.random.default_rng(seed)
    shape = (6 * down, 6 * across)
    bands = {"B02": 1, "B04": 1, "B05": 2, "B8A": 2, "B12": 2, "B09": 6, "B01": 6}
    errors = {name: rng.random(shape).astype(np.float32) for name in ("VIS", "red edge", "SWIR")}
    alpha, valid = rng.random(shape).astype(np.float32), rng.random(shape) < 0.8
    alpha[rng.random(shape) < 0.5] = 0
    found = composed_spread(errors, alpha, valid, bands.items())
    for row, col in np.ndindex(shape):
        expected = 0.0
        for band, factor in bands.items():
            if group_of(band) in errors:
                top, left = row // factor * factor, col // factor * factor
                cell = (slice(top, top + factor), slice(left, left + factor))
                inside = valid[cell] if factor > 1 else np.ones((1, 1), bool)
                error = errors[group_of(band)][cell][inside].astype(np.float64)
                expected = max(expected, float(alpha[cell].max()) * (error.mean() if error.size else 0.0))
        assert found[row, col] == pytest.approx(expected, rel=1e-6)


def test_every_kind_of_pixel():
    kinds = np.array([[kind.value for kind in Provenance]] * 2, np.uint8)
    left = np.array([[False] * 6, [True] * 6])
    spread = np.full(kinds.shape, 0.02, np.float32)
    assert confidence_of(kinds, left, spread).tolist() == [[NODATA, 100, 63, 63, 63, 0], [NODATA, 0, 0, 0, 0, 0]]
    untouched = np.uint8([[Provenance.NODATA, Provenance.OBSERVED, Provenance.OBSERVED]])
    assert confidence_of(untouched, np.array([[True, False, True]])).tolist() == [[NODATA, 100, 0]]
    tall = np.full((600, 2), Provenance.RESTORED, np.uint8)
    spread = np.linspace(0.001, 0.2, 1200, dtype=np.float32).reshape(600, 2)
    assert np.array_equal(confidence_of(tall, np.zeros((600, 2), bool), spread), percent(spread))


def whole(job: SceneJob, edge: int, network) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and provenance of all blocks of a scene put together."""
    confidence, provenance = np.zeros(job.scene.shape, np.uint8), np.zeros(job.scene.shape, np.uint8)
    for rows in block_edges(job.scene.shape[0], edge, job.cell):
        for cols in block_edges(job.scene.shape[1], edge, job.cell):
            result = compute_block(job, rows, cols, network)
            confidence[rows, cols], provenance[rows, cols] = result.confidence, result.provenance
    return confidence, provenance


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), sizes, sizes, st.integers(0, 8), st.integers(0, 4), st.sampled_from([6, 12, 30, 66]))
def test_any_cut_gives_the_same_bytes(seed, rows, cols, overlap, feather, edge):
    job = made_job(seed, rows, cols, overlap=overlap, feather=feather)
    one, _ = whole(job, 120, Smoother(groups=TWO))
    many, _ = whole(job, edge, Smoother(groups=TWO))
    assert one.tobytes() == many.tobytes()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), sizes, sizes, st.sampled_from([None, np.nan]))
def test_what_every_value_stands_for(seed, rows, cols, poison):
    job = made_job(seed, rows, cols)
    confidence, provenance = whole(job, 30, Smoother(groups=TWO, poison=poison))
    assert np.array_equal(confidence == 100, provenance == Provenance.OBSERVED)
    assert np.array_equal(confidence == NODATA, provenance == Provenance.NODATA)
    assert (confidence[provenance == Provenance.REFUSED] == 0).all()
    # Nothing else of the product depends on whether the network knows its errors.
    plain = compute_block(job, slice(0, rows), slice(0, cols), Smoother(poison=poison))
    assert np.array_equal(plain.provenance, provenance)
    assert plain.confidence is None


def test_it_is_read_off_the_blended_errors_of_the_tiles():
    """A single 10 m band without feathering: an oracle that sums the tiles itself."""
    shape = (40, 52)
    rng = np.random.default_rng(2)
    target = np.ones(shape, bool)
    scene = ArrayScene({"B03": (1, rng.integers(1, 9000, shape).astype(np.uint16), 0)})
    job = SceneJob(scene, target, target.astype(np.uint8) * 3, (), plan_tiles(target, 16, 4), 0)
    told: list[np.ndarray] = []

    class Told(Smoother):
        def errors(self, tile):
            told.append(super().errors(tile))
            return told[-1]

    found = compute_block(job, slice(0, 40), slice(0, 52), Told(groups=("VIS",)))
    tiles = list(job.plan.touching(slice(0, 40), slice(0, 52)))
    total, weights = np.zeros((2, *shape))
    for tile, (error,) in zip(tiles, told, strict=True):
        ramp = [
            np.minimum(
                np.minimum(1, (np.arange(16) + 0.5) / 4 if start else 1), (15.5 - np.arange(16)) / 4 if not last else 1
            )
            for start, last in ((tile.row, tile.row + 16 == 40), (tile.col, tile.col + 16 == 52))
        ]
        here = (slice(tile.row, tile.row + 16), slice(tile.col, tile.col + 16))
        total[here] += np.outer(*ramp) * error
        weights[here] += np.outer(*ramp)
    expected = np.floor(100 * (1 - np.exp(-NEAR / (total / weights)))).clip(max=99)
    assert np.abs(found.confidence - expected).max() <= 1
    assert (found.confidence == expected).mean() > 0.999
    assert np.unique(found.confidence).size > 50


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.001])
def test_an_error_that_is_none_is_refused_there(bad):
    class Bad(Smoother):
        def errors(self, tile):
            errors = super().errors(tile)
            if self.calls == 3:
                errors[-1, 5, 5] = bad
            return errors

    job = made_job(5, 60, 60)
    confidence, provenance = whole(job, 60, Bad(groups=TWO))
    refused = provenance == Provenance.REFUSED
    assert 0 < refused.sum() <= 18 * 18
    assert (confidence[refused] == 0).all()
    assert (provenance[job.target & ~refused] != Provenance.OBSERVED).all()


def test_clouds_that_are_left_are_worth_nothing():
    job = made_job(9, 60, 60)
    part = job.target.copy()
    part[:, 30:] = False
    clipped = replace(job, target=part, plan=plan_tiles(part, 16, 4, 6))
    confidence, provenance = whole(clipped, 30, Smoother(groups=TWO))
    there = provenance != Provenance.NODATA
    left = job.target & ~part & there
    assert left.any()
    assert (confidence[left] == 0).all()
    assert (confidence[~job.target & there] > 0).all()
    assert (confidence[:, 36:][~job.target[:, 36:] & there[:, 36:]] == 100).all()


def test_a_group_that_is_sure_hides_no_doubt_of_another():
    job = made_job(4, 60, 60)

    class Fixed(Smoother):
        def errors(self, tile):
            return np.stack(
                [np.full(tile.mask.shape, 0.004 if name == "VIS" else 0.1, np.float32) for name in self.groups]
            )

    for groups, said in ((("VIS",), exact(0.004)), (TWO, exact(0.1)), (("red edge",), exact(0.1))):
        confidence, provenance = whole(job, 60, Fixed(groups=groups))
        full = np.isin(provenance, [Provenance.RESTORED, Provenance.GENERATED])
        assert (confidence[full] == said).all()
        # A pixel that belongs to a coarse pixel of no group is touched, and nothing else can be said against it.
        assert confidence[provenance == Provenance.BLENDED].max() <= 99


def test_a_network_that_knows_nothing_of_its_errors_gives_no_confidence():
    job = made_job(3, 60, 60)
    assert Identity.groups == ()
    assert compute_block(job, slice(0, 60), slice(0, 60), Identity()).confidence is None
