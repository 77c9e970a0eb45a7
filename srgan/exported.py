"""`Exported`: a network read from a TorchScript or .pt2 file, ready to use as a `Checkpoint`'s generator is.

Such a file holds code, and torch's own loaders trust it: `torch.export.load` unpickles what a file asks it to, evaluates its symbolic
expressions and opens shared libraries that lie in it; a TorchScript class may bring a method that runs when it is read. So a file is
looked through before, and refused where it holds anything but what `srgan.export` writes:

- .pt2: only the records that we write, tensors as raw bytes (no pickle), no example inputs, no symbolic expressions, no guards,
  and a graph of listed tensor operators. Then `torch.export.load` reads it. torch 2.8 and older kept tensors as pickles: 2.9 is needed.
- TorchScript: no method that runs at reading; `torch.jit.load` (its own reader, no Python pickle) compiles it, and the graph may hold
  listed tensor operators only. Nothing of it has run by then.

What is executed after that is arithmetic on the inputs. It is still a program that someone else wrote: take it from whom you trust.
A `.pt` or `.pth` pickle is never read, whatever it holds.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srgan.archive import RECORD, ExportRecord, read_record
from srgan.errors import InvalidExport, InvalidSpec

if TYPE_CHECKING:
    from torch import Tensor

    from srgan.generator import GeneratorOutput
    from srgan.spec import ModelSpec

_FAULTS = (
    RuntimeError, AssertionError, LookupError, TypeError, ValueError, AttributeError, SyntaxError, EOFError, OSError,
    zipfile.BadZipFile,
)  # fmt: skip
"""What torch raises for a file that it cannot read."""

_UNPACKED = 64 << 20
"""Bytes that the records of an archive may have beyond its own: weights lie in it as they are, only code is compressed."""

_OPERATORS = frozenset((
    "__and__", "_assert_tensor_metadata", "_convolution", "abs", "add", "all", "avg_pool2d", "cat", "chunk",
    "clamp", "clamp_min", "contiguous", "conv2d", "detach", "div", "einsum", "exp", "expand", "expand_as",
    "flatten", "gelu", "gt", "isfinite", "layer_norm", "lift_fresh_copy", "linear", "log1p", "mean", "mul",
    "nan_to_num", "new_full", "numpy_T", "ones_like", "pad", "permute", "rsub", "select", "sigmoid", "sign", "size",
    "slice", "split", "stack", "sub", "sum", "t", "tanh", "to", "transpose", "type_as", "unflatten", "unsqueeze",
    "upsample_bilinear2d", "view", "where", "zeros_like",
))  # fmt: skip
"""Operators of torch that a generator's graph may hold: tensors in, tensors out."""
_SYNTAX = frozenset(
    f"prim::{name}"
    for name in ("Constant", "GetAttr", "ListConstruct", "ListUnpack", "TupleConstruct", "TupleUnpack", "NumToTensor")
)
"""What holds a TorchScript graph together."""
_RECORDS = re.compile(
    r"models/model\.json|data/sample_inputs/model\.pt|data/weights/(model_weights_config\.json|weight_\d+)"
    rf"|data/constants/(model_constants_config\.json|tensor_\d+)|extra/{re.escape(RECORD)}"
    r"|archive_(format|version)|byteorder|\.[\w.-]+(/[\w.-]+)?"
)
"""Records of a .pt2 file below its root."""


@dataclass(frozen=True)
class Exported:
    """An exported network, and where it came from."""

    name: str
    """File name without its suffix."""
    record: ExportRecord
    digest: str
    """sha256 of the file, hex."""
    run: Callable[..., tuple[Tensor, ...]]
    """The network on its device: seven tensors in, five out."""

    @property
    def spec(self) -> ModelSpec:
        """The `ModelSpec` of the checkpoint that was exported."""
        return self.record.spec

    def __call__(self, *inputs: Tensor) -> GeneratorOutput:
        """Restore a batch of tiles; inputs as for `Generator.forward`, but of the exported shapes.

        Raises InvalidSpec for other shapes.
        """
        from srgan.generator import GeneratorOutput

        for info, tensor in zip(self.record.inputs, inputs, strict=True):
            if tuple(tensor.shape) != info.shape:
                raise InvalidSpec(
                    f"{info.name} has shape {tuple(tensor.shape)}: {self.name} was exported for {info.shape}"
                )
        return GeneratorOutput(*self.run(*inputs))


def load_exported(path: str | Path, device: str = "cpu") -> Exported:
    """The network in the file at `path`, on `device`.

    Raises InvalidExport where the file is missing, truncated, altered, not made by `srgan.export`, of another version, or holds what
    this program does not run.
    """
    file = Path(path)
    try:
        blob = file.read_bytes()
    except FileNotFoundError as error:
        raise InvalidExport(f"export {file}: no such file; `decloud export` makes one") from error
    except OSError as error:
        raise InvalidExport(f"export {file}: cannot be read ({error.strerror}): check the path") from error
    record = read_record(file, blob)
    loader = {"torchscript": _load_torchscript, "pt2": _load_pt2}[record.format]
    try:
        # What is read here is also checked against the checksums that the archive holds.
        with zipfile.ZipFile(BytesIO(blob)) as archive:
            if sum(info.file_size for info in archive.infolist()) > len(blob) + _UNPACKED:
                raise InvalidExport(
                    f"export {file}: its records unpack to far more than the file holds: not made by `decloud export`"
                )
            records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
            # torch finds a record by its name in any case: one that has a double could be read by it and never looked at here.
            if len({name.lower() for name in records}) < len(archive.namelist()):
                raise InvalidExport(f"export {file}: holds two records of one name: not made by `decloud export`")
        run = loader(blob, records, file, device)
    except _FAULTS as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InvalidExport(
            f"export {file}: torch cannot read it ({reason}): altered, or made by another torch ({record.made_with}); export again"
        ) from error
    return Exported(file.stem, record, hashlib.sha256(blob).hexdigest(), run)


def _load_torchscript(
    blob: bytes, records: dict[str, bytes], file: Path, device: str
) -> Callable[..., tuple[Tensor, ...]]:
    import torch

    if any(b"__setstate__" in text for name, text in records.items() if name.startswith("code/")):
        raise InvalidExport(
            f"export {file}: holds a method that runs when it is read (__setstate__): not made by `decloud export`"
        )
    with warnings.catch_warnings():
        # torch 2.13 announces that TorchScript will go; that is for who exports to know.
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.load(BytesIO(blob), map_location=device).eval()
    _require(file, (kind for kind in _kinds(module.inlined_graph) if kind not in _SYNTAX), "aten::")

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        # Without profiling and fusing: the first tiles would be computed by other code than the rest.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined] # noqa: FBT003
            result: tuple[Tensor, ...] = module(*inputs)
        return result

    return run


def _load_pt2(blob: bytes, records: dict[str, bytes], file: Path, device: str) -> Callable[..., tuple[Tensor, ...]]:
    import torch
    from torch.export.passes import move_to_device_pass

    if foreign := [name for name in records if not _RECORDS.fullmatch(name)]:
        raise InvalidExport(
            f"export {file}: holds {foreign[0]}, which is no part of one (torch 2.9 or newer makes them)"
        )
    if records.get("data/sample_inputs/model.pt"):
        raise InvalidExport(f"export {file}: holds pickled example inputs: not made by `decloud export`")
    for kind in ("weights", "constants"):
        config = json.loads(records[f"data/{kind}/model_{kind}_config.json"])["config"]
        if any(entry["use_pickle"] is not False for entry in config.values()):
            raise InvalidExport(f"export {file}: holds pickled {kind}: not made by `decloud export`")
    model = json.loads(records["models/model.json"])
    if model.get("guards_code") or b'"expr_str"' in records["models/model.json"]:
        raise InvalidExport(f"export {file}: holds expressions to evaluate: not made by `decloud export`")
    _require(file, (node["target"] for graph in _graphs(model) for node in graph["nodes"]), "torch.ops.aten.")
    program = torch.export.load(BytesIO(blob))
    if device != "cpu":
        # The graph asserts where its tensors lie, and there `cuda` is not the same as `cuda:0`.
        placed = f"cuda:{torch.cuda.current_device()}" if device == "cuda" else device
        program = move_to_device_pass(program, placed)
    module = program.module()
    return lambda *inputs: module(*inputs)


def _require(file: Path, operators: Iterator[str], prefix: str) -> None:
    """Raise InvalidExport where an operator is none of those that a generator needs."""
    for operator in operators:
        name = operator.removeprefix(prefix).partition(".")[0]
        if not operator.startswith(prefix) or name not in _OPERATORS:
            raise InvalidExport(f"export {file}: holds the operator {operator[:80]}, which no generator needs: not run")


def _kinds(graph: Any) -> Iterator[str]:
    """Kinds of all nodes of a TorchScript graph or block, inner blocks included."""
    for node in graph.nodes():
        yield node.kind()
        for block in node.blocks():
            yield from _kinds(block)


def _graphs(value: Any) -> Iterator[Any]:
    """All graphs in the JSON of a .pt2 file, nested ones included: whatever has nodes."""
    if isinstance(value, dict):
        if "nodes" in value:
            yield value
        for inner in value.values():
            yield from _graphs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _graphs(inner)
