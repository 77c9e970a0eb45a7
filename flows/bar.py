"""`Bar`: how far a run is, on a terminal of any width: a line for all scenes, and one for the stage of this scene."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flows.stages import Run, Stage, clock_time, speed
from pipeline.progress import UNITS, Progress

if TYPE_CHECKING:
    from rich.console import RenderableType

_WIDEST = 28
_NARROWEST = 8
"""Columns of a bar; where there is room for less, there is none."""


class Bar:
    """Two lines on standard error that go when the run ends; a line for each scene stays."""

    def __init__(
        self, of: str = "scenes", console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """of: what the first line counts. console: standard error if None. clock: seconds."""
        self._console = console or Console(stderr=True)
        self._clock, self._of = clock, of
        self._lock = threading.RLock()
        self._run = Run(clock)
        self._name = ""
        # Last, because it asks for a picture at once.
        self._live = Live(console=self._console, get_renderable=self._shown, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def scene(self, number: int, count: int, name: str) -> Progress:
        """As in `Watcher`."""
        with self._lock:
            self._name = name
            stages = self._run.scene(number, count)

        def tell(stage: str, done: int, total: int) -> None:
            if stages.tell(stage, done, total):
                self._live.refresh()

        return tell

    def ended(self, line: str) -> None:
        """As in `Watcher`."""
        with self._lock:
            place = f"[{self._run.number}/{self._run.count}] {self._name}: "
            self._run.end()
        self._console.print(place + line, markup=False, highlight=False, soft_wrap=True)

    def _shown(self) -> RenderableType:
        with self._lock:
            run = self._run
            lines = [self._all(run)] if run.count else []
            stage = run.stages.current() if run.stages is not None else None
            if stage is not None and run.stages is not None:
                lines.append(self._scene(stage, run.stages.needed))
        return Group(*lines)

    def _all(self, run: Run) -> RenderableType:
        left = run.left()
        told = f"about {clock_time(left)} left" if left is not None and run.count > 1 else ""
        return self._line(self._of, run.ended, run.count, [f"{run.ended}/{run.count}", told])

    def _scene(self, stage: Stage, needed: tuple[int, int] | None) -> RenderableType:
        now = self._clock()
        head = f"{self._name}  {stage.name}"
        if not stage.counted:
            return self._line(head, None, None, [clock_time(now - stage.begun)])
        left, unit = stage.left(now), UNITS.get(stage.name, "")
        told = [
            f"{stage.done}/{stage.total} {unit}".strip(),
            f"{clock_time(left)} left" if left is not None else "",
            speed(stage.rate(now)) if left is not None else "",
            f"{needed[1]} in all" if stage.name == "restore" and needed is not None else "",
        ]
        return self._line(head, stage.done, stage.total, told)

    def _line(self, head: str, done: int | None, total: int | None, told: list[str]) -> RenderableType:
        """A line of one row, whatever the width: what is told counts more than the bar, and its beginning more than its end."""
        width = self._console.width
        kept = [text for text in told if text]
        while len(kept) > 1 and len(head) + 2 + len(", ".join(kept)) > width:
            kept.pop()
        text = ", ".join(kept)
        room = min(width - len(head) - len(text) - 3, _WIDEST)
        if room < _NARROWEST:
            return Text(f"{head} {text}", no_wrap=True, overflow="ellipsis")
        grid = Table.grid(padding=(0, 1))
        for _ in range(3):
            grid.add_column(no_wrap=True)
        bar = ProgressBar(total=total, completed=done or 0, width=room, pulse=total is None)
        grid.add_row(Text(head), bar, Text(text))
        return grid
