"""`ScenePlan`: what a run would do to a scene, before it does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from catalogs.item import SceneItem
from pipeline.budget import block_edge, planned_memory, tiles_abreast
from pipeline.checkpoints import IDENTITY, check_fits, checkpoint_reach
from pipeline.clock import Clock
from pipeline.confidence import groups_of
from pipeline.cost import Cost, Work, cost_of
from pipeline.errors import InvalidScene, InvalidSettings, PipelineError, SceneRefused
from pipeline.output import products_of
from pipeline.pace import library_seconds, network_pace, slowness, source_pace
from pipeline.prepare import Prepared, make_job, prepare, refuse_if_made_up
from pipeline.refresh import Redo, kept_product
from pipeline.scene import Scene, open_scene
from pipeline.settings import BF16_OR_DASK, DecloudSettings, Resources
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
    cost: Cost = field(default_factory=Cost)
    """Bytes, memory, seconds."""
    block: int = 0
    """Edge of a block, pixels of the work grid."""
    reason: str = ""
    """Why it is invalid, or done although other dates have come."""

    @property
    def minutes(self) -> float:
        """Expected wall time on this machine."""
        return self.cost.wall / 60


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
    clock = Clock()
    prepared = prepare(scene, settings, candidates, area, clock, resources.threads)
    try:
        reason = ""
        try:
            refuse_if_made_up(prepared, settings)
        except PipelineError as error:
            reason = str(error)
        job = make_job(prepared, settings, *checkpoint_reach(settings.checkpoint))
        network, dates = settings.checkpoint != IDENTITY, len(prepared.references)
        # Before the budget, which may ask torch for GPUs: a run pays for that once.
        libraries = library_seconds() if network and job.plan.count else 0.0
        edge = block_edge(scene, dates, settings.tile, resources, network=network, tiles=job.plan.count > 0)
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
            # Nobody runs what is refused: how long it would take is not worth measuring.
            cost=Cost() if reason else _cost(prepared, job, settings, resources, edge, clock, libraries),
            block=edge,
            reason=reason,
        )
    finally:
        prepared.close()


def _cost(
    prepared: Prepared,
    job: SceneJob,
    settings: DecloudSettings,
    resources: Resources,
    edge: int,
    clock: Clock,
    libraries: float,
) -> Cost:
    scene, plan = prepared.scene, job.plan
    bands = tuple(band.name for band in scene.bands)
    work = Work(
        scene,
        len(prepared.references),
        plan.count,
        settings.tile,
        plan.count / plan.total,
        prepared.replaced,
        classes=(scene.shape, scene.shape, *_own_classes(scene)),
        confidence=settings.checkpoint != IDENTITY and bool(groups_of(bands)),
        overviews=settings.format == "cog",
    )
    abreast, network, shared = 1, None, True
    if plan.count and settings.checkpoint != IDENTITY:
        abreast = _tiles_at_once(scene, work.references, settings, resources)
        if settings.precision == "bf16" and resources.dask:
            raise InvalidSettings(BF16_OR_DASK)
        network = network_pace(
            settings.checkpoint, bands, work.references, settings.tile, resources.device, abreast,
            bf16=settings.precision == "bf16",
        )  # fmt: skip
        shared = not network.elsewhere and (not resources.dask or bool(resources.processes))
    memory = planned_memory(
        scene,
        work.references,
        settings.tile,
        edge,
        resources,
        network=settings.checkpoint != IDENTITY,
        tiles=plan.count > 0,
    )
    return cost_of(
        work, network, source_pace(scene), clock.seconds, memory,
        libraries=libraries, slowness=slowness(resources.threads), cores=resources.threads, abreast=abreast, shared=shared,
    )  # fmt: skip


def _own_classes(scene: Scene) -> list[tuple[int, int]]:
    """The shape of the source's own classification, which goes along."""
    return [] if scene.item.scl is None else [scene.reader.header(scene.item.scl.href).shape]


def _tiles_at_once(scene: Scene, references: int, settings: DecloudSettings, resources: Resources) -> int:
    """Tiles that are computed side by side, here or on a cluster, whose threads are asked for. Raises ClusterFailed."""
    if not resources.dask:
        return tiles_abreast(scene, references, settings.tile, resources)
    if resources.processes:
        return resources.processes
    from pipeline.cluster import connected

    with connected(resources) as session:
        return session.cluster().threads("cpu")
