"""What anybody writes first: window by window, read, network, write; tiles do not overlap. With the identity it is a plain copy.

The option `finish` says what comes out: `cog` (windows go to a tiled GeoTIFF, which is then translated, as COGs cannot be written by
windows), `memory` (rasterio's own way: windows go to memory, a COG at close), `tiled` (a compressed GeoTIFF without overviews).
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import numpy as np
import rasterio

from benchmarks.bench.contenders.rasters import (
    COG,
    PACKED,
    TILED,
    convert,
    numbers,
    opened,
    profile_of,
    settings,
    target,
    temporary,
    windows,
)
from benchmarks.bench.job import Job

PROFILES = {"cog": TILED, "memory": COG, "tiled": PACKED}


def main(job: Job) -> None:
    """Run the job."""
    predict: Any = None
    if job.network:
        import torch

        from benchmarks.bench.contenders.network import load

        predict = load(job)
    finish = job.options["finish"]
    place = temporary if finish == "cog" else target
    with job.timed() as facts:
        profile = {**profile_of(job), **PROFILES[finish]}
        if finish == "tiled":
            profile["num_threads"] = job.threads
        with settings(job), opened(job) as sources, ExitStack() as stack:
            targets = [stack.enter_context(rasterio.open(place(job, name), "w", **profile)) for name in job.bands]
            for window in windows(profile["height"], profile["width"], job.tile):
                pixels = np.stack([source.read(1, window=window) for source in sources])
                if predict is not None:
                    pixels = pixels.astype(np.float32)
                    pixels[: len(targets)] /= 10000
                    with torch.inference_mode():
                        pixels = numbers(predict(torch.from_numpy(pixels)[None])[0].numpy())
                for band, out in zip(pixels, targets, strict=True):
                    out.write(band, 1, window=window)
        facts["files"] = convert(job) if finish == "cog" else {name: str(target(job, name)) for name in job.bands}


if __name__ == "__main__":
    main(Job.load(sys.argv[1]))
