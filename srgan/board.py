"""What a training says while it runs: TensorBoard, and the same figures as JSON lines."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan.atomic import write_atomic
from srgan.dataset import Batch
from srgan.generator import GeneratorOutput

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

LOG = logging.getLogger(__name__)

BRIGHT = 0.3
"""Reflectance shown as white."""


class Board:
    """Writes scalars and image grids of a run below `folder`; what was written after `step` by a run that was killed is dropped."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        self._lines = folder / "log.jsonl"
        # A run that begins validates before its first step, and writes that anew.
        _keep_until(self._lines, step or -1)
        self._writer: SummaryWriter | None = None
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            LOG.warning("tensorboard is not installed: figures go to %s only", self._lines)
            return
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1, flush_secs=20)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write figures of one step."""
        with self._lines.open("a") as lines:
            lines.write(json.dumps({"step": step, **{name: _plain(value) for name, value in values.items()}}) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def pictures(self, step: int, shown: tuple[tuple[Batch, GeneratorOutput], ...]) -> None:
        """Write a row input | prediction | truth | structure | gradient | opacity for each sample."""
        if self._writer is not None and shown:
            self._writer.add_image("validation", torch.cat([picture(*entry) for entry in shown], 1), step)

    def close(self) -> None:
        """Finish the files."""
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def picture(batch: Batch, output: GeneratorOutput) -> Tensor:
    """One sample (batch of 1) as a strip (3, H, 6 W), 0..1: input, prediction, truth, structure, gradient, opacity."""
    known = batch.counts[0].expand(3, -1, -1)
    gradient = output.gradient[0].unflatten(0, (2, -1)).square().sum(0).sqrt()
    parts = (
        _natural(batch.cloudy[0]),
        _natural(output.restored[0]),
        _natural(batch.target[0]) * known,
        # SWIR, NIR and visible of the four groups.
        output.structure[0][[3, 2, 0]] / BRIGHT,
        gradient[[3, 2, 0]] / (BRIGHT / 5),
        output.opacity[0].expand(3, -1, -1),
    )
    strip = torch.cat([part.nan_to_num(0).clamp(0, 1) for part in parts], 2)
    return F.pad(strip, (0, 0, 0, 2), value=1.0)


def _natural(image: Tensor) -> Tensor:
    """Red, green, blue of (13, H, W), a root's stretch."""
    return (image[[3, 2, 1]] / BRIGHT).clamp(0, 1).sqrt()


def _plain(value: float) -> Any:
    """A number as JSON can hold it."""
    number = float(value)
    return number if number == number and abs(number) != float("inf") else None


def _keep_until(file: Path, step: int) -> None:
    """Drop the lines of steps after `step`, and a last line that was cut off."""
    if not file.is_file():
        return
    kept = []
    for line in file.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    write_atomic(file, "".join(f"{line}\n" for line in kept).encode())
