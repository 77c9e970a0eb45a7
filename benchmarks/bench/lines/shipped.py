"""Line 3: the shipped network under real clouds, with two other dates: our work against the bare network on the tiles that need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.bench.clouds import Dates, make_dates
from benchmarks.bench.entry import Entry, Setup, Verdict
from benchmarks.bench.job import Job
from benchmarks.bench.run import Tally, ratio

SIZE = 2048
SHARES = (0.2, 0.5, 1.0)
BOUND = 1.10


class ShippedLine:
    """Default settings, but that a scene is never refused."""

    name = "shipped"
    title = "shipped network, two other dates, real clouds"

    def entries(self, setup: Setup) -> Sequence[Entry]:
        """Ours and the bare network at each cover."""
        entries = []
        for share in SHARES:
            dates = make_dates(setup.data, setup.work, setup.size or SIZE, share)
            job, percent = _job(setup, dates), f"{100 * share:.0f}"
            says = f"{100 * dates.share:.0f} % cover"
            entries += [
                Entry(f"decloud-{percent}", f"decloud, {says}", "benchmarks.bench.ours", job),
                Entry(f"bare-{percent}", f"bare network, {says}", "benchmarks.bench.bare", job),
            ]
        return entries

    def yardstick(self) -> str:
        """The bare network under full cover."""
        return "bare-100"

    def verdicts(self, tallies: Mapping[str, Tally]) -> Sequence[Verdict]:
        """At most 1.10 times the bare network at each cover; both ran the same tiles."""
        found = []
        for share in SHARES:
            ours, bare = tallies[f"decloud-{100 * share:.0f}"], tallies[f"bare-{100 * share:.0f}"]
            for word, which in (("medians", Tally.median), ("minima", Tally.least)):
                found.append(Verdict(f"work of {ours.label} / bare network, {word}", ratio(ours, bare, which), BOUND))
            found.append(Verdict(f"{ours.label}: tiles more or less than the bare network's", _apart(ours, bare), 0))
        return found


def _job(setup: Setup, dates: Dates) -> Job:
    options = {
        "source": str(dates.scene),
        "candidates": [str(path) for path in dates.others],
        "settings": {"max_generated": 1.0},
    }
    return Job({"item": str(dates.scene)}, "", "", threads=setup.threads, options=options)


def _apart(ours: Tally, bare: Tally) -> int | None:
    if ours.failed or bare.failed:
        return None
    counts: list[int] = [tally.runs[-1].facts["tiles_restored"] for tally in (ours, bare)]
    return abs(counts[0] - counts[1])
