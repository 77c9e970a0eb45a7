"""The journal says what happened, also after a crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from pipeline.errors import WriteFailed
from pipeline.journal import Journal, entries, latest


def test_the_last_state_of_each_scene_counts(tmp_path):
    first = Journal(tmp_path, "20260101T000000Z-1")
    first.write("a", "running")
    first.write("a", "failed", "disk full")
    first.write("b", "done", product="b_123")
    second = Journal(tmp_path, "20260102T000000Z-2")
    second.write("a", "done", product="a_456", seconds=1.5)
    states = latest(tmp_path)
    assert {scene: entry.state for scene, entry in states.items()} == {"a": "done", "b": "done"}
    assert (states["a"].product, states["a"].seconds, states["a"].run) == ("a_456", 1.5, "20260102T000000Z-2")
    assert [entry.state for entry in entries(tmp_path)] == ["running", "failed", "done", "done"]


def test_a_scene_of_a_dead_process_is_interrupted_not_running(tmp_path):
    code = f"from pathlib import Path; from pipeline.journal import Journal; Journal(Path({str(tmp_path)!r})).write('a', 'running')"
    subprocess.run([sys.executable, "-c", code], check=True)
    Journal(tmp_path).write("b", "running")
    states = latest(tmp_path)
    assert states["a"].state == "interrupted"
    assert "run again" in states["a"].reason
    assert states["b"].state == "running"
    assert states["b"].pid == os.getpid()


@pytest.mark.parametrize("rest", ['{"time": "2026', "[1, 2]", '{"state": "done"}', "\x00\xff", ""])
def test_lines_that_a_crash_cut_are_passed_over(tmp_path, rest):
    journal = Journal(tmp_path)
    journal.write("a", "done")
    with journal.path.open("a", encoding="utf-8") as file:
        file.write(rest)
    assert [entry.scene for entry in entries(tmp_path)] == ["a"]
    # Nor do they take the next line with them: the one that says that the run was killed.
    journal.write("b", "interrupted")
    assert [entry.scene for entry in entries(tmp_path)] == ["a", "b"]


LINE = {"time": "2026-01-01T00:00:00.000+00:00", "run": "r", "scene": "x", "state": "running", "host": ""}


@pytest.mark.parametrize(
    "odd",
    [
        {"time": 5},
        {"time": None},
        {"scene": ["x"]},
        {"scene": {}},
        {"state": "lost"},
        {"state": ["done"]},
        {"reason": 5},
        {"pid": 1.5},
        {"pid": "1"},
        {"pid": -1},
        {"pid": 10**30},
        {"began": "long ago"},
        {"seconds": "many"},
        {"colour": "blue"},
    ],
    ids=str,
)
def test_lines_that_nobody_of_us_wrote_are_passed_over(tmp_path, odd):
    journal = Journal(tmp_path)
    journal.write("a", "done")
    with journal.path.open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(LINE | odd)}\n")
    (tmp_path / "runs" / "folder.jsonl").mkdir()
    journal.write("b", "done")
    assert list(latest(tmp_path)) == ["a", "b"]


def test_an_unwritable_output_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(WriteFailed, match=r"file/runs/.*jsonl: journal not written .*--output"):
        Journal(blocked).write("a", "running")


def test_no_journal_means_no_states(tmp_path):
    assert latest(tmp_path) == {}
