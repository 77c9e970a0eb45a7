"""What the commands print on standard output when they are done: tables for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from flows.summary import SHOWN, RunSummary, shares_shown
from flows.times import StageTimes, ordered, seconds

if TYPE_CHECKING:
    from rich.table import Table

WIDE = 10_000
"""Columns where the output is no terminal: in a file no path is to be broken."""

_ROOMY = 150
"""Columns of a terminal from which on there is room for paths beside numbers."""


def print_json(document: Any) -> None:
    """One JSON document."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """A table; the columns named in `right` are aligned to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table: Table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console() if sys.stdout.isatty() else Console(width=WIDE, file=sys.stdout)
    console.print(table)


def print_run(summary: RunSummary) -> None:
    """How a run ended: a line for each scene, what is wrong with those that are, and how many of what."""
    if summary.scenes:
        from rich.console import Console

        # On a narrow terminal a path would leave no room for the numbers.
        narrow = sys.stdout.isatty() and Console().width < _ROOMY
        print_table(
            ("scene", "state", "s", *SHOWN, "seam", *(() if narrow else ("product",))),
            (
                (
                    scene.name,
                    scene.state,
                    f"{scene.seconds:.1f}",
                    *(shares_shown(scene.figures).values() if scene.product else [""] * len(SHOWN)),
                    f"{scene.figures.seam_score:.2f}" if scene.figures.seam_score is not None else "",
                    *(() if narrow else (scene.product,)),
                )
                for scene in summary.scenes
            ),
            right=("s", *SHOWN, "seam"),
        )
        for scene in summary.scenes if narrow else ():
            if scene.product:
                sys.stdout.write(f"{scene.name}: {scene.product}\n")
    for scene in summary.scenes:
        if not scene.good:
            print_reason(scene.scene, scene.state, scene.reason)
        elif scene.figures.remark:
            sys.stdout.write(f"{scene.name}: {scene.figures.remark}\n")
    sys.stdout.write(summary.headline + "\n")


def print_times(scenes: Sequence[tuple[str, StageTimes]]) -> None:
    """Seconds of each stage of each scene, and the stage that was the limit. Stages overlap."""
    stages = ordered(stage for _, times in scenes for stage in times.stages)
    columns = tuple(f"{stage} s" for stage in stages)
    print_table(
        ("scene", *columns, "wall s", "limit"),
        (
            (name, *(seconds(times.stages.get(stage)) for stage in stages), seconds(times.total), times.limit)
            for name, times in scenes
        ),
        right=(*columns, "wall s"),
    )


def print_reason(scene: str, state: str, reason: str) -> None:
    """Why a scene has no product."""
    sys.stdout.write(f"{scene}: {state}: {reason.removeprefix(f'{scene}: ')}\n")
