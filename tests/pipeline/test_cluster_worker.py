"""A worker keeps its network from task to task, but not one whose devices are lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
import torch

from pipeline import cluster_worker
from pipeline.cluster_worker import Recipe, restore_part
from pipeline.errors import DeviceFailed
from pipeline.inference import Restorer, TileInput, TorchRestorer
from srgan.checkpoint import Checkpoint
from srgan.generator import Generator
from srgan.lane import Lane
from srgan.spec import ModelSpec

from .test_inference import NAMES, tiles

RECIPE = Recipe("made", "0" * 64, NAMES, "cuda:0")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[TorchRestorer]]:
    """A worker's cache, empty, and all that it opens: the real restorer, on lanes of the CPU that can be lost as a GPU is."""
    spec = ModelSpec(name="made", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1))
    made: list[TorchRestorer] = []

    def opening(_: Recipe) -> Restorer:
        made.append(TorchRestorer(Checkpoint("made", spec, Generator(spec).eval(), "0" * 64, {}), NAMES))
        made[-1]._several._expendable = True
        return made[-1]

    cluster_worker._restorers.clear()
    monkeypatch.setattr(cluster_worker, "_opened", opening)
    yield made
    cluster_worker._restorers.clear()
    for restorer in made:
        restorer.close()


def failing(times: int) -> Callable[..., object]:
    left, start = iter(range(times)), Lane.start

    def started(lane: Lane, *given: object) -> object:
        if next(left, None) is not None:
            raise RuntimeError("CUDA error: unspecified launch failure")
        return start(lane, *given)  # type: ignore[arg-type]

    return started


def test_a_network_whose_last_device_failed_is_opened_anew(opened, monkeypatch):
    given = tiles(2)
    expected = restore_part(RECIPE, given)
    assert len(restore_part(RECIPE, given)) == 2
    assert len(opened) == 1
    monkeypatch.setattr(Lane, "start", failing(1))
    with pytest.raises(DeviceFailed, match="and no other is left"):
        restore_part(RECIPE, given)
    again = restore_part(RECIPE, given)
    assert len(opened) == 2
    assert [answer.shape for answer in again] == [answer.shape for answer in expected]
    # And kept, as the first one was.
    restore_part(RECIPE, given)
    assert len(opened) == 2


def test_a_task_that_failed_late_does_not_take_the_new_network_away(opened, monkeypatch):
    """Two tasks are at the network when its device fails: the second finds that out after another has opened a new one."""
    restore_part(RECIPE, tiles(1))
    first = opened[0]

    def restore(_: Iterable[TileInput]) -> Iterator[np.ndarray]:
        # Meanwhile.
        cluster_worker._forget(RECIPE, first)
        cluster_worker._restorer(RECIPE)
        raise DeviceFailed("--device cuda:0: failed")

    monkeypatch.setattr(first, "restore", restore)
    with pytest.raises(DeviceFailed):
        restore_part(RECIPE, tiles(1))
    assert len(opened) == 2
    assert cluster_worker._restorers[RECIPE] is opened[1]


def test_what_is_the_tiles_fault_leaves_the_network_where_it_is(opened, monkeypatch):
    restore_part(RECIPE, tiles(1))
    opened[0]._several._expendable = False
    monkeypatch.setattr(Lane, "start", failing(1))
    with pytest.raises(RuntimeError, match="unspecified launch failure"):
        restore_part(RECIPE, tiles(1))
    restore_part(RECIPE, tiles(1))
    assert len(opened) == 1
    assert torch.is_inference_mode_enabled() is False
