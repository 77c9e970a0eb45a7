"""`decloud demo`: the whole job on a simulated area, measured against the truth that only a simulation knows."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows import options
from flows.folder import output_folder
from flows.interrupts import told

if TYPE_CHECKING:
    from flows.summary import RunSummary
    from pipeline.simulation.simulate import Simulated
    from pipeline.truth import TruthComparison

ENOUGH = 0.5
"""The demo has failed where more than this share of the input's error is left in any scene."""
PICTURE = "before-after-truth.png"

_HELP = """Simulate a small cloudy area, decloud it through the Prefect flow, and compare with the known truth.

Example:

  decloud demo --output demo

Offline, no arguments needed, under two minutes on two cores. Exit status: 1 where more than half of the error is left.
"""


def demo(
    output: Annotated[
        Path, typer.Option(metavar="DIR", parser=output_folder, help="Where area, truth and products go.")
    ] = Path("demo"),
    size: Annotated[
        int, typer.Option(metavar="PX", min=96, help="Edge of the area, pixels of 10 m; a multiple of 6.")
    ] = 720,
    checkpoint: options.Checkpoint = None,
    json: options.Json = False,  # noqa: FBT002 - a flag of the command line
    quiet: options.Quiet = False,  # noqa: FBT002
    debug: options.Debug = False,  # noqa: FBT002, ARG001 - looked at by `main`
) -> None:
    """Replaced by `_HELP`."""
    with told(output):
        _demo(output, size, checkpoint, json=json, quiet=quiet)


demo.__doc__ = _HELP


def _demo(output: Path, size: int, checkpoint: str | None, *, json: bool, quiet: bool) -> None:
    from flows.run import print_summary, run_in_prefect
    from pipeline.simulation.simulate import simulate_area

    tell = _teller(quiet=quiet)
    tell(f"1/4 simulating an area of {size} x {size} pixels on several dates in {output}")
    area = simulate_area(output, size=size)
    tell(
        f"2/4 declouding {len(area.cloudy)} of its {len(area.items)} dates in a Prefect flow (its server starts first)"
    )
    request = options.build_request(
        {
            "output": output / "products",
            "catalog": str(area.catalogue),
            "aoi": area.aoi,
            "dates": area.dates,
            "checkpoint": checkpoint,
        }
    ).model_copy(update={"only": area.cloudy})
    summary = run_in_prefect(request, quiet=quiet)
    if summary.failed:
        print_summary(summary, as_json=json)
        raise typer.Exit(1)
    tell("3/4 comparing with the truth")
    comparisons, picture = _compare(area, summary, output)
    tell("4/4 done")
    enough = all(scene.ratio <= ENOUGH for scene in comparisons)
    if json:
        from flows.tables import print_json

        scenes = [asdict(scene) | {"ratio": scene.ratio} for scene in comparisons]
        print_json(
            {
                "run": summary.document(),
                "truth": scenes,
                "enough": enough,
                "picture": str(picture),
                "report": _page(summary),
            }
        )
    else:
        print_summary(summary)
        _print(comparisons, area, summary, picture, enough=enough)
    raise typer.Exit(0 if enough else 1)


def _compare(area: Simulated, summary: RunSummary, output: Path) -> tuple[list[TruthComparison], Path]:
    from catalogs.query import Query
    from catalogs.search import search
    from pipeline.output import find_product
    from pipeline.truth import compare_with_truth, truth_picture

    items = {item.id: item for item in search(Query(ids=area.cloudy), str(area.catalogue))}
    shown = {}
    for scene in summary.scenes:
        product = find_product(Path(summary.output), Path(scene.product).stem)
        if product is not None:
            shown[scene.name] = (items[scene.scene], product, area.truth / scene.scene)
    return [compare_with_truth(*scene) for scene in shown.values()], truth_picture(shown, output / PICTURE)


def _print(
    comparisons: list[TruthComparison], area: Simulated, summary: RunSummary, picture: Path, *, enough: bool
) -> None:
    from flows.tables import print_table

    sys.stdout.write("\nRMSE against the truth over all bands, on the pixels that clouds and shadows spoiled:\n")
    print_table(
        ("scene", "spoiled", "cloudy input", "declouded", "left"),
        (
            (scene.scene, f"{scene.judged:.0%}", f"{scene.before:.4f}", f"{scene.after:.4f}", f"{scene.ratio:.0%}")
            for scene in comparisons
        ),
        right=("spoiled", "cloudy input", "declouded", "left"),
    )
    verdict = "At most half of the error is left in every scene." if enough else "MORE THAN HALF of the error is left."
    sys.stdout.write(verdict + "\n")
    page = _page(summary)
    sys.stdout.write(f"\nreport    {page}" if page else "")
    sys.stdout.write(
        f"\npicture   {picture}\nproducts  {Path(summary.output) / 'catalog.json'}\nscenes    {area.catalogue}\ntruth     {area.truth}\n"
    )


def _page(summary: RunSummary) -> str | None:
    """The page that the flow has written; None where it could not, which its log says."""
    from pipeline.runpage import REPORT

    page = Path(summary.output) / REPORT
    return str(page) if page.is_file() else None


def _teller(*, quiet: bool) -> Callable[[str], None]:
    start = time.monotonic()

    def tell(line: str) -> None:
        if not quiet:
            sys.stderr.write(f"{line}  [{time.monotonic() - start:.0f} s]\n")
            sys.stderr.flush()

    return tell
