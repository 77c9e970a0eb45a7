"""How much faster two worker processes are than one: `--dask local:1` against `local:2` on one real scene, interleaved.

    python benchmarks/dask_speed.py --data ../shared/data --work /tmp/dask_speed [--rounds 3] [--dask local:1 local:2]

Each round makes the same product once with each cluster, and once in this process with one thread, in turns, so that whatever
else the machine does falls on all alike. Clusters are started beforehand and have done a scene: what is timed is a scene of a longer
run. Printed: the median wall time of the scene and of its `restore` stage, both against the first cluster, what starting the
processes cost, the peak resident memory of all processes together, and whether all products are the same, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

from catalogs.aoi import parse_aoi
from catalogs.dates import parse_dates
from catalogs.search import Query, search
from pipeline.engine import decloud_scene
from pipeline.runner import one_cluster
from pipeline.settings import DecloudSettings, Resources, parse_bytes


def digest_of(folder: Path) -> str:
    """sha256 over the raster files of a product."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.tif")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


class Peak:
    """Most resident memory of this process and its children, sampled."""

    def __init__(self) -> None:
        self.bytes = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._end.wait(0.2):
            total = 0
            for one in (process, *process.children(recursive=True)):
                try:
                    total += one.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.bytes = max(self.bytes, total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dask", nargs="+", default=["local:1", "local:2"])
    parser.add_argument("--checkpoint", default="default")
    parser.add_argument("--max-memory", default="4GiB")
    parser.add_argument("--scene", default="S2A_33TWL_20230818_0_L2A")
    arguments = parser.parse_args()
    start, end = parse_dates("2023-08-01/2023-08-31")
    catalog = str(arguments.data / "stac/earth-search/catalog.json")
    items = list(search(Query(parse_aoi("15.2,45.2,16.2,45.9"), start, end), catalog))
    (item,) = (item for item in items if item.id == arguments.scene)
    settings = DecloudSettings(checkpoint=arguments.checkpoint)
    memory = parse_bytes(arguments.max_memory)
    setups = {"in process": Resources(memory, 1, "cpu")}
    setups |= {name: Resources(memory, 1, "cpu", dask=name) for name in arguments.dask}
    walls: dict[str, list[float]] = {name: [] for name in setups}
    restores: dict[str, list[float]] = {name: [] for name in setups}
    digests, tiles = set(), 0

    def once(name: str) -> tuple[float, float]:
        nonlocal tiles
        folder = arguments.work / "out"
        shutil.rmtree(folder, ignore_errors=True)
        begun = time.perf_counter()
        product = decloud_scene(item, folder, settings, candidates=items, resources=setups[name])
        wall = time.perf_counter() - begun
        digests.add(digest_of(product.folder))
        properties = product.item["properties"]
        tiles = properties["declouder:settings"]["tiles_restored"]
        return wall, properties["declouder:seconds"]["restore"]

    with ExitStack() as stack, Peak() as peak:
        for name in arguments.dask:
            stack.enter_context(one_cluster(setups[name]))
        cold = {name: once(name)[0] for name in setups}
        for number in range(arguments.rounds):
            for name in setups if number % 2 == 0 else reversed(setups):
                wall, restore = once(name)
                walls[name].append(wall)
                restores[name].append(restore)
                load = os.getloadavg()[0]
                print(
                    f"round {number + 1}  {name:<12} wall {wall:6.1f} s  restore {restore:6.1f} s  load {load:.1f}",
                    flush=True,
                )
    base = arguments.dask[0]
    print(
        json.dumps(
            {
                "scene": item.id,
                "tiles": tiles,
                "cores": len(os.sched_getaffinity(0)),
                "peak_gib": round(peak.bytes / 2**30, 2),
            }
        )
    )
    for name in setups:
        wall, restore = statistics.median(walls[name]), statistics.median(restores[name])
        print(
            f"{name:<12} wall {wall:6.1f} s ({statistics.median(walls[base]) / wall:.2f} x {base})  "
            f"restore {restore:6.1f} s ({statistics.median(restores[base]) / restore:.2f} x)  first scene {cold[name]:.1f} s"
        )
    print("all products the same, byte for byte" if len(digests) == 1 else f"DIFFERENT products: {sorted(digests)}")


if __name__ == "__main__":
    main()
