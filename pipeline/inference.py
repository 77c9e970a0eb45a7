"""Running a network over tiles: `Restorer`, the seam between the engine and whatever fills the clouds.

Strategy. On a CPU a tile is one forward pass of batch 1 on one thread, and as many tiles run side by side as there are
workers: cores are used better than by threads inside a convolution, and a tile's result cannot depend on the number of
workers or on its neighbours in a batch. On CUDA tiles go in batches of a fixed size, the last one padded.
Results come back in the order of the tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.confidence import groups_of
from pipeline.errors import InvalidSettings
from srgan.spec import GROUPS

if TYPE_CHECKING:
    import torch

    from srgan.checkpoint import Checkpoint
    from srgan.exported import Exported


@dataclass(frozen=True)
class TileInput:
    """What the network sees of one tile; C is the number of selected bands, T of reference dates."""

    cloudy: npt.NDArray[np.float32]
    """(C, H, W) reflectance, 0 where not valid."""
    mask: npt.NDArray[np.float32]
    """(H, W) 0..1, 1 = cloud or shadow."""
    valid: npt.NDArray[np.bool_]
    """(H, W) True = observed in every selected band."""
    references: npt.NDArray[np.float32]
    """(T, C, H, W) reflectance of the other dates, harmonised; 0 where not valid."""
    reference_valid: npt.NDArray[np.bool_]
    """(T, H, W) True = clear in the other date."""
    days: tuple[float, ...]
    """T signed distances in days, negative = before the scene."""


class Restorer(Protocol):
    """Fills clouds, tile by tile."""

    name: str
    digest: str
    """sha256 of the weights; part of the run key."""
    margin: int
    """Pixels beyond which an input no longer moves the output; the default overlap is at least this."""
    grid: int
    """Pixels of the network's coarsest cell: tiles start at multiples of it."""
    groups: tuple[str, ...]
    """Band groups (`srgan.spec.GROUPS`) of which it knows the error to expect; none where it knows nothing of its errors."""

    def restore(self, tiles: Iterable[TileInput]) -> Iterator[npt.NDArray[np.float32]]:
        """Answer to each tile, in the order of `tiles`: (C + groups, H, W), restored reflectance and behind it the expected absolute
        error of each of `groups`, reflectance. May hold NaN or a negative error, which is then refused.
        """
        ...

    def close(self) -> None:
        """Free threads and device memory."""
        ...


class Identity:
    """A network that changes nothing: for tests and benchmarks of everything around the network."""

    name = "identity"
    digest = "identity"
    margin = 0
    grid = 1
    groups: tuple[str, ...] = ()

    def restore(self, tiles: Iterable[TileInput]) -> Iterator[npt.NDArray[np.float32]]:
        """Return every tile as it came."""
        for tile in tiles:
            yield tile.cloudy

    def close(self) -> None:
        """Nothing to free."""


class TorchRestorer:
    """The SRG-GAN generator of a checkpoint, or the same exported."""

    def __init__(
        self,
        model: Checkpoint | Exported,
        bands: tuple[str, ...],
        device: str = "cpu",
        workers: int = 1,
        batch: int = 4,
    ) -> None:
        """Prepare the generator for scenes of the given bands.

        bands: ESA names of the C channels of every tile.
        device: `cpu`, `cuda` or `cuda:N`, where an exported model must lie already; workers: tiles side by side on a CPU;
        batch: tiles a pass on CUDA (an exported model has its own number, on a CPU too).
        Raises srgan.errors.InvalidSpec for a band that the model does not know.
        """
        import torch

        from srgan.exported import Exported

        spec = model.spec
        spec.require_bands(bands)
        self.name, self.digest, self.margin, self.grid = model.name, model.digest, spec.margin, spec.grid
        self._device = torch.device(device)
        if self._device.type == "cuda":
            # fp32 means fp32: by default torch lets convolutions run with ten bits of mantissa.
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.groups = groups_of(bands)
        self._channels = [spec.bands.index(name) for name in bands]
        self._errors = [list(GROUPS).index(name) for name in self.groups]
        self._width = len(spec.bands)
        self._batch = batch if self._device.type == "cuda" else 1
        self._most = spec.max_references
        self._tile: int | None = None
        if isinstance(model, Exported):
            # Its shapes are fixed: the batch is filled up with a copy, the references with invalid ones.
            self._batch, self._most, self._tile = model.record.batch, model.record.references, model.record.tile
            self._network: Callable[..., Any] = model
        else:
            self._network = model.generator.to(self._device).eval()
        self._pool = ThreadPoolExecutor(
            workers if self._device.type == "cpu" else 1,
            thread_name_prefix="restore",
            initializer=_one_thread if self._device.type == "cpu" else None,
        )
        self._ahead = 2 * workers if self._device.type == "cpu" else 2

    def restore(self, tiles: Iterable[TileInput]) -> Iterator[npt.NDArray[np.float32]]:
        """Answer to each tile, (C + groups, H, W), in the order of `tiles`; see `Restorer`.

        Raises InvalidSettings for tiles or references that the model does not take.
        """
        source = iter(tiles)
        waiting: list[Future[list[npt.NDArray[np.float32]]]] = []
        while True:
            while len(waiting) < self._ahead and (group := list(islice(source, self._batch))):
                waiting.append(self._pool.submit(self._forward, group))
            if not waiting:
                return
            yield from waiting.pop(0).result()

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _forward(self, group: list[TileInput]) -> list[npt.NDArray[np.float32]]:
        import torch

        padded = group + [group[-1]] * (self._batch - len(group))
        # inference_mode belongs to the thread: it has to be entered here.
        with torch.inference_mode():
            said = self._network(*self._tensors(padded))
            out = torch.cat([said.restored[:, self._channels], said.uncertainty[:, self._errors]], 1)
        result: npt.NDArray[np.float32] = out.float().cpu().numpy()
        return list(result[: len(group)])

    def _tensors(self, group: list[TileInput]) -> tuple[torch.Tensor, ...]:
        """The generator's seven arguments, absent bands zero and flagged."""
        import torch

        first = group[0]
        count, given, (height, width) = len(group), len(first.days), first.mask.shape
        if given > self._most:
            raise InvalidSettings(
                f"--references {given}: {self.name} takes at most {self._most}: give --references {self._most}"
            )
        if self._tile is not None and (height, width) != (self._tile, self._tile):
            raise InvalidSettings(
                f"--tile {height}: {self.name} was exported for tiles of {self._tile} pixels: give --tile {self._tile}"
            )
        dates = given if self._tile is None else self._most
        cloudy = np.zeros((count, self._width, height, width), np.float32)
        references = np.zeros((count, dates, self._width, height, width), np.float32)
        for i, tile in enumerate(group):
            cloudy[i, self._channels] = tile.cloudy
            references[i, :given][:, self._channels] = tile.references
        present = np.zeros((count, self._width), np.float32)
        present[:, self._channels] = 1.0
        reference_valid = np.zeros((count, dates, 1, height, width), np.float32)
        days = np.zeros((count, dates), np.float32)
        for i, tile in enumerate(group):
            reference_valid[i, :given, 0], days[i, :given] = tile.reference_valid, tile.days
        arrays = (
            cloudy,
            present,
            np.stack([tile.mask for tile in group])[:, None],
            np.stack([tile.valid for tile in group])[:, None].astype(np.float32),
            references,
            reference_valid,
            days,
        )
        return tuple(torch.from_numpy(array).to(self._device) for array in arrays)


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


def pick_device(name: str) -> str:
    """The torch device for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises InvalidSettings where CUDA is asked for and not there.
    """
    if name == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda" if name == "auto" else name
    if name == "auto":
        return "cpu"
    raise InvalidSettings(f"--device {name}: this machine's torch sees no CUDA device; use --device cpu")


def open_restorer(checkpoint: str, bands: tuple[str, ...], device: str = "auto", workers: int = 1) -> Restorer:
    """The restorer called `checkpoint`: `identity`, `default`, or the path of a checkpoint or of an exported file.

    Raises srgan.errors.ModelError for a checkpoint that is missing, damaged or of other bands.
    """
    if checkpoint == "identity":
        return Identity()
    from srgan.archive import format_of
    from srgan.checkpoint import load_checkpoint
    from srgan.exported import load_exported

    chosen = pick_device(device)
    load = load_exported if format_of(checkpoint) else load_checkpoint
    return TorchRestorer(load(checkpoint, chosen), bands, chosen, workers)
