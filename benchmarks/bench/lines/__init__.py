"""The lines of the benchmark, one a module, numbered as in `docs/benchmarks.md`."""

from __future__ import annotations

from benchmarks.bench.entry import Line
from benchmarks.bench.lines.identity import IdentityLine

LINES: tuple[Line, ...] = (IdentityLine(),)

__all__ = ["LINES"]
