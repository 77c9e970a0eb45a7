"""`TorchRestorer`: the SRG-GAN generator of a checkpoint, or the same exported, on a CPU or on one or several GPUs.

Strategy. On a CPU a tile is one forward pass of batch 1 on one thread, and as many tiles run side by side as there are workers: cores are used
better than by threads inside a convolution, and a tile's result cannot depend on the number of workers or on its neighbours in a batch.
On CUDA tiles go in batches of a fixed size, the last one filled up, as 16-bit numbers that become reflectance on the device; see `srgan.lane`.
Answers come back in float32 and are blended by `pipeline.block`: a tile's answer may belong to four blocks, whose sums must not depend on how the
scene was cut. Its 1.6 MB, of four bands, are 60 microseconds of a bus of 25 GB/s, on a stream of their own beside the network.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from copy import deepcopy
from itertools import chain, islice
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from pipeline.batches import MOST, BatchSize, fitting
from pipeline.confidence import groups_of
from pipeline.errors import InvalidSettings
from pipeline.several import Several
from pipeline.turns import ON_A_CPU, ON_A_GPU, Turns

if TYPE_CHECKING:
    import torch

    from pipeline.precision import Precision as Checked
    from srgan.checkpoint import Checkpoint
    from srgan.exported import Exported
    from srgan.feed import Feed, Tile
    from srgan.lane import Lane, Network

    Model = Checkpoint | Exported

Precision = Literal["fp32", "bf16"]


class TorchRestorer:
    """Fills clouds with a network; see `pipeline.inference.Restorer`."""

    def __init__(
        self,
        model: Model | Sequence[Model],
        bands: tuple[str, ...],
        device: str = "cpu",
        workers: int = 1,
        batch: int | None = None,
        *,
        compiled: bool = False,
    ) -> None:
        """Prepare the generator for scenes of the given bands.

        model: where several exported ones, each lies on its device. bands: ESA names of the C channels of every tile.
        device: `cpu`, `cuda`, `cuda:N` or several, `cuda:0,cuda:1`, where an exported model must lie already; workers: tiles side by side
        on a CPU; batch: tiles a pass on CUDA, by the free memory where None (an exported model has its own number, on a CPU too).
        compiled: whether CUDA passes go through torch's compiler before they are captured. That takes minutes, a scene on a GPU seconds: it
        is for services that keep a restorer.
        Raises srgan.errors.InvalidSpec for a band that the model does not know.
        """
        import torch

        from srgan.exported import Exported

        devices = [torch.device(name) for name in device.split(",")]
        models = list(model) if isinstance(model, Sequence) else _on_each(model, devices)
        first, spec = models[0], models[0].spec
        spec.require_bands(bands)
        self.name, self.digest, self.margin, self.grid = first.name, first.digest, spec.margin, spec.grid
        self.groups = groups_of(bands)
        self.precision: Precision = "fp32"
        """That of the tiles that are asked for from now on: `bf16` is a trunk in bf16 with everything else in float32."""
        self.checked: Checked | None = None
        """How far bf16 was found to be from fp32, where it was asked for."""
        self._cuda = devices[0].type == "cuda"
        self._most = spec.max_references
        self._tile: int | None = None
        self._batch = BatchSize((batch or MOST) if self._cuda else 1)
        self._sized = not self._cuda or batch is not None
        if isinstance(first, Exported):
            # Its shapes are fixed: the batch is filled up with a copy, the references with invalid ones.
            self._most, self._tile, self._sized = first.record.references, first.record.tile, True
            self._batch = BatchSize(first.record.batch, fixed=True)
        if self._cuda:
            # fp32 means fp32: by default torch lets convolutions run with ten bits of mantissa.
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        lanes = [
            lane
            for one, place in zip(models, devices, strict=True)
            for lane in self._lanes_of(one, place, bands, workers, compiled=compiled)
        ]
        self.devices, self._lanes = devices, lanes
        self._measuring = threading.Lock()
        self._several = Several(
            lanes, self._batch, self._feed, expendable=self._cuda, initializer=None if self._cuda else _one_thread
        )
        self._turns = Turns(len(lanes) * (ON_A_GPU if self._cuda else ON_A_CPU))

    def restore(self, tiles: Iterable[Tile]) -> Iterator[npt.NDArray[np.float32]]:
        """Answer to each tile, (C + groups, H, W), in the order of `tiles`; see `Restorer`.

        Raises InvalidSettings for tiles or references that the model does not take, DeviceFailed where memory runs out or the last device fails.
        """
        source = self._source(tiles)
        waiting: deque[tuple[list[Tile], Future]] = deque()
        with self._turns.turn() as turn:
            more = True
            while True:
                while more and turn.take():
                    if more := bool(group := list(islice(source, self._batch.now))):
                        waiting.append((group, self._several.start(group)))
                    else:
                        turn.give_back()
                if not waiting:
                    return
                answers = self._several.answers(*waiting.popleft())
                turn.give_back()
                yield from answers

    def require_bf16(self) -> None:
        """Raise InvalidSettings where the devices or the network have no bf16."""
        from srgan.precision import lacks_bf16

        if self._tile is not None:
            raise InvalidSettings(f"--precision bf16: {self.name} computes as it was exported; leave --precision out")
        for device in self.devices:
            if lacking := lacks_bf16(device):
                raise InvalidSettings(
                    f"--precision bf16: {device} has no {lacking} and would take longer than in fp32: use --precision fp32"
                )

    def close(self) -> None:
        """Stop the threads, and give the devices' memory back."""
        self._several.close()

    def _source(self, tiles: Iterable[Tile]) -> Iterator[Tile]:
        source: Iterator[Tile] = self._raw(tiles) if self._cuda else iter(tiles)
        first = next(source, None)
        if first is None:
            return iter(())
        self._check(first)
        if not self._sized:
            self._measure(first)
        return chain([first], source)

    def _raw(self, tiles: Iterable[Tile]) -> Iterator[Tile]:
        """The tiles as they were read, where they come from a window."""
        if not hasattr(tiles, "window"):
            return iter(tiles)
        from pipeline.raw_tiles import can_be_raw, raw_tiles
        from pipeline.window import TileInputs

        return raw_tiles(tiles) if isinstance(tiles, TileInputs) and can_be_raw(tiles.window) else iter(tiles)

    def _check(self, tile: Tile) -> None:
        given, (height, width) = len(tile.days), tile.mask.shape
        if given > self._most:
            raise InvalidSettings(
                f"--references {given}: {self.name} takes at most {self._most}: give --references {self._most}"
            )
        if self._tile is not None and (height, width) != (self._tile, self._tile):
            raise InvalidSettings(
                f"--tile {height}: {self.name} was exported for tiles of {self._tile} pixels: give --tile {self._tile}"
            )

    def _measure(self, tile: Tile) -> None:
        """Choose the batch by what a pass of one tile takes, and what is free on every device."""
        import torch

        # One block measures, before any tile is under way: no lane is at work meanwhile.
        with self._measuring:
            if self._sized:
                return
            feed = self._feed(tile, 1)
            with self._several.lane() as lane:
                try:
                    taken = lane.weight(feed, [tile])
                except torch.OutOfMemoryError:
                    self._batch.now = 1
                    self._batch.halve(1, str(lane.device), tile.mask.shape[-1])
            # A batch is the same for all devices: the one with the least room decides, whichever was measured.
            rooms = [room for lane in self._lanes if (room := lane.room()) is not None]
            answer = (feed.bands + len(self.groups)) * feed.height * feed.width * 4
            if rooms:
                self._batch.now = fitting(taken, min(rooms), feed.nbytes + answer)
            self._sized = True

    def _feed(self, tile: Tile, batch: int) -> Feed:
        from srgan.feed import Feed

        dates = None if self._tile is None else self._most
        return Feed.of(tile, batch, dates, half=self.precision == "bf16")

    def _lanes_of(
        self, model: Model, device: torch.device, bands: tuple[str, ...], workers: int, *, compiled: bool
    ) -> list[Lane]:
        import torch

        from srgan.exported import Exported
        from srgan.lane import Lane
        from srgan.restoring import Restoring

        exported = isinstance(model, Exported)
        network = Restoring(model if isinstance(model, Exported) else model.generator, bands, self.groups)
        if device.type == "cpu":
            return [Lane(device, network) for _ in range(workers)]

        def compiler(plain: Network) -> Network:
            made: Network = torch.compile(plain, dynamic=False)
            return made

        return [Lane(device, network, compiler=compiler if compiled and not exported else None, capture=not exported)]


def _on_each(model: Model, devices: Sequence[torch.device]) -> list[Model]:
    """The model on each of the devices, with weights of its own."""
    from srgan.checkpoint import Checkpoint

    if not isinstance(model, Checkpoint):
        return [model]
    model.generator.to(devices[0]).eval()
    copies = [deepcopy(model.generator).to(device) for device in devices[1:]]
    return [model, *(Checkpoint(model.name, model.spec, each, model.digest, model.card) for each in copies)]


def _one_thread() -> None:
    """Keep this thread's convolutions on one core; the setting that other threads see is put back."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    if before != 1:
        _restore_global(before)


def _restore_global(count: int) -> None:
    """Set the process-wide default from a thread of its own: OpenMP's setting belongs to the calling thread."""
    import threading

    import torch

    thread = threading.Thread(target=torch.set_num_threads, args=(count,))
    thread.start()
    thread.join()
