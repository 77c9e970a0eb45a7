"""What is measured on validation samples after training: the strength of the correction, and the scale of the expected error.

Strategy. A network that learned from few places may well do harm on others: where, is seen on samples of places that it did not learn
from. The correction is linear in its strength, so the network runs once a sample, and a strength is tried by `Generator.finish` alone:
for each of the six kinds of pixels (with or without another date; darker than the guess, brighter, opaque cloud) the one of least error is taken,
from 0, which is the first guess, to 1. A stronger one has to earn its place (`WORTH`), and neither the real samples nor the synthetic ones may
come out worse than the first guess, whichever the other gain: made shadows and clouds are easier than real ones. With another date it
stays 0 unless the samples hold series of real dates: what a network does to made-up ones says nothing of it (a whole scene under laid clouds with
two real dates had 1.16 times the error at a strength that made-up dates had asked for). Then the expected error is brought to the error
that was found: of b = exp(shift + power * head) the shift and the power of greatest likelihood, for each band group.

The trainer calibrates whatever it validates, on crops of its own size. A finished checkpoint is calibrated on larger and more ones:

    python -m srgan.calibration CHECKPOINT --store STORE --output FILE --crop 256 --samples 200
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from srgan.checkpoint import load_checkpoint, save_checkpoint
from srgan.dataset import Batch, SampleMaker
from srgan.errors import ModelError
from srgan.generator import Draft, Generator
from srgan.metrics import rmse
from srgan.settings import load_settings, make_settings
from srgan.spec import GROUPS
from srgan.store import ChipStore
from srgan.strength import LEVELS, described
from srgan.uncertainty import LEAST, group_error

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
POWERS = tuple(step / 20 for step in range(61))
"""0, nothing of the head, to 3."""
WORTH = 0.002
"""Share of the error by which a strength must be better than the one that stands."""
ROUNDS = 2
THIN = 7
"""Every how many pixels one is looked at for the expected error: neighbours say the same."""
STREAM = 2**31 + 1
"""Seed of the samples: other ones than those on which checkpoints are judged."""


@torch.no_grad()
def calibrate(generator: Generator, maker: SampleMaker, samples: int) -> None:
    """Set strength and calibration of a generator from `samples` fixed samples, half synthetic, half real where there are real ones.

    `maker` draws from the validation split, with the seed `STREAM`. Samples without a replaced pixel of known truth do not count;
    without any other the generator stays as it is.
    """
    drafts = list(_drafts(generator, maker, samples))
    if not drafts:
        return
    _set_strength(generator, drafts, dated=maker.revisited)
    _set_scale(generator, drafts)


def _drafts(generator: Generator, maker: SampleMaker, samples: int) -> Iterator[tuple[bool, Batch, Draft]]:
    """Whether the sample is real, the sample, and what the network makes of it."""
    device = next(generator.parameters()).device
    for index in range(samples):
        batch = maker.batch(index, 0, 1) if index % 2 else maker.batch(index, 1, 0)
        if bool((batch.mask * batch.counts > 0).any()):
            draft = generator.draft(*batch.to(device).inputs)
            yield bool(index % 2), batch, Draft(*(part.float().cpu() for part in draft))


def _set_strength(generator: Generator, drafts: list[tuple[bool, Batch, Draft]], *, dated: bool) -> None:
    """The best of `STRENGTHS` for each kind of pixel, one kind after the other, `ROUNDS` times; those with another date only if `dated`."""
    device, strength = generator.strength.device, torch.zeros(2, len(LEVELS))
    kinds = [(row, column) for column in range(len(LEVELS)) for row in ((1, 0) if dated else (0,))]

    def errors() -> tuple[float, ...]:
        """Mean error of the real samples and of the synthetic ones, as far as there are such."""
        generator.strength.copy_(strength)
        found: dict[bool, list[float]] = {}
        for real, batch, draft in drafts:
            found.setdefault(real, []).append(_error(generator, batch, draft))
        return tuple(sum(part) / len(part) for part in found.values())

    generator.to("cpu")
    guess = errors()
    least = float(len(guess))

    def of_guess(found: tuple[float, ...]) -> float:
        """The errors as shares of the first guess's, summed; infinite where one is worse than it."""
        worse = any(new > old for new, old in zip(found, guess, strict=True))
        return math.inf if worse else sum(new / max(old, LEAST) for new, old in zip(found, guess, strict=True))

    for _ in range(ROUNDS):
        for kind in kinds:
            stands = float(strength[kind])
            for value in STRENGTHS:
                strength[kind] = value
                found = of_guess(errors())
                if found < least * (1 - WORTH):
                    least, stands = found, value
            strength[kind] = stands
    generator.strength.copy_(strength)
    generator.to(device)


def _error(generator: Generator, batch: Batch, draft: Draft) -> float:
    """RMSE of one sample over replaced pixels and present bands."""
    bands = batch.present[0].bool()
    restored = generator.finish(draft).restored
    return rmse(restored[0, bands], batch.target[0, bands], (batch.mask * batch.counts)[0])


def _set_scale(generator: Generator, drafts: list[tuple[bool, Batch, Draft]]) -> None:
    """Shift and power of each group."""
    said: list[list[Tensor]] = [[] for _ in GROUPS]
    found: list[list[Tensor]] = [[] for _ in GROUPS]
    device = generator.strength.device
    generator.to("cpu")
    for _, batch, draft in drafts:
        known = batch.counts * batch.present[:, :, None, None]
        restored = generator.finish(draft).restored
        error, counts = group_error(restored, batch.target, batch.mask, known, batch.present)
        for group in range(len(GROUPS)):
            where = counts[0, group] > 0
            said[group].append(draft.doubt[0, group][where][::THIN])
            found[group].append(error[0, group][where][::THIN])
    for group in range(len(GROUPS)):
        if sum(part.numel() for part in said[group]):
            shift, power = fit_scale(torch.cat(said[group]), torch.cat(found[group]))
            generator.uncertainty.calibration[:, group] = torch.tensor([shift, power])
    generator.to(device)


def fit_scale(said: Tensor, error: Tensor) -> tuple[float, float]:
    """Shift and power of greatest likelihood for b = exp(shift + power * said), errors (n,) of a Laplace distribution of scale b.

    For a given power the best shift is log(mean(|error| exp(-power * said))); the power is the best of `POWERS`.
    """
    said, error = said.double(), error.double().clamp_min(LEAST)
    best = (math.inf, 0.0, 1.0)
    for power in POWERS:
        shift = float(torch.log((error * torch.exp(-power * said)).mean()))
        best = min(best, (shift + power * float(said.mean()), shift, power))
    return best[1], best[2]


def calibration_card(generator: Generator, samples: int, crop: int) -> dict[str, object]:
    """What the card says of a calibration."""
    shift, power = generator.uncertainty.calibration.tolist()
    return {
        "strength of the correction": described(generator.strength),
        "expected error, shift": dict(zip(GROUPS, shift, strict=True)),
        "expected error, power": dict(zip(GROUPS, power, strict=True)),
        "samples": samples,
        "pixels of a sample's edge": crop,
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line: exit status 0 done, 2 for what cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m srgan.calibration", description="Calibrate a finished checkpoint")
    parser.add_argument("checkpoint", help=".safetensors file with its card, or the name of a packaged one")
    parser.add_argument("--store", type=Path, required=True, help="chip store; its split val is drawn from")
    parser.add_argument("--output", type=Path, required=True, help="file of the calibrated checkpoint, .safetensors")
    parser.add_argument("--crop", type=int, default=256, help="edge of a sample, pixels")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--full", action="store_true", help="keep weights as float32 (left out: float16)")
    given = parser.parse_args(arguments)
    try:
        checkpoint = load_checkpoint(given.checkpoint)
        training = checkpoint.card.get("training")
        own = training.get("settings") if isinstance(training, Mapping) else None
        # Skies, transplants and bands as it was trained on; where the card does not tell, as the preset `small`.
        settings = (
            make_settings({**own, "crop": given.crop, "start": ""})
            if own
            else load_settings("small", {"crop": given.crop})
        )
        maker = SampleMaker(ChipStore(given.store).split("val"), settings, STREAM)
        calibrate(checkpoint.generator, maker, given.samples)
        card = {**checkpoint.card, "calibration": calibration_card(checkpoint.generator, given.samples, given.crop)}
        dtype = torch.float32 if given.full else torch.float16
        save_checkpoint(given.output, checkpoint.generator, card, spec=checkpoint.spec, dtype=dtype)
    except ModelError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
