"""A window's tiles: in whatever parts they travel, the network sees the same, and no more than their pixels go along."""

from __future__ import annotations

import pickle
from dataclasses import fields

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.prepare import make_job, prepare
from pipeline.scene import open_scene
from pipeline.window import Window

from .clusters import mirrored
from .fakes import made_job
from .test_engine import IDENTITY, scene


def arrays_of(tile: object) -> list[np.ndarray]:
    return [np.asarray(getattr(tile, field.name)) for field in fields(tile)]  # type: ignore[arg-type]


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**16),
    rows=st.sampled_from([6, 30, 66]),
    cols=st.sampled_from([12, 54, 102]),
    overlap=st.sampled_from([0, 4, 7]),
    most=st.integers(1, 6),
)
def test_parts_that_travelled_show_the_network_the_same_bits(seed, rows, cols, overlap, most):
    job = made_job(seed, rows, cols, overlap=overlap)
    whole = (slice(0, rows), slice(0, cols))
    inputs = Window.around(job, *whole, list(job.plan.touching(*whole))).inputs(list(job.plan.touching(*whole)))
    parts = list(inputs.parts(most))
    assert [tile for part in parts for tile in part.tiles] == list(inputs.tiles)
    assert all(len(part.tiles) <= most and len({tile.row for tile in part.tiles}) == 1 for part in parts)
    travelled = [tile for part in parts for tile in pickle.loads(pickle.dumps(part))]  # noqa: S301
    for there, here in zip(travelled, inputs, strict=True):
        for a, b in zip(arrays_of(there), arrays_of(here), strict=True):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b)


def test_a_part_carries_its_own_pixels_and_no_path(tmp_path):
    item = scene(tmp_path / "scene", 240)
    settings = IDENTITY.model_copy(update={"references": 1, "window_days": 30})
    with open_scene(item) as opened:
        prepared = prepare(opened, settings, [mirrored(item, tmp_path / "other", 15)])
        job = make_job(prepared, settings, 0, 1)
        assert len(job.references) == 1
        whole = (slice(0, 240), slice(0, 240))
        tiles = list(job.plan.touching(*whole))
        window = Window.around(job, *whole, tiles)
        prepared.close()
    parts = list(window.inputs(tiles).parts(2))
    assert len(parts) >= 4
    for part in parts:
        high, wide = (axis.stop - axis.start for axis in (part.window.rows, part.window.cols))
        # Two tiles of 64 pixels that share 16, and at most a coarse pixel beyond them on each side.
        assert high <= 64 + 10
        assert wide <= 64 + 48 + 10
        # Two dates of three fine, a 20 m and a 60 m band at two bytes, and four masks.
        assert part.window.nbytes <= high * wide * (2 * 2 * (3 + 1 / 4 + 1 / 36) + 4)
        sent = pickle.dumps(part)
        assert len(sent) < part.window.nbytes + 20_000
        assert str(tmp_path).encode() not in sent
