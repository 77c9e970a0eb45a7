"""A process that has everything imported and rehearsed, and forks one child for each command line that is to meet a fault.

Reads one JSON document a line, see `forked.Order`, and answers with the child's process id. The child runs the real command line,
`flows.cli.main`, and is killed by a real SIGKILL: by itself right before its `stop`-th event on a file of the output, wherever
its other threads and GDAL's happen to be then, or by its parent after so many seconds. How it ended stands in `<said>.end`.
"""

from __future__ import annotations

import builtins
import functools
import gc
import importlib
import io
import itertools
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import typer.main

import catalogs.connection
import flows.cli
import pipeline.budget
from catalogs.patience import Patience
from tests.faults.clocks import jumping

EVENTS = frozenset(
    {"open", "opened", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "fsync"}
)


class Events:
    """Counts events on files of the output, and kills before one of them."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.count, self.seen, self.output = itertools.count(1), 0, order["output"]
        self.stop, self.pause, self.at = order["stop"], order["pause"], order["at"] and re.compile(order["at"])
        self.fatal = order["fatal"]
        trace = order["trace"]
        # Opened first: it is no event of its own.
        self.trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if trace else -1
        flush = os.fsync

        def fsync(handle: int) -> None:
            status = os.fstat(handle)
            flush(handle)
            sys.audit("fsync", status.st_ino)

        opening = io.open

        def opened(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
            handle = opening(file, mode, *more, **named)
            # Between a file that is there, empty, and its content: the interpreter itself tells only what is about to happen.
            sys.audit("opened", file, mode)
            return handle

        os.fsync = fsync  # type: ignore[assignment]
        io.open = builtins.open = opened  # type: ignore[assignment]
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS or not self._ours(event, arguments):
            return
        number = self.seen = next(self.count)
        if number == self.stop:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == self.pause or (self.at and self.at.search(" ".join(map(str, (event, *arguments[:2]))))):
            self.at = None
            os.kill(os.getpid(), signal.SIGKILL if self.fatal else signal.SIGSTOP)
        if self.trace >= 0:
            told = [str(os.fspath(each)) if isinstance(each, (str, os.PathLike)) else each for each in arguments[:3]]
            os.write(self.trace, (json.dumps([event, *told]) + "\n").encode())

    def _ours(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "fsync":
            return True
        if event in ("os.remove", "os.rmdir") and arguments[1] != -1:
            return True  # by a folder's descriptor, as shutil.rmtree does
        where = arguments[1] if event == "os.rename" else arguments[0]
        return isinstance(where, (str, os.PathLike)) and os.fspath(where).startswith(self.output)


def victim(order: dict[str, Any], report: int) -> None:
    """The child: one command line, as in a process of its own."""
    os.setsid()
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{order['said']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if order["jumps"]:
        jumping(order["jumps"])
    events = Events(order)
    try:
        status = flows.cli.main(order["words"])
    except BaseException as error:  # noqa: BLE001 (a traceback of a command line is a finding, and is told as one)
        sys.stderr.write(f"Traceback: {error!r}\n")
        status = 99
    sys.stdout.flush()
    if order["imported"]:
        Path(order["imported"]).write_text("\n".join(list(sys.modules)))
    os.write(report, str(events.seen).encode())
    os._exit(status)


def watched(order: dict[str, Any], tell: int) -> None:
    """Between the two: starts the child, kills it in time, and writes down how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    read, write = os.pipe()
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(tell)
        os.close(read)
        victim(order, write)
    os.close(write)
    os.write(tell, str(pid).encode())
    os.close(tell)
    after = order["after"]
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        if after is not None and time.monotonic() - begun >= after:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            break
        time.sleep(0.002)
    seconds = time.monotonic() - begun
    events = os.read(read, 64).decode() if os.waitstatus_to_exitcode(status) >= 0 else ""
    found = {"status": os.waitstatus_to_exitcode(status), "events": int(events or 0), "seconds": seconds}
    part, end = Path(f"{order['said']}.part"), Path(f"{order['said']}.end")
    part.write_text(json.dumps(found))
    part.rename(end)
    os._exit(0)


def warm(order: dict[str, Any]) -> None:
    """Import what a command line imports only when it needs it, without starting any of its threads."""
    for name in order["modules"]:
        if name.startswith(("tests.", "__mp")) or name in sys.modules:
            continue
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001, S112 (what cannot be imported by its name is imported by who needs it)
            continue


def rehearse(order: dict[str, Any]) -> int:
    """Run a command line in this process, silently: what its libraries set up once need not be set up in each child. Returns its status."""
    saved, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        status = flows.cli.main(order["rehearsed"])
        sys.stdout.flush()
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nothing)
    # A collection would touch, and so copy, every page that a child shares with this process.
    gc.collect()
    gc.freeze()
    return status


def threads() -> int:
    """How many there are; one that was joined is the kernel's for a moment longer, and is waited for."""
    deadline = time.monotonic() + 10
    while (count := len(os.listdir("/proc/self/task"))) > 1 and time.monotonic() < deadline:  # noqa: PTH208
        time.sleep(0.01)
    return count


def main() -> None:
    # Here, as whoever collects doctests imports this too. A scene that takes less than a second has one block otherwise, and nothing half done.
    pipeline.budget._EDGES = (60,)
    # The parser of the command line is built from the same functions each time: once is enough.
    typer.main.get_command = functools.cache(typer.main.get_command)
    # As many tries as a user's command has, in less time.
    catalogs.connection.PATIENCE = Patience(first_wait=0.02, silence=0.3, total=2.5, seed="faults")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for line in sys.stdin:
        order = json.loads(line)
        if "modules" in order:
            warm(order)
            print(threads(), flush=True)
            continue
        if "rehearsed" in order:
            print(rehearse(order), threads(), flush=True)
            continue
        read, write = os.pipe()
        if os.fork() == 0:
            os.close(read)
            watched(order, write)
        os.close(write)
        with os.fdopen(read) as answer:
            print(answer.read(), flush=True)


if __name__ == "__main__":
    main()
