"""`write_run_page`: report.html of a product folder, one file that shows what is in it and asks nothing of any network.

Style, script, map, charts and pictures are inside it, and its content policy lets nothing else in: only the very script that ships with
the package runs, so that a name in a catalogue can do no more than be read. The page is written beside its place and renamed.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path

from shapely.geometry.base import BaseGeometry

from pipeline.address import address, output_url
from pipeline.errors import InvalidSettings
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
    anew: bool = True,
    threads: int = 2,
) -> Path:
    """Write report.html of `output`, a folder or what stands for a bucket (which gets a copy); return its path.

    lines: how its scenes ended; products that no line tells of are shown all the same. pictured: scenes of which the page holds pictures.
    anew: make all pictures anew; without it those of products that have not changed are taken from the page that is there.
    What cannot be shown is named on the page. Raises InvalidSettings where there is nothing to show, ReadFailed and WriteFailed.
    """
    found = survey(output)
    if not lines and not found.products and not found.strange:
        raise InvalidSettings(f"{address(output)}: holds no run and no product; name the --output of a run")
    path = output / REPORT
    kept = {} if anew else kept_in(path)
    page = run_page(
        output, found, run_entries(lines, found, kept, pictured=pictured, threads=threads), notes or RunNotes()
    )
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
    name = address(output.absolute()).rsplit("/", 1)[-1] or address(output)
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
        "pictures": "".join(pictures_script(number, entry) for number, entry in enumerate(seen)),
        "kept": kept_script(seen),
        "script": script,
    }
    # In one pass: what is put in is not looked at again, whatever it holds.
    pieces = _part("run.html").split("<!--")
    return pieces[0] + "".join(_filled(piece, parts) for piece in pieces[1:])


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
