"""`ScenePlan`: what a run would do to a scene, before it does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from catalogs.item import SceneItem
from pipeline.budget import block_edge, transfer_seconds
from pipeline.checkpoints import check_fits, checkpoint_reach
from pipeline.errors import InvalidScene, InvalidSettings, PipelineError, SceneRefused
from pipeline.output import products_of
from pipeline.pace import measured_seconds, network_seconds
from pipeline.prepare import make_job, prepare, refuse_if_made_up
from pipeline.refresh import Redo, kept_product
from pipeline.scene import Scene, open_scene
from pipeline.settings import DecloudSettings, Resources
from srgan.errors import ModelError

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from pipeline.block import SceneJob


@dataclass(frozen=True)
class ScenePlan:
    """One scene of a plan."""

    scene: str
    """Id of the source item."""
    when: datetime
    state: Literal["new", "done", "stale", "invalid"]
    """stale: there is a product of this scene, made with other inputs or parameters."""
    tiles: int = 0
    """Tiles that cover the scene."""
    needed: int = 0
    """Tiles that the network must see."""
    cloudy: float = 0.0
    """Share of the pixels with data that will be replaced, 0..1."""
    unsupported: float = 0.0
    """Share of the pixels with data that will be replaced without a clear other date, 0..1."""
    references: tuple[str, ...] = ()
    """Ids of the other dates, clearest first."""
    gigabytes: float = 0.0
    """Pixels to read and write, uncompressed, 10^9 bytes."""
    minutes: float = 0.0
    """Expected wall time on this machine."""
    block: int = 0
    """Edge of a block, pixels of the work grid."""
    reason: str = ""
    """Why it is invalid, or done although other dates have come."""


def plan_scene(
    item: SceneItem,
    output: Path,
    settings: DecloudSettings,
    *,
    candidates: Sequence[SceneItem] = (),
    area: BaseGeometry | None = None,
    resources: Resources | None = None,
    redo: Redo = "changed",
) -> ScenePlan:
    """Plan one scene; parameters as for `decloud_scene`, `redo` as for `kept_product`. Nothing is written but remembered checksums.

    A scene that cannot be processed has the state `invalid` and a reason. Raises ReadFailed where a retry may help.
    """
    resources = resources or Resources()
    try:
        check_fits(settings)
        kept = kept_product(item, output, settings, candidates=candidates, area=area, redo=redo)
        if kept is not None:
            return ScenePlan(item.id, item.datetime, "done", reason=kept.reason)
        with open_scene(item, settings.bands) as scene:
            return _planned(scene, output, settings, candidates, area, resources)
    except (InvalidScene, InvalidSettings, SceneRefused, ModelError) as error:
        return ScenePlan(item.id, item.datetime, "invalid", reason=str(error))


def _planned(
    scene: Scene,
    output: Path,
    settings: DecloudSettings,
    candidates: Sequence[SceneItem],
    area: BaseGeometry | None,
    resources: Resources,
) -> ScenePlan:
    prepared = prepare(scene, settings, candidates, area)
    try:
        reason = ""
        try:
            refuse_if_made_up(prepared, settings)
        except PipelineError as error:
            reason = str(error)
        job = make_job(prepared, settings, *checkpoint_reach(settings.checkpoint))
        pixels = [band.shape[0] * band.shape[1] for band in scene.bands] * (2 + len(prepared.references))
        seconds = transfer_seconds(pixels) + _network_seconds(settings, job, resources)
        state: Literal["new", "stale"] = "stale" if products_of(output, scene.id) else "new"
        return ScenePlan(
            scene.id,
            scene.item.datetime,
            "invalid" if reason else state,
            tiles=job.plan.total,
            needed=job.plan.count,
            cloudy=prepared.replaced,
            unsupported=prepared.unsupported,
            references=tuple(reference.scene.id for reference in prepared.references),
            gigabytes=sum(pixels) * 2 / 1e9,
            minutes=seconds / 60,
            block=block_edge(scene, len(prepared.references), settings.tile, resources),
            reason=reason,
        )
    finally:
        prepared.close()


def _network_seconds(settings: DecloudSettings, job: SceneJob, resources: Resources) -> float:
    if job.plan.count == 0:
        return 0.0
    bands = tuple(band.name for band in job.scene.bands)
    tile = measured_seconds(settings.checkpoint, bands, len(job.references), settings.tile, resources.device)
    return network_seconds(job.plan.count, tile, _tiles_at_once(resources), resources.device)


def _tiles_at_once(resources: Resources) -> int:
    """Tiles that are computed side by side, here or on a cluster, whose threads are asked for. Raises ClusterFailed."""
    if not resources.dask:
        return resources.threads
    if resources.processes:
        return resources.processes
    from pipeline.cluster import connected

    with connected(resources) as session:
        return session.cluster().threads("cpu")
