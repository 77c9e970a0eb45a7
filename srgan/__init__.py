"""The model: structural representation-guided GAN for cloud removal. Torch and numpy only: it runs where torch runs.

Tensors are float32 (B, C, H, W), reflectance 0..1, masks (B, 1, H, W). The generator follows Yang, Wang, Chen, Liu, Zou and
Shi, "Structural Representation-Guided GAN for Remote Sensing Image Cloud Removal", IEEE GRSL 22, 2025,
DOI 10.1109/LGRS.2024.3516078; what we added is marked where it stands.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srgan.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from srgan.errors import ModelError
    from srgan.generator import Generator
    from srgan.spec import BANDS, ModelSpec

__all__ = ["BANDS", "Checkpoint", "Generator", "ModelError", "ModelSpec", "load_checkpoint", "save_checkpoint"]

_HOMES = {
    "BANDS": "spec",
    "Checkpoint": "checkpoint",
    "Generator": "generator",
    "ModelError": "errors",
    "ModelSpec": "spec",
    "load_checkpoint": "checkpoint",
    "save_checkpoint": "checkpoint",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch takes a second."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
