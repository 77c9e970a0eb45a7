"""Does guidance earn its place? Error feedback against concatenation and against a plain U-Net of the same size.

    python benchmarks/guidance.py --store STORE --output DIR --steps 200

Three variants of the tiny model, trained by its preset (thin clouds: where the ground is seen, there is something to learn), with the same number of parameters (within 1 %), the same samples, steps and seeds, trained one after
the other, then scored on samples of ROIs that none has seen. The adversarial term is left out: it has no truth to come nearer to, and
costs a quarter of a step. A run that was stopped goes on. Prints the mean over the seeds, the
spread (standard deviation) between them, and the same for the first guess alone, which no training changes much.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
from pathlib import Path
from typing import Any

import torch

from srgan.checkpoint import load_checkpoint
from srgan.dataset import SampleMaker
from srgan.generator import Generator, parameter_count
from srgan.settings import TrainSettings, load_settings
from srgan.store import ChipStore
from srgan.trainer import train
from srgan.validation import STREAM, validate

VARIANTS: dict[str, dict[str, Any]] = {
    "error_feedback": {"guidance": "error_feedback"},
    "concat": {"guidance": "concat", "widths": [16, 32, 56, 100, 148, 200]},
    "none": {"guidance": "none", "widths": [20, 36, 64, 112, 168, 228]},
}
"""Widths that even out the parameters which the branches cost."""

SHOWN = ("rmse_cloudy", "psnr_cloudy", "sam_cloudy", "cc_cloudy", "ssim")


def settings_of(variant: str, seed: int, steps: int) -> TrainSettings:
    """Settings of one run."""
    epochs = max(1, steps // 100)
    run = {
        "seed": seed, "epochs": epochs, "epoch_steps": steps // epochs, "crop": 128, "batch": 1,
        "losses.adversarial": 0, "margin_samples": 1,
    }  # fmt: skip
    return load_settings("tiny", run | VARIANTS[variant])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(arguments.threads)
    store = ChipStore(arguments.store)
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(arguments.seeds):
        for variant in VARIANTS:
            settings = settings_of(variant, seed, arguments.steps)
            folder = arguments.output / f"{variant}-{seed}"
            result = train(store, folder, settings, resume=(folder / "last.safetensors").is_file(), device="cpu")
            generator = load_checkpoint(result.best or "").generator
            judge = SampleMaker(store.split("test"), settings.model_copy(update={"transplants": 0.0}), STREAM)
            scores = validate(generator, judge, arguments.samples).scores
            found.setdefault(variant, []).append(scores | {"parameters": parameter_count(generator)})
            if variant == "none":
                # Before training the heads are zero: what is left is the first guess.
                guess = validate(Generator(generator.spec).eval(), judge, arguments.samples).scores
                found.setdefault("first guess alone", []).append(guess)
            print(variant, seed, {name: round(scores[name], 5) for name in SHOWN}, flush=True)
    (arguments.output / "guidance.json").write_text(json.dumps(found, indent=1))
    print(f"{'variant':32}{'parameters':>12}" + "".join(f"{name:>22}" for name in SHOWN))
    for variant, rows in found.items():
        cells = []
        for name in SHOWN:
            values = [row[name] for row in rows]
            cells.append(f"{statistics.mean(values):.5f} +- {statistics.pstdev(values):.5f}")
        print(f"{variant:32}{int(rows[0].get('parameters', 0)):12}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
