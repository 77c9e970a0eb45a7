"""`decloud export`: writes a checkpoint's network for other runtimes, and checks that it computes the same."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows import options

if TYPE_CHECKING:
    from srgan.export import ExportReport

_HELP = """Write a checkpoint's network as TorchScript, torch.export (.pt2) or ONNX.

Examples:

  decloud export default --format pt2 --output default.pt2

  decloud export best.safetensors --format onnx --output best.onnx --references 0

The file is read again and compared with the checkpoint on made inputs of every kind; one that differs by more than 5e-5
of reflectance is not written. Shapes are fixed. `decloud run --checkpoint default.pt2` runs it (.ts too; ONNX is for other
programs). Exit status: 0 done, 1 not written, 2 wrong arguments or input, 130 interrupted.
"""


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(metavar="CHECKPOINT", show_default=False, help="A .safetensors file, or `default`."),
    ],
    format: Annotated[  # noqa: A002 - the option's name
        Literal["torchscript", "pt2", "onnx"],
        typer.Option(show_default=False, help="pt2 needs torch 2.9 or newer, onnx its extra."),
    ],
    output: Annotated[
        Path,
        typer.Option(metavar="PATH", show_default=False, help="File to write: .ts or .torchscript, .pt2, .onnx."),
    ],
    tile: Annotated[int, typer.Option(metavar="PX", help="Height and width of a tile.")] = 256,
    references: Annotated[int, typer.Option(metavar="T", help="Other dates; a scene may have fewer.")] = 2,
    batch: Annotated[int, typer.Option(metavar="B", help="Tiles a pass; 1 is best on a CPU.")] = 1,
    json: options.Json = False,  # noqa: FBT002 - a flag of the command line
    quiet: options.Quiet = False,  # noqa: FBT002
    debug: options.Debug = False,  # noqa: FBT002, ARG001 - looked at by `main`
) -> None:
    """Replaced by `_HELP`."""
    from srgan.checkpoint import load_checkpoint
    from srgan.errors import ExportFailed
    from srgan.export import export_checkpoint

    loaded = load_checkpoint(checkpoint)
    if not quiet:
        if tile < 2 * loaded.spec.margin:
            sys.stderr.write(
                f"note: a tile of {tile} is less than twice the margin of {loaded.spec.margin}: `decloud run` will want an --overlap\n"
            )
        sys.stderr.write(f"exporting {loaded.name} as {format}, and comparing the file with the checkpoint\n")
    try:
        report = export_checkpoint(loaded, output, format, tile=tile, references=references, batch=batch)
    except ExportFailed as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        raise typer.Exit(1) from error
    if json:
        from flows.tables import print_json

        print_json(report.document())
    else:
        print_report(report)


export.__doc__ = _HELP


def print_report(report: ExportReport) -> None:
    """What the file takes and gives, and how far it is from the checkpoint."""
    from flows.tables import print_table

    record = report.record
    rows = [(kind, info.name, "x".join(map(str, info.shape)), info.dtype, info.values)
            for kind, tensors in (("input", record.inputs), ("output", record.outputs)) for info in tensors]  # fmt: skip
    print_table(("", "name", "shape", "type", "values"), rows)
    opset = f" (opset {report.opset})" if report.opset else ""
    sys.stdout.write(
        f"bands, in order: {' '.join(record.spec.bands)}\n"
        f"fixed: {record.references} references, {record.batch} x {record.tile} x {record.tile} pixels; "
        f"margin {record.spec.margin}, grid {record.spec.grid} pixels\n"
        f"differs from {record.name} by at most {report.max_difference:.1g} of reflectance on {len(report.differences)} made inputs\n"
        f"{report.format}{opset}: {report.path}\n"
    )
