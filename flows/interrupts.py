"""Ctrl-C, remembered: an exception that comes during an import or in a destructor may be swallowed there, and is raised again.

The signal handler calls `ask`; whoever begins something new calls `check`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pipeline.progress import Progress

STATUS = 130
STOPS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what `timeout`, systemd and batch systems send."""
GRACE = 60.0
"""Seconds that blocks in flight have to be finished before the threads that compute them stop too."""

_asked: float | None = None
_grace: float | None = None


def ask(grace: float | None = None) -> None:
    """Ctrl-C was pressed, or the like. grace: seconds that blocks in flight have, GRACE if None."""
    global _asked, _grace
    _asked, _grace = time.monotonic(), grace


def forget() -> None:
    """A new command line begins."""
    global _asked, _grace
    _asked = _grace = None


def asked() -> bool:
    """Whether ctrl-C was pressed since the command line began."""
    return _asked is not None


def check() -> None:
    """Raise KeyboardInterrupt where ctrl-C was pressed, once more if need be.

    Threads other than the main one first finish what they are at.
    """
    if _asked is None:
        return
    grace = GRACE if _grace is None else _grace
    if threading.current_thread() is threading.main_thread() or time.monotonic() - _asked > grace:
        raise KeyboardInterrupt


def checked(progress: Progress) -> Progress:
    """`progress`, which is told of each stage and tile, and stops there if it is to."""

    def tell(stage: str, done: int, total: int) -> None:
        check()
        progress(stage, done, total)

    return tell


@contextmanager
def noted(line: str) -> Iterator[None]:
    """Around work that asks `asked` by itself: the first ctrl-C is only noted and answered by `line`, the second leaves at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def second(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        os._exit(STATUS)

    def first(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        for each in STOPS:
            signal.signal(each, second)
        ask()
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    before = {each: signal.signal(each, first) for each in STOPS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def ending(how: Callable[[], str]) -> Iterator[None]:
    """Around a command: ctrl-C, whatever came of it, ends in status 130 and one line, in which `how` says how to go on."""
    try:
        yield
    except BaseException as error:
        if not (asked() or isinstance(error, KeyboardInterrupt)):
            raise
        sys.stderr.write(f"interrupted: {how()}\n")
        raise typer.Exit(STATUS) from None


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """`ending` of a run that writes products to `folder`."""
    with ending(lambda: f"finished blocks are kept in {folder}; the same command goes on from there"):
        yield
        check()
