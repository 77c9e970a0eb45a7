"""`OneLineWarnings`: what our packages warn of while they work, on standard error: one line each, and seldom the same again."""

from __future__ import annotations

import logging
import sys
import threading
from collections import Counter

MOST = 3
"""Lines of one kind; files of a bad connection are tried again for hours."""


class OneLineWarnings(logging.Handler):
    """Writes `warning: ...` to whatever standard error is then: a progress bar takes it over while it stands, and writes above itself.

    Errors are none of its business: a scene that fails says so in its own line.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: set[str] = set()
        self._kinds: Counter[tuple[str, str]] = Counter()
        self._counting = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, unless the same was said before, or `MOST` of its kind, or Prefect says it."""
        if record.levelno >= logging.ERROR or _in_prefects_log():
            return
        try:
            text = " ".join(record.getMessage().split())
        except (TypeError, ValueError):
            self.handleError(record)
            return
        # A signed URL keeps its secret in its query.
        from flows.scene_log import plain

        with self._counting:
            if text in self._said:
                return
            kind = (record.name, str(record.msg))
            self._kinds[kind] += 1
            if self._kinds[kind] > MOST:
                return
            self._said.add(text)
            last = " (more of this kind are not shown; --debug shows all)" if self._kinds[kind] == MOST else ""
        sys.stderr.write(f"warning: {plain(text)}{last}\n")
        sys.stderr.flush()


def _in_prefects_log() -> bool:
    """Whether Prefect has put its console behind all loggers, where it shows warnings of every package."""
    return any(type(handler).__module__.startswith("prefect.") for handler in logging.getLogger().handlers)
