"""`ClusterRestorer`: a network on a cluster, behind the same seam as one in this process.

Blocks ask it for their tiles and get the answers in order; it sends parts of a few neighbouring tiles, keeps a bounded number of
them on their way, and gathers each answer when its turn comes. Which worker does a part, and how tiles are put into parts, changes
no bit: a part goes through the very code that runs in one process. What can pass (a lost worker, weights that are not there yet)
is done again here or by the scheduler; the rest is the scene's error.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.budget import IN_FLIGHT
from pipeline.checkpoints import IDENTITY, checkpoint_paths
from pipeline.cluster_worker import GPU, PART, CheckpointLacking, restore_part
from pipeline.confidence import groups_of
from pipeline.errors import ClusterFailed
from pipeline.inference import Identity, TileInput
from pipeline.window import TileInputs
from srgan.archive import read_record
from srgan.card import card_spec, read_card

if TYPE_CHECKING:
    from distributed import Future

    from pipeline.cluster import Cluster
    from srgan.spec import ModelSpec

STEP = 2.0
"""Seconds after which whoever waits looks whether the cluster is still there."""
ASKED_AGAIN = 20
"""Times that a part may come back because its worker first needs the weights."""

Part = TileInputs | list[TileInput]
Answers = list[npt.NDArray[np.float32]]


@dataclass(frozen=True)
class _Model:
    """What this process needs to know of a network that it does not load."""

    name: str
    spec: ModelSpec | None
    batch: int

    @classmethod
    def of(cls, checkpoint: str) -> _Model:
        if checkpoint == IDENTITY:
            return cls(IDENTITY, None, 1)
        paths = checkpoint_paths(checkpoint)
        if len(paths) == 1:
            record = read_record(paths[0])
            return cls(paths[0].stem, record.spec, record.batch)
        return cls(paths[0].stem, card_spec(read_card(paths[0]), paths[0]), 1)


@dataclass(frozen=True)
class _Sent:
    """A part on its way."""

    part: Part
    at: float
    """`time.monotonic` when it was given away."""
    future: Future
    done: threading.Event
    """Set once there is a result, good or bad."""


class ClusterRestorer:
    """Fills clouds on a cluster; see `Restorer`."""

    def __init__(self, cluster: Cluster, checkpoint: str, bands: tuple[str, ...], exchange: int) -> None:
        """Prepare a network for scenes of the given bands.

        checkpoint: as for `open_restorer`. bands: ESA names of the tiles' channels. exchange: bytes that parts and answers may hold
        in this process while they are on their way. Raises InvalidSettings, ClusterFailed and srgan.errors.ModelError.
        """
        model = _Model.of(checkpoint)
        if model.spec is not None:
            model.spec.require_bands(bands)
        self._cluster, self._exchange = cluster, exchange
        self._recipe = cluster.recipe(checkpoint, bands)
        self.name, self.digest = model.name, self._recipe.digest
        self.margin, self.grid = (
            (Identity.margin, Identity.grid) if model.spec is None else (model.spec.margin, model.spec.grid)
        )
        self.groups = () if model.spec is None else groups_of(bands)
        # A batch that is only partly filled costs as much as a full one.
        self._least = model.batch if self._recipe.device == "cpu" else max(model.batch, PART)
        self._flying: set[Future] = set()
        self._lock = threading.Lock()

    def restore(self, tiles: Iterable[TileInput]) -> Iterator[npt.NDArray[np.float32]]:
        """Answer to each tile, in the order of `tiles`.

        Raises ClusterFailed where the cluster is lost or several workers died of the same tiles, and what the network raises.
        """
        threads = self._cluster.threads(self._recipe.device)
        parts = self._parts(tiles, threads)
        waiting: deque[_Sent] = deque()
        try:
            first = next(parts, None)
            if first is None:
                return
            ahead = self._ahead(first, threads)
            parts = chain([first], parts)
            while True:
                while len(waiting) < ahead and (part := next(parts, None)) is not None:
                    waiting.append(self._send(part))
                if not waiting:
                    return
                yield from self._answers(waiting.popleft())
        finally:
            for sent in waiting:
                self._drop(sent.future)

    def close(self) -> None:
        """Call back what is still on its way. The workers keep the network for the next scene."""
        with self._lock:
            flying, self._flying = self._flying, set()
        for future in flying:
            future.release()

    def _parts(self, tiles: Iterable[TileInput], threads: int) -> Iterator[Part]:
        if isinstance(tiles, TileInputs):
            # Small blocks in smaller parts, so that every worker gets some.
            share = -(-len(tiles.tiles) // (4 * threads))
            yield from tiles.parts(max(min(share, PART), self._least))
            return
        source = iter(tiles)
        while part := list(islice(source, max(PART, self._least))):
            yield part

    def _ahead(self, part: Part, threads: int) -> int:
        """Parts of a block on their way at a time: one for each worker and one in hand, as far as memory allows."""
        bytes_each = _bytes_of(part, len(self._recipe.bands) + len(self.groups))
        return max(min(threads + 1, self._exchange // IN_FLIGHT // max(bytes_each, 1)), 2)

    def _send(self, part: Part) -> _Sent:
        from distributed.comm.core import CommClosedError

        if not self._cluster.running:
            raise self._cluster.lost()
        resources = None if self._recipe.device == "cpu" else {GPU: 1}
        done, at = threading.Event(), time.monotonic()
        try:
            future = self._cluster.client.submit(restore_part, self._recipe, part, pure=False, resources=resources)
        except (CommClosedError, RuntimeError, OSError) as error:
            raise self._cluster.lost() from error
        future.add_done_callback(lambda _: done.set())
        with self._lock:
            self._flying.add(future)
        return _Sent(part, at, future, done)

    def _answers(self, sent: _Sent) -> Answers:
        for _ in range(ASKED_AGAIN):
            try:
                return self._result(sent)
            except CheckpointLacking as lacking:
                self._cluster.send_checkpoint(self._recipe, str(lacking), sent.at)
            sent = self._send(sent.part)
        self._drop(sent.future)
        raise ClusterFailed(
            f"--dask {self._cluster.name}: the workers do not keep the checkpoint {self.name} that they are sent"
        )

    def _result(self, sent: _Sent) -> Answers:
        """What a part came to, however long it takes. Raises as `restore` does, and CheckpointLacking."""
        import asyncio

        from distributed import CancelledError, KilledWorker
        from distributed.comm.core import CommClosedError

        try:
            while not sent.done.wait(STEP):
                self._cluster.check()
            answers: Answers = sent.future.result()
        except KilledWorker as error:
            raise ClusterFailed(
                f"--dask {self._cluster.name}: {error.allowed_failures + 1} workers died of the same tiles, the last one "
                f"{error.last_worker.address}: give them more memory, or look into their logs, and run again"
            ) from error
        except (CancelledError, asyncio.CancelledError, CommClosedError) as error:
            raise self._cluster.lost() from error
        except ImportError as error:
            raise ClusterFailed(
                f"--dask {self._cluster.name}: a worker cannot do its part ({error}): install declouder on every worker"
            ) from error
        finally:
            self._drop(sent.future)
        return answers

    def _drop(self, future: Future) -> None:
        """Let the scheduler forget a part, done or not."""
        with self._lock:
            self._flying.discard(future)
        future.release()


def _bytes_of(part: TileInputs | Sequence[TileInput], channels: int) -> int:
    """Bytes of a part and of its answers."""
    if isinstance(part, TileInputs):
        return part.window.nbytes + sum(4 * channels * tile.size**2 for tile in part.tiles)
    arrays = [(tile.cloudy, tile.mask, tile.valid, tile.references, tile.reference_valid) for tile in part]
    return sum(array.nbytes for array in chain(*arrays)) + sum(4 * channels * tile.mask.size for tile in part)
