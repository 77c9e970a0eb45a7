"""What runs can be filtered by in Prefect: catalogue, checkpoint, backfill and tiles of a flow run, tile and month of a scene.

How a run ended is its state, by which Prefect filters itself. `declouder` is no tag of ours to give: it is that of the deployments, whose
runs send heartbeats, and the automations end runs with it that send none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath
from urllib.parse import urlsplit

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from catalogs.geotiff import UNKNOWN_TIME
from catalogs.hrefs import is_remote
from catalogs.item import SceneItem
from flows.artifacts import attempt
from flows.request import AreaRequest, CatalogRequest, SceneRequest
from flows.scene_log import Log
from pipeline.hrefs import without_credentials

TILES = 12
"""Tiles of one run that are tags; more would say nothing."""
_TILE = re.compile(r"T\d{1,2}[A-Z]+")


def scene_tags(item: SceneItem) -> tuple[str, ...]:
    """Tile and month, those that are known: `T33TWL`, `2023-08`."""
    tile = () if item.tile is None else (f"T{item.tile}",)
    return tile if item.datetime == UNKNOWN_TIME else (*tile, f"{item.datetime:%Y-%m}")


def request_tags(request: CatalogRequest | SceneRequest) -> tuple[str, ...]:
    """Of the run of a request, before anything is found."""
    tags = [checkpoint_tag(request.settings.checkpoint)]
    if isinstance(request, CatalogRequest):
        tags.append(f"catalog:{_catalogue(request.catalog)}")
    if isinstance(request, AreaRequest) and request.part_of:
        tags.append(f"backfill:{request.part_of}")
    return tuple(tags)


def found_tags(items: Iterable[SceneItem]) -> tuple[str, ...]:
    """Of the run over these scenes: their tiles."""
    tiles = sorted({item.tile for item in items if item.tile is not None})
    return tuple(f"T{tile}" for tile in tiles[:TILES])


def checkpoint_tag(checkpoint: str) -> str:
    """A name as it is, of a path what tells it from others.

    >>> checkpoint_tag("default"), checkpoint_tag("/data/field/best.safetensors")
    ('checkpoint:default', 'checkpoint:field/best.safetensors')
    """
    return f"checkpoint:{short_path(checkpoint)}"


def short_path(path: str) -> str:
    """The last two parts of a path or URL, without what may be secret in one."""
    shown = without_credentials(path) if is_remote(path) else path
    return "/".join(part for part in PurePath(shown).parts[-2:] if part.strip("/"))


def tag_run(log: Log, *tags: str) -> None:
    """Add tags to the flow run around us; those that it has stay, and of tiles it gets no more than TILES in all."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None or (wanted := _united(run.tags, tags)) == sorted(run.tags):
        return

    def put() -> None:
        get_client(sync_client=True).update_flow_run(run.id, tags=wanted)
        run.tags = wanted

    attempt(log, "tags", put)


def _united(before: Iterable[str], more: Iterable[str]) -> list[str]:
    """Sorted; the windows of a backfill find tiles in turn, so those that are there come first."""
    tags = dict.fromkeys((*before, *more))
    tiles = [tag for tag in tags if _TILE.fullmatch(tag)]
    return sorted(set(tags) - set(tiles[TILES:]))


def _catalogue(catalogue: str) -> str:
    """A name as it is, of a URL the host, of a path the folder."""
    if is_remote(catalogue):
        return urlsplit(without_credentials(catalogue)).hostname or catalogue
    path = PurePath(catalogue)
    return (path.parent.name if path.suffix == ".json" else path.name) or catalogue
