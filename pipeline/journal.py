"""The journal of a run: one JSON line for every change of a scene's state, on disk before the next step.

States: planned, running, done, unchanged (was done before), failed (a retry may help), invalid (it will not),
interrupted (stopped from outside; blocks so far are kept). A scene that is `running` in the journal of a process that
is no longer there reads as interrupted; of a process of another machine nothing is known, so it stays `running`.

The journal is written on this machine. Where the products go to a bucket it lies in the folder of work, and the bucket gets a copy
after each change (`runs/`), from which `decloud status` on another machine reads.
"""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from pipeline.address import output_url
from pipeline.errors import PipelineError, WriteFailed
from pipeline.folders import RUNS
from pipeline.lines import append_line
from pipeline.processes import alive, started
from pipeline.storage import storage_of

_log = logging.getLogger(__name__)
_LARGEST_PID = 2**31 - 1

State = Literal["planned", "running", "done", "unchanged", "failed", "invalid", "interrupted"]
GOOD: tuple[State, ...] = ("done", "unchanged")
"""States of a scene that has its product."""


@dataclass(frozen=True)
class Entry:
    """One line."""

    time: str
    """UTC, ISO 8601."""
    run: str
    scene: str
    """Id of the source item, or `-` for the run itself."""
    state: State
    reason: str = ""
    product: str = ""
    """Id of the product, where there is one."""
    seconds: float | None = None
    pid: int = 0
    host: str = ""
    """The machine on which `pid` counts."""
    began: int = 0
    """When that process began, see `pipeline.processes`; 0 in lines of older versions."""


class Journal:
    """`OUT/runs/<run-id>.jsonl`; appended to, never rewritten."""

    def __init__(self, output: Path, run: str | None = None) -> None:
        """Open the journal of a new run below the product folder `output`."""
        self.run = run or f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{os.getpid()}"
        self._output = output
        self.path = output / RUNS / f"{self.run}.jsonl"

    def write(
        self, scene: str, state: State, reason: str = "", product: str = "", seconds: float | None = None
    ) -> Entry:
        """Append a line and flush it to the disk. Raises WriteFailed when that cannot be done."""
        entry = Entry(_now(), self.run, scene, state, reason, product, seconds, os.getpid(), platform.node(), started())
        try:
            append_line(self.path, asdict(entry))
        except OSError as error:
            raise WriteFailed(
                f"{self.path}: journal not written ({error.strerror or error}); choose an --output that is writable"
            ) from error
        # Scenes that are only planned are told with the first that runs.
        if state != "planned":
            self._copy()
        return entry

    def _copy(self) -> None:
        """Keep the journal where the products are too, where that is a bucket; what fails now is made up for by the next line."""
        if output_url(self._output) is None:
            return
        try:
            storage_of(self._output).keep(self.path)
        except PipelineError as error:
            _log.warning("%s; the journal is whole in %s", error, self.path)


def entries(output: Path) -> Iterator[Entry]:
    """All readable lines of all runs, oldest first. A last line that was cut by a crash is passed over, as is what nobody of us wrote."""
    for path in sorted(path for path in (output / RUNS).glob("*.jsonl") if path.is_file()):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            entry = _parsed(line)
            if entry is not None:
                yield entry


def latest(output: Path) -> dict[str, Entry]:
    """The last known state of every scene, by scene id; `running` of a process that ended reads as interrupted."""
    return {scene: _as_it_is(entry) for scene, entry in last_lines(output).items()}


def last_lines(output: Path) -> dict[str, Entry]:
    """The last line of every scene as it was written, by scene id."""
    states: dict[str, Entry] = {}
    for _, entry in sorted(_in_time(output), key=lambda one: one[0]):
        states[entry.scene] = entry
    return dict(sorted(states.items()))


def _in_time(output: Path) -> Iterator[tuple[str, Entry]]:
    """Each line with the time that it counts from: clocks jump, but the lines of one run follow each other.

    A line counts from no earlier than those before it in its journal. One from the future was written under a clock that was wrong: it
    says nothing about when, and counts from the line before it.
    """
    now, run, counts = _now(), "", ""
    for entry in entries(output):
        if entry.run != run:
            run, counts = entry.run, ""
        counts = max(counts, entry.time if entry.time <= now else "")
        yield counts, entry


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _as_it_is(entry: Entry) -> Entry:
    if entry.state != "running" or entry.host not in ("", platform.node()) or alive(entry.pid, entry.began):
        return entry
    reason = "the process ended before the scene was done; run again, finished blocks are kept"
    return Entry(**{**asdict(entry), "state": "interrupted", "reason": reason})


def _parsed(line: str) -> Entry | None:
    try:
        record = json.loads(line)
        entry = Entry(**record)
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (entry.time, entry.run, entry.scene, entry.state, entry.reason, entry.product, entry.host)
    sound = (
        all(isinstance(text, str) for text in texts)
        and isinstance(entry.seconds, int | float | None)
        and isinstance(entry.began, int)
        and isinstance(entry.pid, int)
        and 0 <= entry.pid <= _LARGEST_PID
    )
    return entry if sound and entry.state in get_args(State) else None
