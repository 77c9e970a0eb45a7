"""Our side of a benchmark: `decloud_scene`, in a process of its own that has imported what it uses before the clock starts."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench.job import Job
from catalogs.files import open_sources
from pipeline.engine import decloud_scene
from pipeline.product import Product
from pipeline.settings import DecloudSettings, Resources, parse_bytes

USED = (
    "PIL.Image", "PIL.PngImagePlugin", "pipeline.cog", "pipeline.preview", "pipeline.seams", "pipeline.shadows", "pyproj",
    "rasterio.shutil", "rio_cogeo.cogeo", "scipy.ndimage", "shapely",
)  # fmt: skip
"""What a run imports when it comes to it. A contender's script has its imports at its top: for both they are start-up."""
USED_BY_NETWORKS = ("torch", "srgan.checkpoint")


def open_job(job: Job) -> Callable[[], Product]:
    """What the job's run is, with everything imported.

    Options: `settings` (of DecloudSettings), `max_memory`, `device`, `source` (a SAFE folder or an item, instead of the bands),
    `candidates` (items of other dates).
    """
    options = job.options
    settings = DecloudSettings(**options.get("settings", {}))
    for name in (*USED, *(USED_BY_NETWORKS if settings.checkpoint != "identity" else ())):
        importlib.import_module(name)
    resources = Resources(
        max_memory=parse_bytes(options.get("max_memory", "2GiB")),
        workers=job.threads,
        device=options.get("device", "cpu"),
    )
    sources = [options["source"]] if "source" in options else list(job.bands.values())
    others = options.get("candidates", [])

    def run() -> Product:
        (item,) = open_sources(sources, settings.bands)
        candidates = open_sources(others) if others else []
        return decloud_scene(item, Path(job.output), settings, candidates=candidates, resources=resources)

    return run


def main(job: Job) -> None:
    """Run the job."""
    run, before = open_job(job), set(sys.modules)
    with job.timed() as facts:
        product = run()
        properties = product.item["properties"]
        facts["files"] = {path.stem: str(path) for path in sorted(product.folder.glob("*.tif"))}
        facts["seconds"] = properties.get("declouder:seconds")
        facts["tiles"] = properties["declouder:settings"]["tiles"]
        facts["tiles_restored"] = properties["declouder:settings"]["tiles_restored"]
        facts["imported_late"] = sorted(set(sys.modules) - before)


if __name__ == "__main__":
    main(Job.load(sys.argv[1]))
