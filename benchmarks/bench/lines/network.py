"""Line 2: the same small U-Net for all, tiles of 256 with 32 of overlap, 2048 x 2048 x 4, clouds over 35 %: in large systems, and scattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.bench.covers import Cover, make_cover
from benchmarks.bench.entry import Check, Entry, Setup, Verdict
from benchmarks.bench.job import Job
from benchmarks.bench.lines.peers import OVERLAPPING, naive_loops, overlapping
from benchmarks.bench.run import Tally, ratio
from benchmarks.bench.scenes import make_scene
from benchmarks.bench.weights import make_network
from pipeline.growth import GROW

SIZE = 2048
OURS = "decloud"


@dataclass(frozen=True)
class NetworkLine:
    """Tiles without cloud need no network: how much that is worth depends on how the clouds lie."""

    cover: Cover
    bound: float | None
    """Most that our work may be of the best contender's that overlaps tiles; None: stated as it is."""

    @property
    def name(self) -> str:
        """Of the cover."""
        return self.cover.name

    @property
    def title(self) -> str:
        """With the cover and its share."""
        return f"same small U-Net, tiles 256 / 32, 4 bands of 10 m, {self.cover.name} clouds at {100 * self.cover.share:.0f} %"

    def entries(self, setup: Setup) -> Sequence[Entry]:
        """Ours, the loop without overlap, and all that overlap."""
        size = setup.size or SIZE
        scene = make_scene(setup.images, setup.work, size)
        mask, network = make_cover(self.cover, setup.work, size), make_network(setup.work)
        job = Job(scene.files, "", "", mask=str(mask), network=str(network), threads=setup.threads)
        # Outside the grown mask nothing should change, whoever grows it.
        check = Check(changed=True, cloudy=str(mask), reach=round(GROW / 10))
        settings = {
            "checkpoint": str(network), "mask": str(mask), "references": 0, "max_generated": 1.0, "overlap": job.overlap,
        }  # fmt: skip
        ours = replace(job, mask="", network="", options={"settings": settings})
        return [
            Entry(OURS, "decloud", "benchmarks.bench.ours", ours, "", check),
            naive_loops(job, check)[0],
            *overlapping(job, check),
        ]

    def yardstick(self) -> str:
        """The overlap loop: what users write in a day."""
        return "overlap"

    def verdicts(self, tallies: Mapping[str, Tally]) -> Sequence[Verdict]:
        """At most half of the best that overlaps; and no clear pixel changed."""
        ours = tallies[OURS]
        found = []
        for word, which in (("medians", Tally.median), ("minima", Tally.least)):
            shares = [share for name in OVERLAPPING if (share := ratio(ours, tallies[name], which)) is not None]
            found.append(
                Verdict(f"work of decloud / best that overlaps tiles, {word}", max(shares, default=None), self.bound)
            )
        found.append(Verdict("share of the tiles that decloud gave to the network", tiles_run(ours), None))
        found.append(Verdict("values that decloud changed away from clouds", ours.changed, 0))
        return found


def tiles_run(ours: Tally) -> float | None:
    """Share of all tiles that went through the network, as the product's item says."""
    facts = ours.runs[-1].facts if ours.runs and not ours.failed else {}
    return facts["tiles_restored"] / facts["tiles"] if facts else None
