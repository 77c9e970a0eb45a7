"""`Clock`: the wall time of each stage of a scene."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.progress import Progress


@dataclass
class Clock:
    """Wall time of each stage, in seconds; a stage may be entered many times."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the wall time of the body to a stage, and tell whoever listens when it begins."""
        if name not in self.seconds:
            self.progress(name, 0, 1)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
