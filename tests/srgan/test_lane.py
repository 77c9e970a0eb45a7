"""A device at work, on a CPU: passes of fixed shapes, answers of their own, and what is too new for torch's compiler goes on without it."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from srgan.feed import Feed
from srgan.lane import Faster, Flight, Lane, Network
from srgan.port import Host, Work
from srgan.restoring import Restoring
from srgan.spec import ModelSpec
from srgan.tile import TileInput
from tests.srgan.made import lively

SPEC = ModelSpec(name="smallest", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1), margin=16)
NAMES = ("B02", "B03", "B04", "B08")
CPU = torch.device("cpu")


def tiles(count: int, dates: int = 1, size: int = 64) -> list[TileInput]:
    rng = np.random.default_rng(2)
    return [
        TileInput(
            rng.random((4, size, size), np.float32), (rng.random((size, size)) < 0.4).astype(np.float32), rng.random((size, size)) < 0.9,
            rng.random((dates, 4, size, size), np.float32), rng.random((dates, size, size)) < 0.8, tuple(range(1, dates + 1)),
        )
        for _ in range(count)
    ]  # fmt: skip


def restoring() -> Restoring:
    return Restoring(lively(SPEC), NAMES, ("VIS", "NIR"))


def test_a_pass_that_is_not_full_gives_what_a_full_one_gives():
    lane, given = Lane(CPU, restoring()), tiles(4)
    full = lane.start(Feed.of(given[0], 4), given).result()
    part = lane.start(Feed.of(given[0], 4), given[:3]).result()
    assert full.shape == (4, 6, 64, 64)
    assert part.shape == (3, 6, 64, 64)
    assert np.array_equal(part, full[:3])
    # Dates beyond a tile's own are nowhere valid, and count for nothing but the last bit of a sum.
    more = lane.start(Feed.of(given[0], 4, 3), given).result()
    assert np.allclose(more, full, atol=1e-5)


def test_an_answer_stays_what_it_is_when_the_next_pass_uses_the_same_memory():
    lane, given = Lane(CPU, restoring()), tiles(3)
    feed = Feed.of(given[0], 1)
    flights = [lane.start(feed, [tile]) for tile in given]
    kept = [flight.result().copy() for flight in flights]
    lane.start(Feed.of(given[0], 2), given[:2])
    lane.clear()
    assert all(np.array_equal(flight.result(), copy) for flight, copy in zip(flights, kept, strict=True))
    assert not np.array_equal(kept[0], kept[1])
    assert lane.room() is None


def test_a_tile_after_one_with_more_dates_sees_nothing_of_them():
    lane, given = Lane(CPU, restoring()), tiles(2, dates=2)
    few = TileInput(
        given[1].cloudy,
        given[1].mask,
        given[1].valid,
        given[1].references[:1],
        given[1].reference_valid[:1],
        given[1].days[:1],
    )
    feed = Feed.of(given[0], 1)
    expected = lane.start(feed, [few]).result()
    lane.start(feed, [given[0]])
    assert np.array_equal(lane.start(feed, [few]).result(), expected)


def broken(network: Network) -> Network:  # noqa: ARG001
    raise ImportError("no working C++ compiler\nwas found")


def breaking(network: Network) -> Network:  # noqa: ARG001
    def run(feed: Feed, given: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG001
        raise RuntimeError("backend failed")

    return run


@pytest.mark.parametrize("compiler", [broken, breaking])
def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(compiler, caplog):
    plain, given = restoring(), tiles(3)
    lane, feed = Lane(CPU, plain, compiler=compiler), Feed.of(given[0], 1)
    with caplog.at_level(logging.WARNING):
        found = [lane.start(feed, [tile]).result() for tile in given]
    expected = [Lane(CPU, plain).start(feed, [tile]).result() for tile in given]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    (said,) = caplog.messages
    assert said.startswith("network not compiled (")
    assert "\n" not in said


def test_a_compiled_network_is_made_once_and_used():
    made = []

    def compiler(network: Network) -> Network:
        made.append(network)
        return lambda feed, given: network(feed, given) + 1

    plain, given = restoring(), tiles(2)
    lane, feed = Lane(CPU, plain, compiler=compiler), Feed.of(given[0], 1)
    for tile in given:
        found, expected = (one.start(feed, [tile]).result() for one in (lane, Lane(CPU, plain)))
        assert np.array_equal(found, expected + 1)
    assert made == [plain]


def test_memory_that_runs_out_is_not_taken_for_a_fault_of_the_compiler():
    def full(feed: Feed, given: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG001
        raise torch.OutOfMemoryError("made up")

    faster = Faster(restoring(), lambda network: full)  # noqa: ARG005
    with pytest.raises(torch.OutOfMemoryError):
        faster(Feed.of(tiles(1)[0], 1), {})


class Delayed(Host):
    """A device that does nothing before somebody waits for it, and then in any order that three streams allow: as late, and as early, as CUDA may."""

    slots = 3

    def __init__(self, seed: int, *, captures: bool = True) -> None:
        self._random, self._captures = random.Random(seed), captures  # noqa: S311
        self._queues: dict[str, list[tuple[dict[str, int], Work]]] = {"bring": [], "compute": [], "take": []}
        self._done = dict.fromkeys(self._queues, 0)
        self._asked = dict.fromkeys(self._queues, 0)
        self._captured: list[Work] = []
        self.most = 0
        """Passes that were on their way at a time."""

    def double(self, host: Tensor) -> Tensor:
        return host.clone()

    def bring(self, host: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
        def copy() -> None:
            for name, tensor in host.items():
                given[name].copy_(tensor)

        self._queue("bring", "bring", copy)

    def compute(self, work: Work) -> None:
        self._queue("compute", "bring", work)
        if work not in self._captured:
            # Python's part of a pass is run when it is launched.
            self._until("compute", self._asked["compute"])

    def take(self, out: Tensor, back: Tensor) -> Work:
        self._queue("take", "compute", lambda: back.copy_(out))
        self.most = max(self.most, self._asked["take"] - self._done["take"])
        return partial(self._until, "take", self._asked["take"])

    def capture(self, work: Work) -> Work:
        if not self._captures:
            raise RuntimeError("operation not permitted when stream is capturing")
        for stream in self._queues:
            self._until(stream, self._asked[stream])
        self._captured.append(work)
        return work

    def _queue(self, stream: str, after: str, work: Work) -> None:
        self._asked[stream] += 1
        self._queues[stream].append(({after: self._asked[after]} if after != stream else {}, work))

    def _until(self, stream: str, count: int) -> None:
        with torch.inference_mode():
            while self._done[stream] < count:
                ready = [
                    name
                    for name, queue in self._queues.items()
                    if queue and all(self._done[other] >= asked for other, asked in queue[0][0].items())
                ]
                name = self._random.choice(ready)
                self._queues[name].pop(0)[1]()
                self._done[name] += 1


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("captures", [True, False])
def test_passes_that_overlap_never_share_memory(seed, captures, caplog):
    def network(feed: Feed, given: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG001
        return given["cloudy"] * 2 + given["days"][:, :1, None, None]

    port = Delayed(seed, captures=captures)
    lane, order = Lane(CPU, network, port=port), random.Random(seed)  # noqa: S311
    given, feed = tiles(2, size=8), Feed.of(tiles(1, size=8)[0], 2)
    numbered = [replace(given[0], cloudy=given[0].cloudy + number, days=(float(number),)) for number in range(30)]
    flights: list[tuple[int, Flight]] = []
    with caplog.at_level(logging.WARNING):
        for number in range(0, 30, 2):
            flights.append((number, lane.start(feed, numbered[number : number + 2])))
            # Answers are taken at any time, or never before the end.
            if order.random() < 0.3:
                flights[order.randrange(len(flights))][1].result()
    for number, flight in flights:
        for place, answer in enumerate(flight.result()):
            assert np.allclose(answer, numbered[number + place].cloudy * 2 + number + place)
    assert port.most > 1 or not captures
    assert len(caplog.messages) == (0 if captures else 1)


def test_a_pass_is_weighed_by_making_it():
    weighed = []

    class Scale(Host):
        def weigh(self, work: Work) -> int:
            work()
            weighed.append(True)
            return 1234

        def room(self) -> int:  # type: ignore[override]
            return 5678

    (tile,) = tiles(1)
    lane = Lane(CPU, restoring(), port=Scale())
    assert (lane.weight(Feed.of(tile, 1), [tile]), lane.room()) == (1234, 5678)
    assert weighed == [True]
