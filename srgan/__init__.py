"""The model: structural representation-guided GAN for cloud removal. Torch and numpy only: it runs where torch runs.

Tensors are float32 (B, C, H, W), reflectance 0..1, masks (B, 1, H, W). The generator follows Yang, Wang, Chen, Liu, Zou and
Shi, "Structural Representation-Guided GAN for Remote Sensing Image Cloud Removal", IEEE GRSL 22, 2025,
DOI 10.1109/LGRS.2024.3516078; what we added is marked where it stands.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srgan.card import write_card
    from srgan.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from srgan.discriminator import Discriminator
    from srgan.errors import ModelError
    from srgan.export import ExportReport, export_checkpoint
    from srgan.exported import Exported, load_exported
    from srgan.generator import Generator
    from srgan.progress import Progress, TrainResult
    from srgan.settings import TrainSettings, load_settings
    from srgan.spec import BANDS, ModelSpec
    from srgan.store import ChipStore
    from srgan.trainer import train

__all__ = [
    "BANDS",
    "Checkpoint",
    "ChipStore",
    "Discriminator",
    "ExportReport",
    "Exported",
    "Generator",
    "ModelError",
    "ModelSpec",
    "Progress",
    "TrainResult",
    "TrainSettings",
    "export_checkpoint",
    "load_checkpoint",
    "load_exported",
    "load_settings",
    "save_checkpoint",
    "train",
    "write_card",
]

_HOMES = {
    "BANDS": "spec",
    "Checkpoint": "checkpoint",
    "ChipStore": "store",
    "Discriminator": "discriminator",
    "ExportReport": "export",
    "Exported": "exported",
    "Generator": "generator",
    "ModelError": "errors",
    "ModelSpec": "spec",
    "Progress": "progress",
    "TrainResult": "progress",
    "TrainSettings": "settings",
    "export_checkpoint": "export",
    "load_checkpoint": "checkpoint",
    "load_exported": "exported",
    "load_settings": "settings",
    "save_checkpoint": "checkpoint",
    "train": "trainer",
    "write_card": "card",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch takes a second."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
