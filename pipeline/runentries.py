"""`run_entries`: every scene of a run report with its pictures and means; the newest have pictures, and what is kept is not made again."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pipeline.errors import PipelineError, ReadFailed
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
NOT_ASKED = "its pixels were not looked at: the bucket did not answer for another product; try `decloud report`"


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
    look = _Look(kept, LONGEST if len(shown) <= FULL else SMALLER)

    def made(pair: tuple[SceneLine, ProductView | None]) -> RunEntry:
        line, view = pair
        return RunEntry(line) if view is None else look.entry(line, view, with_pictures=view.id in shown)

    # GDAL and Pillow let go of the interpreter while they decode and encode.
    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="report") as pool:
        return list(pool.map(made, pairs))


@dataclass(frozen=True)
class _Look:
    """Looks at one product after the other, from any thread."""

    kept: Mapping[str, Kept]
    longest: int
    """Pixels of the longer side of a picture."""
    silent: threading.Event = field(default_factory=threading.Event)
    """Set when a bucket did not answer: each further try would take all its time-outs, and a run waits for its page."""

    def entry(self, line: SceneLine, view: ProductView, *, with_pictures: bool) -> RunEntry:
        """The entry of a product."""
        longest = self.longest if with_pictures else 0
        kept = self.kept.get(view.id)
        if kept is None or look_of(line.state) != "done" or kept.mark != mark_of(view):
            kept = None
        if kept is not None and longest in (0, kept.longest):
            return RunEntry(line, view, kept.pictures if longest else ViewPictures(), kept.vegetation, longest=longest)
        if view.in_bucket and self.silent.is_set():
            return RunEntry(line, view, problems=(NOT_ASKED,), longest=longest)
        pictures, means = ViewPictures(), None
        problems: list[str] = []
        try:
            if longest:
                pictures = view_pictures(view, longest)
            problems += pictures.problems
            means = _means(view, problems) if kept is None else kept.vegetation
        except ReadFailed as error:
            self.silent.set()
            problems.append(str(error))
        return RunEntry(line, view, pictures, means, tuple(dict.fromkeys(problems)), longest)


def _means(view: ProductView, problems: list[str]) -> Vegetation | None:
    """Mean NDVI, None where there is none. Raises ReadFailed where a bucket does not answer."""
    # Bands that are not there are no fault of the product; the chart says what it lacks.
    if why_no_ndvi(view) is not None:
        return None
    try:
        return vegetation(view)
    except PipelineError as error:
        if isinstance(error, ReadFailed) and view.in_bucket:
            raise
        problems.append(str(error))
        return None
