"""`TrainWatcher`: who is told how far a training is. A bar with the losses on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from flows.watch import EVERY, rate

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from srgan.progress import Progress


class TrainWatcher(Protocol):
    """Told of each stage and step; used as a context manager around the training."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; the terminal is left clean."""
        ...

    def stage(self, stage: str, done: int, total: int) -> None:
        """A `pipeline.progress.Progress`, for what is not training: chips, exports."""
        ...

    def step(self, progress: Progress) -> None:
        """The trainer is so far."""
        ...


class Silent:
    """Tells nobody."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def stage(self, stage: str, done: int, total: int) -> None:
        """As in `TrainWatcher`."""

    def step(self, progress: Progress) -> None:
        """As in `TrainWatcher`."""


class Lines:
    """A line when a stage begins and every few seconds, and one for each validation."""

    def __init__(self, write: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """write: where a line goes, standard error if None. clock: seconds."""
        self._write = write or _to_stderr
        self._clock = clock
        self._stage, self._start, self._last = "", 0.0, -EVERY

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def stage(self, stage: str, done: int, total: int) -> None:
        """As in `TrainWatcher`."""
        now = self._clock()
        if stage != self._stage:
            self._stage, self._start, self._last = stage, now, now
            self._write(stage)
        elif done and now - self._last >= EVERY:
            self._last = now
            self._write(f"{stage} {rate(done, total, now - self._start)}")

    def step(self, progress: Progress) -> None:
        """As in `TrainWatcher`."""
        now = self._clock()
        if now - self._last >= EVERY or progress.step >= progress.steps:
            self._last = now
            self._write(f"{pace(progress)}: {numbers(progress.terms)}")
        if progress.validation is not None:
            self._write(validated(progress))


class Bar:
    """A bar of the stage that is under way and the losses below it, on standard error; validations stay."""

    def __init__(self, console: Console | None = None) -> None:
        """console: where it is shown, standard error if None."""
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            console=console,
        )
        self._task = self._bar.add_task("", total=None, pace="", visible=False)
        self._stage, self._start, self._losses = "", 0.0, ""
        self._live = Live(get_renderable=self._shown, console=console, transient=True, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def stage(self, stage: str, done: int, total: int) -> None:
        """As in `TrainWatcher`."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._start, self._losses = stage, now, ""
        shown = rate(done, total, now - self._start).partition(", ")[2]
        self._show(stage, done, total, shown)

    def step(self, progress: Progress) -> None:
        """As in `TrainWatcher`."""
        self._stage, self._losses = "", numbers(progress.terms)
        self._show(f"epoch {progress.epoch}", progress.step, progress.steps, speed(progress))
        if progress.validation is not None:
            self._live.console.print(validated(progress), markup=False, highlight=False, soft_wrap=True)

    def _show(self, description: str, done: int, total: int, shown: str) -> None:
        changes: dict[str, Any] = {"completed": done, "total": total, "pace": shown, "visible": True}
        self._bar.update(self._task, description=description, **changes)

    def _shown(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        return Group(self._bar, Text(self._losses, style="dim", no_wrap=True, overflow="ellipsis"))


def train_watcher(*, quiet: bool = False) -> TrainWatcher:
    """The watcher that fits: nobody, a bar on a terminal, else plain lines."""
    if quiet:
        return Silent()
    return Bar() if sys.stderr.isatty() else Lines()


def pace(progress: Progress) -> str:
    """How far, how fast, how long still: `epoch 2, step 30/120, 3.00 steps/s, 0:00:30 left, 2% waiting`."""
    return f"epoch {progress.epoch}, step {progress.step}/{progress.steps}, {speed(progress)}"


def speed(progress: Progress) -> str:
    """How fast, how long still, and how much of the time is spent waiting for data."""
    left = timedelta(seconds=round(progress.seconds_left))
    return f"{progress.rate:.2f} steps/s, {left} left, {progress.wait_share:.0%} waiting"


def numbers(values: Mapping[str, float]) -> str:
    """Names and values for a line.

    >>> numbers({"reconstruction": 0.0412345, "style": 3.2e-6})
    'reconstruction 0.04123, style 3.2e-06'
    """
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items())


def validated(progress: Progress) -> str:
    """One line for the validation that `progress` brings."""
    return f"epoch {progress.epoch}, step {progress.step} validated: {numbers(progress.validation or {})}"


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
