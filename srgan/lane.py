"""`Lane`: one device at work. Passes are started one after the other; each one's answer is taken when its turn comes.

Strategy. On CUDA a pass has a slot of its own: pinned memory on the host, its double on the device, and memory for the answer on both sides. Three
streams bring, compute and take away, so that while one pass is computed the next one is on its way and the last one's answer is on its
way back; the host only waits when all slots are in use. Each slot's pass is captured as a CUDA graph, which saves the launch of some six hundred
small kernels, and compiled before where that is asked for; where torch can do either not, it goes on without and says so once.
On a CPU the same code runs a pass at once, in the thread that starts it: there is nothing to overlap, and compiling would move bits.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from subprocess import SubprocessError
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from srgan.feed import Feed, Tile

Network = Callable[[Feed, Mapping[str, Tensor]], Tensor]
Answers = npt.NDArray[np.float32]
SLOTS = 3
"""Passes in hand at a time on CUDA: one on its way there, one in the network, one on its way back."""

FAULTS = (
    RuntimeError, AssertionError, ImportError, OSError, SubprocessError, TypeError, ValueError, AttributeError, LookupError,
)  # fmt: skip
"""What torch's compiler raises where it, or the compiler or the headers that it needs, cannot do something."""
_log = logging.getLogger(__name__)


class Faster:
    """A network, compiled when it is first run; as it is where that cannot be done, which is said once."""

    def __init__(self, network: Network, compiler: Callable[[Network], Network]) -> None:
        self._plain, self._compiler = network, compiler
        self._compiled: Network | None = None
        self._given_up = False

    def __call__(self, feed: Feed, given: Mapping[str, Tensor]) -> Tensor:
        """As the network's own."""
        if not self._given_up:
            try:
                self._compiled = self._compiled or self._compiler(self._plain)
                return self._compiled(feed, given)
            except torch.OutOfMemoryError:
                raise
            except FAULTS as error:
                self._given_up = True
                _log.warning("network not compiled (%s): it runs as it is, more slowly", _line(error))
        return self._plain(feed, given)


class Flight:
    """A pass on its way."""

    def __init__(self, tiles: int, answers: Answers | None = None, slot: _Slot | None = None) -> None:
        self._tiles, self._answers, self._slot = tiles, answers, slot
        self._lock = threading.Lock()

    def result(self) -> Answers:
        """(tiles, C + groups, H, W), its own memory; waits for it. Raises RuntimeError where the device failed."""
        with self._lock:
            if self._answers is None:
                slot = self._slot
                assert slot is not None  # noqa: S101 (one or the other is there)
                slot.taken.synchronize()
                self._answers = slot.back[: self._tiles].numpy().copy()
                self._slot = None
            return self._answers


class _Slot:
    """Memory of a pass on CUDA."""

    def __init__(self, feed: Feed, device: torch.device) -> None:
        self.host = {
            name: torch.zeros(shape, dtype=kind, pin_memory=True) for name, (kind, shape) in feed.fields.items()
        }
        self.arrays = {name: tensor.numpy() for name, tensor in self.host.items()}
        self.given = {name: torch.zeros_like(tensor, device=device) for name, tensor in self.host.items()}
        self.out: Tensor | None = None
        self.graph: Any = None
        self.taken: Any = torch.cuda.Event(blocking=True)
        self.flight: Flight | None = None

    @property
    def back(self) -> Tensor:
        """The answer's pinned memory."""
        return self._back

    def expect(self, like: Tensor) -> None:
        """Make room for answers of the shape of `like`."""
        self.out = torch.empty_like(like)
        self._back = torch.empty(like.shape, dtype=like.dtype, pin_memory=True)


class Lane:
    """A device, or one of several threads on a CPU; used by one thread at a time."""

    def __init__(
        self,
        device: torch.device,
        network: Network,
        *,
        compiler: Callable[[Network], Network] | None = None,
        capture: bool = True,
    ) -> None:
        """A lane for a network that lies on `device`.

        compiler: makes it faster; none where left out. capture: whether CUDA graphs may be used.
        """
        self.device, self._plain, self._capture = device, network, capture
        self._network = network if compiler is None else Faster(network, compiler)
        self._cuda = device.type == "cuda"
        self._feed: Feed | None = None
        self._slots: list[_Slot] = []
        self._host: dict[str, npt.NDArray[Any]] = {}
        self._passes = count()
        if self._cuda:
            self._bringing, self._working, self._taking = (torch.cuda.Stream(device) for _ in range(3))
            # Passes run one after the other, so that their graphs can share what they need in between.
            self._pool = torch.cuda.graph_pool_handle()

    def start(self, feed: Feed, tiles: Sequence[Tile]) -> Flight:
        """Start a pass over at most `feed.batch` tiles.

        Raises torch.OutOfMemoryError where the device has no room for it, and what the network raises.
        """
        with self._entered():
            if feed != self._feed:
                self.clear()
                self._feed = feed
            return self._fly(feed, tiles) if self._cuda else self._run(feed, tiles)

    def clear(self) -> None:
        """Give back the memory that passes were given; answers that nobody has taken yet are kept."""
        for slot in self._slots:
            if slot.flight is not None:
                slot.flight.result()
        self._slots, self._host, self._feed = [], {}, None
        if self._cuda:
            gc.collect()
            torch.cuda.empty_cache()

    def room(self) -> int | None:
        """Bytes of the device that are free; None on a CPU, where memory is planned elsewhere."""
        return int(torch.cuda.mem_get_info(self.device)[0]) if self._cuda else None

    def weight(self, feed: Feed, tiles: Sequence[Tile]) -> int:
        """Bytes of the device that a pass takes at its peak, by making one, not compiled. CUDA only."""
        with self._entered():
            slot = _Slot(feed, self.device)
            feed.fill(slot.arrays, tiles)
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            self._plain(feed, {name: tensor.to(self.device) for name, tensor in slot.host.items()})
            return int(torch.cuda.max_memory_allocated(self.device)) - before

    @contextmanager
    def _entered(self) -> Iterator[None]:
        # Both belong to the thread.
        with torch.inference_mode():
            if self._cuda:
                with torch.cuda.device(self.device):
                    yield
            else:
                yield

    def _run(self, feed: Feed, tiles: Sequence[Tile]) -> Flight:
        if not self._host:
            self._host = {name: torch.zeros(shape, dtype=kind).numpy() for name, (kind, shape) in feed.fields.items()}
        feed.fill(self._host, tiles)
        answers = self._network(feed, {name: torch.from_numpy(array) for name, array in self._host.items()})
        return Flight(len(tiles), answers[: len(tiles)].cpu().numpy())

    def _fly(self, feed: Feed, tiles: Sequence[Tile]) -> Flight:
        if len(self._slots) < SLOTS:
            slot = _Slot(feed, self.device)
            feed.fill(slot.arrays, tiles)
            self._prepare(feed, slot)
            self._slots.append(slot)
        else:
            slot = self._slots[next(self._passes) % SLOTS]
            if slot.flight is not None:
                slot.flight.result()
            feed.fill(slot.arrays, tiles)
        assert slot.out is not None  # noqa: S101 (prepared)
        with torch.cuda.stream(self._bringing):
            for name, tensor in slot.host.items():
                slot.given[name].copy_(tensor, non_blocking=True)
        with torch.cuda.stream(self._working):
            self._working.wait_stream(self._bringing)
            if slot.graph is not None:
                slot.graph.replay()
            else:
                slot.out.copy_(self._network(feed, slot.given))
        with torch.cuda.stream(self._taking):
            self._taking.wait_stream(self._working)
            slot.back.copy_(slot.out, non_blocking=True)
            slot.taken.record(self._taking)
        slot.flight = Flight(len(tiles), slot=slot)
        return slot.flight

    def _prepare(self, feed: Feed, slot: _Slot) -> None:
        """Run the pass once, so that everything is compiled and chosen, then capture it."""
        with torch.cuda.stream(self._working):
            for name, tensor in slot.host.items():
                slot.given[name].copy_(tensor)
            slot.expect(self._network(feed, slot.given))
        torch.cuda.synchronize(self.device)
        if not self._capture:
            return
        graph = torch.cuda.CUDAGraph()
        try:
            # Of this thread only: other devices' threads may ask for memory meanwhile.
            with torch.cuda.graph(graph, self._pool, self._working, "thread_local"):
                assert slot.out is not None  # noqa: S101 (just made)
                slot.out.copy_(self._network(feed, slot.given))
        except torch.OutOfMemoryError:
            raise
        except FAULTS as error:
            self._capture = False
            _log.warning(
                "%s: passes not captured (%s): launched kernel by kernel, more slowly", self.device, _line(error)
            )
        else:
            slot.graph = graph


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
