"""The lines of the benchmark, one a module, numbered as in `docs/benchmarks.md`."""

from __future__ import annotations

from benchmarks.bench.covers import CLUSTERED, SCATTERED
from benchmarks.bench.entry import Line
from benchmarks.bench.lines.identity import IdentityLine
from benchmarks.bench.lines.jpeg2000 import Jpeg2000Line
from benchmarks.bench.lines.memory import MemoryLine
from benchmarks.bench.lines.network import NetworkLine
from benchmarks.bench.lines.shipped import ShippedLine

LINES: tuple[Line, ...] = (
    IdentityLine(),
    NetworkLine(CLUSTERED, 0.5),
    NetworkLine(SCATTERED, None),
    ShippedLine(),
    MemoryLine(),
    Jpeg2000Line(),
)

__all__ = ["LINES"]
