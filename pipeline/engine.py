"""`decloud_scene`: one cloudy scene in, one published product out. Needs no Prefect and no network of its own.

    open > mask > references > plan > blocks (restored and staged) > stripes (assembled and written) > item > publish

A stripe of blocks is computed while the stripe before it is written. Whatever interrupts this, nothing is published:
staged blocks stay, and the next run with the same key goes on from them.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from catalogs.item import SceneItem
from pipeline.abandoned import remove_abandoned
from pipeline.allocator import give_back, keep_between_tiles
from pipeline.assembly import Assembler
from pipeline.budget import block_edge, decoded_room, exchange, tiles_abreast
from pipeline.checkpoints import IDENTITY, check_fits
from pipeline.clock import Clock
from pipeline.decoded import Decoded
from pipeline.folders import CACHE, STAGING
from pipeline.inference import Restorer, open_restorer
from pipeline.lock import locked
from pipeline.originals import Originals
from pipeline.output import Output, find_product, product_id
from pipeline.precision import check_precision, keep_apart
from pipeline.prepare import make_job, prepare, refuse_if_made_up
from pipeline.product import Product
from pipeline.progress import Progress, silent
from pipeline.runkey import run_key
from pipeline.scene import open_scene
from pipeline.settings import DecloudSettings, Resources
from pipeline.staging import Staging
from pipeline.stream import stream

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


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
    tidy: bool = True,
) -> Product:
    """Restore the clouds of one scene and publish the result below `output`.

    item: the scene, from `catalogs`. candidates: other dates of the same tile that may serve as references.
    area: EPSG:4326; with `settings.clip`, only clouds inside it are replaced.
    overwrite: do it again although the same product is there. tidy: remove what runs that never came back have left in `output`; who makes
    several scenes does that once, by `remove_abandoned`.

    Returns the product; its `unchanged` is True where the same run had published it before.
    Raises InvalidScene, InvalidSettings, SceneRefused (a retry will not help), ReadFailed, WriteFailed, ClusterFailed, DeviceFailed (it may), and
    srgan.errors.ModelError for a checkpoint that cannot be used. Nothing is published then.
    """
    settings, resources = settings or DecloudSettings(), resources or Resources()
    check_fits(settings)
    region = area.wkt if area is not None and settings.clip else None
    originals = Originals(
        item, candidates, settings, lambda: run_key(item, settings, candidates, region, cache=output / CACHE)
    )
    key = originals.key
    name = product_id(item, key)
    if not overwrite and (found := find_product(output, name)) is not None:
        return found
    staged = output / STAGING / name
    with locked(output / STAGING / f"{name}.lock"):
        # Whoever held the lock before may have just made it.
        if not overwrite and (found := find_product(output, name)) is not None:
            return found
        # What a killed run left of its files; its blocks are used again.
        shutil.rmtree(staged / "product", ignore_errors=True)
        clock = Clock(progress)
        with ExitStack() as stack:
            scene = stack.enter_context(open_scene(item, settings.bands))
            prepared = prepare(scene, settings, candidates, area, clock, resources.threads)
            stack.callback(prepared.close)
            refuse_if_made_up(prepared, settings)
            bands = tuple(band.name for band in scene.bands)
            network, dates = settings.checkpoint != IDENTITY, len(prepared.references)
            with clock.stage("load", told=True):
                abreast = tiles_abreast(scene, dates, settings.tile, resources, network=network)
                restorer = _restorer(settings.checkpoint, bands, resources, abreast, stack)
            job = make_job(prepared, settings, restorer.margin, restorer.grid)
            progress("plan", job.plan.count, job.plan.total)
            if settings.precision == "bf16":
                with clock.stage("precision", told=True):
                    check_precision(settings, restorer, job)
                    keep_apart(staged, restorer)
            needed = {"network": network, "tiles": job.plan.count > 0}
            edge = block_edge(scene, dates, settings.tile, resources, **needed)
            decoded = Decoded(decoded_room(scene, dates, settings.tile, edge, resources, **needed))
            out = Output(output, name, staged / "product", prepared, settings, key, restorer, resources)
            try:
                assembler = Assembler(job, prepared.mask, out.sink, out.preview, confidence=bool(restorer.groups))
                stream(
                    job,
                    edge,
                    Staging(staged / "blocks", originals.before),
                    restorer,
                    assembler,
                    clock,
                    decoded,
                    resources,
                )
                give_back()
                with clock.stage("encode"):
                    out.finish(clock.progress)
                originals.check()
            except BaseException:
                out.abort()
                originals.settle()
                raise
            product = out.publish(assembler.statistics, job.plan, clock, overwrite=overwrite)
        shutil.rmtree(staged, ignore_errors=True)
    if tidy:
        remove_abandoned(output)
    return product


def _restorer(
    checkpoint: str, bands: tuple[str, ...], resources: Resources, abreast: int, stack: ExitStack
) -> Restorer:
    """The network, in this process (`abreast` tiles at a time on a CPU) or on a cluster; `stack` closes it."""
    restorer: Restorer
    if resources.dask:
        from pipeline.cluster import connected
        from pipeline.cluster_restorer import ClusterRestorer

        # Shared with whoever is connected already: one cluster for all scenes of a run.
        cluster = stack.enter_context(connected(resources)).cluster()
        restorer = ClusterRestorer(cluster, checkpoint, bands, exchange(resources))
    else:
        if checkpoint != IDENTITY:
            keep_between_tiles()
        restorer = open_restorer(checkpoint, bands, resources.device, abreast)
    stack.callback(restorer.close)
    return restorer
