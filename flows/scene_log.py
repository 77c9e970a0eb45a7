"""Log lines of a scene in a flow: `key=value` pairs that name the scene and the block, without credentials.

The same pairs are attributes of the record, for whoever logs as JSON.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from pipeline.hrefs import without_credentials
from pipeline.progress import Progress

EVERY = 5.0
"""Seconds between two lines about the same stage."""
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)
_blocks = logging.getLogger("declouder.blocks")
_packages = tuple(logging.getLogger(name) for name in ("catalogs", "pipeline", "srgan"))

Log = logging.Logger | logging.LoggerAdapter[Any]


class SceneLog:
    """A `Watcher` that writes what becomes of a scene to a log; as a context manager also each block that is done, and what
    our packages warn of in any thread: Prefect knows of no run in those that compute.
    """

    def __init__(self, log: Log, scene: str, clock: Callable[[], float] = time.monotonic) -> None:
        """scene: id of the source item. clock: seconds."""
        self._log, self._scene, self._clock = log, scene, clock
        self._handler = _Forward(self._tell)
        self._warnings = _Warnings(self._warn)

    def __enter__(self) -> Self:
        self._level = _blocks.level
        _blocks.setLevel(logging.INFO)
        _blocks.addHandler(self._handler)
        for package in _packages:
            package.addHandler(self._warnings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for package in _packages:
            package.removeHandler(self._warnings)
        _blocks.removeHandler(self._handler)
        _blocks.setLevel(self._level)

    def scene(self, number: int, count: int, name: str) -> Progress:
        """As in `Watcher`."""
        self._tell(stage="begin", place=f"{number}/{count}", label=name)
        # Stages overlap: tiles are restored while stripes are written.
        last: dict[str, float] = {}

        def tell(stage: str, done: int, total: int) -> None:
            now = self._clock()
            if stage not in last:
                last[stage] = now
                self._tell(stage=stage)
            elif done and now - last[stage] >= EVERY:
                last[stage] = now
                self._tell(stage=stage, done=done, total=total)

        return tell

    def ended(self, line: str) -> None:
        """As in `Watcher`."""
        self._tell(stage="end", result=line)

    def _tell(self, level: int = logging.INFO, **pairs: object) -> None:
        told = {"scene": self._scene, **pairs}
        self._log.log(level, " ".join(f"{name}={_value(value)}" for name, value in told.items()), extra=told)

    def _warn(self, text: str) -> None:
        self._tell(logging.WARNING, warning=plain(text))


class _Forward(logging.Handler):
    """Hands the blocks of the engine on."""

    def __init__(self, tell: Callable[..., None]) -> None:
        super().__init__(logging.INFO)
        self._say = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._say(stage="restore", block=getattr(record, "block", ""))


class _Warnings(logging.Handler):
    """Hands warnings on, but those that Prefect sends by itself: in the thread of the task, where it was told of our packages."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say, self._thread = say, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        package = logging.getLogger(record.name.partition(".")[0])
        sent = any(type(handler).__name__ == "APILogHandler" for handler in package.handlers)
        if record.levelno < logging.ERROR and not (sent and threading.get_ident() == self._thread):
            self._say(record.getMessage())


class WithoutCredentials(logging.Filter):
    """Takes users, passwords and queries out of the URLs of a message: signed URLs keep their secrets there."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: nothing is held back but secrets."""
        text = record.getMessage()
        clean = plain(text)
        if clean != text:
            record.msg, record.args = clean, ()
        return True


def plain(text: str) -> str:
    """`text` with its URLs as they may be shown.

    >>> plain("403 for https://me:pw@host/B02.tif?sig=secret, given up")
    '403 for https://host/B02.tif, given up'
    """
    return _URL.sub(lambda match: _shown(match[0]), text)


def _shown(url: str) -> str:
    bare = url.rstrip(".,;:)")
    return without_credentials(bare) + url[len(bare) :]


def _value(value: object) -> str:
    """A word as it is, anything else in quotes, so that pairs can be told apart."""
    text = plain(" ".join(str(value).split()))
    return text if re.fullmatch(r"[^\s\"=]+", text) else '"' + text.replace('"', "'") + '"'
