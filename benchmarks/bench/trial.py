"""One run of one contender: the process, its marks, and a look at what it made. Whatever goes wrong becomes the run's `failed`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.bench.entry import Entry
from benchmarks.bench.products import changed, digest, size
from benchmarks.bench.run import Run

ROOT = Path(__file__).resolve().parents[2]
"""The repository's root, where every process is started: no package of ours need be installed for the contenders."""
STOPWATCH = Path(__file__).with_name("stopwatch.py")
TIMEOUT = 1800.0
"""Seconds after which a run counts as failed."""
LAST = 300
"""Characters of the last line of a log that are told."""


def run_trial(entry: Entry, round_: int, folder: Path, python: str, timeout: float = TIMEOUT) -> Run:
    """Run a contender once; its output is looked at and removed, its log stays in `folder`.

    python: the interpreter that has what it needs.
    """
    place = folder / entry.name
    shutil.rmtree(place / "out", ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    marks, log = place / "marks.json", place / "log.txt"
    marks.unlink(missing_ok=True)
    job = replace(entry.job, output=str(place / "out"), marks=str(marks))
    job.save(place / "job.json")
    command = [python, "-m", entry.module, str(place / "job.json")]
    measured = _measure(command, place, log, timeout)
    try:
        return _judge(entry, round_, measured, marks, log, place / "out", timeout)
    finally:
        shutil.rmtree(place / "out", ignore_errors=True)


def environment() -> dict[str, str]:
    """The processes' environment: this one's, without settings of threads, which the job gives."""
    dropped = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GDAL_NUM_THREADS", "GDAL_CACHEMAX", "PYTHONPATH", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "", "PYTHONWARNINGS": "ignore"}


def _measure(command: list[str], place: Path, log: Path, timeout: float) -> dict[str, Any]:
    spec = place / "spec.json"
    spec.write_text(
        json.dumps(
            {"command": command, "log": str(log), "environment": environment(), "timeout": timeout, "folder": str(ROOT)}
        ),
        encoding="utf-8",
    )
    watch = [sys.executable, "-I", "-S", str(STOPWATCH), str(spec)]
    with subprocess.Popen(watch, stdout=subprocess.PIPE, text=True) as process:
        try:
            answer, _ = process.communicate()
        except BaseException:
            # The stopwatch ends what it has started.
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        return {"status": process.returncode, "lost": True}
    measured: dict[str, Any] = json.loads(answer)
    return measured


def _judge(
    entry: Entry, round_: int, measured: dict[str, Any], marks: Path, log: Path, output: Path, timeout: float
) -> Run:
    if measured.get("lost"):
        return Run(entry.name, round_, failed=f"could not be started: {_last_line(log)}")
    if measured["timed_out"]:
        return Run(entry.name, round_, failed=f"not done after {timeout:.0f} s")
    if measured["status"]:
        return Run(entry.name, round_, failed=f"status {measured['status']}: {_last_line(log)}")
    if not marks.is_file():
        return Run(entry.name, round_, failed="ended well without leaving its times")
    left = json.loads(marks.read_text(encoding="utf-8"))
    run = Run(
        entry.name,
        round_,
        work=left["end"] - left["begin"],
        startup=left["begin"] - measured["started"],
        wall=measured["ended"] - measured["started"],
        cpu=measured["user"] + measured["system"],
        peak=measured["peak"],
        tree_peak=measured["tree_peak"],
        output=size(output),
        # Not where its files were: they are removed.
        facts={name: fact for name, fact in left["facts"].items() if name != "files"},
    )
    files = left["facts"].get("files", {})
    try:
        if entry.check.changed:
            found, of = changed(files, entry.job.bands, entry.check.cloudy, entry.check.reach)
            run = replace(run, changed=found, checked=of)
        if entry.check.digest:
            run = replace(run, digest=digest(files))
    except (OSError, ValueError) as error:
        return Run(entry.name, round_, failed=f"its product cannot be compared: {error}")
    return run


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1][-LAST:] if lines else "said nothing"
