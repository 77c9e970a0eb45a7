"""`Port`: what differs between a GPU and a CPU for a pass: memory, streams, capturing. Everything else is `srgan.lane`, the same for both."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

Work = Callable[[], None]


class Port(Protocol):
    """A device, as a lane sees it."""

    slots: int
    """Passes in hand at a time."""

    def entered(self) -> AbstractContextManager[None]:
        """What a thread must be in to use the device."""
        ...

    def memory(self, shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
        """Memory of the host, zeros, that the device reads and writes by itself."""
        ...

    def double(self, host: Tensor) -> Tensor:
        """The place on the device of what is in `host`; the same memory where the device is the host."""
        ...

    def bring(self, host: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
        """Send `host` to its doubles `given`. The host's must stay as they are until the pass has been taken."""
        ...

    def compute(self, work: Work) -> None:
        """Run `work` on what was brought before."""
        ...

    def take(self, out: Tensor, back: Tensor) -> Work:
        """Fetch `out` to its place on the host, after what was computed before; returns what waits for it."""
        ...

    def capture(self, work: Work) -> Work:
        """`work`, ready to be run again and again in one go."""
        ...

    def room(self) -> int | None:
        """Bytes of the device that are free; None where its memory is planned elsewhere."""
        ...

    def weigh(self, work: Work) -> int:
        """Run `work` and say how many bytes of the device it took at its peak; 0 where that is planned elsewhere."""
        ...

    def forget(self) -> None:
        """Give memory that is no longer used back to the device."""
        ...


class Host:
    """A CPU: everything is where it is, and done at once by the thread that asks."""

    slots = 1

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Inference mode, which belongs to the thread."""
        with torch.inference_mode():
            yield

    def memory(self, shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
        """Ordinary memory."""
        return torch.zeros(shape, dtype=kind)

    def double(self, host: Tensor) -> Tensor:
        """The same."""
        return host

    def bring(self, host: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
        """It is there."""

    def compute(self, work: Work) -> None:
        """At once."""
        work()

    def take(self, out: Tensor, back: Tensor) -> Work:  # noqa: ARG002
        """It is there."""
        return lambda: None

    def capture(self, work: Work) -> Work:
        """Nothing would be saved."""
        return work

    def room(self) -> None:
        """Planned with the scene's memory."""

    def weigh(self, work: Work) -> int:
        """Planned with the scene's memory."""
        work()
        return 0

    def forget(self) -> None:
        """The allocator knows."""


class Cuda:
    """A GPU: three streams that bring, compute and take away, each after what the one before it has done for the same pass."""

    slots = 3

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._bringing, self._working, self._taking = (torch.cuda.Stream(device) for _ in range(3))
        # Passes run one after the other, so that their graphs can share what they need in between.
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Inference mode and the current device, which belong to the thread."""
        with torch.inference_mode(), torch.cuda.device(self._device):
            yield

    def memory(self, shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
        """Pinned memory."""
        return torch.zeros(shape, dtype=kind, pin_memory=True)

    def double(self, host: Tensor) -> Tensor:
        """Memory of the device."""
        made = torch.zeros_like(host, device=self._device)
        # Made on the current stream, and used on others from now on.
        torch.cuda.current_stream(self._device).synchronize()
        return made

    def bring(self, host: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
        """On the first stream."""
        with torch.cuda.stream(self._bringing):
            for name, tensor in host.items():
                given[name].copy_(tensor, non_blocking=True)

    def compute(self, work: Work) -> None:
        """On the second."""
        self._working.wait_stream(self._bringing)
        with torch.cuda.stream(self._working):
            work()

    def take(self, out: Tensor, back: Tensor) -> Work:
        """On the third."""
        self._taking.wait_stream(self._working)
        # Whoever waits sleeps: a core that spins is one less for decoding.
        taken = torch.cuda.Event(blocking=True)
        with torch.cuda.stream(self._taking):
            back.copy_(out, non_blocking=True)
            taken.record(self._taking)
        return taken.synchronize

    def capture(self, work: Work) -> Work:
        """As a CUDA graph. Raises RuntimeError where that cannot be."""
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        # What is forbidden meanwhile is so for this thread only: other devices' threads may ask for memory.
        with torch.cuda.graph(graph, self._pool, self._working, "thread_local"):
            work()
        return graph.replay

    def room(self) -> int:
        """As the driver says."""
        self.forget()
        return int(torch.cuda.mem_get_info(self._device)[0])

    def weigh(self, work: Work) -> int:
        """By torch's own count."""
        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        work()
        torch.cuda.synchronize(self._device)
        return int(torch.cuda.max_memory_allocated(self._device)) - before

    def forget(self) -> None:
        """What torch keeps for the next pass."""
        gc.collect()
        torch.cuda.empty_cache()
