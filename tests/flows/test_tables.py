"""What a run prints when it is done, on terminals and in files."""

from __future__ import annotations

import io
import sys

import pytest

from flows.summary import Figures, RunSummary, SceneSummary
from flows.tables import print_run

PRODUCT = (
    "/a/rather/long/folder/of/products/S2B_33TWL_20230810_0_L2A_f596067acc/S2B_33TWL_20230810_0_L2A_f596067acc.json"
)
SUMMARY = RunSummary(
    "run",
    "/a/rather/long/folder/of/products",
    (
        SceneSummary("S2B", "33TWL 2023-08-10", "done", seconds=24.6, product=PRODUCT, figures=Figures({"observed": 1.0})),
        SceneSummary("S2A", "33TWL 2023-08-13", "failed", "the disk was full"),
    ),
)  # fmt: skip


class Terminal(io.StringIO):
    """Standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, out: io.StringIO, columns: int) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", out)
    print_run(SUMMARY)
    return out.getvalue().splitlines()


def test_a_narrow_terminal_gets_its_paths_below_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, Terminal(), 110)
    assert f"33TWL 2023-08-10: {PRODUCT}" in lines
    (row,) = [line for line in lines if "24.6" in line]
    assert row.split() == ["33TWL", "2023-08-10", "done", "24.6", "100.0", "%", *["0", "%"] * 4]
    assert "S2A: failed: the disk was full" in lines
    assert lines[-1] == "2 scenes: 1 done, 1 failed"


@pytest.mark.parametrize("out", [io.StringIO, Terminal])
def test_a_file_and_a_wide_terminal_get_one_table(out: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, out(), 250)
    (row,) = [line for line in lines if "24.6" in line]
    assert PRODUCT in row
    assert len([line for line in lines if PRODUCT in line]) == 1
