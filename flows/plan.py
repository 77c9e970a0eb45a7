"""`decloud plan`: what a run would do, before it does it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from flows import options
from flows.interrupts import check
from pipeline.address import output_url

if TYPE_CHECKING:
    from flows.request import AreaRequest, SceneRequest
    from flows.selection import Selection
    from flows.totals import PlanTotals
    from pipeline.plan import ScenePlan

_HELP = """Show what a run would do and cost: scenes, tiles that need the network, bytes, memory, minutes; new, done or stale.

Example:

  decloud plan --catalog earth-search --aoi 15.2,45.2,16.2,45.9 --dates 2023-08-01/2023-08-31 --output out

stale: the folder holds a product of the scene that was made with other inputs or parameters. Nothing is restored and
no product is written. Masks are made and other dates are chosen as the run will do it, and the network is tried on a few
tiles: the minutes are those of this machine as busy as it is now.
"""


@options.requesting
def plan(
    sources: options.Sources = None,
    output: options.OptionalOutput = None,
    *,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,  # noqa: ARG001 - looked at by `main`
    **values: Any,
) -> None:
    """Replaced by `_HELP`."""
    with tempfile.TemporaryDirectory(prefix="decloud-plan-") as nowhere:
        # Checksums are remembered beside the products; where there are none yet, nothing is left behind.
        folder = output if output is not None and (output.is_dir() or output_url(output)) else Path(nowhere)
        request = options.build_request(values | {"output": folder, "sources": sources})
        from flows.execution import check_once
        from flows.run import tell_selection
        from flows.selection import select

        selection = select(request)
        tell_selection(selection, quiet=quiet)
        check_once(request)
        plans = _plans(request, selection, quiet=quiet)
    totals = _totals(plans, request, output)
    _print(plans, selection, totals, as_json=json)
    bad = bool(selection.problems) or any(scene.state == "invalid" for scene in plans)
    raise typer.Exit(1 if bad else 0)


plan.__doc__ = _HELP


def _plans(request: AreaRequest | SceneRequest, selection: Selection, *, quiet: bool) -> list[ScenePlan]:
    from flows.selection import label
    from flows.watch import watcher
    from pipeline.plan import plan_scene
    from pipeline.runner import several_scenes

    plans = []
    with several_scenes(request.resources.resources()), watcher(quiet=quiet) as told:
        for number, item in enumerate(selection.items, 1):
            check()
            told.scene(number, len(selection.items), label(item))("masks, other dates, pace", 0, 1)
            plans.append(
                plan_scene(
                    item,
                    Path(request.output),
                    request.settings,
                    candidates=selection.candidates(item, request.settings),
                    area=selection.area,
                    resources=request.resources.resources(),
                    redo=request.redo,
                )
            )
            told.ended(plans[-1].state)
    return plans


def _totals(plans: Sequence[ScenePlan], request: AreaRequest | SceneRequest, output: Path | None) -> PlanTotals:
    from flows.totals import PlanTotals

    return PlanTotals.of(plans, request.resources.resources().max_memory, output)


def _print(plans: Sequence[ScenePlan], selection: Selection, totals: PlanTotals, *, as_json: bool) -> None:
    from flows.tables import print_json, print_reason, print_table
    from flows.totals import COLUMNS, cost_shown

    if as_json:
        scenes = [
            asdict(scene)
            | {"when": scene.when.isoformat(), "minutes": scene.minutes}
            | {"cost": asdict(scene.cost) | {"limit": scene.cost.limit}}
            for scene in plans
        ]
        print_json(
            {
                "scenes": scenes,
                "total": asdict(totals),
                "problems": selection.problems,
                "warnings": selection.warnings,
                "note": selection.note,
            }
        )
        return
    if not plans:
        sys.stdout.write(selection.note + "\n")
        return
    print_table(
        ("scene", "date", "state", "tiles", "cloudy", "unsupported", "references", *COLUMNS),
        (
            (
                scene.scene,
                f"{scene.when:%Y-%m-%d}",
                scene.state,
                f"{scene.needed}/{scene.tiles}" if scene.tiles else "",
                f"{scene.cloudy:.1%}" if scene.tiles else "",
                f"{scene.unsupported:.1%}" if scene.tiles else "",
                str(len(scene.references)) if scene.tiles else "",
                *cost_shown(scene.cost),
            )
            for scene in plans
        ),
        right=("tiles", "cloudy", "unsupported", "references", *COLUMNS),
    )
    for scene in plans:
        if scene.reason:
            print_reason(scene.scene, scene.state, scene.reason)
    sys.stdout.write(totals.line + "\n")
    if totals.warning:
        sys.stderr.write(f"warning: {totals.warning}\n")
