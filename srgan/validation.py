"""How good a generator is on fixed samples of the validation split: all pixels, and cloudy ones only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from srgan.dataset import Batch, SampleMaker
from srgan.generator import Generator, GeneratorOutput
from srgan.metrics import correlation, psnr, rmse, sam
from srgan.ssim import ssim_map

LEAST_PIXELS = 64
"""Cloudy pixels below which a sample says nothing."""

STREAM = 2**31
"""Seed of the validation samples: no run's own, and the same for all runs."""


@dataclass(frozen=True)
class Validation:
    """Means over the samples."""

    scores: dict[str, float]
    """rmse, psnr, cc, sam on all known pixels and, with `_cloudy`, under the mask; ssim on all; `samples` how many counted.
    `best` is chosen by rmse_cloudy, reflectance."""
    shown: tuple[tuple[Batch, GeneratorOutput], ...]
    """The first few samples with what the generator made of them."""


@torch.no_grad()
def validate(generator: Generator, maker: SampleMaker, samples: int, show: int = 4) -> Validation:
    """Score a generator on `samples` fixed samples, half synthetic, half real where there are real ones."""
    device = next(generator.parameters()).device
    rows: list[dict[str, float]] = []
    shown: list[tuple[Batch, GeneratorOutput]] = []
    for index in range(samples):
        batch = maker.batch(index, 0, 1) if index % 2 else maker.batch(index, 1, 0)
        output = generator(*batch.to(device).inputs)
        output = GeneratorOutput(*(part.float().cpu() for part in output))
        if len(shown) < show:
            shown.append((batch, output))
        if float((batch.mask * batch.counts).sum()) >= LEAST_PIXELS:
            rows.append(score(batch, output.restored))
    return Validation({"samples": float(len(rows)), **_means(rows)}, tuple(shown))


def score(batch: Batch, restored: Tensor) -> dict[str, float]:
    """Scores of one sample (batch of 1), over the bands that are present and pixels whose target is known."""
    bands = batch.present[0].bool()
    mine, truth = restored[0, bands], batch.target[0, bands]
    known, cloudy = batch.counts[0], (batch.mask * batch.counts)[0]
    entry = dict[str, float]()
    for suffix, where in (("", known), ("_cloudy", cloudy)):
        error = rmse(mine, truth, where)
        entry |= {
            f"rmse{suffix}": error,
            f"psnr{suffix}": psnr(error),
            f"cc{suffix}": correlation(mine, truth, where),
            f"sam{suffix}": sam(mine, truth, where),
        }
    # Where the target is not known the prediction stands in for it: neither an error nor a reward for the windows beside it.
    filled = torch.where(known > 0, truth, mine)
    inner = known[None, :, 5:-5, 5:-5].expand(1, len(mine), -1, -1)
    similar = ssim_map(mine[None].clamp(0, 1), filled[None].clamp(0, 1))
    entry["ssim"] = float((similar * inner).sum() / inner.sum().clamp_min(1))
    return entry


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of each score over the samples in which it is finite."""
    if not rows:
        return {"rmse_cloudy": math.inf}
    means = {}
    for name in rows[0]:
        finite = [row[name] for row in rows if math.isfinite(row[name])]
        means[name] = sum(finite) / len(finite) if finite else math.nan
    return means
