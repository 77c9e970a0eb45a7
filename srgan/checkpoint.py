"""Release checkpoints: `<name>.safetensors` and its card `<name>.json` beside it. Nothing is ever unpickled.

The card holds the `ModelSpec`, the sha256 of the weights, what the model saw and what it scored. Weights may be float16; the generator is
always float32.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as format_tensors
from torch import Tensor

from srgan.archive import PICKLE_SUFFIXES, format_of
from srgan.atomic import write_atomic, write_together
from srgan.card import card_spec, read_card
from srgan.errors import InvalidCheckpoint
from srgan.generator import Generator, parameter_count
from srgan.spec import ModelSpec

__all__ = [
    "PACKAGED",
    "Checkpoint",
    "card_spec",
    "checkpoint_file",
    "load_checkpoint",
    "read_card",
    "save_checkpoint",
    "write_atomic",
]

PACKAGED = Path(__file__).parent / "weights"
"""Folder of the checkpoints that come with the package."""

PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True)
class Checkpoint:
    """A generator that is ready to use, and where it came from."""

    name: str
    """File name without its suffix."""
    spec: ModelSpec
    generator: Generator
    """float32, in evaluation mode, no gradients."""
    digest: str
    """sha256 of the weights' file, hex."""
    card: Mapping[str, Any]
    """The card as it was read."""


def load_checkpoint(path: str | Path, device: str = "cpu") -> Checkpoint:
    """The checkpoint at `path`, or a packaged one by name (`default`).

    Raises InvalidCheckpoint where it is missing, truncated, a pickle, has no card, another digest, other bands or other tensors.
    """
    file = checkpoint_file(path)
    try:
        blob = file.read_bytes()
    except OSError as error:
        raise InvalidCheckpoint(
            f"checkpoint {file}: cannot be read ({error.strerror}): check the path, or use `default`"
        ) from error
    if format_of(file) is not None:
        raise InvalidCheckpoint(
            f"checkpoint {file}: an exported file, no checkpoint: give the .safetensors file that it was made from"
        )
    if file.suffix in PICKLE_SUFFIXES or blob.startswith(PICKLE_MAGIC):
        raise InvalidCheckpoint(
            f"checkpoint {file}: a pickle can run any code and is not read: use a .safetensors file with its card"
        )
    card = read_card(file)
    spec = card_spec(card, file)
    digest = hashlib.sha256(blob).hexdigest()
    if digest != card.get("sha256"):
        raise InvalidCheckpoint(
            f"checkpoint {file}: its sha256 is {digest[:12]}..., its card says {str(card.get('sha256'))[:12]}...: truncated or altered, fetch both again"
        )
    with torch.device("meta"):
        # A card may claim any size: memory is asked for only when the file is known to hold that much.
        expected = Generator(spec).state_dict()
    tensors = _checked(expected, blob, file)
    generator = Generator(spec)
    generator.load_state_dict(tensors)
    generator.to(device).eval().requires_grad_(requires_grad=False)
    return Checkpoint(file.stem, spec, generator, digest, card)


def save_checkpoint(
    path: Path,
    generator: Generator,
    card: Mapping[str, Any],
    *,
    spec: ModelSpec | None = None,
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write `path` (.safetensors) and its card atomically, weights as `dtype`; returns `path`.

    `card` may hold anything that JSON holds; `name`, `spec`, `bands`, `margin`, `parameters` and `sha256` are written from the model. Weights that are
    not finite in `dtype` raise InvalidCheckpoint and leave what was there.
    """
    if path.suffix != ".safetensors":
        raise InvalidCheckpoint(f"checkpoint {path}: a checkpoint is a .safetensors file")
    spec = spec or generator.spec
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in generator.state_dict().items()}
    if broken := [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]:
        raise InvalidCheckpoint(f"checkpoint {path}: {broken[0]} is not finite as {dtype}: the training diverged")
    blob = format_tensors(tensors)
    full = {
        **card,
        "name": path.stem,
        "spec": spec.model_dump(mode="json"),
        "bands": list(spec.bands),
        "margin": spec.margin,
        "parameters": parameter_count(generator),
        "sha256": hashlib.sha256(blob).hexdigest(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(full, indent=1, allow_nan=False) + "\n"
    write_together({path: blob, path.with_suffix(".json"): text.encode()})
    return path


def checkpoint_file(path: str | Path) -> Path:
    """The weights' file that `path` means. Raises InvalidCheckpoint where there is none."""
    text = str(path)
    packaged = PACKAGED / f"{text}.safetensors"
    if text.replace("-", "").replace("_", "").isalnum() and packaged.is_file() and not Path(text).exists():
        return packaged
    file = Path(path)
    if not file.is_file():
        known = ", ".join(sorted(entry.stem for entry in PACKAGED.glob("*.safetensors"))) or "none"
        raise InvalidCheckpoint(f"checkpoint {text}: no such file; packaged ones: {known}")
    return file


def _checked(expected: Mapping[str, Tensor], blob: bytes, file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors blob as float32, which must have the names and shapes of `expected`."""
    try:
        tensors: dict[str, Tensor] = parse_tensors(blob)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InvalidCheckpoint(f"checkpoint {file}: no readable safetensors file ({error}): fetch it again") from error
    if odd := sorted(tensors.keys() ^ expected.keys()):
        raise InvalidCheckpoint(
            f"checkpoint {file}: its tensors are not those of its spec: {odd[0]} and {len(odd) - 1} more"
        )
    for name, value in tensors.items():
        if value.shape != expected[name].shape:
            raise InvalidCheckpoint(
                f"checkpoint {file}: {name} has shape {tuple(value.shape)}, its spec asks for {tuple(expected[name].shape)}"
            )
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise InvalidCheckpoint(f"checkpoint {file}: {name} holds values that are no finite real numbers")
    return {name: value.float() for name, value in tensors.items()}
