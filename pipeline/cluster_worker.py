"""What runs on the workers of a cluster: parts of a block go through a network that each worker process loads once.

A task carries the pixels of a few tiles and a `Recipe`, never weights. The worker finds the checkpoint by its digest: at the same
path as here (a shared disk, or the packaged one), else among those it was sent, else it asks for it. So weights travel at most
once to each worker process: sent along with every task, they cost three to four times the network's own time.
"""

from __future__ import annotations

import hashlib
import signal
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from distributed import WorkerPlugin, get_worker

from pipeline.allocator import keep_between_tiles
from pipeline.checkpoints import IDENTITY, checkpoint_digest
from pipeline.errors import DeviceFailed, InvalidSettings, WriteFailed
from pipeline.inference import Restorer, TileInput, open_restorer

GPU = "GPU"
"""Resource that workers with a GPU offer: `dask worker --resources GPU=1`."""
PART = 4
"""Tiles of a part at most where the network does not ask for more: a second or two of a core's work, and a GPU's pass."""
_KEPT = 2
"""Networks that a process holds at most."""
_restorers: OrderedDict[Recipe, Restorer] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class Software:
    """What decides which bits a network gives."""

    declouder: str
    """Version, and a digest of the code: two checkouts of one version are not the same."""
    torch: str
    """Version without the build: `2.13.0`, for a CPU or for CUDA."""
    numpy: str

    def __str__(self) -> str:
        return f"declouder {self.declouder}, torch {self.torch}, numpy {self.numpy}"


@dataclass(frozen=True)
class Recipe:
    """A network as a worker is asked for it."""

    checkpoint: str
    """Name, or absolute path of the file, where it lies on the machine that asks."""
    digest: str
    """That of `checkpoint_digest`."""
    bands: tuple[str, ...]
    """ESA names of the tiles' bands."""
    device: str
    """`cpu`, `cuda` or `cuda:N`."""
    software: Software | None = None
    """What the machine that asks runs; None where the worker is known to run the same."""


class CheckpointLacking(Exception):
    """A worker has no checkpoint of this digest; holds the worker's address."""


class WorkerDiffers(InvalidSettings):
    """A worker runs other software: its bits would be others."""


class IgnoreInterrupts(WorkerPlugin):
    """Ctrl-C on a terminal reaches every process of a run: the client decides, and the workers finish what they are at."""

    name = "declouder-ignore-interrupts"

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        """Run in the worker's main thread, after each start."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@lru_cache(maxsize=1)
def software() -> Software:
    """What this process runs."""
    code = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for package in ("pipeline", "srgan"):
        for path in sorted((root / package).glob("*.py")):
            code.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    versions = [metadata.version(name).partition("+")[0] for name in ("declouder", "torch", "numpy")]
    return Software(f"{versions[0]} ({code.hexdigest()[:8]})", *versions[1:])


def restore_part(recipe: Recipe, part: Iterable[TileInput]) -> list[npt.NDArray[np.float32]]:
    """The network's answers to the tiles of a part, in their order; see `Restorer`.

    Raises CheckpointLacking where the weights must be sent first, WorkerDiffers where this worker would give other bits, and what
    the network raises.
    """
    restorer = _restorer(recipe)
    try:
        # The network's own threads enter torch.inference_mode: it belongs to the thread.
        return list(restorer.restore(part))
    except DeviceFailed:
        _forget(recipe, restorer)
        raise


def keep_checkpoint(digest: str, files: Mapping[str, bytes], dask_worker: Any = None) -> None:
    """Keep the files of a checkpoint (name -> content) with the worker. Raises WriteFailed."""
    folder = _folder(dask_worker, digest)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            beside = folder / f"{Path(name).name}.tmp"
            beside.write_bytes(content)
            beside.replace(folder / Path(name).name)
    except OSError as error:
        raise WriteFailed(
            f"{dask_worker.address}: checkpoint not kept in {folder} ({error.strerror or error}); free space there and run again"
        ) from error


def _restorer(recipe: Recipe) -> Restorer:
    # One at a time: the first tasks of a worker with many threads would else all load it.
    with _lock:
        if recipe not in _restorers:
            _restorers[recipe] = _opened(recipe)
            # Those put aside may be at work in another thread: they go with their last task.
            while len(_restorers) > _KEPT:
                _restorers.popitem(last=False)
        _restorers.move_to_end(recipe)
        return _restorers[recipe]


def _forget(recipe: Recipe, failed: Restorer) -> None:
    """Keep a network no longer whose devices are lost: the next task opens it anew, unless another has done so."""
    with _lock:
        if _restorers.get(recipe) is failed:
            del _restorers[recipe]


def _opened(recipe: Recipe) -> Restorer:
    keep_between_tiles()
    worker = get_worker()
    if recipe.software is not None and recipe.software != software():
        raise WorkerDiffers(differs(worker.address, str(software()), str(recipe.software)))
    device = _device(recipe, worker.name)
    return open_restorer(_found(recipe, worker), recipe.bands, device, worker.state.nthreads, PART)


def differs(address: str, own: str | None, asked: str) -> str:
    """What to tell of a worker at `address` that runs `own` where `asked` is run here."""
    has = f"runs {own}" if own is not None else "has no declouder, or one that knows no clusters"
    return f"--dask: worker {address} {has}; here it is {asked}: install the same on both, or the bits would differ"


def _found(recipe: Recipe, worker: Any) -> str:
    if recipe.digest == IDENTITY:
        return IDENTITY
    sent = sorted(path for path in _folder(worker, recipe.digest).glob("*") if path.suffix not in (".json", ".tmp"))
    for candidate in (recipe.checkpoint, *map(str, sent)):
        try:
            if checkpoint_digest(candidate) == recipe.digest:
                return candidate
        except InvalidSettings:
            continue
    raise CheckpointLacking(worker.address)


def _device(recipe: Recipe, name: Any) -> str:
    """Worker processes of one machine, which are numbered, share its GPUs out among them."""
    if recipe.device == "cuda" and isinstance(name, int):
        import torch

        return f"cuda:{name % max(torch.cuda.device_count(), 1)}"
    return recipe.device


def _folder(worker: Any, digest: str) -> Path:
    return Path(worker.local_directory) / "checkpoints" / digest[:16]
