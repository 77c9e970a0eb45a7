"""Running the scenes of a request one after another, with or without Prefect around each.

`SceneWork` is all that one scene needs, small enough to be handed to a task; `decloud_one` is what a task does with it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import shapely

from catalogs.errors import CatalogError
from catalogs.item import SceneItem
from flows.folder import check_folder
from flows.interrupts import check, checked
from flows.record import write_record
from flows.request import NAMED_MASKS, AreaRequest, SceneRequest
from flows.selection import Selection, label
from flows.summary import RunSummary, SceneSummary, summarize
from flows.watch import Watcher
from pipeline.abandoned import remove_abandoned
from pipeline.address import address
from pipeline.checkpoints import check_fits, checkpoint_reach
from pipeline.errors import InvalidSettings, PipelineError
from pipeline.journal import Journal
from pipeline.progress import Progress
from pipeline.refresh import Redo, kept_product
from pipeline.runner import SceneOutcome, run_scene
from pipeline.settings import DecloudSettings, Resources
from pipeline.tiling import Axis
from srgan.errors import ModelError

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


@dataclass(frozen=True)
class SceneWork:
    """One scene of a run. Ids, paths and metadata; no pixels."""

    run: str
    """Id of the run, whose journal is written to."""
    name: str
    """What a person calls the scene."""
    number: int
    """Its place in the run, from 1."""
    count: int
    """Scenes in the run."""
    item: SceneItem = field(repr=False)
    output: Path = field(repr=False)
    settings: DecloudSettings = field(repr=False)
    resources: Resources = field(repr=False)
    candidates: tuple[SceneItem, ...] = field(default=(), repr=False)
    area: str | None = field(default=None, repr=False)
    """WKT, EPSG:4326."""
    overwrite: bool = False
    redo: Redo = "changed"
    """When a scene that has a product is done again."""


Decloud = Callable[[SceneWork, Progress], SceneSummary]


def decloud_one(work: SceneWork, progress: Progress) -> SceneSummary:
    """Decloud a scene. An error of the scene is its state; raises WriteFailed where not even the journal can be written."""
    journal = Journal(work.output, work.run)
    area = shapely.from_wkt(work.area) if work.area is not None else None
    outcome = _kept(work, journal, area) or run_scene(
        work.item,
        work.output,
        work.settings,
        journal=journal,
        candidates=work.candidates,
        area=area,
        resources=work.resources,
        overwrite=work.overwrite,
        progress=checked(progress),
    )
    return summarize(outcome, work.name)


def _kept(work: SceneWork, journal: Journal, area: BaseGeometry | None) -> SceneOutcome | None:
    """The outcome of a scene whose product stays as it is; None where the scene is to be done, or there is something wrong with it."""
    if work.overwrite or work.redo == "changed":
        return None
    start = time.perf_counter()
    try:
        kept = kept_product(
            work.item, work.output, work.settings, candidates=work.candidates, area=area, redo=work.redo
        )
    except (CatalogError, PipelineError, ModelError, OSError):
        # Whoever does the scene meets the same, and writes it down.
        return None
    if kept is None:
        return None
    seconds = round(time.perf_counter() - start, 3)
    journal.write(work.item.id, "unchanged", kept.reason, kept.product.id, seconds)
    return SceneOutcome(work.item.id, "unchanged", kept.reason, kept.product, seconds)


def check_once(request: AreaRequest | SceneRequest) -> None:
    """Raise InvalidSettings for what would make every scene invalid: checkpoint, tiles, mask, folder."""
    check_folder(request.output)
    _check_tiles(request.settings)
    mask = request.settings.mask
    if mask not in NAMED_MASKS and not os.path.isfile(mask):  # noqa: PTH113 - Path.is_file raises for a name that is too long
        raise InvalidSettings(f"--mask {mask}: no such file; use {', '.join(NAMED_MASKS)}, or the path of a raster")


def _check_tiles(settings: DecloudSettings) -> None:
    """Raise InvalidSettings where tile and overlap fit neither each other nor the checkpoint."""
    check_fits(settings)
    margin, grid = checkpoint_reach(settings.checkpoint)
    tile, overlap = settings.tile, settings.overlap
    if overlap is None:
        if tile < 2 * margin:
            raise InvalidSettings(
                f"--tile {tile}: --checkpoint {settings.checkpoint} needs a --tile of at least "
                f"{-(-2 * margin // 64) * 64}, twice its margin of {margin}, or a smaller --overlap"
            )
        return
    if overlap > tile // 2:
        raise InvalidSettings(f"--overlap {overlap}: at most {tile // 2} with --tile {tile}")
    try:
        Axis(length=tile, tile=tile, overlap=overlap, grid=grid)
    except InvalidSettings as error:
        raise InvalidSettings(f"--overlap {overlap}: {error}") from None


def run_all(
    request: AreaRequest | SceneRequest, selection: Selection, watcher: Watcher, decloud: Decloud = decloud_one
) -> RunSummary:
    """Decloud all scenes of a selection, in its order; one that fails does not stop the rest.

    decloud: what is done with one of them. Raises InvalidSettings for what no scene could be run with, WriteFailed where
    the output cannot be written at all.
    """
    output = Path(request.output)
    check_once(request)
    if not selection.items:
        return RunSummary("", address(output), problems=selection.problems, note=selection.note)
    journal = Journal(output)
    write_record(journal.run, request)
    for item in selection.items:
        journal.write(item.id, "planned")
    area = selection.area.wkt if selection.area is not None else None
    scenes = []
    with watcher:
        for number, item in enumerate(selection.items, 1):
            check()
            work = SceneWork(
                journal.run, label(item), number, len(selection.items), item, output, request.settings, request.resources.resources(),
                selection.candidates(item, request.settings), area, request.overwrite, request.redo,
            )  # fmt: skip
            scene = decloud(work, watcher.scene(number, work.count, work.name))
            watcher.ended(scene.line)
            scenes.append(scene)
    remove_abandoned(output)
    return RunSummary(journal.run, address(output), tuple(scenes), selection.problems)
