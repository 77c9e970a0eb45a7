"""Line 6: a SAFE folder with JPEG 2000. Decoding is the floor: our work against decoding alone, on all cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.bench.covers import CLUSTERED, make_cover
from benchmarks.bench.entry import Check, Entry, Setup, Verdict
from benchmarks.bench.job import Job
from benchmarks.bench.run import Tally, ratio
from benchmarks.bench.safe import jp2_files, make_safe
from benchmarks.bench.scenes import make_scene

SIZE = 10980
OURS, DECODE = "decloud", "decode"


class Jpeg2000Line:
    """The four bands of 10 m of a whole tile."""

    name = "jp2"
    title = "SAFE folder with JPEG 2000, identity network, 4 bands of 10 m, clustered clouds at 35 %"

    def entries(self, setup: Setup) -> Sequence[Entry]:
        """Ours, and decoding alone."""
        size = setup.size or SIZE
        scene = make_scene(setup.images, setup.work, size)
        safe = make_safe(scene, setup.work, setup.threads)
        settings = {
            "checkpoint": "identity", "mask": str(make_cover(CLUSTERED, setup.work, size)), "references": 0, "max_generated": 1.0,
        }  # fmt: skip
        # The product is compared with the GeoTIFFs that the JPEG 2000 files were made from.
        options = {"settings": settings, "source": str(safe)}
        ours = Job(scene.files, "", "", threads=setup.threads, options=options)
        files = {name: str(path) for name, path in jp2_files(safe, scene.bands).items()}
        decode = Job(files, "", "", threads=setup.threads)
        return [
            Entry(OURS, "decloud", "benchmarks.bench.ours", ours, "", Check(changed=True)),
            Entry(DECODE, f"decoding alone, {setup.threads} processes", "benchmarks.bench.decode", decode),
        ]

    def yardstick(self) -> str:
        """Decoding alone."""
        return DECODE

    def verdicts(self, tallies: Mapping[str, Tally]) -> Sequence[Verdict]:
        """At most 1.2 times decoding alone."""
        ours, decode = tallies[OURS], tallies[DECODE]
        return [
            Verdict("work of decloud / decoding alone, medians", ratio(ours, decode, Tally.median), 1.2),
            Verdict("work of decloud / decoding alone, minima", ratio(ours, decode, Tally.least), 1.2),
            Verdict("values that decloud changed", ours.changed, 0),
        ]
