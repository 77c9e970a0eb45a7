"""`Watcher`: who is told how far a run is. A bar on a terminal (`flows.bar`), plain lines elsewhere, log lines in a flow."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Protocol, Self

from flows.stages import Run, clock_time
from pipeline.progress import PLAN, UNITS, Progress, silent

EVERY = 5.0
"""Seconds between two plain lines about how far a stage is."""


class Watcher(Protocol):
    """Told of each scene; used as a context manager around the run."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; the terminal is left clean."""
        ...

    def scene(self, number: int, count: int, name: str) -> Progress:
        """Scene `number` of `count` begins; returns whom the engine is to tell about it."""
        ...

    def ended(self, line: str) -> None:
        """The scene ended as `line` says."""
        ...


class Silent:
    """Tells nobody."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def scene(self, number: int, count: int, name: str) -> Progress:  # noqa: ARG002
        """As in `Watcher`."""
        return silent

    def ended(self, line: str) -> None:
        """As in `Watcher`."""


class Lines:
    """A line when a stage begins, and every few seconds how far it is."""

    def __init__(self, write: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """write: where a line goes, standard error if None. clock: seconds."""
        self._write = write or _to_stderr
        self._clock = clock
        self._run = Run(clock)
        self._place, self._last = "", 0.0
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._beat = threading.Thread(target=self._while_nothing_is_told, name="lines", daemon=True)

    def __enter__(self) -> Self:
        self._beat.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._beat.join()

    def scene(self, number: int, count: int, name: str) -> Progress:
        """As in `Watcher`."""
        self._place = f"[{number}/{count}] {name}: "
        stages = self._run.scene(number, count)

        def tell(stage: str, done: int, total: int) -> None:
            with self._lock:
                if not stages.tell(stage, done, total):
                    self._perhaps()
                elif stage == PLAN:
                    self._say(f"restore: {done} of {total} tiles need the network")
                else:
                    self._say(stage if total == 1 else f"{stage}, {total} {UNITS.get(stage, 'steps')}")

        return tell

    def ended(self, line: str) -> None:
        """As in `Watcher`."""
        with self._lock:
            self._run.end()
            left = self._run.left()
            more = self._run.count - self._run.ended
            rest = f" ({more} to go, about {clock_time(left)})" if more and left is not None else ""
            self._say(line + rest)

    def _perhaps(self) -> None:
        """Say how far it is, where the last line is old enough: a stage that counts nothing is spoken of ever more seldom."""
        stage = self._run.stages.current() if self._run.stages is not None else None
        now = self._clock()
        if stage is None or stage.ended:
            return
        if now - self._last >= (EVERY if stage.counted else max(EVERY, (now - stage.begun) / 3)):
            self._say(stage.said(now))

    def _say(self, line: str) -> None:
        self._last = self._clock()
        self._write(self._place + line)

    def _while_nothing_is_told(self) -> None:
        while not self._over.wait(1.0):
            with self._lock:
                self._perhaps()


def watcher(*, quiet: bool = False, of: str = "scenes") -> Watcher:
    """The watcher that fits: nobody, a bar on a terminal, else plain lines. of: what is counted."""
    if quiet:
        return Silent()
    if not sys.stderr.isatty():
        return Lines()
    from flows.bar import Bar

    return Bar(of)


def rate(done: int, total: int, seconds: float) -> str:
    """How far, how fast, how long still.

    >>> rate(30, 120, 10.0)
    '30/120, 3.0/s, 0:00:30 left'
    """
    if done <= 0 or seconds <= 0:
        return f"{done}/{total}"
    left = timedelta(seconds=round(seconds / done * (total - done)))
    return f"{done}/{total}, {done / seconds:.1f}/s, {left} left"


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
