"""`write_run_page`: report.html of a product folder, one file that shows what is in it and asks nothing of any network.

Style, script, map, charts and pictures are inside it, and its content policy lets nothing else in: only the very script that ships with
the package runs, so that a name in a catalogue can do no more than be read. The page is written beside its place and renamed.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path

from shapely.geometry.base import BaseGeometry

from pipeline.address import address, output_url
from pipeline.errors import InvalidSettings, PipelineError
from pipeline.productview import ProductView
from pipeline.report_data import script_json
from pipeline.runentry import RunEntry, SceneLine, joined, percent
from pipeline.runfacts import facts_list, glance, layer_keys, layer_tabs, lead
from pipeline.runmap import run_map
from pipeline.runscenes import not_done_section, scene_section
from pipeline.runseries import series_section
from pipeline.sink import write_failed
from pipeline.storage import storage_of
from pipeline.survey import Survey, survey
from pipeline.viewlayers import LONGEST
from pipeline.viewpictures import ViewPictures, view_pictures
from pipeline.viewseries import vegetation, why_no_ndvi

REPORT = "report.html"
PICTURED = 48
"""Scenes of which a page holds pictures, the newest; of the others it holds numbers."""
_FULL = 12
"""Up to so many scenes have pictures of full size; beyond, smaller ones keep the page small enough to be opened and mailed."""
_SMALLER = 640


@dataclass(frozen=True)
class RunNotes:
    """What is known of an output beside its products and journals."""

    area: BaseGeometry | None = field(default=None, repr=False)
    """What was asked for, in longitude and latitude."""
    problems: tuple[str, ...] = ()
    """What else a reader should know, a line each: windows of a backfill that are not done, a catalogue that did not answer."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Name -> text, for the end of the page: catalogue, dates, windows."""


def write_run_page(
    output: Path,
    lines: Sequence[SceneLine] = (),
    notes: RunNotes | None = None,
    *,
    pictured: int = PICTURED,
    threads: int = 2,
) -> Path:
    """Write report.html of `output`, a folder or what stands for a bucket (which gets a copy); return its path.

    lines: how its scenes ended; products that no line tells of are shown all the same. pictured: scenes of which the page holds pictures.
    What cannot be shown is named on the page. Raises InvalidSettings where there is nothing to show, ReadFailed and WriteFailed.
    """
    found = survey(output)
    if not lines and not found.products and not found.strange:
        raise InvalidSettings(f"{address(output)}: holds no run and no product; name the --output of a run")
    page = run_page(output, found, _entries(lines, found, pictured, threads), notes or RunNotes())
    path = output / REPORT
    _write(path, page.encode(errors="xmlcharrefreplace"))
    if output_url(output) is not None:
        storage_of(output).keep(path)
    return path


def run_page(output: Path, found: Survey, entries: Sequence[RunEntry], notes: RunNotes) -> str:
    """The page as HTML."""
    style, script = _part("page.css") + _part("run.css"), _part("run.js")
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
    name = address(output).rstrip("/").rsplit("/", 1)[-1] or address(output)
    parts = {
        "style-hash": _digest(style),
        "script-hash": _digest(script),
        "title": escape(f"{name}: Declouder run report"),
        "style": style,
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
        "pictures": "".join(_pictures(number, entry.pictures) for number, entry in enumerate(seen)),
        "script": script,
    }
    # In one pass: what is put in is not looked at again, whatever it holds.
    pieces = _part("run.html").split("<!--")
    return pieces[0] + "".join(_filled(piece, parts) for piece in pieces[1:])


def _entries(lines: Sequence[SceneLine], found: Survey, pictured: int, threads: int) -> list[RunEntry]:
    """Every scene, with pictures of the newest `pictured` ones that have a product."""
    pairs = joined(lines, found)
    count = sum(view is not None for _, view in pairs)
    longest = LONGEST if min(count, pictured) <= _FULL else _SMALLER
    first = count - pictured
    jobs: list[Callable[[], RunEntry]] = []
    number = 0
    for line, view in pairs:
        jobs.append(_job(line, view, longest if number >= first else 0))
        number += view is not None
    # GDAL and Pillow let go of the interpreter while they decode and encode.
    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="report") as pool:
        return list(pool.map(lambda job: job(), jobs))


def _job(line: SceneLine, view: ProductView | None, longest: int) -> Callable[[], RunEntry]:
    return lambda: RunEntry(line) if view is None else _entry(line, view, longest)


def _entry(line: SceneLine, view: ProductView, longest: int) -> RunEntry:
    pictures = view_pictures(view, longest) if longest else ViewPictures()
    problems = [*pictures.problems] if longest else ["the page holds pictures of the newest scenes only"]
    means, lacking = None, why_no_ndvi(view)
    # Bands that are not there are no fault of the product; the chart says what it lacks.
    if lacking is None:
        try:
            means = vegetation(view)
        except PipelineError as error:
            problems.append(str(error))
    return RunEntry(line, view, pictures, means, tuple(dict.fromkeys(problems)))


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
    return f"cloud and shadow {percent(view.cover_before)} before, {percent(view.cover_after)} after; {percent(view.made)} made up"


def _pictures(number: int, pictures: ViewPictures) -> str:
    shown = {"after": _uri(pictures.after, "webp")}
    if pictures.before:
        shown["before"] = _uri(pictures.before, "webp")
    shown |= {name: _uri(blob, "png") for name, blob in pictures.layers.items()}
    return f'<script type="application/json" id="pictures-{number}">{script_json(shown)}</script>\n'


def _uri(blob: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(blob).decode('ascii')}"


def _filled(piece: str, parts: Mapping[str, str]) -> str:
    name, rest = piece.split("-->", 1)
    return parts[name] + rest


def _digest(content: str) -> str:
    """As a content policy names a script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode('utf-8')).digest()).decode('ascii')}"


def _part(name: str) -> str:
    return (files("pipeline") / "page" / name).read_text(encoding="utf-8")


def _write(path: Path, page: bytes) -> None:
    """Whole or not at all; runs that end at once each write a file of their own, and the last one stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(page)
                file.flush()
                os.fsync(file.fileno())
            # As any other file of the output: `mkstemp` lets nobody else read.
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise write_failed(error, path) from error
