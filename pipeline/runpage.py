"""`write_run_page`: report.html of a product folder, one file that shows what is in it and asks nothing of any network.

Map, charts and pictures are inside it, as are style and script (`pipeline.page_parts`). It is written beside its place and renamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path

from shapely.geometry.base import BaseGeometry

from pipeline.address import address, output_url
from pipeline.durable import turn
from pipeline.errors import InvalidSettings, WriteFailed
from pipeline.folders import CACHE
from pipeline.page_parts import whole_page
from pipeline.parts import remove_parts, write_whole
from pipeline.productview import ProductView
from pipeline.report_data import script_json
from pipeline.runentries import PICTURED, run_entries
from pipeline.runentry import RunEntry, SceneLine, percent
from pipeline.runfacts import facts_list, glance, layer_keys, layer_tabs, lead
from pipeline.runkept import kept_in, kept_script, pictures_script
from pipeline.runmap import run_map
from pipeline.runscenes import not_done_section, scene_section
from pipeline.runseries import series_section
from pipeline.sink import write_failed
from pipeline.storage import storage_of
from pipeline.survey import Survey, survey

REPORT = "report.html"
PATIENCE = 60.0
"""Seconds for which others may write the page before us: one that was stopped in its midst would keep every later run waiting."""


@dataclass(frozen=True)
class RunNotes:
    """What is known of an output beside its products."""

    lines: Sequence[SceneLine] = ()
    """How its scenes ended; products that no line tells of are shown all the same."""
    area: BaseGeometry | None = field(default=None, repr=False)
    """What was asked for, in longitude and latitude."""
    problems: tuple[str, ...] = ()
    """What else a reader should know, a line each: windows of a backfill that are not done, a catalogue that did not answer."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Name -> text, for the end of the page: catalogue, dates, windows."""


def write_run_page(
    output: Path,
    notes: Callable[[Survey], RunNotes] | None = None,
    *,
    pictured: int = PICTURED,
    anew: bool = True,
    threads: int = 2,
) -> Path:
    """Write report.html of `output`, a folder or what stands for a bucket (which gets a copy); return its path.

    notes: what else is known, asked for once the products were looked at. pictured: scenes of which the page holds pictures.
    anew: make all pictures anew; without it those of products that have not changed are taken from the page that is there.
    Of several that write at once each waits for its turn, for PATIENCE at most. What cannot be shown is named on the page.
    Raises InvalidSettings where there is nothing to show, ReadFailed and WriteFailed.
    """
    path = output / REPORT
    if output_url(output) is None and not output.is_dir():
        raise InvalidSettings(f"{address(output)}: no such folder; name the --output of a run")
    with _turn(output):
        # Nothing is looked at before it is our turn, not even items, which a bucket gives slowly: who was there before us may have told
        # of more than we had seen, and our page would take it back.
        found = survey(output)
        known = RunNotes() if notes is None else notes(found)
        if not known.lines and not found.products and not found.strange:
            raise InvalidSettings(f"{address(output)}: holds no run and no product; name the --output of a run")
        kept = {} if anew else kept_in(path)
        entries = run_entries(known.lines, found, kept, pictured=pictured, threads=threads)
        page = run_page(output, found, entries, known)
        # One whose writer was killed would stay for good.
        remove_parts(output)
        try:
            # Names of files that are not UTF-8 hold halves of characters.
            write_whole(path, page.encode(errors="xmlcharrefreplace"))
        except OSError as error:
            raise write_failed(error, path) from error
        if output_url(output) is not None:
            storage_of(output).keep(path)
    return path


def run_page(output: Path, found: Survey, entries: Sequence[RunEntry], notes: RunNotes) -> str:
    """The page as HTML."""
    # What a scene's own line says is not said of its folder once more.
    told = {(entry.line.product, entry.line.reason) for entry in entries}
    found = replace(found, strange={name: why for name, why in found.strange.items() if (name, why) not in told})
    chart_map, series = run_map(entries, notes.area), series_section(entries)
    scenes, not_done = scene_section(entries), not_done_section(entries, found.strange)
    if chart_map:
        chart_map = f'<section id="map" aria-labelledby="map-title"><h2 id="map-title">Map</h2>{chart_map}</section>'
    seen = [entry for entry in entries if entry.pictures.after]
    links = (
        ("glance", "At a glance", True),
        ("not-done", "Not done", bool(not_done)),
        ("map", "Map", bool(chart_map)),
        ("series", "Through time", bool(series)),
        ("scenes", "Scenes", bool(scenes)),
        ("facts", "How it was made", True),
    )
    name = address(output.absolute()).rsplit("/", 1)[-1] or address(output)
    parts = {
        "title": escape(f"{name}: Declouder run report"),
        "name": escape(name),
        "lead": f'<p class="lead">{escape(lead(entries))}</p>',
        "links": "".join(f'<a href="#{target}">{text}</a>' for target, text, there in links if there),
        "glance": glance(entries, found, notes.problems),
        "not-done": not_done,
        "map": chart_map,
        "series": series,
        "scenes": scenes,
        "facts": facts_list(output, entries, found, notes.facts),
        "tabs": layer_tabs(),
        "keys": layer_keys(),
        "data": script_json([_data(entry) for entry in seen]),
        "pictures": "".join(pictures_script(number, entry) for number, entry in enumerate(seen)),
        "kept": kept_script(entries, seen),
    }
    return whole_page("run.html", ("page.css", "run.css"), ("run.js",), parts)


def _data(entry: RunEntry) -> dict[str, object]:
    """What the script is told of a scene whose pictures can be opened."""
    width, height = entry.pictures.size
    view = entry.view
    facts = "" if view is None else _facts(view)
    return {
        "id": entry.id,
        "title": entry.title,
        "facts": facts,
        "width": width,
        "height": height,
        "layers": list(entry.pictures.layers),
    }


def _facts(view: ProductView) -> str:
    after = "" if view.cover_after is None else f", {percent(view.cover_after)} after"
    return f"cloud and shadow {percent(view.cover_before)} before{after}; {percent(view.made)} made up"


@contextmanager
def _turn(output: Path) -> Iterator[None]:
    """One page of an output at a time: of runs that end at once the last one sees the products of all."""
    lock = output / CACHE / "report.lock"
    ours = not lock.parent.exists()
    with ExitStack() as held:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(turn(lock, PATIENCE))
        except TimeoutError:
            page = address(output / REPORT)
            raise WriteFailed(
                f"{page}: another process is writing it, or was stopped while it did; end that one"
            ) from None
        except OSError as error:
            raise write_failed(error, output / REPORT) from error
        try:
            yield
        except InvalidSettings:
            # A folder of somebody else: nothing of ours stays in it.
            if ours:
                with suppress(OSError):
                    lock.unlink()
                    lock.parent.rmdir()
            raise
