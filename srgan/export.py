"""Exporting a checkpoint's generator to TorchScript, torch.export (.pt2) or ONNX, with a parity check against the generator itself.

Shapes are fixed: tile, number of references T and batch. The generator has no control flow that depends on data, so tracing it once
holds for all inputs; that is checked, not believed: the file is read again and held against the generator on made inputs of every
kind, none of which it was traced with. Only then it takes its name. What the file says of itself is `srgan.archive.ExportRecord`.
"""

from __future__ import annotations

import copy
import errno
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srgan.archive import RECORD, SUFFIXES, ExportRecord, Format, TensorInfo, format_of
from srgan.checkpoint import Checkpoint
from srgan.errors import ExportFailed, InvalidExport, ModelError
from srgan.exported import load_exported
from srgan.generator import Generator
from srgan.parity import BOUND, Inputs, Network, differences, made_inputs

OPSET = 18
"""Of ONNX."""
ONNX_KEY = "declouder"
"""Of the record in an ONNX file's metadata."""


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how far it is from the generator."""

    path: Path
    format: Format
    max_difference: float
    """Largest absolute difference of any output, over all made inputs; at most `BOUND`."""
    differences: dict[str, dict[str, float]]
    """The same of each output on each of the made inputs: {case: {output: difference}}."""
    record: ExportRecord
    """What the file says of itself."""

    @property
    def signature(self) -> tuple[TensorInfo, ...]:
        """The inputs, in order, with their fixed shapes."""
        return self.record.inputs

    @property
    def opset(self) -> int | None:
        """Of an ONNX file."""
        return OPSET if self.format == "onnx" else None

    def document(self) -> dict[str, Any]:
        """All of it, JSON types only."""
        return {
            "path": str(self.path),
            "format": self.format,
            "opset": self.opset,
            "max_difference": self.max_difference,
            "differences": self.differences,
            "bound": BOUND,
            "weights": self.record.weights,
            "bands": list(self.record.spec.bands),
            "margin": self.record.spec.margin,
            "grid": self.record.spec.grid,
            "inputs": [asdict(info) for info in self.record.inputs],
            "outputs": [asdict(info) for info in self.record.outputs],
        }


def export_checkpoint(
    checkpoint: Checkpoint,
    path: Path,
    format: Format,  # noqa: A002 - the option's name
    *,
    tile: int = 256,
    references: int = 2,
    batch: int = 1,
) -> ExportReport:
    """Export a checkpoint to `path`, which is replaced at the end, once the file has proved right.

    tile: height and width, pixels, a multiple of `spec.multiple`. references: T, 0 to `spec.max_references`; a scene with fewer is
    run with invalid ones. batch: tiles a pass.

    Raises InvalidExport for what cannot be exported or not there, ExportFailed where the disk is full or an output differs by more
    than `BOUND`; `path` is then what it was.
    """
    record = _record(checkpoint, path, format, tile, references, batch)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    _claim(part, path)
    try:
        network = Plain(checkpoint.generator)
        with _quiet():
            blob = _WRITERS[format](network, next(made_inputs(record))[1], record)
        _write(part, blob)
        found = differences(network, _read(part, record), record)
        part.replace(path)
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO)
        raise ExportFailed(f"--output {path}: cannot be written ({reason}): nothing was left there") from error
    except (ModelError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:240]
        raise ExportFailed(
            f"--output {path}: not written, torch {torch.__version__} makes no {format} file that computes what the checkpoint does: "
            f"{reason}; try another format or version"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    largest = max(value for case in found.values() for value in case.values())
    return ExportReport(path, format, largest, found, record)


class Plain(nn.Module):
    """The generator with a plain tuple as its result, which is what the formats know; on the CPU, float32."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        placed = all(parameter.device.type == "cpu" for parameter in generator.parameters())
        self.generator = (generator if placed else copy.deepcopy(generator).cpu()).eval()

    def forward(
        self,
        cloudy: Tensor,
        present: Tensor,
        mask: Tensor,
        valid: Tensor,
        references: Tensor,
        reference_valid: Tensor,
        days: Tensor,
    ) -> tuple[Tensor, ...]:
        """As `Generator.forward`."""
        return tuple(self.generator(cloudy, present, mask, valid, references, reference_valid, days))


def _record(checkpoint: Checkpoint, path: Path, kind: Format, tile: int, references: int, batch: int) -> ExportRecord:
    """What will stand in the file. Raises InvalidExport for what cannot be exported."""
    spec = checkpoint.spec
    if format_of(path) != kind:
        raise InvalidExport(f"--output {path}: a {kind} file is called *{' or *'.join(SUFFIXES[kind])}")
    if tile < spec.multiple or tile % spec.multiple or tile > 8192:
        raise InvalidExport(f"--tile {tile}: must be a multiple of {spec.multiple}, at most 8192, for this checkpoint")
    if not 0 <= references <= spec.max_references:
        raise InvalidExport(f"--references {references}: checkpoint {checkpoint.name} takes 0 to {spec.max_references}")
    if not 1 <= batch <= 4096:
        raise InvalidExport(f"--batch {batch}: must be 1 to 4096")
    if kind == "pt2" and tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 9):
        raise InvalidExport(
            f"--format pt2: torch {torch.__version__} keeps weights as a pickle; use torch 2.9 or newer, or torchscript"
        )
    if kind == "onnx":
        missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
        if missing:
            raise InvalidExport(f"--format onnx: {' and '.join(missing)} not installed: pip install 'declouder[onnx]'")
    return ExportRecord(
        format=kind, name=checkpoint.name, spec=spec, weights=checkpoint.digest, tile=tile, references=references,
        batch=batch, made_with=torch.__version__,
    )  # fmt: skip


def _torchscript(network: nn.Module, inputs: Inputs, record: ExportRecord) -> bytes:
    target = BytesIO()
    traced = torch.jit.trace(network, inputs, check_trace=False)
    torch.jit.save(traced, target, _extra_files={RECORD: record.text().encode()})
    return target.getvalue()


def _pt2(network: nn.Module, inputs: Inputs, record: ExportRecord) -> bytes:
    target = BytesIO()
    program = torch.export.export(network, inputs, strict=False)
    program.example_inputs = None  # They would be pickled, and larger than the weights.
    torch.export.save(program, target, extra_files={RECORD: record.text()})
    return target.getvalue()


def _onnx(network: nn.Module, inputs: Inputs, record: ExportRecord) -> bytes:
    import onnx

    program = torch.onnx.export(
        network, inputs, dynamo=True, opset_version=OPSET, verbose=False, external_data=False,
        input_names=[info.name for info in record.inputs], output_names=[info.name for info in record.outputs],
    )  # fmt: skip
    assert program is not None  # noqa: S101 (it is, with dynamo)
    model = program.model_proto
    onnx.helper.set_model_props(model, {ONNX_KEY: record.text()})
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


_WRITERS: dict[Format, Callable[[nn.Module, Inputs, ExportRecord], bytes]] = {
    "torchscript": _torchscript,
    "pt2": _pt2,
    "onnx": _onnx,
}


def _read(part: Path, record: ExportRecord) -> Network:
    """The network in the file that was just written, as its users will read it."""
    if record.format == "onnx":
        return _onnx_network(part, record)
    exported = load_exported(part)
    if exported.record != record:
        raise ExportFailed(f"{part}: its record is not the one that was written")
    return exported


def _onnx_network(part: Path, record: ExportRecord) -> Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(part), options, providers=["CPUExecutionProvider"])
    if session.get_modelmeta().custom_metadata_map.get(ONNX_KEY) != record.text():
        raise ExportFailed(f"{part}: its record is not the one that was written")
    names = [info.name for info in record.inputs]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        found = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
        return tuple(torch.from_numpy(values) for values in found)

    return run


def _claim(part: Path, path: Path) -> None:
    """Make `part`, so that what cannot be written is known before the work. Raises InvalidExport."""
    try:
        if not path.parent.is_dir():
            raise InvalidExport(f"--output {path}: there is no folder {path.parent}; make it first")
        if path.is_dir():
            raise InvalidExport(f"--output {path}: is a folder; name a file")
        part.touch()
    except OSError as error:
        raise InvalidExport(f"--output {path!s:.120}: {error.strerror}; name another place") from error


def _write(path: Path, blob: bytes) -> None:
    with path.open("wb") as target:
        target.write(blob)
        target.flush()
        os.fsync(target.fileno())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks on themselves: what matters is compared afterwards."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
