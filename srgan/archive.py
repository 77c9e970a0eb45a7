"""What an exported file says of itself: its record, read with `zipfile` and JSON alone, so that torch is not needed to know it.

A TorchScript (`.ts`, `.torchscript`) or `.pt2` file is a zip archive; `srgan.export` puts the record into it as `extra/declouder.json`.
An ONNX file holds the same text in its metadata, under the key `declouder`; it is made for other programs and not run here.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from srgan.errors import InvalidExport
from srgan.spec import ModelSpec

Format = Literal["torchscript", "pt2", "onnx"]
SUFFIXES: dict[Format, tuple[str, ...]] = {"torchscript": (".ts", ".torchscript"), "pt2": (".pt2",), "onnx": (".onnx",)}
"""Suffixes of each format, the usual one first."""

PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"})
"""Never read: a pickle can run any code."""

RECORD = "declouder.json"
VERSION = 2
"""Of the record and of what the inputs and outputs mean."""
LARGEST_RECORD = 1 << 20
"""Bytes; ours have a few thousand."""


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of an exported network."""

    name: str
    shape: tuple[int, ...]
    """Fixed when it was exported."""
    values: str
    """Unit, range and polarity."""
    dtype: str = "float32"


class ExportRecord(BaseModel):
    """What was exported, and for which shapes. Frozen."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[2] = 2
    format: Format
    name: str = Field(min_length=1, description="Name of the checkpoint")
    spec: ModelSpec
    weights: str = Field(pattern="^[0-9a-f]{64}$", description="sha256 of the checkpoint's weights")
    tile: int = Field(ge=1, le=8192, description="Height and width of a tile, pixels")
    references: int = Field(ge=0, le=64, description="Other dates, T")
    batch: int = Field(ge=1, le=4096, description="Tiles a pass, B")
    made_with: str = Field("", description="Version of torch that exported it")

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The seven inputs, in order; as those of `Generator.forward`."""
        B, T, C, H = self.batch, self.references, len(self.spec.bands), self.tile
        return (
            TensorInfo("cloudy", (B, C, H, H), "reflectance 0..1 (to 1.6 over bright cloud), anything where not valid"),
            TensorInfo("present", (B, C), "1 = the band exists, 0 = it does not"),
            TensorInfo("mask", (B, 1, H, H), "probability of cloud or shadow, 0..1"),
            TensorInfo("valid", (B, 1, H, H), "1 = observed, 0 = no data"),
            TensorInfo("references", (B, T, C, H, H), "reflectance of other dates, harmonised to cloudy"),
            TensorInfo("reference_valid", (B, T, 1, H, H), "1 = clear on that date, 0 = not, or no such date"),
            TensorInfo("days", (B, T), "signed distance in days, negative = before the scene"),
        )

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The five outputs, in order; as those of `GeneratorOutput`."""
        B, C, H = self.batch, len(self.spec.bands), self.tile
        return (
            TensorInfo("restored", (B, C, H, H), "reflectance 0..1.6 under clouds, 0 in absent bands"),
            TensorInfo("opacity", (B, 1, H, H), "share that does not come from the input, 0..1"),
            TensorInfo("structure", (B, 4, H, H), "smoothed means of VIS, red edge, NIR, SWIR, reflectance"),
            TensorInfo("gradient", (B, 8, H, H), "Sobel maps of these, reflectance per pixel: four along x, four along y"),
            TensorInfo("uncertainty", (B, 4, H, H), "absolute error to expect of restored in VIS, red edge, NIR, SWIR, reflectance"),
        )  # fmt: skip

    def text(self) -> str:
        """The record as JSON, with what other programs need to know spelled out: bands in order, margin, grid, inputs, outputs."""
        spelled = {
            "bands": self.spec.bands,
            "margin": self.spec.margin,
            "grid": self.spec.grid,
            "inputs": [vars(info) for info in self.inputs],
            "outputs": [vars(info) for info in self.outputs],
        }
        return json.dumps(self.model_dump(mode="json") | spelled, indent=1)


def format_of(path: str | PurePath) -> Format | None:
    """The format that a file's suffix stands for, None where it is not one of an export.

    >>> format_of("model.pt2"), format_of("model.TS"), format_of("model.safetensors")
    ('pt2', 'torchscript', None)
    """
    suffix = PurePath(path).suffix.lower()
    return next((name for name, suffixes in SUFFIXES.items() if suffix in suffixes), None)


def read_record(file: Path, blob: bytes | None = None) -> ExportRecord:
    """The record of an exported file (of its content `blob`, where that was read already).

    Raises InvalidExport where the file cannot be read, is no archive, has no record, or one of another version or format.
    """
    expected = format_of(file)
    if expected == "onnx":
        raise InvalidExport(
            f"export {file}: ONNX is for other programs and is not run here: give the checkpoint, a .pt2 or a .ts file"
        )
    try:
        with zipfile.ZipFile(file if blob is None else BytesIO(blob)) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{RECORD}")]
            if len(names) != 1:
                raise InvalidExport(
                    f"export {file}: it has no record {RECORD}: not made by `decloud export`; export the checkpoint again"
                )
            if archive.getinfo(names[0]).file_size > LARGEST_RECORD:
                raise InvalidExport(f"export {file}: its record {RECORD} is too large to be one: export again")
            content = json.loads(archive.read(names[0]))
    except FileNotFoundError as error:
        raise InvalidExport(f"export {file}: no such file; `decloud export` makes one") from error
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError) as error:
        # A RuntimeError is how zipfile answers a compression or an encryption that it does not know.
        reason = getattr(error, "strerror", None) or "no zip archive, or truncated"
        raise InvalidExport(f"export {file}: cannot be read ({reason}): export or fetch it again") from error
    except (ValueError, RecursionError) as error:
        raise InvalidExport(f"export {file}: its record {RECORD} is not readable JSON: export again") from error
    record = _record(content, file)
    if record.format != expected:
        raise InvalidExport(f"export {file}: it holds {record.format}: call it {file.stem}{SUFFIXES[record.format][0]}")
    return record


def _record(content: Any, file: Path) -> ExportRecord:
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION:
        raise InvalidExport(
            f"export {file}: its record is of version {version!r:.40}, this program reads {VERSION}: export the checkpoint again"
        )
    try:
        return ExportRecord.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise InvalidExport(
            f"export {file}: bad record, {place}: {fault['msg']}: export the checkpoint again"
        ) from error
