"""Writes the table of hostile input into docs/reliability.md: `python -m tests.hostile.table`."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path

from flows.cli import main
from tests.flows.conftest import Ended
from tests.hostile import catalogues, metadata, others, rasters
from tests.hostile.case import Case
from tests.hostile.checking import TABLE, row, told

BEGIN, END = "<!-- hostile input: begin -->", "<!-- hostile input: end -->"
PARTS = (
    ("Rasters", rasters),
    ("Items and catalogues", catalogues),
    ("SAFE folders", metadata),
    ("Networks, tables, areas, dates", others),
)


def line(case: Case) -> str:
    """Run a case, and say what became of it."""
    with tempfile.TemporaryDirectory() as text:
        folder, home = Path(text).resolve(), Path.cwd()
        arguments = [str(part) for part in case.build(folder)]
        out, err = io.StringIO(), io.StringIO()
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = main(arguments)
        finally:
            os.chdir(home)
        return row(case, told(Ended(status, out.getvalue(), err.getvalue()), folder))


def table() -> str:
    """All rows."""
    lines = []
    for title, module in PARTS:
        lines += [
            f"### {title}",
            "",
            "| what | status | what a user reads |",
            "|---|---:|---|",
            *map(line, module.CASES),
            "",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    document = TABLE.read_text(encoding="utf-8")
    head, _, rest = document.partition(BEGIN)
    TABLE.write_text(f"{head}{BEGIN}\n\n{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
