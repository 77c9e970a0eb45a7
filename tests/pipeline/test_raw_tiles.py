"""Raw tiles become, on the device, the reflectance that the host makes of them: the same bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.block import SceneJob
from pipeline.harmonise import Fit, Harmonisation
from pipeline.inference import TorchRestorer
from pipeline.raw_tiles import can_be_raw, raw_tiles
from pipeline.window import TileInputs, Window
from srgan.checkpoint import Checkpoint
from srgan.crossfit import CrossFit
from srgan.feed import Feed
from srgan.lane import Lane
from srgan.spec import BANDS, ModelSpec
from tests.srgan.made import lively

from .fakes import ArrayReference, made_job

SPEC = ModelSpec(name="smallest", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1), margin=16)


def harmonisation(kind: str, bands: int) -> Harmonisation:
    rng = np.random.default_rng(3)
    fits = tuple(
        Fit(float(g), float(o), harmonised=True)
        for g, o in zip(rng.uniform(0.7, 1.4, bands), rng.normal(0, 0.02, bands), strict=True)
    )
    matrix = rng.normal(0, 0.2, (bands, bands)).astype(np.float32)
    matrix[1] = 0  # a band that is not corrected
    low, high = (np.full(bands, value, np.float32) for value in (-0.013, 0.021))
    cross = CrossFit(matrix, rng.normal(0, 0.03, bands).astype(np.float32), low, high)
    return Harmonisation(fits, None if kind == "lines" else cross, 0.37 if kind == "doubted" else 1.0)


def inputs(kind: str, *, size: int = 64, dates: int = 2, shape: tuple[int, int] = (192, 252)) -> TileInputs:
    """Tiles of bands at 10, 20 and 60 m with nodata, of a scene that may be smaller than a tile."""
    job: SceneJob = made_job(5, *shape, tile=size, overlap=16)
    (made,) = job.references
    assert isinstance(made, ArrayReference)
    others = (made, replace(made, days=-11.0))[:dates]
    for other in others:
        other.harmonise = harmonisation(kind, 3)  # type: ignore[method-assign]
    job = replace(job, references=others)
    rows, cols = slice(0, shape[0] // 12 * 6), slice(0, shape[1])
    tiles = list(job.plan.touching(rows, cols))
    assert tiles
    return Window.around(job, rows, cols, tiles).inputs(tiles)


@pytest.mark.parametrize("kind", ["lines", "crossed", "doubted"])
@pytest.mark.parametrize(("size", "shape", "dates"), [(64, (192, 252), 2), (64, (48, 54), 1), (64, (120, 126), 0)])
def test_the_device_makes_the_same_arguments_of_raw_tiles(kind, size, shape, dates):
    given = inputs(kind, size=size, shape=shape, dates=dates)
    assert can_be_raw(given.window)
    channels, seen = SPEC.require_bands(("B02", "B05", "B09")), []

    def network(feed: Feed, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append(feed.arguments(tensors, channels, whole=True))
        return seen[-1][0]

    plain, raw = (list(source) for source in (given, raw_tiles(given)))
    assert len(plain) == len(raw) > 0
    for one, other in zip(plain, raw, strict=True):
        for each in (one, other):
            Lane(torch.device("cpu"), network).start(Feed.of(each, 2, 3), [each])
        for name, ours, theirs in zip(
            ["cloudy", "present", "mask", "valid", "references", "usable", "days"], *seen[-2:], strict=True
        ):
            assert ours.dtype == torch.float32
            assert torch.equal(ours, theirs), name
        assert float(seen[-1][0].abs().max()) > 0.1
    assert seen[-1][0].shape == (2, len(BANDS), size, size)


def test_a_run_on_raw_tiles_gives_the_bits_of_one_on_reflectance():
    given = inputs("crossed")
    model = Checkpoint("made", SPEC, lively(SPEC).eval(), "0" * 64, {})
    restorer = TorchRestorer(model, ("B02", "B05", "B09"), workers=2)
    expected = list(restorer.restore(given))
    # What a GPU is given; the lanes are still a CPU's.
    restorer._cuda = True
    found = list(restorer.restore(given))
    unfit = replace(
        given,
        window=replace(given.window, dates=tuple(replace(date, harmonise=lambda x: x) for date in given.window.dates)),
    )
    assert not can_be_raw(unfit.window)
    assert len(list(restorer.restore(unfit))) == len(expected)
    restorer.close()
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    assert Feed.of(next(raw_tiles(given)), 1).nbytes < 0.6 * Feed.of(next(iter(given)), 1).nbytes
