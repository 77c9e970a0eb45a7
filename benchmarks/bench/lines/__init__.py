"""The lines of the benchmark, one a module, numbered as in `docs/benchmarks.md`."""

from __future__ import annotations

from benchmarks.bench.covers import CLUSTERED, SCATTERED
from benchmarks.bench.entry import Line
from benchmarks.bench.lines.identity import IdentityLine
from benchmarks.bench.lines.network import NetworkLine

LINES: tuple[Line, ...] = (IdentityLine(), NetworkLine(CLUSTERED, 0.5), NetworkLine(SCATTERED, None))

__all__ = ["LINES"]
