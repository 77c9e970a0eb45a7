"""`Clock`: how long each stage of a scene had somebody at work, and which stage was the limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.progress import Progress, silent


@dataclass
class Clock:
    """Seconds during which somebody was at a stage: two threads at once count once, but stages overlap each other.

    No stage is longer than the whole, and the one that comes closest to it is the limit: the others waited for it.
    """

    progress: Progress = silent
    _began: float = field(default_factory=lambda: time.perf_counter())
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _busy: dict[str, float] = field(default_factory=dict)
    _at: dict[str, int] = field(default_factory=dict)
    """Threads that are at a stage now."""
    _since: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, *, told: bool = False) -> Iterator[None]:
        """Around the work of a stage, which may be entered many times and by several threads.

        told: tell whoever listens when it begins for the first time.
        """
        with self._lock:
            first = name not in self._busy
            self._busy.setdefault(name, 0.0)
            self._at[name] = self._at.get(name, 0) + 1
            if self._at[name] == 1:
                self._since[name] = time.perf_counter()
        if first and told:
            self.progress(name, 0, 1)
        try:
            yield
        finally:
            with self._lock:
                self._at[name] -= 1
                if not self._at[name]:
                    self._busy[name] += time.perf_counter() - self._since[name]

    @property
    def seconds(self) -> dict[str, float]:
        """Stage -> seconds with somebody at work; in the order in which they began."""
        with self._lock:
            return dict(self._busy)

    @property
    def wall(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._began

    @property
    def limit(self) -> str:
        """The stage that was busy longest; empty before any began."""
        seconds = self.seconds
        return max(seconds, key=seconds.__getitem__, default="")
