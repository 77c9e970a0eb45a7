"""What the network alone costs: the tiles of one of our own runs, their inputs ready in memory, through the same restorer at once.

The run itself comes first and is not timed; it records what the engine hands to the restorer. So the bare network is a warm one, which is
strict to us.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from benchmarks.bench.job import Job
from benchmarks.bench.ours import open_job
from pipeline import engine
from pipeline.inference import open_restorer


class Recorder:
    """A restorer that remembers its inputs; it stays open until `end`."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.tiles = inner, list[Any]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def restore(self, tiles: Iterable[Any]) -> Iterator[npt.NDArray[np.float32]]:
        """As the restorer does."""
        given = list(tiles)
        self.tiles += given
        yield from self.inner.restore(given)

    def close(self) -> None:
        """Not yet: the same restorer is timed afterwards."""


def main(job: Job) -> None:
    """Run the job."""
    opened: list[Recorder] = []
    make: Callable[..., Any] = open_restorer

    def recorded(*arguments: Any, **named: Any) -> Recorder:
        opened.append(Recorder(make(*arguments, **named)))
        return opened[-1]

    with patch.object(engine, "open_restorer", recorded):
        open_job(job)()
    (recorder,) = opened
    with job.timed() as facts:
        facts["tiles_restored"] = sum(1 for _ in recorder.inner.restore(recorder.tiles))
    recorder.inner.close()


if __name__ == "__main__":
    main(Job.load(sys.argv[1]))
