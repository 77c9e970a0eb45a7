"""What Prefect costs a scene: the flow against the engine alone, over the same simulated scenes, which are made anew each time.

    python benchmarks/prefect_cost.py --dates 8 --rounds 3

The scenes are tiny and need no network, so that what is around them shows. The server is the one that is configured, else one of its own,
started before anything is measured. Ends with status 1 where a scene costs more than --most seconds. On a busy machine both sides grow:
run it when nothing else runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from flows.embedded import prepare_environment
from flows.report import report_after
from flows.request import AreaRequest
from flows.run import run_directly
from pipeline.simulation.simulate import Simulated, SimulatedDate, simulate_area
from pipeline.simulation.weather import Weather


def made(folder: Path, dates: int) -> Simulated:
    """A small area, half of whose dates are cloudy."""
    skies = (Weather(cumulus=0.004, cell=300, base=600), Weather(cumulus=0.3, cell=400, base=500))
    return simulate_area(folder, size=192, dates=tuple(SimulatedDate(5 * n, skies[n % 2]) for n in range(dates)))


def seconds(area: Simulated, output: Path, *, prefect: bool, only: int | None = None) -> float:
    """Wall time of one run over all scenes (the first `only`) into a new folder."""
    request = AreaRequest(
        output=output, catalog=str(area.catalogue), aoi=area.aoi, dates=area.dates, only=area.items[:only],
        settings={"checkpoint": "identity", "tile": 64},
    )  # fmt: skip
    start = time.perf_counter()
    if prefect:
        from flows.decloud import run_flow

        summary = run_flow(request)
    else:
        summary = run_directly(request, quiet=True)
        # The flow writes the page of the folder, as the command line does after a run: it is no cost of Prefect's.
        report_after(output, quiet=True)
    taken = time.perf_counter() - start
    if summary.failed or {scene.state for scene in summary.scenes} != {"done"}:
        sys.exit(summary.headline)
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dates", type=int, default=8, help="scenes of a run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind; the median counts")
    parser.add_argument("--most", type=float, default=1.0, help="seconds a scene may cost above the engine alone")
    asked = parser.parse_args()
    prepare_environment(quiet=True)
    with tempfile.TemporaryDirectory(prefix="prefect-cost-") as name:
        folder = Path(name)
        area = made(folder / "area", asked.dates)
        # Imports, the server's start, the first flow run's table of workers: paid once, and not a scene's.
        seconds(area, folder / "warm-engine", prefect=False, only=1)
        seconds(area, folder / "warm-flow", prefect=True, only=1)
        alone, around = [], []
        for number in range(asked.rounds):
            alone.append(seconds(area, folder / f"engine-{number}", prefect=False))
            around.append(seconds(area, folder / f"flow-{number}", prefect=True))
    engine, flow = statistics.median(alone), statistics.median(around)
    cost = (flow - engine) / asked.dates
    print(
        f"{asked.dates} scenes, median of {asked.rounds}: engine {engine:.2f} s, flow {flow:.2f} s, load {os.getloadavg()[0]:.1f}"
    )
    print(f"Prefect costs {cost:.2f} s a scene, the flow's own second among it (at most {asked.most:.2f} s)")
    return 1 if cost > asked.most else 0


if __name__ == "__main__":
    sys.exit(main())
