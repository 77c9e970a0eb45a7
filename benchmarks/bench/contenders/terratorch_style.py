"""Tiled inference as TerraTorch publishes it (`terratorch.tasks.tiled_inference`), written anew: TerraTorch itself needs torchvision.

Its method: the whole image in memory; chips of crop x crop at a stride, the last ones moved inside; batches of 16 chips; each answer
weighted by a window whose edges fall as a cosine over the overlap; sums of answers and of weights in memory, divided at the end.
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor

from benchmarks.bench.contenders.network import load
from benchmarks.bench.contenders.rasters import numbers, offsets, read_stack, write_stack
from benchmarks.bench.job import Job

BATCH = 16
"""Its default."""
FLOOR = 1e-6
"""Added to the window, so that every pixel has some weight."""


def window(crop: int, overlap: int) -> Tensor:
    """(crop, crop) weights: 1 inside, a cosine's half wave over the overlap on all sides."""
    side = torch.ones(crop)
    if overlap:
        fall = torch.cos(math.pi * torch.arange(1, overlap + 1) / (overlap + 1)) / 2 + 0.5
        side[-overlap:] = fall
        side[:overlap] = fall.flip(0)
    return side[:, None] * side[None, :] + FLOOR


def main(job: Job) -> None:
    """Run the job."""
    predict = load(job)
    with job.timed() as facts, torch.no_grad():
        image = torch.from_numpy(read_stack(job))
        height, width = image.shape[1:]
        step = job.tile - job.overlap
        weights = window(job.tile, job.overlap)
        chips = [
            (slice(row, row + job.tile), slice(col, col + job.tile))
            for row in offsets(height, job.tile, step)
            for col in offsets(width, job.tile, step)
        ]
        total = torch.zeros(len(job.bands), height, width)
        count = torch.zeros(height, width)
        for start in range(0, len(chips), BATCH):
            batch = chips[start : start + BATCH]
            answers = predict(torch.stack([image[:, rows, cols] for rows, cols in batch]))
            for (rows, cols), answer in zip(batch, answers, strict=True):
                total[:, rows, cols] += answer * weights
                count[rows, cols] += weights
        facts["files"] = write_stack(job, numbers((total / count).numpy()))


if __name__ == "__main__":
    main(Job.load(sys.argv[1]))
