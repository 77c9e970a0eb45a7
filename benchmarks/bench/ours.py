"""Our side of a benchmark: `decloud_scene`, in a process of its own that has imported what it uses before the clock starts."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from benchmarks.bench.job import Job
from catalogs.files import open_sources
from pipeline.engine import decloud_scene
from pipeline.settings import DecloudSettings, Resources, parse_bytes

USED = (
    "dask.base", "dask.delayed", "dask.threaded", "pipeline.cog", "pipeline.seams", "pipeline.shadows", "pyproj", "rasterio.shutil",
    "rio_cogeo.cogeo", "scipy.ndimage", "shapely", "torch", "srgan.checkpoint",
)  # fmt: skip
"""What a run imports when it comes to it. A contender's script has its imports at its top: both are start-up."""


def main(job: Job) -> None:
    """Run the job; options: `settings` (of DecloudSettings), `max_memory`, `source` (instead of the bands: a SAFE folder or an item)."""
    for name in USED:
        if name not in ("torch", "srgan.checkpoint") or job.options.get("settings", {}).get("checkpoint") != "identity":
            importlib.import_module(name)
    memory = parse_bytes(job.options.get("max_memory", "2GiB"))
    resources = Resources(max_memory=memory, workers=job.threads, device=job.options.get("device", "cpu"))
    settings = DecloudSettings(**job.options.get("settings", {}))
    before = set(sys.modules)
    with job.timed() as facts:
        sources = job.options.get("source")
        (item,) = open_sources([sources] if sources else list(job.bands.values()), settings.bands)
        product = decloud_scene(item, Path(job.output), settings, resources=resources)
        facts["files"] = {name: str(product.folder / f"{name}.tif") for name in item.bands}
        properties = product.item["properties"]
        facts["seconds"] = properties.get("declouder:seconds")
        facts["tiles"] = properties["declouder:settings"]["tiles"]
        facts["tiles_restored"] = properties["declouder:settings"]["tiles_restored"]
        facts["imported_late"] = len(set(sys.modules) - before)


if __name__ == "__main__":
    main(Job.load(sys.argv[1]))
