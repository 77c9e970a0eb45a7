"""Line 4: a whole tile, 10980 x 10980, 4 and 12 bands, at two limits of memory: what it takes, that it makes no difference, and how time grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.bench.covers import CLUSTERED, make_cover
from benchmarks.bench.entry import Check, Entry, Setup, Verdict
from benchmarks.bench.job import Job
from benchmarks.bench.run import Tally, ratio
from benchmarks.bench.scenes import TEN, TWELVE, make_scene

SIZE = 10980
LIMITS = {"1GiB": 2**30, "4GiB": 2**32}
OVER = 300
"""Megabytes that a run may hold beyond its limit."""
GROWTH = 4.1
"""Most that time may grow for four times the area."""


@dataclass(frozen=True)
class _Case:
    count: int
    half: bool
    limit: str

    @property
    def name(self) -> str:
        return f"{self.count}-{'half' if self.half else 'full'}-{self.limit}"


CASES = tuple(_Case(count, half, limit) for count in (4, 12) for half in (False, True) for limit in LIMITS)


class MemoryLine:
    """Bands at their native resolutions, the identity, large clouds over 35 %."""

    name = "memory"
    title = "whole tile, identity network, clustered clouds at 35 %"

    def entries(self, setup: Setup) -> Sequence[Entry]:
        """Ours at every size, number of bands and limit."""
        full = setup.size or SIZE
        return [self._entry(setup, case, full // 12 * 6 if case.half else full) for case in CASES]

    def yardstick(self) -> str:
        """Four bands, a quarter of the area, the smaller limit."""
        return "4-half-1GiB"

    def verdicts(self, tallies: Mapping[str, Tally]) -> Sequence[Verdict]:
        """Memory within the limit, products the same, time in proportion to the area, no value changed."""
        found = []
        for case in (case for case in CASES if not case.half):
            peak = tallies[case.name].most(lambda run: max(run.peak, run.tree_peak))
            over = None if peak is None else round((peak - LIMITS[case.limit]) / 1e6)
            found.append(Verdict(f"{tallies[case.name].label}: MB beyond the limit", over, OVER))
        for count in (4, 12):
            for size in ("half", "full"):
                several = [tallies[f"{count}-{size}-{limit}"] for limit in LIMITS]
                digests = {run.digest for tally in several for run in tally.runs}
                different = None if any(tally.failed for tally in several) else len(digests) - 1
                found.append(Verdict(f"{count} bands, {size} size: products that differ between limits", different, 0))
            for limit in LIMITS:
                grown = ratio(tallies[f"{count}-full-{limit}"], tallies[f"{count}-half-{limit}"], Tally.least)
                found.append(Verdict(f"{count} bands, {limit}: time for four times the area, minima", grown, GROWTH))
        return found

    def _entry(self, setup: Setup, case: _Case, size: int) -> Entry:
        scene = make_scene(setup.images, setup.work, size, TEN if case.count == 4 else TWELVE)
        settings = {
            "checkpoint": "identity", "mask": str(make_cover(CLUSTERED, setup.work, size)), "references": 0, "max_generated": 1.0,
        }  # fmt: skip
        options = {"settings": settings, "max_memory": case.limit}
        job = Job(scene.files, "", "", threads=setup.threads, options=options)
        label = f"decloud, {size} x {size}, {case.count} bands, --max-memory {case.limit}"
        return Entry(case.name, label, "benchmarks.bench.ours", job, "", Check(changed=True, digest=True))
