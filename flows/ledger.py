"""The ledger of a backfill: what became of its windows, in the folder of the products, or of work where those go to a bucket.

    OUT/backfills/<id>.json    what was asked for, and the windows
    OUT/backfills/<id>.jsonl   a line when a window begins, and one when it ends; appended to, never rewritten

Whoever runs a window writes its lines, on whatever machine. The ledger is for people and for the cube: what is to be done is decided by
the products alone, so a ledger that is lost costs nothing. With an output on s3:// it stays in the local folder of work and is not copied
to the bucket: another machine does not see it.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from flows.request import AreaRequest
from flows.scene_log import plain
from flows.summary import RunSummary
from pipeline.errors import WriteFailed
from pipeline.folders import BACKFILLS
from pipeline.journal import GOOD
from pipeline.lines import append_line, write_document
from pipeline.processes import LARGEST, alive, started

LineState = Literal["running", "done", "failed", "interrupted"]
_STATES = ("running", "done", "failed", "interrupted")


@dataclass(frozen=True)
class WindowScene:
    """How a scene of a window ended."""

    scene: str
    """Id of the source item."""
    state: str
    product: str = ""
    """Id of the product, where there is one."""
    reason: str = ""

    @property
    def good(self) -> bool:
        """True where the product is there."""
        return self.state in GOOD


@dataclass(frozen=True)
class WindowLine:
    """One line."""

    time: str
    """UTC, ISO 8601."""
    window: str
    """Its dates."""
    state: LineState
    """done: each of its scenes has a product."""
    run: str = ""
    """Id of the run, the stem of its journal; empty where there was nothing to do."""
    scenes: tuple[WindowScene, ...] = ()
    """In the order of time."""
    problems: tuple[str, ...] = ()
    """What could not be read."""
    reason: str = ""
    """Why the window as a whole did not end well, or why it has no scenes."""
    host: str = field(default_factory=platform.node)
    pid: int = field(default_factory=os.getpid)
    began: int = field(default_factory=started)
    """When that process began, see `pipeline.processes`; 0 in lines of older versions."""

    @property
    def abandoned(self) -> bool:
        """True where it says running and its process, on this machine, is gone."""
        return self.state == "running" and self.host == platform.node() and not alive(self.pid, self.began)


@dataclass(frozen=True)
class Ledger:
    """The ledger of one backfill."""

    output: Path
    id: str

    @property
    def record(self) -> Path:
        """What was asked for."""
        return self.output / BACKFILLS / f"{self.id}.json"

    @property
    def lines(self) -> Path:
        """What became of it."""
        return self.output / BACKFILLS / f"{self.id}.jsonl"

    def begin(self, request: Mapping[str, Any], windows: Sequence[str]) -> None:
        """Keep what is asked for, without credentials, and the windows. Raises WriteFailed."""
        document = {"id": self.id, "request": dict(request), "windows": list(windows)}
        try:
            write_document(self.record, document)
        except OSError as error:
            raise _unwritable(self.record, error) from error

    def forget(self) -> None:
        """Take away what `begin` and the first window left: nothing could be run."""
        for path in (self.lines, self.record):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.record.parent.rmdir()
            self.output.rmdir()

    def write(
        self, window: str, state: LineState, summary: RunSummary | None = None, *, reason: str = ""
    ) -> WindowLine:
        """Append a line and flush it to the disk. Raises WriteFailed."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        found = () if summary is None else tuple(
            WindowScene(scene.scene, scene.state, scene.product_id, plain(scene.reason)) for scene in summary.scenes
        )  # fmt: skip
        run, problems = ("", ()) if summary is None else (summary.run, summary.problems)
        line = WindowLine(now, window, state, run, found, tuple(map(plain, problems)), plain(reason))
        return self._append(line)

    def repeat(self, line: WindowLine) -> None:
        """Append what a former line says as of now: nothing has changed. Raises WriteFailed."""
        self._append(replace(line, time=datetime.now(UTC).isoformat(timespec="milliseconds")))

    def _append(self, line: WindowLine) -> WindowLine:
        try:
            append_line(self.lines, asdict(line))
        except OSError as error:
            raise _unwritable(self.lines, error) from error
        return line

    def latest(self) -> dict[str, WindowLine]:
        """Window -> its last readable line; one that was cut by a crash is passed over."""
        try:
            text = self.lines.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return {}
        lines = (_parsed(line) for line in text.splitlines())
        return {line.window: line for line in lines if line is not None}

    def windows(self) -> tuple[str, ...]:
        """All windows, oldest first; those that began, where the record is gone or damaged."""
        try:
            return tuple(map(str, json.loads(self.record.read_text(encoding="utf-8"))["windows"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return tuple(sorted(self.latest()))


def ledgers(output: Path) -> list[Ledger]:
    """Those of the backfills that ran into a product folder, by id."""
    return [Ledger(output, path.stem) for path in sorted((output / BACKFILLS).glob("*.json"))]


def in_ledger(request: AreaRequest, run: Callable[[], RunSummary]) -> RunSummary:
    """`run()`; where the request is a window of a backfill, its ledger says that it began and how it ended."""
    if not request.part_of:
        return run()
    ledger = Ledger(Path(request.output), request.part_of)
    ledger.write(request.dates, "running")
    try:
        summary = run()
    except Exception as error:
        ledger.write(request.dates, "failed", reason=" ".join(str(error).split()) or type(error).__name__)
        raise
    except BaseException:
        ledger.write(request.dates, "interrupted", reason="stopped; run again, finished blocks are kept")
        raise
    ledger.write(request.dates, "failed" if summary.failed else "done", summary, reason=summary.note)
    return summary


def _parsed(line: str) -> WindowLine | None:
    try:
        record = json.loads(line)
        scenes = tuple(WindowScene(**scene) for scene in record.pop("scenes"))
        parsed = WindowLine(**{"began": 0} | record | {"scenes": scenes, "problems": tuple(record["problems"])})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    texts = [parsed.time, parsed.window, parsed.state, parsed.run, parsed.reason, parsed.host, *parsed.problems]
    texts += [text for scene in scenes for text in (scene.scene, scene.state, scene.product, scene.reason)]
    sound = (
        all(isinstance(text, str) for text in texts)
        and isinstance(parsed.began, int)
        and isinstance(parsed.pid, int)
        and 0 <= parsed.pid <= LARGEST
    )
    return parsed if sound and parsed.state in _STATES else None


def _unwritable(path: Path, error: OSError) -> WriteFailed:
    return WriteFailed(f"{path}: cannot be written ({error.strerror or error}); choose an --output that is writable")
