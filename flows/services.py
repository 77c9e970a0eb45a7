"""`Services`: processes that belong together: started one after another, watched, and all stopped when one ends.

Each gets a session of its own, so that ctrl-C reaches us alone and we end them in order, the last one first. Whoever
does not leave in time is killed, and so is what it had started itself.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import psutil

from pipeline.errors import PipelineError

MARK = "DECLOUDER_SERVICE"
GRACE = 45.0
"""Seconds that a process has to end after it was asked to: a worker gives its flows 30 of them."""
_BEAT = 0.2
_TAIL = 20


class ServiceFailed(PipelineError):
    """A service did not start, or ended by itself."""

    transient = True


@dataclass
class Service:
    """One process, its standard output and error in a file."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    mark: str
    """What MARK is in its environment, and so in that of whatever it starts."""

    @property
    def last_words(self) -> str:
        """The last line of its log that says anything."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
        said = [line.strip() for line in lines if any(letter.isalnum() for letter in line)]
        return said[-1] if said else "it said nothing"

    def check(self) -> None:
        """Raise ServiceFailed where it has ended."""
        status = self.process.poll()
        if status is not None:
            raise ServiceFailed(f"{self.name} ended with status {status}: {self.last_words} (more in {self.log})")

    def stop(self, waits: Callable[[], bool]) -> None:
        """Ask it to end, and end it where it has not while `waits` says true."""
        family = _family(self.process.pid)
        if self.process.poll() is None:
            self.process.terminate()
        while self.process.poll() is None and waits():
            time.sleep(_BEAT)
        self.process.kill()
        self.process.wait()
        # Those of a process that ended by itself are nobody's children, and a worker's flows have sessions of their own.
        for member in {*family, *_marked(self.mark)}:
            # psutil knows a process by its number and when it began, so never ends another one.
            with suppress(psutil.NoSuchProcess):
                member.kill()


@dataclass
class Services:
    """Processes in the order in which they were started; used as a context manager."""

    logs: Path
    """Folder of the logs, made where it is missing."""
    hurried: Callable[[], bool] = lambda: False
    """Whether there is no time for that."""
    grace: float = GRACE
    running: list[Service] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str], folder: Path) -> Service:
        """Start a process whose log is `name`.log, appended to."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log, mark = self.logs / f"{name}.log", f"{name}-{uuid4()}"
        with log.open("ab") as file:
            process = subprocess.Popen(  # noqa: S603 - our own words
                command, cwd=folder, env={**environ, MARK: mark}, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip
        service = Service(name, process, log, mark)
        self.running.append(service)
        return service

    def check(self) -> None:
        """Raise ServiceFailed where one has ended."""
        for service in self.running:
            service.check()

    def stop(self) -> None:
        """Stop all, the last one first, within `grace` seconds together."""
        until = time.monotonic() + self.grace
        while self.running:
            self.running[-1].stop(lambda: time.monotonic() < until and not self.hurried())
            self.running.pop()


def _family(pid: int) -> list[psutil.Process]:
    try:
        return [*psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _marked(mark: str) -> Iterator[psutil.Process]:
    """Processes that a service started, however far removed."""
    for process in psutil.process_iter():
        # Others' processes do not show their environment.
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark:
                yield process
