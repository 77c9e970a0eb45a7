"""`Turns`: how many batches may wait for a network, and their answers for being taken, over all blocks that are made at a time.

Each block asks for its tiles ahead, so that no lane is idle while answers are blended. What is ahead is shared out among the blocks: else four
blocks would hold four times as much as keeps the lanes at work. A block never waits for its turn. It may always have one batch under way, so
blocks that wait for each other's tiles cannot wait for each other's turns.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

ON_A_CPU, ON_A_GPU = 2, 4
"""Batches ahead to a lane: one for each thread and one more; one more than a GPU has slots for."""


class Turns:
    """Batches ahead, shared by all who ask the same network."""

    def __init__(self, ahead: int) -> None:
        """ahead: batches under way at a time, at least 1; beyond that one for each block that has none."""
        self._ahead, self._taken = ahead, 0
        self._holders: list[Turn] = []
        self._lock = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """The part of one block, given back at the end."""
        mine = Turn(self)
        with self._lock:
            self._holders.append(mine)
        try:
            yield mine
        finally:
            with self._lock:
                self._holders.remove(mine)
                self._taken -= mine.held

    def _asked(self, mine: Turn) -> bool:
        with self._lock:
            share = -(-self._ahead // len(self._holders))
            if mine.held and (mine.held >= share or self._taken >= self._ahead):
                return False
            mine.held += 1
            self._taken += 1
            return True

    def _given_back(self, mine: Turn) -> None:
        with self._lock:
            mine.held -= 1
            self._taken -= 1


class Turn:
    """What one block has under way."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.held = 0
        """Batches."""

    def take(self) -> bool:
        """Whether one more batch may be under way; it is counted then. Never waits."""
        return self._turns._asked(self)  # noqa: SLF001

    def give_back(self) -> None:
        """A batch's answers have been taken."""
        self._turns._given_back(self)  # noqa: SLF001
