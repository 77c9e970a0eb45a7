"""`python -m benchmarks.bench`: hold the lines and write `bench.md`, `bench.json` and `bench.svg` into the working folder.

Exit status 0: everything was measured (whether bounds hold is in the table); 1: a contender failed; 2: wrong arguments; 130: ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.bench.contest import Result, hold
from benchmarks.bench.entry import Entry, Line, Setup
from benchmarks.bench.environment import FILE, Environment, read_groups
from benchmarks.bench.images import Images
from benchmarks.bench.lines import LINES
from benchmarks.bench.machine import Machine
from benchmarks.bench.plot import svg
from benchmarks.bench.table import markdown
from benchmarks.bench.trial import ROOT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parse(arguments)
    work: Path = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    machine = Machine.here()
    images = Images.find(options.data.resolve(), work)
    setup = Setup(work, images, options.data.resolve(), machine.cores, options.size)
    environment = Environment(options.environment or work / "contenders", _tell)
    if not options.ours_only:
        environment.make(list(read_groups(FILE.read_text(encoding="utf-8")).values()))
    words = f"{'real' if images.real else 'simulated'} pixels; {machine.words()}"
    _tell(words)

    def chosen(entry: Entry) -> bool:
        return not (options.ours_only and entry.group) and (not options.contenders or entry.name in options.contenders)

    results = []
    for line in options.only:
        results.append(hold(line, setup, options.rounds, environment, _tell, chosen))
        if not results[-1].tallies:
            print(f"{line.name}: none of its contenders was chosen", file=sys.stderr)
            return 2
        # After every line, so that a later one that is stopped takes nothing with it.
        _write(work, results, words, machine, options.rounds)
    _tell((work / "bench.md").read_text(encoding="utf-8"))
    failed = [f"{result.name}: {reason}" for result in results for reason in result.failed]
    for reason in failed:
        print(f"failed: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for scenes, outputs and results; some GB")
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data", help="real data; simulated if absent"
    )
    parser.add_argument(
        "--only", type=_lines, default=LINES, help=f"lines to hold: {','.join(line.name for line in LINES)}"
    )
    parser.add_argument(
        "--contenders", type=_names, help="only these contenders of the lines, for example decloud,naive"
    )
    parser.add_argument("--rounds", type=_count, default=3, help="how often each contender runs (3)")
    parser.add_argument("--size", type=_count, help="edge of the scenes in pixels of 10 m, instead of each line's own")
    parser.add_argument("--environment", type=Path, help="the contenders' virtual environment (WORK/contenders)")
    parser.add_argument("--ours-only", action="store_true", help="leave out whoever needs the contenders' environment")
    return parser.parse_args(arguments)


def _lines(text: str) -> list[Line]:
    known = {line.name: line for line in LINES}
    names = [name for name in text.split(",") if name]
    if not names or (unknown := [name for name in names if name not in known]):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown) if names else 'no line'}: known are {', '.join(known)}")
    return [known[name] for name in names]


def _names(text: str) -> set[str]:
    return {name for name in text.split(",") if name}


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least 1")
    return int(text)


def _write(work: Path, results: Sequence[Result], words: str, machine: Machine, rounds: int) -> None:
    document: dict[str, Any] = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "words": words,
        "machine": machine.to_json(),
        "rounds": rounds,
        "lines": [result.to_json() for result in results],
    }
    (work / "bench.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (work / "bench.md").write_text(markdown(results, words, rounds), encoding="utf-8")
    (work / "bench.svg").write_text(svg(results), encoding="utf-8")


def _tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    # Ended like this too, the run that is under way ends with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
