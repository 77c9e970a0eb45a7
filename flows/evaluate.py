"""`decloud evaluate`: scores a checkpoint on held-out pairs, beside what anybody would do without a network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows import interrupts, options
from flows.folder import output_folder

if TYPE_CHECKING:
    from flows.evaluate_request import EvaluateRequest
    from flows.evaluated import Evaluated

_HELP = """Score a checkpoint on pairs, beside what anybody would do without a network: report.json and report.html.

Examples:

  decloud evaluate pairs.parquet --checkpoint default --split test --output report

  decloud evaluate pairs.parquet --checkpoint training/best.safetensors --split val --output report --fail-below psnr=27

Scored is what a product would hold: composed with the input, on all pixels, under cloud, in shadow and where it was clear; each
metric with an interval over groups. Rows that cannot be scored stand in the report with their reason. Exit status: 0 done, 1 a
bound of --fail-below or --fail-above is not reached or a row's files could not be read, 2 wrong arguments or input, 130 interrupted.
"""


def evaluate(
    pairs: Annotated[
        list[str],
        typer.Argument(metavar="PAIRS", show_default=False, help="Pair tables (.parquet) of `decloud pairs`."),
    ],
    output: Annotated[
        Path, typer.Option(metavar="DIR", parser=output_folder, help="Folder of the report; made where it is missing.")
    ],
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|NAME", show_default="default", help="A .safetensors file with its card, or `default`."
        ),
    ] = None,
    split: Annotated[
        Literal["train", "val", "test", "other", "all"] | None,
        typer.Option(show_default="test", help="Rows that are scored."),
    ] = None,
    splits: options.Splits = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH|NAME|none",
            show_default="unguided, beside `default`",
            help="A further checkpoint, scored on the same pixels. May be given again.",
        ),
    ] = None,
    bands: Annotated[
        Literal["all", "13", "12", "4"] | None,
        typer.Option(
            show_default="all", help="Bands that the network is given: each of the three sets, or one of them."
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N", show_default="all", help="At most so many chips, one of each group before a second of any."
        ),
    ] = None,
    scenes: Annotated[
        str | None,
        typer.Option(
            metavar="CATALOG",
            help="Static STAC catalogue: its clear scenes are declouded whole, under other dates' clouds.",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            metavar="N", show_default="1", help="With --scenes: at most so many of them; each takes as long as a run."
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Every prediction as a GeoTIFF under its chip's name, for scoring by others."),
    ] = None,
    fail_below: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[PROTOCOL.][REGION.]METRIC=VALUE",
            show_default=False,
            help="Exit status 1 where psnr, cc or ssim is lower: psnr=27. May be given again.",
        ),
    ] = None,
    fail_above: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[PROTOCOL.][REGION.]METRIC=VALUE",
            show_default=False,
            help="Exit status 1 where rmse, mae or sam is higher: pair.cloudy.rmse=0.06. May be given again.",
        ),
    ] = None,
    device: options.Device = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", show_default="all cores", help="Chips side by side on a CPU.")
    ] = None,
    prefect: options.Prefect = False,  # noqa: FBT002 - a flag of the command line
    json: options.Json = False,  # noqa: FBT002
    quiet: options.Quiet = False,  # noqa: FBT002
    debug: options.Debug = False,  # noqa: FBT002 - looked at by `main`
) -> None:
    """Replaced by `_HELP`."""
    given = dict(locals())
    request = build_evaluate_request({name: given[name] for name in _FIELDS})
    before = _stamp(output)
    with interrupts.ending(lambda: _what_is_left(output, before)):
        evaluated = (evaluate_in_prefect if prefect else evaluate_directly)(request, quiet=quiet)
    print_evaluated(evaluated, as_json=json)
    for fault in evaluated.faults:
        sys.stderr.write(f"error: {fault}\n")
    raise typer.Exit(1 if evaluated.faults else 0)


evaluate.__doc__ = _HELP

_FIELDS = (
    "pairs", "output", "checkpoint", "split", "splits", "compare", "bands", "limit", "scenes", "trials",
    "predictions", "fail_below", "fail_above", "device", "workers",
)  # fmt: skip


def _stamp(output: Path) -> int | None:
    """When the report in a folder was written; None where there is none."""
    report = output / "report.json"
    return report.stat().st_mtime_ns if report.is_file() else None


def _what_is_left(output: Path, before: int | None) -> str:
    """What lies in the folder after ctrl-C, and what to do."""
    now = _stamp(output)
    if now != before:
        return f"the report in {output} is whole"
    kept = f"the report in {output} is that of an earlier run" if now else f"there is no report in {output}"
    return f"{kept}; the same command begins again"


def build_evaluate_request(values: dict[str, Any]) -> EvaluateRequest:
    """The request that the options name, None where not given. Raises InvalidSettings for what does not fit."""
    # Pydantic's models are made when this is imported; a help page does without.
    from flows.evaluate_request import make_evaluate_request

    named = {name: value for name, value in values.items() if value is not None}
    if named.get("compare") == ["none"]:
        named["compare"] = []
    return make_evaluate_request(named)


def evaluate_directly(request: EvaluateRequest, *, quiet: bool = False) -> Evaluated:
    """Evaluate in this process."""
    from flows.evaluating import direct_steps, run_evaluation
    from flows.watch import watcher

    with watcher(quiet=quiet, of="steps") as told:
        return run_evaluation(request, direct_steps(told))


def evaluate_in_prefect(request: EvaluateRequest, *, quiet: bool = False) -> Evaluated:
    """The same as a Prefect flow."""
    from flows.embedded import prepare_environment

    prepare_environment(quiet=quiet)
    from flows.evaluate_flow import evaluate_flow

    ended: Any = evaluate_flow(request, return_state=True)
    # A state that failed for a missed bound holds what was found, any other one its error.
    result: Evaluated | BaseException = ended.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    return result


def print_evaluated(evaluated: Evaluated, *, as_json: bool = False) -> None:
    """Print how an evaluation ended on standard output: a table and a few lines, or one JSON document."""
    from flows.tables import print_json, print_table

    if as_json:
        print_json(evaluated.document())
        return
    columns, rows = evaluated.table()
    print_table(columns, rows, right=columns[1:])
    for line in evaluated.lines():
        sys.stdout.write(line + "\n")
