"""`decloud_scene`: one cloudy scene in, one published product out. Needs no Prefect and no network of its own.

    open > mask > references > plan > blocks (restored and staged) > stripes (assembled and written) > item > publish

A stripe of blocks is computed while the stripe before it is written. Whatever interrupts this, nothing is published:
staged blocks stay, and the next run with the same key goes on from them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from catalogs.item import SceneItem
from pipeline.assembly import Assembler
from pipeline.block import SceneJob, block_edges, compute_block
from pipeline.budget import IN_FLIGHT, block_edge
from pipeline.errors import WriteFailed
from pipeline.inference import Restorer, open_restorer
from pipeline.lock import locked
from pipeline.output import Output, find_product, product_id
from pipeline.prepare import make_job, prepare, refuse_if_made_up
from pipeline.product import Product
from pipeline.progress import Progress, silent
from pipeline.runkey import run_key
from pipeline.scene import open_scene
from pipeline.settings import DecloudSettings, Resources
from pipeline.staging import Staging

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

STAGING = ".staging"
CACHE = ".cache"


def decloud_scene(
    item: SceneItem,
    output: Path,
    settings: DecloudSettings | None = None,
    *,
    candidates: Sequence[SceneItem] = (),
    area: BaseGeometry | None = None,
    resources: Resources | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Product:
    """Restore the clouds of one scene and publish the result below `output`.

    item: the scene, from `catalogs`. candidates: other dates of the same tile that may serve as references.
    area: EPSG:4326; with `settings.clip`, only clouds inside it are replaced.
    overwrite: do it again although the same product is there.

    Returns the product; its `unchanged` is True where the same run had published it before.
    Raises InvalidScene, InvalidSettings, SceneRefused (a retry will not help), ReadFailed, WriteFailed (it may), and
    srgan.errors.ModelError for a checkpoint that cannot be used. Nothing is published then.
    """
    settings, resources = settings or DecloudSettings(), resources or Resources()
    region = area.wkt if area is not None and settings.clip else None
    key = run_key(item, settings, candidates, region, cache=output / CACHE)
    name = product_id(item, key)
    if not overwrite and (found := find_product(output, name)) is not None:
        return found
    staged = output / STAGING / name
    with locked(output / STAGING / f"{name}.lock"):
        clock = _Clock(progress)
        with ExitStack() as stack:
            scene = stack.enter_context(open_scene(item, settings.bands))
            with clock.stage("mask and references"):
                prepared = prepare(scene, settings, candidates, area)
            stack.callback(prepared.close)
            refuse_if_made_up(prepared, settings)
            bands = tuple(band.name for band in scene.bands)
            restorer = open_restorer(settings.checkpoint, bands, resources.device, resources.threads)
            stack.callback(restorer.close)
            job = make_job(prepared, settings, restorer.margin)
            edge = block_edge(scene, len(prepared.references), settings.tile, resources)
            out = Output(output, name, staged / "product", prepared, settings, key, restorer, resources)
            try:
                assembler = Assembler(job, prepared.mask, out.sink, out.preview)
                _stream(job, edge, Staging(staged / "blocks"), restorer, assembler, clock)
                with clock.stage("write"):
                    out.finish()
            except BaseException:
                out.abort()
                raise
            product = out.publish(assembler.statistics, job.plan, clock.seconds, overwrite=overwrite)
        shutil.rmtree(staged, ignore_errors=True)
    return product


def _stream(
    job: SceneJob, edge: int, staging: Staging, restorer: Restorer, assembler: Assembler, clock: _Clock
) -> None:
    """Compute the blocks of each stripe while the stripe before is assembled."""
    stripes = block_edges(job.scene.shape[0], edge, job.cell)
    columns = block_edges(job.scene.shape[1], edge, job.cell)
    busy = [[cols for cols in columns if job.target[rows, cols].any()] for rows in stripes]
    total, done = sum(map(len, busy)), 0
    waiting: Future[None] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="assemble") as writer:
        for rows, blocks in zip(stripes, busy, strict=True):
            with clock.stage("restore"):
                _compute(job, staging, restorer, rows, blocks)
            done += len(blocks)
            clock.progress("restore", done, max(total, 1))
            with clock.stage("write"):
                if waiting is not None:
                    waiting.result()
            waiting = writer.submit(_assemble, assembler, staging, rows, blocks)
        with clock.stage("write"):
            if waiting is not None:
                waiting.result()


def _compute(job: SceneJob, staging: Staging, restorer: Restorer, rows: slice, blocks: list[slice]) -> None:
    """Stage the blocks of a stripe that are not staged yet; one Dask task a block."""
    import dask

    def block(cols: slice) -> None:
        if staging.load(rows, cols) is None:
            staging.save(compute_block(job, rows, cols, restorer))

    # Two at a time: one block is read while the tiles of the other are in the network.
    dask.compute(
        *(dask.delayed(block, pure=False)(cols) for cols in blocks), scheduler="threads", num_workers=IN_FLIGHT
    )


def _assemble(assembler: Assembler, staging: Staging, rows: slice, blocks: list[slice]) -> None:
    results = []
    for cols in blocks:
        result = staging.load(rows, cols)
        if result is None:
            raise WriteFailed(f"{staging.path(rows, cols)}: staged block gone or damaged; check the disk and run again")
        results.append(result)
    assembler.add(rows, results)


@dataclass
class _Clock:
    """Wall time of each stage."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the wall time of the body to a stage, and tell whoever listens when it begins."""
        if name not in self.seconds:
            self.progress(name, 0, 1)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
