"""Batches in the order of the steps, made ahead by processes of their own, with the time that was spent waiting for them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from srgan.dataset import Batch, SampleMaker
from srgan.errors import ModelError


class Steps(Dataset[Batch | ModelError]):
    """The batch of each step; a step's batch does not depend on which process makes it."""

    def __init__(self, maker: SampleMaker, synthetic: int, real: int, first: int) -> None:
        self.maker, self.synthetic, self.real, self.first = maker, synthetic, real, first

    def __getitem__(self, step: int) -> Batch | ModelError:
        """Make the batch of `step`. What is wrong is handed over: raised in a process of its own it would arrive as a traceback."""
        try:
            return self.maker.batch(step, self.synthetic, self.real, self.first)
        except ModelError as error:
            return error


class Loader:
    """Yields batches for the steps `first_step` up to `last_step`, on `device`.

    workers: processes that make batches ahead; 0 makes each when it is asked for. `waited` is the time in seconds for which the
    last batch was waited for. Raises what a sample's chips raise, InvalidStore.
    """

    def __init__(self, steps: Steps, first_step: int, last_step: int, device: torch.device, workers: int) -> None:
        self.device, self.waited = device, 0.0
        self._loader = DataLoader(
            steps,
            batch_size=None,
            sampler=range(first_step, last_step),
            num_workers=workers,
            prefetch_factor=2 if workers else None,
            worker_init_fn=_one_thread if workers else None,
            pin_memory=device.type == "cuda",
            collate_fn=_as_it_is,
            # What a batch holds is drawn from (seed, step) alone: torch's global state is left as it is.
            generator=torch.Generator(),
        )

    def __iter__(self) -> Iterator[Batch]:
        source = iter(self._loader)
        while True:
            started = time.perf_counter()
            try:
                batch = next(source)
            except StopIteration:
                return
            if isinstance(batch, ModelError):
                raise batch
            # Pinned batches come back as plain tuples.
            batch = Batch(*batch).to(self.device)
            self.waited = time.perf_counter() - started
            yield batch


def spare_processes() -> int:
    """Processes that can make batches while this one feeds a GPU: the cores it may use, shared with the others of this machine, but one.

    At most 12: each keeps two batches in memory, of 250 MB where they are of 16 samples of 256 x 256 pixels.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1, 1), 12)


def _as_it_is(batch: Any) -> Any:
    return batch


def _one_thread(_: int) -> None:
    """A worker keeps to one core, and leaves ctrl-C to the process that it works for."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
