"""What decoding alone costs: every band of a job read once from end to end, a process a band, as many at a time as there are threads.

Rows are read in stripes of 1024, the tiles of JPEG 2000, so that each tile is decoded once, and are thrown away.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import rasterio
from rasterio.windows import Window

from benchmarks.bench.job import Job

ROWS = 1024


def decode(path: str) -> int:
    """Read a band; returns its bytes."""
    total = 0
    with rasterio.Env(GDAL_NUM_THREADS="1"), rasterio.open(path) as file:
        for row in range(0, file.height, ROWS):
            total += file.read(1, window=Window(0, row, file.width, min(ROWS, file.height - row))).nbytes
    return total


def main(job: Job) -> None:
    """Run the job; the processes are started before the clock is."""
    with ProcessPoolExecutor(job.threads, mp_context=get_context("spawn")) as pool:
        list(pool.map(abs, range(job.threads * 4)))
        with job.timed() as facts:
            facts["bytes"] = sum(pool.map(decode, job.bands.values()))


if __name__ == "__main__":
    main(Job.load(sys.argv[1]))
