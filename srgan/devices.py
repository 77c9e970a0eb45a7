"""Where a training runs: one device, or one of several processes that `torchrun` started.

Each process makes its own samples and has its own copy of the weights; gradients are averaged before every step, so all copies stay
equal. That is done on the whole gradient at once, after the backward pass: two networks share one forward pass here, which
DistributedDataParallel's hooks do not allow for, and a gradient of 50 million values costs a few milliseconds between GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from srgan.errors import InvalidSettings


@dataclass(frozen=True)
class Devices:
    """This process's place among those that train together."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process validates, saves and reports."""
        return self.rank == 0

    def average(self, gradients: Iterable[Tensor | None]) -> None:
        """Replace gradients by their mean over all processes, in place."""
        if self.world == 1:
            return
        present = [gradient for gradient in gradients if gradient is not None]
        flat = torch.cat([gradient.flatten() for gradient in present])
        distributed.all_reduce(flat)
        flat /= self.world
        start = 0
        for gradient in present:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def agree(self, *, flag: bool) -> bool:
        """True on every process where it is on any."""
        if self.world == 1:
            return flag
        said = torch.tensor(float(flag), device=self.device)
        distributed.all_reduce(said, op=distributed.ReduceOp.MAX)
        return bool(said > 0)

    def wait(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            distributed.barrier()


def pick(device: str) -> torch.device:
    """The torch device for `auto`, `cpu`, `cuda` or `cuda:N`. Raises InvalidSettings where it is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InvalidSettings(f"device {device!r}: give auto, cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InvalidSettings(f"device {device}: torch sees {torch.cuda.device_count()} CUDA devices; use cpu or auto")
    if chosen.type not in ("cpu", "cuda"):
        raise InvalidSettings(f"device {device!r}: give auto, cpu, cuda or cuda:N")
    return chosen


@contextmanager
def together(device: str = "auto") -> Iterator[Devices]:
    """The devices of this process; joins the others where `torchrun` started it (it sets WORLD_SIZE, RANK and LOCAL_RANK)."""
    chosen, world = pick(device), int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Devices(chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Devices(chosen, distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
