"""Running a network over tiles: `Restorer`, the seam between the engine and whatever fills the clouds.

Results come back in the order of the tiles. See `pipeline.device_restorer` for a network in this process, on a CPU or on GPUs, and
`pipeline.cluster_restorer` for one on a cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.device_restorer import TorchRestorer as TorchRestorer
from pipeline.devices import pick_device as pick_device
from srgan.tile import TileInput as TileInput


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


def open_restorer(
    checkpoint: str, bands: tuple[str, ...], device: str = "auto", workers: int = 1, batch: int | None = None
) -> Restorer:
    """The restorer called `checkpoint`: `identity`, `default`, or the path of a checkpoint or of an exported file.

    device: as `pick_device` takes it. workers: tiles side by side on a CPU. batch: tiles a pass on a GPU, by its memory where None. Raises InvalidSettings for a device that is not there,
    srgan.errors.ModelError for a checkpoint that is missing, damaged or of other bands.
    """
    if checkpoint == "identity":
        return Identity()
    from srgan.archive import format_of
    from srgan.checkpoint import load_checkpoint
    from srgan.exported import load_exported

    chosen = pick_device(device)
    if format_of(checkpoint):
        exported = [load_exported(checkpoint, one) for one in chosen.split(",")]
        return TorchRestorer(exported, bands, chosen, workers)
    return TorchRestorer(load_checkpoint(checkpoint, chosen.split(",")[0]), bands, chosen, workers, batch)
