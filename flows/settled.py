"""`settled`: what a window would end as if nothing in it is to be done. So a backfill that is finished starts no run of its windows again."""

from __future__ import annotations

from pathlib import Path

from catalogs.errors import SourceUnavailable
from flows.request import AreaRequest
from flows.selection import Selection, label, select
from flows.summary import RunSummary, SceneSummary, summarize
from pipeline.errors import PipelineError
from pipeline.output import products_of
from pipeline.refresh import kept_product
from pipeline.runner import SceneOutcome


def settled(request: AreaRequest) -> RunSummary | None:
    """The summary of a run that would find every scene done, None where there is something to do, or to look at more closely.

    Costs a search and the keys of scenes that have a product already; pixels are read by neither, except where their checksums are not
    remembered. Raises InvalidQuery and InvalidItem where no run could succeed; what may pass is left to the run.
    """
    if request.overwrite:
        return None
    try:
        selection = select(request)
        if selection.problems:
            return None
        scenes = _kept(request, selection)
    except SourceUnavailable:
        return None
    except PipelineError:
        # Whoever does the scene meets the same, tries again where that may help, and writes it down.
        return None
    return None if scenes is None else RunSummary("", str(request.output), scenes, note=selection.note)


def _kept(request: AreaRequest, selection: Selection) -> tuple[SceneSummary, ...] | None:
    # That no better date is there takes as long to find out as to plan the scene: not here.
    redo = "changed" if request.redo == "better" else request.redo
    area = selection.area
    scenes = []
    for item in selection.items:
        if not products_of(request.output, item.id):
            return None
        kept = kept_product(
            item, Path(request.output), request.settings,
            candidates=selection.candidates(item, request.settings), area=area, redo=redo,
        )  # fmt: skip
        if kept is None:
            return None
        scenes.append(summarize(SceneOutcome(item.id, "unchanged", kept.reason, kept.product), label(item)))
    return tuple(scenes)
