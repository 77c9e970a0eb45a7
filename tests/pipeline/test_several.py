"""Lanes in one line of work: order, padding, memory that runs out once and twice, GPUs that fail. Fake networks on CPU lanes, the real code around."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.batches import BatchSize, fitting
from pipeline.errors import DeviceFailed
from pipeline.several import Several
from srgan.feed import Feed, Tile
from srgan.lane import Lane
from srgan.tile import TileInput

SIZE = 8


class NamedLane(Lane):
    """A lane on the CPU that goes by another device's name."""

    def __init__(self, name: str, network: Callable[[Feed, Mapping[str, Tensor]], Tensor]) -> None:
        super().__init__(torch.device("cpu"), network)
        self.device = torch.device(name)


def tile(number: int) -> TileInput:
    area = (SIZE, SIZE)
    return TileInput(
        np.full((2, *area), number, np.float32), np.ones(area, np.float32), np.ones(area, np.bool_),
        np.zeros((0, 2, *area), np.float32), np.zeros((0, *area), np.bool_), (),
    )  # fmt: skip


def plus_one(feed: Feed, given: Mapping[str, Tensor]) -> Tensor:
    """Slower for small numbers, so that a later batch is done before an earlier one; wrong where the shapes are not the feed's."""
    assert given["cloudy"].shape == (feed.batch, 2, SIZE, SIZE)
    time.sleep(0.01 if float(given["cloudy"].max()) % 3 < 1 else 0)
    return given["cloudy"] + 1


def feed_of(one: Tile, batch: int) -> Feed:
    return Feed.of(one, batch)


def several(lanes: list[Lane], size: BatchSize, *, expendable: bool = True) -> Several:
    return Several(lanes, size, feed_of, expendable=expendable)


def answers(work: Several, count: int, batch: int) -> list[float]:
    """What the tiles 0, 1, ... come to, given away in batches before any answer is taken."""
    try:
        groups = [list(map(tile, group)) for group in _batched(range(count), batch)]
        started = [(group, work.start(group)) for group in groups]
        found = [answer for group, future in started for answer in work.answers(group, future)]
        assert all(answer.shape == (2, SIZE, SIZE) and (answer == answer[0, 0, 0]).all() for answer in found)
        return [float(answer[0, 0, 0]) for answer in found]
    finally:
        work.close()


def _batched(numbers: range, size: int) -> Iterator[range]:
    return (numbers[start : start + size] for start in range(0, len(numbers), size))


@pytest.mark.parametrize("count", [0, 1, 7, 12])
@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_answers_come_in_the_order_of_the_tiles_whatever_fills_a_batch(count, lanes):
    work = several([Lane(torch.device("cpu"), plus_one) for _ in range(lanes)], BatchSize(4))
    assert answers(work, count, 4) == [number + 1 for number in range(count)]


def test_every_lane_takes_part():
    met = threading.Barrier(2, timeout=20)

    def both(feed: Feed, given: Mapping[str, Tensor]) -> Tensor:
        met.wait()  # passes only where two batches are in their networks at a time
        return plus_one(feed, given)

    work = several([Lane(torch.device("cpu"), both), Lane(torch.device("cpu"), both)], BatchSize(1))
    assert answers(work, 6, 1) == [1, 2, 3, 4, 5, 6]


def at_most(most: int, seen: list[int]) -> Callable[[Feed, Mapping[str, Tensor]], Tensor]:
    def network(feed: Feed, given: Mapping[str, Tensor]) -> Tensor:
        seen.append(feed.batch)
        if feed.batch > most:
            raise torch.OutOfMemoryError("made up")
        return plus_one(feed, given)

    return network


def test_memory_that_runs_out_once_halves_the_batch_and_no_tile_is_lost(caplog):
    seen: list[int] = []
    lanes: list[Lane] = [NamedLane(f"cuda:{i}", at_most(4, seen)) for i in range(2)]
    size = BatchSize(8)
    with caplog.at_level(logging.WARNING):
        # Both lanes may find out at the same time: it is the same once.
        assert answers(several(lanes, size), 19, 8) == list(range(1, 20))
    assert size.now == 4
    assert set(seen) == {8, 4}
    (said,) = caplog.messages
    assert said.endswith("out of memory with 8 tiles a pass; going on with 4")
    assert said.startswith("cuda:")


def test_memory_that_runs_out_twice_names_the_way_out():
    work = several([NamedLane("cuda:1", at_most(3, []))], BatchSize(8))
    with pytest.raises(
        DeviceFailed,
        match=r"--device cuda:1: out of memory with 4 tiles of 8 pixels a pass after 8; .* a smaller --tile",
    ) as caught:
        answers(work, 8, 8)
    assert caught.value.transient


def test_one_tile_that_does_not_fit_and_exported_batches_cannot_be_halved():
    with pytest.raises(DeviceFailed, match=r"out of memory with 1 tile of 8 pixels a pass; .*--tile"):
        answers(several([NamedLane("cuda:0", at_most(0, []))], BatchSize(1)), 1, 1)
    with pytest.raises(DeviceFailed, match=r"4 tiles a pass that the network was exported with; .*--batch"):
        answers(several([NamedLane("cuda:0", at_most(2, []))], BatchSize(4, fixed=True)), 4, 4)


def dying(after: int) -> Callable[[Feed, Mapping[str, Tensor]], Tensor]:
    left = iter(range(after))

    def network(feed: Feed, given: Mapping[str, Tensor]) -> Tensor:
        if next(left, None) is None:
            raise RuntimeError("CUDA error: an illegal memory\naccess was encountered")
        return plus_one(feed, given)

    return network


def test_a_gpu_that_fails_has_its_tiles_done_by_the_others(caplog):
    lanes: list[Lane] = [NamedLane("cuda:0", dying(2)), NamedLane("cuda:1", plus_one), NamedLane("cuda:2", plus_one)]
    with caplog.at_level(logging.WARNING):
        assert answers(several(lanes, BatchSize(1)), 30, 1) == list(range(1, 31))
    assert caplog.messages == [
        "cuda:0 failed (CUDA error: an illegal memory access was encountered): its tiles are done by the others"
    ]


class Late:
    """A pass whose device fails while it is computed, as CUDA says it: when the answer is taken."""

    def result(self) -> np.ndarray:
        raise RuntimeError("CUDA error: unspecified launch failure")


class LateLane(NamedLane):
    def start(self, feed, tiles):  # noqa: ARG002
        return Late()


def test_a_failure_that_shows_only_in_the_answer_is_made_good_too(caplog):
    lanes: list[Lane] = [LateLane("cuda:0", plus_one), NamedLane("cuda:1", plus_one)]
    with caplog.at_level(logging.WARNING):
        assert answers(several(lanes, BatchSize(2)), 12, 2) == list(range(1, 13))
    assert len(caplog.messages) == 1
    assert "its tiles are done by the other" in caplog.messages[0]


def test_the_last_gpu_that_fails_is_the_scenes_error():
    for lanes in ([NamedLane("cuda:0", dying(0))], [NamedLane("cuda:0", dying(1)), LateLane("cuda:1", plus_one)]):
        with pytest.raises(DeviceFailed, match=r"--device cuda:\d: failed.*finished blocks are kept") as caught:
            answers(several(list(lanes), BatchSize(1)), 9, 1)
        assert caught.value.transient
        assert "\n" not in str(caught.value)


def test_what_a_thread_of_a_cpu_raises_is_the_callers():
    with pytest.raises(RuntimeError, match="CUDA error"):
        answers(several([Lane(torch.device("cpu"), dying(1))], BatchSize(1), expendable=False), 3, 1)


def test_a_batch_is_a_power_of_two_that_fits():
    for taken in (1, 10**8, 3 * 10**9, 10**12):
        for room in (10**6, 24 * 10**9, 80 * 10**9):
            size = fitting(taken, room)
            assert size in (1, 2, 4, 8, 16)
            assert size == 1 or size * taken <= room
            assert size == 16 or 2 * size * taken > 0.8 * room
