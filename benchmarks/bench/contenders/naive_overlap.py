"""The second attempt: overlapping tiles, their sums and counts in memory, the mean at the end."""

from __future__ import annotations

import sys

import numpy as np
import torch

from benchmarks.bench.contenders.network import load
from benchmarks.bench.contenders.rasters import numbers, offsets, read_stack, write_stack
from benchmarks.bench.job import Job


def main(job: Job) -> None:
    """Run the job."""
    predict = load(job)
    with job.timed() as facts, torch.inference_mode():
        stack = read_stack(job)
        height, width = stack.shape[1:]
        total = np.zeros((len(job.bands), height, width), np.float32)
        count = np.zeros((height, width), np.float32)
        step = job.tile - job.overlap
        for row in offsets(height, job.tile, step):
            for col in offsets(width, job.tile, step):
                at = (slice(row, row + job.tile), slice(col, col + job.tile))
                total[(slice(None), *at)] += predict(torch.from_numpy(stack[(slice(None), *at)])[None])[0].numpy()
                count[at] += 1
        facts["files"] = write_stack(job, numbers(total / count))


if __name__ == "__main__":
    main(Job.load(sys.argv[1]))
