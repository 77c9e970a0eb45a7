"""What a checkpoint is, without loading it: its digest and its margin, for the run key and the plan. No torch here."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path

from pipeline.errors import InvalidSettings

IDENTITY = "identity"
_LARGEST = 1024
"""Half the largest tile."""


def checkpoint_paths(checkpoint: str) -> tuple[Path, Path]:
    """Weights and card of the checkpoint called `checkpoint`: `default`, or the path of a .safetensors file."""
    if not Path(checkpoint).name:
        raise InvalidSettings(f"--checkpoint {checkpoint!r} names no file; give a .safetensors file, or `default`")
    if checkpoint == "default":
        weights = Path(str(resources.files("srgan") / "weights" / "default.safetensors"))
    else:
        weights = Path(checkpoint)
    return weights, weights.with_suffix(".json")


def checkpoint_digest(checkpoint: str) -> str:
    """sha256 over the weights and the card.

    Raises InvalidSettings where one of the two files cannot be read.
    """
    if checkpoint == IDENTITY:
        return IDENTITY
    digest = hashlib.sha256()
    for path in checkpoint_paths(checkpoint):
        digest.update(_bytes(checkpoint, path))
    return digest.hexdigest()


def checkpoint_reach(checkpoint: str) -> tuple[int, int]:
    """(margin, grid) in pixels, from the card: the least overlap of neighbouring tiles, and the network's coarsest cell.

    Raises InvalidSettings where the card cannot be read or holds none.
    """
    if checkpoint == IDENTITY:
        return 0, 1
    card = checkpoint_paths(checkpoint)[1]
    try:
        spec = json.loads(_bytes(checkpoint, card))["spec"]
        margin, grid = int(spec["margin"]), 2 ** (len(spec["widths"]) - 1)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidSettings(f"--checkpoint {checkpoint}: {card} is no model card: it records no margin") from error
    if not (0 <= margin <= _LARGEST and grid <= _LARGEST):
        raise InvalidSettings(
            f"--checkpoint {checkpoint}: {card} records a margin of {margin} and a grid of {grid} pixels, beyond any "
            f"tile (0..{_LARGEST}): fetch it again"
        )
    return margin, grid


def _bytes(checkpoint: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettings(
            f"--checkpoint {checkpoint}: {path} cannot be read ({error.strerror}); name a .safetensors file that has its "
            ".json card beside it, or `default`"
        ) from error
