"""`Nursery`: command lines in processes that are forked ready, so that a run costs what its work costs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

PATIENCE = 240.0


@dataclass(frozen=True)
class Order:
    """What a child is to do, and what is to happen to it."""

    words: tuple[str, ...]
    output: str
    said: str
    """Prefix of the files that hold what it says and how it ended."""
    stop: int = 0
    """Number of the event on files of the output before which it is killed; 0 for none."""
    after: float | None = None
    """Seconds after which it is killed."""
    pause: int = 0
    """Number of the event before which it stops, with all its threads, until `Begun.resume`; 0 for none."""
    at: str = ""
    """The same at the first event that this regular expression finds, as `open PATH mode` or `os.rename FROM TO`."""
    fatal: bool = False
    """Whether it is killed there instead."""
    jumps: tuple[tuple[int, float], ...] = ()
    """How its clock jumps, see `clocks.jumping`."""
    trace: str = ""
    """File for its events."""
    imported: str = ""
    """File for the names of the modules that it had imported at its end."""


@dataclass(frozen=True)
class Ended:
    """How a command line ended."""

    status: int
    """Exit status; negative: killed by that signal."""
    out: str
    err: str
    events: int
    seconds: float

    @property
    def error(self) -> str:
        """The one line that says what is wrong."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        return lines[0]

    @property
    def document(self) -> Any:
        """The JSON document on standard output."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Begun:
    """A command line that runs."""

    pid: int
    order: Order

    @property
    def over(self) -> bool:
        return Path(f"{self.order.said}.end").exists()

    def paused(self) -> bool:
        """Wait until it has stopped; False where it ended without."""
        deadline = time.monotonic() + PATIENCE
        while not self.over:
            assert time.monotonic() < deadline, f"{self.order.words} does not come to event {self.order.pause}"
            with contextlib.suppress(OSError):
                if Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                    return True
            time.sleep(0.002)
        return False

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> Ended:
        """Wait for it."""
        deadline = time.monotonic() + PATIENCE
        while not self.over:
            assert time.monotonic() < deadline, f"{self.order.words} does not end"
            time.sleep(0.002)
        found = json.loads(Path(f"{self.order.said}.end").read_text())
        out, err = (Path(f"{self.order.said}.{name}").read_text(errors="replace") for name in ("out", "err"))
        assert "Traceback" not in err + out, err
        return Ended(found["status"], out, err, found["events"], found["seconds"])


class Nursery:
    """The process that forks them, see `nursery`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200", "GDAL_HTTP_RETRY_DELAY": "0.02"},
        )  # fmt: skip

    def ask(self, document: Any) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(document), file=self._process.stdin, flush=True)
        return self._process.stdout.readline().strip()

    def learn(self, *words: object, output: Path) -> None:
        """Import whatever this command line imports. What is forked must have one thread only."""
        names = self._folder / "imported"
        ended = self.run(*words, output=output, imported=str(names))
        assert ended.status == 0, ended.err
        assert self.ask({"modules": names.read_text().split()}) == "1"

    def rehearse(self, *words: object) -> None:
        """Run a command line before all others, in the process that forks them. What is forked must have one thread only."""
        answer = self.ask({"rehearsed": list(map(str, words))})
        assert answer == "0 1", f"{words}: status and threads: {answer}"

    def begin(self, *words: object, output: Path, **more: Any) -> Begun:
        """Start a command line; `more` are fields of `Order`."""
        self._number += 1
        said = str(self._folder / str(self._number))
        order = Order(tuple(map(str, words)), str(output), said, **more)
        return Begun(int(self.ask(asdict(order))), order)

    def run(self, *words: object, output: Path, **more: Any) -> Ended:
        """A command line from its beginning to its end."""
        return self.begin(*words, output=output, **more).end()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
