"""`decloud backfill`: a time series over an area, oldest first, resumable."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import options
from flows.interrupts import told
from flows.report import report_after
from pipeline.errors import InvalidSettings

if TYPE_CHECKING:
    from flows.backfill_request import BackfillRequest
    from flows.backfilling import BackfillSummary

_HELP = """Decloud a time series over an area, window by window, oldest first.

Examples:

  decloud backfill --catalog earth-search --aoi 15.2,45.2,16.2,45.9 --dates 2023-01-01/2023-12-31 --output out

  decloud backfill --catalog earth-search --aoi field.gpkg --dates 2023-08-01/.. --step 10d --output out --cube out/cube.zarr

Other dates are searched on both sides of each window. The same command again goes on where it was stopped, however it
was stopped, and publishes nothing that is there. Exit status: 0 done, 1 some scene or window is not, 2 wrong arguments or
input, 130 interrupted.
"""


@options.requesting
def backfill(
    output: options.Output,
    *,
    step: Annotated[
        str | None,
        typer.Option(metavar="month|Nd", show_default="month", help="Windows: calendar months, or so many days each."),
    ] = None,
    cube: Annotated[
        Path | None, typer.Option(metavar="PATH.zarr", help="Stack the products along time in this Zarr store too.")
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            metavar="CRS,M|auto", help="The cube's grid; scenes of a day are merged on it. For example EPSG:32633,10."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make products again that are there already.")] = False,
    prefect: options.Prefect = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,  # noqa: ARG001 - looked at by `main`
    **values: Any,
) -> None:
    """Replaced by `_HELP`."""
    windows = {"step": step, "cube": cube, "grid": grid}
    with told(output):
        request = _request(values | {"output": output, "overwrite": overwrite}, windows)
        summary = (_in_prefect if prefect else _directly)(request, quiet=quiet)
    _print(summary, as_json=json)
    if any(line.scenes for line in summary.windows) and not prefect:  # the flow has written it
        report_after(output, quiet=quiet)
    raise typer.Exit(1 if summary.failed else 0)


backfill.__doc__ = _HELP


def _request(values: dict[str, Any], windows: dict[str, Any]) -> BackfillRequest:
    """The request that the options name. Raises InvalidSettings for those that do not go together or hold wrong values."""
    from flows.backfill_request import make_backfill_request

    if not values.get("catalog"):
        raise InvalidSettings("nothing to do: give --catalog with --aoi and --dates")
    area = options.build_request(values).model_dump(exclude={"kind", "part_of"})
    return make_backfill_request(area | {name: value for name, value in windows.items() if value is not None})


def _directly(request: BackfillRequest, *, quiet: bool) -> BackfillSummary:
    """Run the windows in this process, without Prefect."""
    from flows.backfilling import run_windows
    from flows.ledger import in_ledger
    from flows.run import run_directly
    from pipeline.runner import several_scenes

    tell = (lambda _: None) if quiet else _say
    with several_scenes(request.resources.resources(), tell):
        return run_windows(
            request,
            lambda window: in_ledger(window, lambda: run_directly(window, quiet=quiet)),
            datetime.now(UTC),
            tell,
        )


def _in_prefect(request: BackfillRequest, *, quiet: bool) -> BackfillSummary:
    """The same as a Prefect flow."""
    from flows.embedded import prepare_environment

    prepare_environment(quiet=quiet)
    from flows.backfill_flow import run_backfill_flow
    from flows.credentials import hide

    return run_backfill_flow(hide(request))


def _print(summary: BackfillSummary, *, as_json: bool) -> None:
    from flows.backfilling import count_states
    from flows.tables import print_json, print_reason, print_table

    if as_json:
        print_json(summary.document())
        return
    print_table(
        ("window", "state", "scenes", "how they ended"),
        (
            (
                line.window,
                line.state,
                str(len(line.scenes)),
                ", ".join(f"{count} {state}" for state, count in count_states(line).items()) or line.reason,
            )
            for line in summary.windows
        ),
        right=("scenes",),
    )
    for line in summary.windows:
        if line.state != "done" and line.reason and line.scenes:
            print_reason(line.window, line.state, line.reason)
        for scene in line.scenes:
            if not scene.good:
                print_reason(scene.scene, scene.state, scene.reason)
        for problem in line.problems:
            print_reason(line.window, "unreadable", problem)
    for product, reason in summary.cube_passed_over.items():
        print_reason(product, "not in the cube", reason)
    sys.stdout.write(summary.headline + "\n")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
