"""`Several`: lanes that share one line of work: threads of a CPU, or GPUs.

Batches are handed out in the order of the tiles, to whichever lane is free, and answers are taken in that order; which lane did a batch can be
seen nowhere. A GPU that fails gives its batches to the others, with one warning; where none is left, that is the scene's error.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.batches import BatchSize
from pipeline.errors import DeviceFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from srgan.feed import Feed, Tile
    from srgan.lane import Flight, Lane

Started = list[tuple["Lane", "Flight"]]
Answers = list[npt.NDArray[np.float32]]
_log = logging.getLogger(__name__)


class Several:
    """One thread for each lane."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        size: BatchSize,
        feed: Callable[[Tile, int], Feed],
        *,
        expendable: bool,
        initializer: Callable[[], None] | None = None,
    ) -> None:
        """Lanes of one network.

        feed: makes the feed of a pass for tiles like the given one and a batch. expendable: whether a lane that fails is given up, as a
        device is; else its error is the caller's, as that of a thread. initializer: run by each thread.
        """
        self._free, self._size, self._feed, self._expendable = list(lanes), size, feed, expendable
        self._lost: list[Lane] = []
        self._count = len(lanes)
        self._change = threading.Condition()
        self._pool = ThreadPoolExecutor(len(lanes), thread_name_prefix="restore", initializer=initializer)

    def start(self, group: Sequence[Tile]) -> Future[Started]:
        """Give away a batch, or a few if memory runs out meanwhile."""
        return self._pool.submit(self._work, list(group))

    def answers(self, group: Sequence[Tile], started: Future[Started]) -> Answers:
        """The answers to a batch that was given away. Raises DeviceFailed, and what the network raises."""
        while True:
            answers: Answers = []
            for lane, flight in started.result():
                try:
                    answers += list(flight.result())
                except RuntimeError as error:
                    # What a GPU was given is computed later: it may fail only now.
                    if not self._expendable:
                        raise
                    self._give_up(lane, error)
                    break
            else:
                return answers
            started = self.start(group)

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        """A lane for oneself, once one is free. Raises DeviceFailed where none is left."""
        with self._change:
            self._change.wait_for(lambda: self._free or len(self._lost) == self._count)
            if not self._free:
                raise _all_lost(self._lost[-1], None)
            taken = self._free.pop(0)
        try:
            yield taken
        finally:
            with self._change:
                if taken not in self._lost:
                    self._free.append(taken)
                self._change.notify_all()

    def close(self) -> None:
        """Stop the threads, and give the devices' memory back."""
        self._pool.shutdown(cancel_futures=True)
        for lane in self._free:
            lane.clear()

    def _work(self, group: list[Tile]) -> Started:
        while True:
            with self.lane() as lane:
                try:
                    return self._started(lane, group)
                except RuntimeError as error:
                    if not self._expendable:
                        raise
                    self._give_up(lane, error)

    def _started(self, lane: Lane, group: list[Tile]) -> Started:
        import torch

        started: Started = []
        left = list(group)
        while left:
            size = self._size.now
            part = left[:size]
            try:
                started.append((lane, lane.start(self._feed(part[0], size), part)))
            except torch.OutOfMemoryError:
                self._size.halve(size, str(lane.device), part[0].mask.shape[-1])
            else:
                left = left[len(part) :]
                continue
            # Outside the handler, whose traceback holds on to what the pass had.
            lane.clear()
        return started

    def _give_up(self, lane: Lane, error: RuntimeError) -> None:
        """Go on without a lane. Raises DeviceFailed where it was the last one."""
        with self._change:
            if lane in self._lost:
                return
            self._lost.append(lane)
            if lane in self._free:
                self._free.remove(lane)
            left = self._count - len(self._lost)
            self._change.notify_all()
        from srgan.lane import in_one_line

        if not left:
            raise _all_lost(lane, error) from error
        _log.warning(
            "%s failed (%s): its tiles are done by the other%s",
            lane.device,
            in_one_line(error),
            "s" if left > 1 else "",
        )


def _all_lost(lane: Lane, error: RuntimeError | None) -> DeviceFailed:
    from srgan.lane import in_one_line

    reason = f" ({in_one_line(error)})" if error is not None else ""
    return DeviceFailed(
        f"--device {lane.device}: failed{reason}, and no other is left; finished blocks are kept: run again, or give --device cpu"
    )
