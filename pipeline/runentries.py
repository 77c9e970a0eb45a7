"""`run_entries`: every scene of a run report with its pictures and means; the newest have pictures, and what is kept is not made again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.errors import PipelineError
from pipeline.productview import ProductView
from pipeline.runentry import RunEntry, SceneLine, joined, look_of
from pipeline.runkept import Kept, mark_of
from pipeline.survey import Survey
from pipeline.viewlayers import LONGEST
from pipeline.viewpictures import ViewPictures, view_pictures
from pipeline.viewseries import Vegetation, vegetation, why_no_ndvi

PICTURED = 48
"""Scenes of which a page holds pictures, the newest; of the others it holds numbers."""
FULL = 12
"""Up to so many scenes have pictures of full size; beyond, smaller ones keep the page small enough to be opened and mailed."""
SMALLER = 640


def run_entries(
    lines: Sequence[SceneLine],
    found: Survey,
    kept: Mapping[str, Kept],
    *,
    pictured: int = PICTURED,
    threads: int = 2,
) -> list[RunEntry]:
    """Every scene, oldest first, with pictures of the newest `pictured` ones that have a product.

    kept: what an earlier page holds, by product; it is used where the product is done and its files are what they were.
    """
    pairs = joined(lines, found)
    views = [view for _, view in pairs if view is not None]
    shown = {view.id for view in views[max(len(views) - pictured, 0) :]}
    longest = LONGEST if len(shown) <= FULL else SMALLER

    def made(pair: tuple[SceneLine, ProductView | None]) -> RunEntry:
        line, view = pair
        if view is None:
            return RunEntry(line)
        if view.id not in shown:
            return _entry(line, view, 0)
        known = kept.get(view.id)
        if known is not None and look_of(line.state) == "done" and known.mark == mark_of(view, longest):
            return RunEntry(line, view, known.pictures, known.vegetation, longest=longest)
        return _entry(line, view, longest)

    # GDAL and Pillow let go of the interpreter while they decode and encode.
    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="report") as pool:
        return list(pool.map(made, pairs))


def _entry(line: SceneLine, view: ProductView, longest: int) -> RunEntry:
    """The entry of a product; longest: pixels of the longer side of its pictures, 0 for none."""
    pictures = view_pictures(view, longest) if longest else ViewPictures()
    problems = [*pictures.problems]
    means: Vegetation | None = None
    # Bands that are not there are no fault of the product; the chart says what it lacks.
    if why_no_ndvi(view) is None:
        try:
            means = vegetation(view)
        except PipelineError as error:
            problems.append(str(error))
    return RunEntry(line, view, pictures, means, tuple(dict.fromkeys(problems)), longest)
