"""`decloud report`: the HTML page of a product folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows import options
from pipeline.address import output_path

if TYPE_CHECKING:
    from pipeline.runpage import RunNotes
    from pipeline.survey import Survey

_HELP = """Write report.html into a product folder: map, before / after, layers, numbers, time series, and what is not done.

Example:

  decloud report out

One file without a network, which opens from disk. `run` and `backfill` write it at their end. Exit status: 0 the page is written,
2 there is no such folder, or nothing in it to report.
"""


def report(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", parser=output_path, help="The --output of earlier runs.", show_default=False),
    ],
    pictures: Annotated[
        int, typer.Option(metavar="N", min=0, help="Scenes of which the page holds pictures, the newest.")
    ] = 48,
    json: options.Json = False,  # noqa: FBT002 - a flag of the command line
    quiet: options.Quiet = False,  # noqa: FBT002
    debug: options.Debug = False,  # noqa: FBT002, ARG001 - looked at by `main`
) -> None:
    """Replaced by `_HELP`."""
    path = write_report(folder, pictures)
    if json:
        from flows.tables import print_json

        print_json({"page": shown(path), "bytes": path.stat().st_size})
    elif not quiet:
        sys.stdout.write(f"{shown(path)}\n")


report.__doc__ = _HELP


def write_report(folder: Path, pictures: int | None = None, *, anew: bool = True) -> Path:
    """Write the page of a product folder and return its path; `anew`: pictures too that the page of an earlier run holds.

    Raises InvalidSettings where there is nothing to report, ReadFailed and WriteFailed.
    """
    from pipeline.runentries import PICTURED
    from pipeline.runpage import write_run_page
    from pipeline.storage import storage_of

    storage = storage_of(folder)
    storage.check()
    storage.bring()
    pictured = PICTURED if pictures is None else pictures
    return write_run_page(folder, lambda found: _notes(folder, found), pictured=pictured, anew=anew)


def report_after(folder: Path, *, quiet: bool) -> None:
    """The page at the end of a run. Products are there already: whatever goes wrong is told, and changes nothing of how the run ended."""
    try:
        path = write_report(folder, anew=False)
    except KeyboardInterrupt:
        # Everything is published: who is tired of waiting for the page has not stopped the run.
        sys.stderr.write("warning: no report.html: interrupted; the products are complete; try `decloud report`\n")
        return
    except Exception as error:  # noqa: BLE001 - a page must not turn a good run into a failed one, whatever is wrong with it
        reason = " ".join(str(error).split()) or type(error).__name__
        sys.stderr.write(
            f"warning: no report.html: {reason}; the products are not touched by that; try `decloud report`\n"
        )
        return
    if not quiet:
        sys.stderr.write(f"report: {shown(path)}\n")


def shown(path: Path) -> str:
    """The page as a person would open it."""
    from pipeline.address import address

    return address(path)


def _notes(folder: Path, found: Survey) -> RunNotes:
    """What the journals, and the records of runs and backfills, say."""
    from catalogs.aoi import parse_aoi
    from catalogs.errors import CatalogError
    from flows.record import read_record
    from flows.request import AreaRequest
    from flows.state import state_of
    from pipeline.errors import PipelineError
    from pipeline.folders import RUNS
    from pipeline.runentry import SceneLine
    from pipeline.runpage import RunNotes

    state = state_of(folder, found.items)
    lines = tuple(
        SceneLine(one.scene, one.state, one.time, one.reason, one.product)
        for one in state.scenes
        # A folder that no journal tells of and that is no product of ours is none of our scenes.
        if one.run or one.product not in found.strange
    )
    problems = [
        f"Window {window.window} of backfill {backfill.id}: {window.state}. {window.reason}".strip()
        for backfill in state.backfills
        for window in backfill.windows
        if not window.good
    ]
    facts: dict[str, str] = {}
    area = None
    # A run that only found everything done is in no scene's last line once another one was there.
    runs = sorted(
        {scene.run for scene in state.scenes if scene.run} | {path.stem for path in (folder / RUNS).glob("*.json")}
    )
    for run in runs[-1:]:
        try:
            request = read_record(folder, run).request
        except PipelineError:
            break  # a record is a help, not a need
        if isinstance(request, AreaRequest):
            facts = {
                "Catalogue": request.catalog,
                "Area": str(request.aoi),
                "Dates of the last run": str(request.dates),
            }
            try:
                area = parse_aoi(request.aoi).geometry
            except CatalogError as error:
                problems.append(f"The area that was asked for is not on the map: {error}")
    if runs:
        facts["Runs"] = f"{len(runs)}, the last {runs[-1]}"
    return RunNotes(lines, area, tuple(problems), facts)
