"""The network that all contenders of a line run: our generator without guidance, its weights drawn from a fixed seed. Good for timing only."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from srgan.checkpoint import save_checkpoint
from srgan.generator import Generator
from srgan.spec import ModelSpec

MARGIN = 32
"""Overlap of the tiles, pixels; what the network asks for is then what all contenders are given."""


def make_network(work: Path, seed: int = 0) -> Path:
    """The weights (.safetensors, its card beside it), written once below `work`: the packaged default's size, a plain U-Net."""
    path = work / "networks" / f"plain_{seed}.safetensors"
    if not path.is_file():
        spec = ModelSpec.tiny("none").model_copy(update={"name": "benchmark", "margin": MARGIN})
        generator = Generator(spec)
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in generator.named_parameters():
                # As wide as torch's own initial values; the heads too, which begin at zero: no contender's network is a constant.
                fan = max(1, parameter[0].numel())
                if parameter.ndim > 1:
                    parameter.copy_(torch.randn(parameter.shape, generator=draw) / fan**0.5)
                elif "norm" not in name:
                    nn.init.zeros_(parameter)
        save_checkpoint(path, generator, {"description": "random weights, for timing only"}, dtype=torch.float32)
    return path
