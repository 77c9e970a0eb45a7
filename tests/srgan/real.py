"""Real parts for the tests of the losses: a SEN12MS-CR pair and the weights of VGG-16."""

from __future__ import annotations

from pathlib import Path

import pytest
import rasterio
import torch
from rasterio.windows import Window
from torch import Tensor


def real_pair(shared_data: Path, edge: int = 64) -> tuple[Tensor, Tensor]:
    """Cloudy and clear side of one place, each (1, 13, edge, edge), reflectance, double."""
    sides = []
    for side in ("s2_cloudy", "s2"):
        name = f"ROIs1158_spring_{side}"
        file = shared_data / "SEN12MSCR" / name / f"{side}_39" / f"{name}_39_p100.tif"
        with rasterio.open(file) as image:
            sides.append(torch.from_numpy(image.read(window=Window(96, 96, edge, edge)) / 1e4)[None])
    return sides[0], sides[1]


def vgg_file(shared_data: Path) -> Path:
    """The real weights, float16, or a skip that says what is missing."""
    file = shared_data.parent / "weights" / "vgg16_relu3_3_fp16.safetensors"
    if not file.is_file():
        pytest.skip(f"weights of VGG-16 not found at {file}: set DECLOUD_TEST_DATA")
    return file


def stub_weights(widths: tuple[int, int, int] = (3, 4, 5), seed: int = 0) -> dict[str, Tensor]:
    """Weights of a stack of VGG-16's form with fewer channels, double: what gradients are checked on."""
    noise = torch.Generator().manual_seed(seed)
    weights, channels = {}, 3
    for index, level in ((0, 0), (2, 0), (5, 1), (7, 1), (10, 2), (12, 2), (14, 2)):
        out = widths[level]
        shape = (out, channels, 3, 3)
        scale = (2 / (9 * channels)) ** 0.5
        weights[f"features.{index}.weight"] = scale * torch.randn(shape, generator=noise, dtype=torch.float64)
        weights[f"features.{index}.bias"] = 0.1 * torch.randn(out, generator=noise, dtype=torch.float64)
        channels = out
    return weights
