"""The options of `python -m srgan.trainer`."""

from __future__ import annotations

import argparse
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """Parser of the trainer's command line."""
    options = argparse.ArgumentParser(description="Train SRG-GAN on a chip store")
    options.add_argument("--store", type=Path, required=True, help="Folder of chips")
    options.add_argument("--output", type=Path, required=True, help="Folder of the run")
    options.add_argument("--preset", default="small", help="tiny, small, base, seed, or a YAML file")
    options.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="A setting, like losses.style=0"
    )
    options.add_argument("--resume", action="store_true", help="Go on where the run in --output stopped")
    options.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    options.add_argument("--workers", type=int, help="Processes that make batches ahead")
    options.add_argument("--threads", type=int, default=0, help="Threads of the CPU; 0: torch's choice")
    options.add_argument("--vgg-weights", type=Path, help="VGG-16 weights, .safetensors or torchvision's .pth")
    return options
