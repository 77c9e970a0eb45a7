"""Made inputs and stores for the tests of `srgan`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from srgan.clouds import fractal_noise
from srgan.generator import Generator
from srgan.spec import BANDS, TYPICAL_LAND, ModelSpec


def lively(spec: ModelSpec, seed: int = 0) -> Generator:
    """A generator none of whose heads is zero, as after training."""
    torch.manual_seed(seed)
    generator = Generator(spec).eval().requires_grad_(requires_grad=False)
    for parameter in generator.parameters():
        parameter += 0.03 * torch.randn_like(parameter)
    return generator


def ground(rows: int, cols: int, seed: int = 0) -> Tensor:
    """Textured land (13, rows, cols), reflectance."""
    noise = torch.Generator().manual_seed(seed)
    texture = fractal_noise(1, rows, cols, noise)[0]
    return torch.tensor(TYPICAL_LAND)[:, None, None] * (1 + 0.2 * texture).clamp(0.2, 3)


def inputs(rows: int = 64, cols: int = 64, dates: int = 0, batch: int = 1, seed: int = 0) -> dict[str, Tensor]:
    """Arguments of `Generator.forward` by name: a scene half under a bright cloud."""
    noise = torch.Generator().manual_seed(seed)
    image = torch.stack([ground(rows, cols, seed + number) for number in range(batch)])
    mask = (fractal_noise(batch, rows, cols, noise) > 0).float()
    return {
        "cloudy": torch.where(mask > 0, image + 0.4, image),
        "present": torch.ones(batch, 13),
        "mask": mask,
        "valid": torch.ones(batch, 1, rows, cols),
        "references": image[:, None].repeat(1, dates, 1, 1, 1) * 1.02,
        "reference_valid": torch.ones(batch, dates, 1, rows, cols),
        "days": torch.arange(1.0, dates + 1).repeat(batch, 1),
    }


def write_store(folder: Path, edge: int = 64) -> Path:
    """A chip store of five made chips: train and val, single, pair and series."""
    rows = []
    for number, (split, kind, dates) in enumerate(
        [
            ("train", "single", 1),
            ("train", "pair", 2),
            ("train", "series", 3),
            ("val", "pair", 2),
            ("test", "series", 3),
        ]
    ):
        images = np.stack(
            [(ground(edge, edge, 10 * number + date) * 1e4).numpy().astype(np.uint16) for date in range(dates)]
        )
        masks = np.ones((dates, edge, edge), np.uint8)
        if dates > 1:
            masks[1, : edge // 2] = 2
            images[1, :, : edge // 2] = 7000
        name = f"{kind}{number}"
        (folder / name).mkdir(parents=True)
        np.save(folder / name / "images.npy", images)
        np.save(folder / name / "masks.npy", masks)
        cloud = [float((mask > 1).mean()) for mask in masks]
        days = [5 * date for date in range(dates)]
        row = {
            "id": name,
            "group": name,
            "split": split,
            "kind": kind,
            "days": days,
            "bands": list(BANDS),
            "cloud": cloud,
        }
        rows.append(row)
    (folder / "manifest.json").write_text(json.dumps({"chips": rows, "split_hash": "made"}))
    return folder
