"""What has to become of a case: one line, the right status, nothing published but what is right, no gigabytes, and its row in the table."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from pipeline.publish import published_items
from tests.conftest import ROOT
from tests.flows.conftest import Decloud, Ended
from tests.hostile.case import Case

TABLE = ROOT / "docs" / "reliability.md"
_MOST = 1.5 * 2**30
"""Bytes by which a case may raise the memory of the process: the largest document is read whole before it is refused."""


def told(ended: Ended, folder: Path) -> str:
    """What a user reads of it: the error, else why a scene has no product, or what was left out, else how the scene ended."""
    if ended.status == 2:
        text = ended.error.removeprefix("error: ")
    else:
        document = json.loads(ended.out)
        scenes = [f"{scene['state']}: {scene['reason']}".removesuffix(": ") for scene in document["scenes"]]
        text = "; ".join([*document["problems"], *scenes])
    assert "\n" not in text
    return text.replace(f"{folder}/", "").replace(str(folder), ".")


def row(case: Case, text: str) -> str:
    """The case in the table."""
    cut = text if len(text) <= 260 else f"{text[:257]}..."
    return f"| {case.what} | {case.status} | `{_cell(cut)}` |"


def check(case: Case, folder: Path, decloud: Decloud) -> None:
    """Run a case in an empty folder, which is the working folder too."""
    arguments = case.build(folder)
    _forget_peak()
    before = _peak()
    ended = decloud(*arguments)
    grown = _peak() - before
    text = told(ended, folder)
    assert ended.status == case.status, text
    assert case.said in text
    assert "Traceback" not in ended.err
    assert "not foreseen" not in ended.err
    assert grown < _MOST
    # What a pickle, a shell or YAML would have left behind.
    assert not list(folder.rglob("pwned"))
    products = published_items(folder / "out") if (folder / "out").exists() else []
    assert len(products) == text.count("done")
    # The words of libraries differ with their versions; ours, and what becomes of it, are in the table.
    start = f"| {case.what} | {case.status} |"
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith(start)]
    assert len(lines) == 1, "python -m tests.hostile.table"
    assert _cell(case.said) in lines[0]


def _cell(text: str) -> str:
    """As it stands in a cell of a table."""
    return text.replace("|", "\\|").replace("`", "'")


def _forget_peak() -> None:
    """Let the kernel count the largest memory of this process anew, where it is Linux."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Bytes held at most since then; 0 where nobody says."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
