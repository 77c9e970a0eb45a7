"""A scene streamed: its blocks are read, restored, composed and staged, a few at a time, while the stripes before them are written.

    ahead      chunks of the files that the next blocks look at are decoded        as many threads as there are cores
    block      a block is made, or taken up where an earlier run staged it         `in_flight` threads, and the network's
    assemble   a stripe whose blocks are all there is written                      one thread, from top to bottom

Blocks are begun in the order in which they are written, at most a stripe before the one that is being written, so memory is bounded.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.assembly import preview_bands
from pipeline.block import BlockResult, SceneJob, block_edges, compute_block, copy_block
from pipeline.budget import in_flight
from pipeline.decoded import Chunk, Decoded
from pipeline.errors import PipelineError
from pipeline.staging import Staging
from pipeline.tilestore import TileStore
from pipeline.tiling import Tile
from pipeline.window import coarse, extent

if TYPE_CHECKING:
    from pipeline.assembly import Assembler
    from pipeline.clock import Clock
    from pipeline.inference import Restorer
    from pipeline.scene import Scene
    from pipeline.settings import Resources

_READERS = 8
"""Chunks decoded at a time, at most: each takes some ten times its own memory while it is JPEG 2000."""
_AHEAD = 2
"""Stripes between the one whose blocks are begun and the last one that must be written."""


@dataclass(frozen=True, eq=False)
class _Block:
    """One block of the scene, and the chunks of files that it looks at."""

    rows: slice
    cols: slice
    tiles: tuple[Tile, ...]
    """Empty where nothing is to be replaced."""
    chunks: tuple[tuple[Scene, Chunk], ...] = field(repr=False)

    @property
    def keys(self) -> Iterator[Chunk]:
        return (chunk for _, chunk in self.chunks)


def stream(
    job: SceneJob,
    edge: int,
    staging: Staging,
    restorer: Restorer,
    assembler: Assembler,
    clock: Clock,
    decoded: Decoded,
    resources: Resources,
) -> None:
    """Run all blocks of a scene, from top to bottom.

    edge: edge of a block, pixels of the work grid. decoded: where decoded chunks are kept while more than one block needs them.
    resources: how many blocks are made, and chunks decoded, at a time. Blocks that `staging` holds from an earlier run are not run again.
    Raises what reading, the network and the sink raise; staged blocks stay.
    """
    for scene in (job.scene, *(reference.scene for reference in job.references)):
        scene.reader.keep(decoded)
    stripes = [_stripe(job, rows, edge) for rows in block_edges(job.scene.shape[0], edge, job.cell)]
    for block in itertools.chain(*stripes):
        decoded.expect(block.keys)
    work = _Work(job, staging, restorer, assembler, clock, decoded, stripes)
    # Blocks end first: a stripe that waits for one that will not be begun any more is then told so.
    at_once, readers = in_flight(resources), min(resources.threads, _READERS)
    with _finishing(1, "write") as out, _finishing(readers, "ahead") as ahead, _finishing(at_once, "block") as blocks:
        written: list[Future[None]] = []
        for stripe in stripes:
            if len(written) >= _AHEAD:
                written[-_AHEAD].result()
            for block in stripe:
                if not staging.path(block.rows, block.cols).exists():
                    for scene, chunk in block.chunks:
                        ahead.submit(work.decode, scene, chunk)
            made = [blocks.submit(work.make, block) for block in stripe]
            written.append(out.submit(work.write, stripe, made))
        for future in written:
            future.result()


def _stripe(job: SceneJob, rows: slice, edge: int) -> list[_Block]:
    return [_block(job, rows, cols) for cols in block_edges(job.scene.shape[1], edge, job.cell)]


def _block(job: SceneJob, rows: slice, cols: slice) -> _Block:
    if not job.target[rows, cols].any():
        return _Block(rows, cols, (), tuple(_chunks(job.scene, job, rows, cols)))
    tiles = tuple(job.plan.touching(rows, cols))
    window = extent(job, rows, cols, tiles)
    scenes = (job.scene, *(reference.scene for reference in job.references))
    return _Block(rows, cols, tiles, tuple(chunk for scene in scenes for chunk in _chunks(scene, job, *window)))


def _chunks(scene: Scene, job: SceneJob, rows: slice, cols: slice) -> Iterator[tuple[Scene, Chunk]]:
    for band in job.scene.bands:
        own = scene.band(band.name)
        for chunk in scene.reader.chunks(own.href, own.index, coarse(rows, band), coarse(cols, band)):
            yield scene, chunk


class _Work:
    """What the threads do."""

    def __init__(
        self,
        job: SceneJob,
        staging: Staging,
        restorer: Restorer,
        assembler: Assembler,
        clock: Clock,
        decoded: Decoded,
        stripes: Sequence[Sequence[_Block]],
    ) -> None:
        self._job, self._staging, self._restorer, self._assembler = job, staging, restorer, assembler
        self._clock, self._decoded = clock, decoded
        # Blocks that an earlier run staged ask for no tile.
        todo = [block for stripe in stripes for block in stripe if not staging.path(block.rows, block.cols).exists()]
        uses = Counter(tile for block in todo for tile in block.tiles)
        self._tiles, self._stripes = len(uses), len(stripes)
        self._store = TileStore(staging.folder.with_name("tiles"), uses, staging.check)
        self._counted, self._written = itertools.count(1), itertools.count(1)
        self._shown = frozenset(preview_bands(job.scene.bands))
        if self._tiles:
            clock.progress("restore", 0, self._tiles)

    def decode(self, scene: Scene, chunk: Chunk) -> None:
        """Decode a chunk before it is asked for, where it can be kept."""
        if self._decoded.wanted(chunk):
            # Whoever needs the chunk reads it again and meets the error himself.
            with contextlib.suppress(PipelineError), self._clock.stage("read"):
                scene.reader.read_chunk(chunk)

    def make(self, block: _Block) -> BlockResult:
        """A block, made or taken up; it is staged when it has cost something."""
        try:
            if not block.tiles:
                with self._clock.stage("read"):
                    return copy_block(self._job, block.rows, block.cols, told=bool(self._restorer.groups))
            staged = self._staging.load(block.rows, block.cols)
            if staged is not None:
                return self._with_source(staged)
            made = compute_block(
                self._job, block.rows, block.cols, self._restorer, self._store, self._count, self._clock, self._shown
            )
            with self._clock.stage("stage"):
                self._staging.save(made)
            return made
        finally:
            self._decoded.done(block.keys)

    def write(self, stripe: Sequence[_Block], made: Sequence[Future[BlockResult]]) -> None:
        """Write a stripe as soon as its blocks are there."""
        results = [future.result() for future in made]
        with self._clock.stage("write"):
            self._assembler.add(stripe[0].rows, results)
        self._clock.progress("write", next(self._written), self._stripes)

    def _with_source(self, staged: BlockResult) -> BlockResult:
        with self._clock.stage("read"):
            for band in self._job.scene.bands:
                if band.name in self._shown:
                    window = coarse(staged.rows, band), coarse(staged.cols, band)
                    staged.before[band.name] = self._job.scene.read(band.name, *window)
        return staged

    def _count(self) -> None:
        self._clock.progress("restore", min(next(self._counted), self._tiles), max(self._tiles, 1))


@contextmanager
def _finishing(threads: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool that is done with what it has begun, and begins nothing more, before an error or ctrl-C goes on and closes what it uses."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
