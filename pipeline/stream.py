"""A scene streamed: the blocks of a stripe are restored and staged while the stripe before is assembled and written."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from pipeline.block import SceneJob, block_edges, compute_block
from pipeline.budget import IN_FLIGHT
from pipeline.errors import WriteFailed
from pipeline.staging import Staging
from pipeline.tilestore import TileStore

if TYPE_CHECKING:
    from pipeline.assembly import Assembler
    from pipeline.clock import Clock
    from pipeline.inference import Restorer


def stream(job: SceneJob, edge: int, staging: Staging, restorer: Restorer, assembler: Assembler, clock: Clock) -> None:
    """Run all blocks of a scene, from top to bottom.

    edge: edge of a block, pixels of the work grid. Blocks that `staging` holds from an earlier run are not run again.
    Raises what reading, the network and the sink raise; staged blocks stay.
    """
    stripes = block_edges(job.scene.shape[0], edge, job.cell)
    columns = block_edges(job.scene.shape[1], edge, job.cell)
    busy = [[cols for cols in columns if job.target[rows, cols].any()] for rows in stripes]
    uses = Counter(
        tile
        for rows, blocks in zip(stripes, busy, strict=True)
        for cols in blocks
        for tile in job.plan.touching(rows, cols)
    )
    done = itertools.count(1)

    def count() -> None:
        clock.progress("restore", min(next(done), len(uses)), max(len(uses), 1))

    store = TileStore(staging.folder.with_name("tiles"), uses)
    waiting: Future[None] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="assemble") as writer:
        for rows, blocks in zip(stripes, busy, strict=True):
            with clock.stage("restore"):
                _compute(job, staging, store, restorer, rows, blocks, count)
            with clock.stage("write"):
                if waiting is not None:
                    waiting.result()
            waiting = writer.submit(_assemble, assembler, staging, rows, blocks)
        with clock.stage("write"):
            if waiting is not None:
                waiting.result()


def _compute(
    job: SceneJob,
    staging: Staging,
    store: TileStore,
    restorer: Restorer,
    rows: slice,
    blocks: list[slice],
    on_tile: Callable[[], None],
) -> None:
    """Stage the blocks of a stripe that are not staged yet; one Dask task a block."""
    from dask.base import compute
    from dask.delayed import delayed

    def block(cols: slice) -> None:
        if staging.load(rows, cols) is None:
            staging.save(compute_block(job, rows, cols, restorer, store, on_tile))

    # Two at a time: one block is read while the tiles of the other are in the network. The pool is our own, so that
    # blocks in flight are finished and staged before an error or ctrl-C goes on and closes what they use.
    with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="block") as pool:
        try:
            compute(*(delayed(block, pure=False)(cols) for cols in blocks), scheduler="threads", pool=pool)
        finally:
            pool.shutdown(cancel_futures=True)


def _assemble(assembler: Assembler, staging: Staging, rows: slice, blocks: list[slice]) -> None:
    results = []
    for cols in blocks:
        result = staging.load(rows, cols)
        if result is None:
            raise WriteFailed(f"{staging.path(rows, cols)}: staged block gone or damaged; check the disk and run again")
        results.append(result)
    assembler.add(rows, results)
