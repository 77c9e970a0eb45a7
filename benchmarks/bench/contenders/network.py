"""The network that all contenders run: the identity, or our generator called as their users call theirs, tensor in, tensor out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.bench.job import Job

Predict = Callable[[Tensor], Tensor]
"""(B, C, H, W) reflectance, behind the bands the mask -> (B, bands, H, W) reflectance; float32."""


class Identity(nn.Module):
    """Gives the bands back."""

    def forward(self, stack: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        return stack


class Adapter(nn.Module):
    """The generator behind a plain signature: bands that are not there are zero, nothing is nodata, no other dates."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        from srgan.checkpoint import load_checkpoint

        self.generator = load_checkpoint(job.network).generator
        self.bands = self.generator.spec.bands
        self.channels = [self.bands.index(name) for name in job.bands]
        self.tile = job.tile

    def forward(self, stack: Tensor) -> Tensor:
        """(B, bands + 1, H, W), the mask last -> (B, bands, H, W); what is smaller than a tile is filled up by its last pixels."""
        rows, cols = stack.shape[-2:]
        stack = nn.functional.pad(stack, (0, max(0, self.tile - cols), 0, max(0, self.tile - rows)), mode="replicate")
        count, _, height, width = stack.shape
        cloudy = stack.new_zeros(count, len(self.bands), height, width)
        cloudy[:, self.channels] = stack[:, :-1]
        present = stack.new_zeros(count, len(self.bands))
        present[:, self.channels] = 1
        restored: Tensor = self.generator(
            cloudy,
            present,
            stack[:, -1:],
            stack.new_ones(count, 1, height, width),
            stack.new_zeros(count, 0, len(self.bands), height, width),
            stack.new_zeros(count, 0, 1, height, width),
            stack.new_zeros(count, 0),
        ).restored
        return restored[:, self.channels, :rows, :cols]


def load(job: Job) -> nn.Module:
    """The job's network, in evaluation mode; torch gets the job's threads."""
    torch.set_num_threads(job.threads)
    return (Adapter(job) if job.network else Identity()).eval()
