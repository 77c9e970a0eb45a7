"""The results as Markdown: a table a line, and under it what was to be shown and whether it was."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.bench.contest import Result
from benchmarks.bench.entry import Verdict
from benchmarks.bench.run import Run, Tally, ratio, work

HEAD = (
    "| contender | work s, min | median | x, min | x, median | start-up s | CPU s | peak RSS MB | output MB | values changed |",
    "|---|---|---|---|---|---|---|---|---|---|",
)
NONE = "-"


def markdown(results: Sequence[Result], words: str, rounds: int) -> str:
    """The whole document; `words` say where it was measured."""
    parts = [f"Measured on: {words}. {rounds} interleaved round{'s' if rounds > 1 else ''}."]
    for result in results:
        parts += [f"### {result.title}", table(result)]
        parts += ["\n".join(f"- {sentence(verdict)}" for verdict in result.verdicts)] if result.verdicts else []
    return "\n\n".join(parts) + "\n"


def table(result: Result) -> str:
    """One line's contenders."""
    yard = result.tallies.get(result.yardstick)
    return "\n".join([*HEAD, *(_row(tally, yard) for tally in result.tallies.values())])


def sentence(verdict: Verdict) -> str:
    """What was to be shown, what was measured, and whether it holds.

    >>> sentence(Verdict("wall / bare network", 1.08, 1.1))
    'wall / bare network: **1.08** (at most 1.1): holds'
    >>> sentence(Verdict("wall / bare network", None, 1.1))
    'wall / bare network: not measured (at most 1.1)'
    """
    bound = "" if verdict.bound is None else f" (at most {_number(verdict.bound)})"
    if verdict.value is None:
        return f"{verdict.says}: not measured{bound}"
    ending = {True: ": holds", False: ": DOES NOT HOLD", None: ""}[verdict.holds]
    return f"{verdict.says}: **{_number(verdict.value)}**{bound}{ending}"


def _row(tally: Tally, yard: Tally | None) -> str:
    if tally.failed:
        return f"| {_cell(tally.label)} | failed: {_cell(tally.failed)} {'| ' * 8}|"
    against = [_number(ratio(tally, yard, which)) if yard else NONE for which in (Tally.least, Tally.median)]
    cells = [
        tally.label,
        f"{tally.least(work):.2f}",
        f"{tally.median(work):.2f}",
        *against,
        f"{tally.median(lambda run: run.startup):.2f}",
        f"{tally.median(lambda run: run.cpu):.1f}",
        f"{(tally.most(_peak) or 0) / 1e6:.0f}",
        f"{(tally.most(lambda run: run.output) or 0) / 1e6:.0f}",
        NONE if tally.changed is None else _share(tally),
    ]
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _share(tally: Tally) -> str:
    changed, checked = tally.changed or 0, max(run.checked for run in tally.runs)
    return str(changed) if not changed else f"{changed} ({100 * changed / max(checked, 1):.2g} %)"


def _peak(run: Run) -> float:
    return max(run.peak, run.tree_peak)


def _number(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.0f}" if value == round(value) else f"{value:.2f}".rstrip("0").rstrip(".")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
