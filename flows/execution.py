"""Running the scenes of a request one after another, with or without Prefect around each.

`SceneWork` is all that one scene needs, small enough to be handed to a task; `decloud_one` is what a task does with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import shapely

from catalogs.item import SceneItem
from flows.record import write_record
from flows.request import NAMED_MASKS, AreaRequest, SceneRequest
from flows.selection import Selection, label
from flows.summary import RunSummary, SceneSummary, summarize
from flows.watch import Watcher
from pipeline.checkpoints import checkpoint_reach
from pipeline.errors import InvalidSettings
from pipeline.journal import Journal
from pipeline.progress import Progress
from pipeline.runner import run_scene
from pipeline.settings import DecloudSettings, Resources


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


Decloud = Callable[[SceneWork, Progress], SceneSummary]


def decloud_one(work: SceneWork, progress: Progress) -> SceneSummary:
    """Decloud a scene. An error of the scene is its state; raises WriteFailed where not even the journal can be written."""
    outcome = run_scene(
        work.item,
        work.output,
        work.settings,
        journal=Journal(work.output, work.run),
        candidates=work.candidates,
        area=shapely.from_wkt(work.area) if work.area is not None else None,
        resources=work.resources,
        overwrite=work.overwrite,
        progress=progress,
    )
    return summarize(outcome, work.name)


def check_once(request: AreaRequest | SceneRequest) -> None:
    """Raise InvalidSettings for what would make every scene invalid: no such checkpoint, no such mask, no folder."""
    checkpoint_reach(request.settings.checkpoint)
    mask = request.settings.mask
    if mask not in NAMED_MASKS and not Path(mask).is_file():
        raise InvalidSettings(f"--mask {mask}: no such file; use {', '.join(NAMED_MASKS)}, or the path of a raster")
    existing = next((path for path in (request.output, *request.output.absolute().parents) if path.exists()), None)
    if existing is not None and not existing.is_dir():
        raise InvalidSettings(f"--output {request.output}: {existing} is a file; name a folder")


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
        return RunSummary("", str(output), problems=selection.problems, note=selection.note)
    journal = Journal(output)
    write_record(journal.run, request)
    for item in selection.items:
        journal.write(item.id, "planned")
    area = selection.area.wkt if selection.area is not None else None
    scenes = []
    with watcher:
        for number, item in enumerate(selection.items, 1):
            work = SceneWork(
                journal.run, label(item), number, len(selection.items), item, output, request.settings, request.resources.resources(),
                selection.candidates(item, request.settings), area, request.overwrite,
            )  # fmt: skip
            scene = decloud(work, watcher.scene(number, work.count, work.name))
            watcher.ended(scene.line)
            scenes.append(scene)
    return RunSummary(journal.run, str(output), tuple(scenes), selection.problems)
