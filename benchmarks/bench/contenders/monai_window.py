"""MONAI's `sliding_window_inference`, the whole image as one tensor, four windows a batch, blended by a Gaussian."""

from __future__ import annotations

import sys

import torch
from monai.inferers import sliding_window_inference  # type: ignore[import-not-found,unused-ignore]

from benchmarks.bench.contenders.network import load
from benchmarks.bench.contenders.rasters import numbers, read_stack, write_stack
from benchmarks.bench.job import Job

BATCH = 4
"""As in its tutorials."""


def main(job: Job) -> None:
    """Run the job."""
    predict = load(job)
    with job.timed() as facts, torch.inference_mode():
        image = torch.from_numpy(read_stack(job))[None]
        result = sliding_window_inference(
            image, (job.tile, job.tile), BATCH, predict, overlap=job.overlap / job.tile, mode="gaussian"
        )
        facts["files"] = write_stack(job, numbers(result[0].numpy()))


if __name__ == "__main__":
    main(Job.load(sys.argv[1]))
