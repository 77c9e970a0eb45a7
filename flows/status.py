"""`decloud status`: what is done, failed and why; and another try for what failed."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows import options
from flows.interrupts import told
from pipeline.address import output_path

if TYPE_CHECKING:
    from flows.state import FolderState

_HELP = """Show what is done, failed (why), invalid or interrupted in a product folder, and how far its backfills are.

Example:

  decloud status out --retry-failed

Exit status: 0 everything is done, 1 some scene has no product or some window of a backfill is not done, 2 this is no product folder.
"""


def status(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", parser=output_path, help="The --output of earlier runs.", show_default=False),
    ],
    retry_failed: Annotated[  # noqa: FBT002 - a flag of the command line
        bool,
        typer.Option(
            "--retry-failed", help="Run what failed or was interrupted again, with the parameters of its run."
        ),
    ] = False,
    times: Annotated[  # noqa: FBT002
        bool, typer.Option("--times", help="Show too where the time of each scene went; --json always holds it.")
    ] = False,
    json: options.Json = False,  # noqa: FBT002
    quiet: options.Quiet = False,  # noqa: FBT002
    debug: options.Debug = False,  # noqa: FBT002, ARG001 - looked at by `main`
) -> None:
    """Replaced by `_HELP`."""
    from flows.state import read_state

    state = read_state(folder)
    if retry_failed:
        _retry(folder, state, quiet=quiet)
        state = read_state(folder)
    if json:
        from flows.tables import print_json

        print_json(
            {
                "scenes": [asdict(scene) for scene in state.scenes],
                "unfinished": state.unfinished,
                "backfills": [asdict(backfill) for backfill in state.backfills],
            }
        )
    else:
        _print(state)
        if times:
            _print_times(state)
    raise typer.Exit(0 if state.good else 1)


status.__doc__ = _HELP


def _retry(folder: Path, state: FolderState, *, quiet: bool) -> None:
    """Run what failed again, each scene with the parameters of the run that it was in last."""
    from flows.record import read_record
    from flows.report import report_after
    from flows.run import run_directly

    if not state.retried:
        sys.stderr.write("nothing failed: nothing to retry\n")
    for run, scenes in state.retried.items():
        record = read_record(folder, run)
        request = record.request
        for href in record.withheld:
            sys.stderr.write(
                f"warning: {href}: the query that it was given with is a secret and was not kept: where it needs one, give the "
                "command of that run again instead\n"
            )
        with told(folder):
            run_directly(request.model_copy(update={"only": scenes}), quiet=quiet)
    if state.retried:
        report_after(folder, quiet=quiet)


def _print_times(state: FolderState) -> None:
    from flows.tables import print_times

    timed = [scene for scene in state.scenes if scene.times.stages]
    if not timed:
        sys.stdout.write("no product says where its time went: older versions did not measure it\n")
        return
    print_times([(scene.scene, scene.times) for scene in timed])


def _print(state: FolderState) -> None:
    from flows.tables import print_reason, print_table

    print_table(
        ("scene", "state", "time (UTC)", "product"),
        ((scene.scene, scene.state, scene.time[:19].replace("T", " "), scene.product) for scene in state.scenes),
    )
    for scene in state.scenes:
        if not scene.good:
            print_reason(scene.scene, scene.state, scene.reason or "no product yet")
    sys.stdout.write(state.headline + "\n")
    for backfill in state.backfills:
        print_table(
            ("window", "state", "scenes", "done"),
            ((one.window, one.state, str(one.scenes), str(one.done)) for one in backfill.windows),
            right=("scenes", "done"),
        )
        for one in backfill.windows:
            if not one.good:
                print_reason(one.window, one.state, one.reason or "the same backfill again goes on here")
        sys.stdout.write(backfill.headline + "\n")
