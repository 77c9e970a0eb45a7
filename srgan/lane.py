"""`Lane`: one device at work. Passes are started one after the other; each one's answer is taken when its turn comes.

Strategy. A pass has a slot of its own: memory on the host, its double on the device, and memory for the answer on both sides. On CUDA there are three
(pinned), and three streams bring, compute and take away, so that while one pass is computed the next one is on its way and the last one's answer
on its way back; the host only waits when all slots are in use. Each slot's pass is captured as a CUDA graph, which saves the launch of some six
hundred small kernels, and compiled before where that is asked for; where torch can do either not, it goes on without and says so once. On a
CPU there is one slot, its own double, and a pass is run at once, in the thread that starts it: compiling would move bits. What
differs is `srgan.port`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from subprocess import SubprocessError

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from srgan.feed import Feed, Tile
from srgan.port import Cuda, Host, Port, Work

Network = Callable[[Feed, Mapping[str, Tensor]], Tensor]
Answers = npt.NDArray[np.float32]
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
                _log.warning("network not compiled (%s): it runs as it is, more slowly", in_one_line(error))
        return self._plain(feed, given)


class Flight:
    """A pass on its way."""

    def __init__(self, tiles: int, back: Tensor, wait: Work) -> None:
        self._tiles, self._back, self._wait = tiles, back, wait
        self._answers: Answers | None = None
        self._lock = threading.Lock()

    def result(self) -> Answers:
        """(tiles, C + groups, H, W), its own memory; waits for it. Raises RuntimeError where the device failed."""
        with self._lock:
            if self._answers is None:
                self._wait()
                self._answers = self._back[: self._tiles].numpy().copy()
            return self._answers


class _Slot:
    """Memory of a pass, on the host and on the device."""

    def __init__(self, feed: Feed, port: Port) -> None:
        self._port = port
        self.host = {name: port.memory(shape, kind) for name, (kind, shape) in feed.fields.items()}
        self.arrays = {name: tensor.numpy() for name, tensor in self.host.items()}
        self.given = {name: port.double(tensor) for name, tensor in self.host.items()}
        self.flight: Flight | None = None
        self.again: Work | None = None
        """The pass, captured."""
        self._answer: tuple[Tensor, Tensor] | None = None

    @property
    def answer(self) -> tuple[Tensor, Tensor]:
        """Where the answer is on the device, and on the host; there after the first pass."""
        assert self._answer is not None  # noqa: S101
        return self._answer

    def keep(self, answer: Tensor) -> None:
        """Put the network's answer into its place."""
        if self._answer is None:
            back = self._port.memory(tuple(answer.shape), answer.dtype)
            self._answer = (self._port.double(back), back)
        self._answer[0].copy_(answer)


class Lane:
    """A device, or one of several threads on a CPU; used by one thread at a time."""

    def __init__(
        self,
        device: torch.device,
        network: Network,
        *,
        compiler: Callable[[Network], Network] | None = None,
        capture: bool = True,
        port: Port | None = None,
    ) -> None:
        """A lane for a network that lies on `device`.

        compiler: makes it faster; none where left out. capture: whether passes may be captured. port: the device's own where left out.
        """
        self.device, self._plain, self._capture = device, network, capture
        self._network = network if compiler is None else Faster(network, compiler)
        self._port: Port = port or (Cuda(device) if device.type == "cuda" else Host())
        self._feed: Feed | None = None
        self._slots: list[_Slot] = []
        self._passes = 0

    def start(self, feed: Feed, tiles: Sequence[Tile]) -> Flight:
        """Start a pass over at most `feed.batch` tiles.

        Raises torch.OutOfMemoryError where the device has no room for it, and what the network raises.
        """
        with self._port.entered():
            if feed != self._feed:
                self.clear()
                self._feed = feed
            slot = self._slot(feed)
            feed.fill(slot.arrays, tiles)
            self._port.bring(slot.host, slot.given)
            self._port.compute(self._pass(feed, slot))
            slot.flight = Flight(len(tiles), slot.answer[1], self._port.take(*slot.answer))
            return slot.flight

    def clear(self) -> None:
        """Give back the memory that passes were given; answers that nobody has taken yet are kept."""
        for slot in self._slots:
            if slot.flight is not None:
                slot.flight.result()
        self._slots, self._feed, self._passes = [], None, 0
        self._port.forget()

    def room(self) -> int | None:
        """Bytes of the device that are free; None on a CPU, where memory is planned elsewhere."""
        with self._port.entered():
            return self._port.room()

    def weight(self, feed: Feed, tiles: Sequence[Tile]) -> int:
        """Bytes of the device that a pass takes at its peak, by making one, not compiled; 0 on a CPU."""
        with self._port.entered():
            slot = _Slot(feed, self._port)
            feed.fill(slot.arrays, tiles)

            def work() -> None:
                self._port.bring(slot.host, slot.given)
                self._port.compute(lambda: slot.keep(self._plain(feed, slot.given)))

            return self._port.weigh(work)

    def _slot(self, feed: Feed) -> _Slot:
        """Memory that nobody uses any more: answers that were on their way to it are kept."""
        number = self._passes % self._port.slots
        self._passes += 1
        if number == len(self._slots):
            self._slots.append(_Slot(feed, self._port))
        slot = self._slots[number]
        if slot.flight is not None:
            slot.flight.result()
        return slot

    def _pass(self, feed: Feed, slot: _Slot) -> Work:
        """The pass in a slot. The first one chooses kernels and finds out what the answer looks like; the second one is captured."""

        def work() -> None:
            slot.keep(self._network(feed, slot.given))

        if slot.again is not None:
            return slot.again
        if slot.flight is None or not self._capture:
            return work
        try:
            slot.again = self._port.capture(work)
        except torch.OutOfMemoryError:
            raise
        except FAULTS as error:
            self._capture = False
            _log.warning(
                "%s: passes not captured (%s): launched kernel by kernel, more slowly", self.device, in_one_line(error)
            )
            return work
        return slot.again


def in_one_line(error: BaseException) -> str:
    """The start of what an error says, or its name where it says nothing."""
    return " ".join(str(error).split())[:160] or type(error).__name__
