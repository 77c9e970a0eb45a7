"""`Watcher`: who is told how far a run is. A bar on a terminal, plain lines elsewhere, log lines in a flow."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from pipeline.progress import Progress, silent

if TYPE_CHECKING:
    import rich.progress

EVERY = 5.0
"""Seconds between two plain lines about the same stage."""


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
    """A line when a stage begins, and every few seconds with rate and time left."""

    def __init__(self, write: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """write: where a line goes, standard error if None. clock: seconds."""
        self._write = write or _to_stderr
        self._clock = clock
        self._place = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def scene(self, number: int, count: int, name: str) -> Progress:
        """As in `Watcher`."""
        self._place = f"[{number}/{count}] {name}: "
        return _Stages(self._place, self._write, self._clock)

    def ended(self, line: str) -> None:
        """As in `Watcher`."""
        self._write(self._place + line)


class _Stages:
    """The plain lines of one scene."""

    def __init__(self, place: str, write: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._place, self._write, self._clock = place, write, clock
        self._stage, self._start, self._last = "", 0.0, 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = self._clock()
        if stage != self._stage:
            self._stage, self._start, self._last = stage, now, now
            self._write(f"{self._place}{stage}")
        elif done and now - self._last >= EVERY:
            self._last = now
            self._write(f"{self._place}{stage} {rate(done, total, now - self._start)}")


class Bar:
    """A bar for the scenes and one for the stage of the current scene, on standard error."""

    def __init__(self, of: str = "scenes") -> None:
        """of: what the first bar counts."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=Console(stderr=True),
            transient=True,
        )
        self._scenes: rich.progress.TaskID | None = None
        self._stage: rich.progress.TaskID | None = None
        self._of, self._place = of, ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def scene(self, number: int, count: int, name: str) -> Progress:
        """As in `Watcher`."""
        if self._scenes is None:
            self._scenes = self._bar.add_task(self._of, total=count, rate="")
        self._bar.update(self._scenes, completed=number - 1)
        self._place = f"[{number}/{count}] {name}: "
        begun: dict[str, float] = {}

        def tell(stage: str, done: int, total: int) -> None:
            now = time.monotonic()
            if stage not in begun:
                begun[stage] = now
                if self._stage is not None:
                    self._bar.remove_task(self._stage)
                self._stage = self._bar.add_task(f"{name}  {stage}", total=total, rate="")
            if self._stage is not None:
                seconds = now - begun[stage]
                speed = f"{done / seconds:.1f}/s" if done and seconds > 0 else ""
                self._bar.update(self._stage, completed=done, total=total, rate=speed)

        return tell

    def ended(self, line: str) -> None:
        """As in `Watcher`."""
        self._bar.console.print(self._place + line, markup=False, highlight=False, soft_wrap=True)
        if self._stage is not None:
            self._bar.remove_task(self._stage)
            self._stage = None
        if self._scenes is not None:
            self._bar.advance(self._scenes)


def watcher(*, quiet: bool = False, of: str = "scenes") -> Watcher:
    """The watcher that fits: nobody, a bar on a terminal, else plain lines. of: what is counted."""
    if quiet:
        return Silent()
    return Bar(of) if sys.stderr.isatty() else Lines()


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
