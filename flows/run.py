"""`decloud run`: declouds scenes and publishes the products."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import options
from flows.interrupts import told
from flows.report import report_after
from flows.watch import watcher

if TYPE_CHECKING:
    from flows.request import AreaRequest, SceneRequest
    from flows.selection import Selection
    from flows.summary import RunSummary

_HELP = """Decloud scenes, and publish the products as a static STAC catalogue, with a page to look at: report.html.

Examples:

  decloud run S2B_MSIL2A_20230810T100031.SAFE --output out

  decloud run --catalog earth-search --aoi 15.2,45.2,16.2,45.9 --dates 2023-08-01/2023-08-31 --output out

The same run again does nothing; a run that was stopped goes on where it was. A product stays when only other dates have come
into the catalogue since: see --refresh. Exit status: 0 done, 1 some scene failed
or is invalid, 2 wrong arguments or input, 130 interrupted.
"""


@options.requesting
def run(
    output: options.Output,
    sources: options.Sources = None,
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make products again that are there already.")] = False,
    prefect: options.Prefect = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,  # noqa: ARG001 - looked at by `main`
    **values: Any,
) -> None:
    """Replaced by `_HELP`."""
    with told(output):
        request = options.build_request(values | {"output": output, "sources": sources, "overwrite": overwrite})
        summary = (run_in_prefect if prefect else run_directly)(request, quiet=quiet)
    print_summary(summary, as_json=json)
    if summary.scenes and not prefect:  # the flow has written it
        report_after(output, quiet=quiet)
    raise typer.Exit(1 if summary.failed else 0)


run.__doc__ = _HELP


def run_directly(request: AreaRequest | SceneRequest, *, quiet: bool = False) -> RunSummary:
    """Find the scenes of a request and decloud them in this process."""
    from flows.execution import run_all
    from flows.selection import select
    from pipeline.runner import several_scenes

    # A scheduler that does not answer is told before the catalogue is searched.
    with several_scenes(request.resources.resources(), _unsaid if quiet else _note):
        selection = select(request)
        tell_selection(selection, quiet=quiet)
        if sys.stderr.isatty() and not quiet and selection.items:
            _note(_begins(request, selection))
        return run_all(request, selection, watcher(quiet=quiet))


def _begins(request: AreaRequest | SceneRequest, selection: Selection) -> str:
    """What is known of the cost before anything is looked at."""
    resources, count = request.resources.resources(), len(selection.items)
    checkpoint = request.settings.checkpoint
    where = "" if checkpoint == "identity" else f" on {resources.dask or resources.device}"
    return (
        f"{count} scene{'' if count == 1 else 's'}, {checkpoint}{where}, {resources.threads}"
        f" thread{'' if resources.threads == 1 else 's'}, at most {resources.max_memory / 2**30:.1f} GiB of memory; tiles follow with each"
        " scene, and `decloud plan` tells bytes and minutes before"
    )


def run_in_prefect(request: AreaRequest | SceneRequest, *, quiet: bool = False) -> RunSummary:
    """The same as a Prefect flow."""
    from flows.embedded import prepare_environment

    prepare_environment(quiet=quiet)
    from flows.credentials import hide
    from flows.decloud import run_flow

    return run_flow(hide(request))


def tell_selection(selection: Selection, *, quiet: bool = False) -> None:
    """Say on standard error what is wrong with a selection or worth knowing."""
    for line in (*selection.problems, *selection.warnings):
        sys.stderr.write(f"warning: {line}\n")
    if not quiet:
        for line in selection.remarks:
            _note(line)


def _note(line: str) -> None:
    sys.stderr.write(f"note: {line}\n")
    sys.stderr.flush()


def _unsaid(line: str) -> None:
    """Nobody wants to hear it."""


def print_summary(summary: RunSummary, *, as_json: bool = False) -> None:
    """Print how a run ended on standard output: a table, or one JSON document."""
    from flows.tables import print_json, print_run

    if as_json:
        print_json(summary.document())
    else:
        print_run(summary)
