"""Tiles ahead of the network are shared out among the blocks, and no block ever waits for its turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest
import torch

from pipeline.inference import TileInput, TorchRestorer
from pipeline.turns import ON_A_CPU, Turns
from srgan.checkpoint import Checkpoint
from srgan.generator import Generator
from srgan.lane import Lane
from srgan.spec import ModelSpec

from .test_inference import NAMES, tiles


def taken(turn, most: int = 100) -> int:
    return sum(turn.take() for _ in range(most))


@pytest.mark.parametrize("ahead", [1, 3, 8])
def test_one_block_has_them_all_and_several_their_shares(ahead):
    turns = Turns(ahead)
    with turns.turn() as alone:
        assert taken(alone) == ahead
    with ExitStack() as stack:
        blocks = [stack.enter_context(turns.turn()) for _ in range(4)]
        held = [taken(block) for block in blocks]
        assert min(held) >= 1
        assert max(held) <= max(1, -(-ahead // 4))
        assert sum(held) <= max(ahead, 4)
    # All of it is given back, whatever was under way.
    with turns.turn() as alone:
        assert taken(alone) == ahead


def test_a_block_that_has_all_gives_way_to_the_next_one():
    turns = Turns(4)
    with turns.turn() as first:
        assert taken(first) == 4
        with turns.turn() as second:
            assert taken(second) == 1
            for _ in range(3):
                first.give_back()
            # What was given back is the other's, up to half of it all.
            assert taken(second) == 1
            assert taken(first) == 1
        assert taken(first) == 2


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    spec = ModelSpec(name="made", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1))
    return Checkpoint("made", spec, Generator(spec).eval(), "0" * 64, {})


def test_blocks_side_by_side_hold_what_one_does_and_one_more_each(checkpoint):
    """Each is left in the middle of its tiles, as one that waits for another's; all end in the same answers."""
    restorer = TorchRestorer(checkpoint, NAMES, workers=2)
    given = tiles(12)
    expected = list(restorer.restore(given))
    pulled = [0] * 4

    def counted(block: int) -> Iterator[TileInput]:
        for tile in given:
            pulled[block] += 1
            yield tile

    answers = [restorer.restore(counted(block)) for block in range(4)]
    found = [[next(answer)] for answer in answers]
    ahead = 2 * ON_A_CPU
    # One answer of each has been taken.
    assert sum(pulled) - len(answers) <= ahead + len(answers)
    # The last goes on to its end while the others hold what they hold.
    for block in (3, 0, 2, 1):
        found[block] += list(answers[block])
    restorer.close()
    for each in found:
        assert all(np.array_equal(a, b) for a, b in zip(expected, each, strict=True))


def test_a_block_that_is_given_up_gives_its_turns_back(checkpoint):
    restorer = TorchRestorer(checkpoint, NAMES)
    for _ in range(5):
        answers = restorer.restore(iter(tiles(6)))
        next(answers)
        answers.close()
    pulled = []
    answers = restorer.restore(pulled.append(tile) or tile for tile in tiles(6))
    next(answers)
    assert len(pulled) == ON_A_CPU
    answers.close()
    restorer.close()


@pytest.mark.parametrize("rooms", [(10**9, 10**7, 10**9), (10**7, 10**9, 10**9), (10**9, 10**9, 10**7)])
def test_the_gpu_with_the_least_room_decides_for_all(checkpoint, monkeypatch, rooms):
    monkeypatch.setattr(Lane, "weight", lambda *_: 10**6)
    restorer = TorchRestorer(checkpoint, NAMES, "cpu,cpu,cpu")
    given = dict(zip(map(id, restorer._lanes), rooms, strict=True))
    monkeypatch.setattr(Lane, "room", lambda lane: given[id(lane)])
    restorer._cuda, restorer._sized = True, False
    assert len(list(restorer.restore(tiles(2)))) == 2
    assert restorer._batch.now == 8
    restorer.close()


def test_a_device_is_measured_once_for_all_blocks(checkpoint, monkeypatch):
    weighed: list[torch.device] = []
    monkeypatch.setattr(Lane, "weight", lambda lane, *_: weighed.append(lane.device) or 10**6)
    monkeypatch.setattr(Lane, "room", lambda _: 10**7)
    restorer = TorchRestorer(checkpoint, NAMES, "cpu,cpu")
    restorer._cuda, restorer._sized = True, False
    answers = [restorer.restore(iter(tiles(1))) for _ in range(3)]
    assert [len(list(answer)) for answer in answers] == [1, 1, 1]
    restorer.close()
    assert len(weighed) == 1
