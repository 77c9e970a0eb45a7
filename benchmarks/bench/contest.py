"""`hold`: the rounds of a line, interleaved: every contender once, then every contender again, so that what else the machine does
falls on all alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench.entry import Entry, Line, Setup, Verdict
from benchmarks.bench.environment import Environment
from benchmarks.bench.run import Run, Tally
from benchmarks.bench.trial import run_trial

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """A line that was held."""

    name: str
    title: str
    yardstick: str
    tallies: Mapping[str, Tally]
    """Entry -> its runs, in the order of the table."""
    verdicts: tuple[Verdict, ...]

    @property
    def failed(self) -> list[str]:
        """Entries without figures, with the reason."""
        return [f"{tally.label}: {tally.failed}" for tally in self.tallies.values() if tally.failed]

    def to_json(self) -> dict[str, Any]:
        """Everything that was measured."""
        return {
            "name": self.name,
            "title": self.title,
            "yardstick": self.yardstick,
            "entries": [
                {"name": name, "label": tally.label, "runs": [run.to_json() for run in tally.runs]}
                for name, tally in self.tallies.items()
            ],
            "verdicts": [
                {"says": verdict.says, "value": verdict.value, "bound": verdict.bound, "holds": verdict.holds}
                for verdict in self.verdicts
            ],
        }


def everyone(entry: Entry) -> bool:
    """All contenders of a line."""
    return bool(entry)


def hold(
    line: Line,
    setup: Setup,
    rounds: int,
    environment: Environment,
    tell: Tell,
    chosen: Callable[[Entry], bool] = everyone,
) -> Result:
    """Run the entries of a line `rounds` times. An entry that fails is not run again; the others go on.

    chosen: whether an entry is run; those that are not are in no row, and verdicts that need them have no value.
    """
    tell(f"{line.name}: {line.title}")
    offered = line.entries(setup)
    entries = [entry for entry in offered if chosen(entry)]
    runs: dict[str, list[Run]] = {entry.name: [] for entry in entries}
    for round_ in range(rounds):
        for entry in _turn(entries, round_):
            done = runs[entry.name]
            if done and done[-1].failed:
                continue
            run = _once(entry, round_, setup.work / "runs" / line.name, environment)
            done.append(run)
            load = os.getloadavg()[0]
            said = run.failed or f"work {run.work:7.2f} s  start-up {run.startup:5.2f} s  peak {run.peak / 1e6:6.0f} MB"
            tell(f"  round {round_ + 1}  {entry.label:<44} {said}  load {load:.1f}")
    tallies = {entry.name: Tally(entry.label, tuple(runs[entry.name])) for entry in entries}
    # Who was left out is not run, which the verdicts then say.
    known = {entry.name: Tally(entry.label, ()) for entry in offered} | tallies
    return Result(line.name, line.title, line.yardstick(), tallies, tuple(line.verdicts(known)))


def _once(entry: Entry, round_: int, folder: Path, environment: Environment) -> Run:
    python, reason = environment.python(entry.group)
    return Run(entry.name, round_, failed=reason) if reason else run_trial(entry, round_, folder, python)


def _turn(entries: Sequence[Entry], round_: int) -> Sequence[Entry]:
    """Every other round in the opposite order: nobody always comes after the same one."""
    return entries if round_ % 2 == 0 else entries[::-1]
