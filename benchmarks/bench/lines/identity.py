"""Line 1: what the framework costs. The identity instead of a network, all pixels under cloud, 4096 x 4096 x 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.bench.covers import FULL, make_cover
from benchmarks.bench.entry import Check, Entry, Setup, Verdict
from benchmarks.bench.job import Job
from benchmarks.bench.lines.peers import NAIVE, naive_loops, overlapping
from benchmarks.bench.run import Tally, ratio
from benchmarks.bench.scenes import make_scene

SIZE = 4096
OURS = "decloud"


class IdentityLine:
    """Every pixel goes through reading, tiling, blending and writing, and must come out as it went in."""

    name = "identity"
    title = "identity network, full cover, 4 bands of 10 m"

    def entries(self, setup: Setup) -> Sequence[Entry]:
        """Ours, the naive loops, and all that overlap."""
        size = setup.size or SIZE
        scene = make_scene(setup.images, setup.work, size)
        mask = make_cover(FULL, setup.work, size)
        job = Job(scene.files, "", "", mask=str(mask), threads=setup.threads)
        check = Check(changed=True)
        settings = {
            "checkpoint": "identity", "mask": str(mask), "references": 0, "max_generated": 1.0, "overlap": job.overlap,
        }  # fmt: skip
        ours = Job(scene.files, "", "", threads=setup.threads, options={"settings": settings})
        return [
            Entry(OURS, "decloud", "benchmarks.bench.ours", ours, "", check),
            *naive_loops(job, check),
            *overlapping(job, check),
        ]

    def yardstick(self) -> str:
        """The naive loop with the same output profile."""
        return NAIVE

    def verdicts(self, tallies: Mapping[str, Tally]) -> Sequence[Verdict]:
        """At most 1.15 times the naive loop, and no pixel changed."""
        ours = tallies[OURS]
        return [
            Verdict(
                "work of decloud / naive loop with the same output, medians",
                ratio(ours, tallies[NAIVE], Tally.median),
                1.15,
            ),
            Verdict(
                "work of decloud / naive loop with the same output, minima",
                ratio(ours, tallies[NAIVE], Tally.least),
                1.15,
            ),
            Verdict("values that decloud changed", ours.changed, 0),
        ]
