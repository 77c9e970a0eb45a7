"""`run_windows`: the windows of a backfill one after another, oldest first, with or without Prefect around each.

Resumable at any moment, because nothing here is remembered that matters: each window is searched again, scenes that have their product
are left alone, and the cube takes what it lacks. The ledger says what became of each window; `BackfillSummary` is read from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from catalogs.errors import CatalogError
from flows.backfill_request import BackfillRequest
from flows.execution import check_once
from flows.interrupts import check
from flows.ledger import Ledger, WindowLine
from flows.request import AreaRequest
from flows.stacking import Stack
from pipeline.address import address
from pipeline.errors import PipelineError
from pipeline.progress import Progress, silent

WINDOWS = "windows"
"""The stage that counts them."""
RunWindow = Callable[[AreaRequest], object]
"""Runs a window and leaves how it ended in the ledger. May raise SourceUnavailable for it; any other error ends the backfill."""


@dataclass(frozen=True)
class BackfillSummary:
    """How a backfill ended."""

    id: str
    output: str
    windows: tuple[WindowLine, ...] = ()
    """Oldest first."""
    cube: str = ""
    """Path of the cube, where one was asked for."""
    cube_problem: str = ""
    """Why the cube lacks a window: its products do not fit, or could not be read or written just now."""
    cube_passed_over: Mapping[str, str] = field(default_factory=dict)
    """Ids of products that the cube does not take -> why."""

    @property
    def failed(self) -> bool:
        """True where a window has a scene without a product, could not be read, or is not in the cube."""
        return bool(self.cube_problem) or any(line.state != "done" for line in self.windows)

    @property
    def published(self) -> int:
        """Products that this backfill made."""
        return sum(count_states(line).get("done", 0) for line in self.windows)

    @property
    def headline(self) -> str:
        """How many of what."""
        counts: dict[str, int] = {}
        for line in self.windows:
            for state, count in count_states(line).items():
                counts[state] = counts.get(state, 0) + count
        scenes = sum(counts.values())
        bad = sum(line.state != "done" for line in self.windows)
        told = ", ".join(f"{counts[state]} {state}" for state in sorted(counts)) or "nothing to do"
        return (
            f"{_plural(len(self.windows), 'window')}, {_plural(scenes, 'scene')}: {told}"
            + (f"; {_plural(bad, 'window')} not done" if bad else "")
            + (f"; the cube is not complete: {self.cube_problem}" if self.cube_problem else "")
        )

    def document(self) -> dict[str, Any]:
        """JSON types only."""
        return asdict(self) | {"failed": self.failed, "published": self.published}


def count_states(line: WindowLine) -> dict[str, int]:
    """State -> scenes of a window that ended so."""
    states = [scene.state for scene in line.scenes]
    return {state: states.count(state) for state in sorted(set(states))}


def run_windows(
    request: BackfillRequest,
    run_window: RunWindow,
    moment: datetime,
    tell: Callable[[str], None],
    progress: Progress = silent,
) -> BackfillSummary:
    """Run the windows of a backfill up to the day of `moment`; one that fails does not stop the rest.

    tell: told a line as each window begins and ends. progress: told of the stage `windows`.
    Raises InvalidQuery and InvalidSettings for what no window could be run with, WriteFailed where the ledger cannot be written.
    """
    windows = request.split(moment)
    check_once(request.window(windows[0]))
    stack = Stack.of(request)
    output = Path(request.output)
    ledger = Ledger(output, request.id)
    known = ledger.record.exists()
    ledger.begin(request.stored().model_dump(mode="json"), [window.dates for window in windows])
    lines = []
    for number, window in enumerate(windows, 1):
        check()
        progress(WINDOWS, number - 1, len(windows))
        place = f"window {number}/{len(windows)} {window.dates}: "
        tell(f"{place}begins")
        before = ledger.latest().get(window.dates)
        try:
            run_window(request.window(window))
        except (CatalogError, PipelineError) as error:
            if not error.transient:
                if number == 1 and not known:
                    ledger.forget()
                raise
            tell(f"{place}{' '.join(str(error).split())}")
        line = _ended(ledger, window.dates, before)
        lines.append(line)
        tell(f"{place}{_told(line)}")
        if stack is not None:
            stack.add(line)
            if line.window in stack.problems:
                tell(f"{place}not in the cube: {stack.problems[line.window]}")
    progress(WINDOWS, len(windows), len(windows))
    return BackfillSummary(
        request.id,
        address(output),
        tuple(lines),
        str(request.cube or ""),
        "" if stack is None else stack.problem,
        {} if stack is None else dict(stack.passed_over),
    )


def _ended(ledger: Ledger, window: str, before: WindowLine | None) -> WindowLine:
    """The line with which a window ended; `before` was its last before it was run. Raises WriteFailed."""
    line = ledger.latest().get(window)
    if line is None or line == before:
        reason = f"{ledger.output}: holds no trace of the window: is it the folder that its run wrote to?"
        return ledger.write(window, "failed", reason=reason)
    if line.state == "running":
        return ledger.write(window, "interrupted", reason="its process ended before it was done; run again")
    return line


def _told(line: WindowLine) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in count_states(line).items())
    unread = f"; {len(line.problems)} could not be read" if line.problems else ""
    return f"{line.state}: {counts or line.reason or 'no scenes'}{unread}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
