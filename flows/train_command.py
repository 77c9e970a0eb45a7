"""`decloud train`: trains a network from pair tables, and exports the best of it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import interrupts, options
from flows.folder import output_folder

if TYPE_CHECKING:
    from flows.train_request import TrainRequest
    from flows.trained import Trained

_HELP = """Train a network from pair tables, and export the best of it.

Examples:

  decloud train pairs.parquet --output training --preset small

  decloud train pairs.parquet --output trial --preset tiny --set epochs=2 --set losses.adversarial=0

The folder then holds chips/, last.safetensors (the state from which --resume goes on), best.safetensors with its card
(.json, .md), export/, tensorboard/ and log.jsonl. Ctrl-C saves and leaves. Exit status: 0 done, 2 wrong arguments or
input, 130 interrupted.
"""


def train(
    pairs: Annotated[
        list[str],
        typer.Argument(
            metavar="PAIRS",
            show_default=False,
            help="Pair tables (.parquet) of `decloud pairs`, or the folder of one chip store.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(metavar="DIR", parser=output_folder, help="Folder of the training; made where it is missing."),
    ],
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="tiny|small|base|seed|FILE.yaml",
            show_default="small",
            help="Settings to begin with; base is for a GPU.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            show_default=False,
            help="A setting that differs from the preset: epochs=20, losses.style=0. May be given again and again.",
        ),
    ] = None,
    resume: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--resume", help="Go on with the training that DIR holds, with the same settings.")
    ] = False,
    splits: options.Splits = None,
    vgg_weights: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            show_default="$DECLOUD_VGG_WEIGHTS, torch's cache, a download",
            help="VGG-16 weights (.safetensors, .pth) for the perceptual and style terms.",
        ),
    ] = None,
    device: options.Device = None,
    export: Annotated[
        str | None,
        typer.Option(
            metavar="torchscript,pt2,onnx|none",
            show_default="torchscript,pt2",
            help="Formats that the best checkpoint is exported to.",
        ),
    ] = None,
    prefect: options.Prefect = False,  # noqa: FBT002
    json: options.Json = False,  # noqa: FBT002
    quiet: options.Quiet = False,  # noqa: FBT002
    debug: options.Debug = False,  # noqa: FBT002, ARG001 - looked at by `main`
) -> None:
    """Replaced by `_HELP`."""
    given = {"pairs": pairs, "output": output, "splits": splits, "vgg_weights": vgg_weights, "device": device}
    request = build_train_request(given, preset, set_ or (), export)
    from flows.fitting import check_output, leads

    check_output(output, resume=resume)
    with interrupts.ending(lambda: _how_to_go_on(output)):
        if prefect:
            # The flow goes on where there is a state; that there is one exactly with --resume was checked just now.
            trained = train_in_prefect(request, quiet=quiet)
        else:
            trained = train_directly(request, resume=resume, quiet=quiet)
        interrupts.check()
    if leads():
        print_trained(trained, as_json=json)


train.__doc__ = _HELP


def build_train_request(
    given: dict[str, Any], preset: str | None, overrides: list[str] | tuple[str, ...], export: str | None
) -> TrainRequest:
    """The request that the options name. Raises InvalidSettings for what does not fit."""
    # Pydantic's models are made when this is imported; a help page does without.
    from flows.train_request import PRESETS, make_train_request, nested_overrides

    values = {name: value for name, value in given.items() if value is not None}
    if preset is not None:
        values["preset" if preset in PRESETS else "preset_file"] = preset
    if export is not None:
        values["export"] = () if export == "none" else tuple(export.replace(",", " ").split())
    return make_train_request(values | {"settings": nested_overrides(overrides)})


def train_directly(request: TrainRequest, *, resume: bool, quiet: bool = False) -> Trained:
    """Train in this process."""
    from flows.fitting import direct_steps, leads, run_training
    from flows.train_watch import train_watcher

    with train_watcher(quiet=quiet or not leads()) as watcher:
        return run_training(request, direct_steps(watcher, resume=resume))


def train_in_prefect(request: TrainRequest, *, quiet: bool = False) -> Trained:
    """The same as a Prefect flow."""
    from flows.embedded import prepare_environment

    prepare_environment(quiet=quiet)
    from flows.train import train_flow

    return train_flow(request)


def print_trained(trained: Trained, *, as_json: bool = False) -> None:
    """Print how a training ended on standard output: a line for each thing that it left, or one JSON document."""
    if as_json:
        from flows.tables import print_json

        print_json(asdict(trained))
        return
    for name, value in trained.lines():
        sys.stdout.write(f"{name:<9} {value}\n")


def _how_to_go_on(output: Path) -> str:
    """What is left after ctrl-C, and what to do."""
    from flows.fitting import holds_state

    if holds_state(output):
        return f"the training is kept in {output}; the same command with --resume goes on from there"
    return f"nothing was trained yet; the same command begins again, and keeps the chips that are in {output}"
