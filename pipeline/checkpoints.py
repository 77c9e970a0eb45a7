"""What a checkpoint is, without loading it: digest, margin, grid and limits, for the run key, the checks and the plan. No torch here.

A checkpoint is `identity`, `default`, a .safetensors file with its card beside it, or a file that `decloud export` made (.pt2, .ts).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pipeline.errors import InvalidSettings
from pipeline.settings import DecloudSettings
from srgan.archive import PICKLE_SUFFIXES, format_of, read_record
from srgan.card import card_spec, read_card

IDENTITY = "identity"
_LARGEST = 1024
"""Half the largest tile."""


@dataclass(frozen=True)
class Limits:
    """What a network asks of tiles and references."""

    margin: int
    """Pixels beyond which an input no longer moves the output: the least overlap of neighbouring tiles."""
    grid: int
    """Pixels of the network's coarsest cell: tiles start at multiples of it."""
    references: int | None
    """At most so many other dates; None: any number."""
    tile: int | None
    """The one edge of a tile that an exported file takes; None: any."""


def checkpoint_paths(checkpoint: str) -> tuple[Path, ...]:
    """The files of the checkpoint called `checkpoint`: weights and card, or the one exported file.

    Raises InvalidSettings for a name that can be none, and for a pickle.
    """
    path = Path(checkpoint)
    if not path.name:
        raise InvalidSettings(f"--checkpoint {checkpoint!r} names no file; give a .safetensors file, or `default`")
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise InvalidSettings(
            f"--checkpoint {checkpoint}: a pickle can run any code and is not read: use a .safetensors file with its card"
        )
    if checkpoint == "default":
        path = Path(str(resources.files("srgan") / "weights" / "default.safetensors"))
    return (path,) if format_of(path) else (path, path.with_suffix(".json"))


def checkpoint_digest(checkpoint: str) -> str:
    """sha256 over the weights and the card, or over the exported file.

    Raises InvalidSettings where one of the files cannot be read.
    """
    if checkpoint == IDENTITY:
        return IDENTITY
    digest = hashlib.sha256()
    for path in checkpoint_paths(checkpoint):
        digest.update(_bytes(checkpoint, path))
    return digest.hexdigest()


def checkpoint_limits(checkpoint: str) -> Limits:
    """What the checkpoint's card, or the record inside an exported file, says of tiles and references.

    Raises InvalidSettings where the card cannot be read, srgan.errors.ModelError where it is none or the export is no good.
    """
    if checkpoint == IDENTITY:
        return Limits(0, 1, None, None)
    paths = checkpoint_paths(checkpoint)
    if len(paths) == 1:
        record = read_record(paths[0])
        spec, tile, references = record.spec, record.tile, record.references
    else:
        weights, card = paths
        _bytes(checkpoint, card)
        spec = card_spec(read_card(weights), weights)
        tile, references = None, spec.max_references
    if spec.margin > _LARGEST or spec.grid > _LARGEST:
        raise InvalidSettings(
            f"--checkpoint {checkpoint}: {paths[-1]} records a margin of {spec.margin} and a grid of {spec.grid} pixels, "
            f"beyond any tile (0..{_LARGEST}): fetch it again"
        )
    return Limits(spec.margin, spec.grid, references, tile)


def checkpoint_reach(checkpoint: str) -> tuple[int, int]:
    """(margin, grid) in pixels: the least overlap of neighbouring tiles, and the network's coarsest cell.

    Raises as `checkpoint_limits` does.
    """
    limits = checkpoint_limits(checkpoint)
    return limits.margin, limits.grid


def check_fits(settings: DecloudSettings) -> None:
    """Raise InvalidSettings where tile or references are not what the checkpoint takes; otherwise as `checkpoint_limits` does."""
    limits = checkpoint_limits(settings.checkpoint)
    if limits.tile is not None and settings.tile != limits.tile:
        raise InvalidSettings(
            f"--tile {settings.tile}: --checkpoint {settings.checkpoint} was exported for tiles of {limits.tile} pixels: "
            f"give --tile {limits.tile}, or export it with --tile {settings.tile}"
        )
    if limits.references is not None and settings.references > limits.references:
        raise InvalidSettings(
            f"--references {settings.references}: --checkpoint {settings.checkpoint} takes at most {limits.references}: "
            f"give --references {limits.references}"
        )


def _bytes(checkpoint: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettings(
            f"--checkpoint {checkpoint}: {path} cannot be read ({error.strerror}); name a .safetensors file that has its "
            ".json card beside it, an exported .pt2 or .ts file, or `default`"
        ) from error
