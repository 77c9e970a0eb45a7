"""Train a generator: one loop from top to bottom.

    python -m srgan.trainer --store STORE --output DIR --preset small --steps 2000

`DIR/last.safetensors` holds weights, their moving average, the optimiser's moments, the step and all settings, so that a run goes on
where it stopped, bit for bit on a CPU: a batch depends on (seed, step) alone. `DIR/best.safetensors` is a release checkpoint with its
card: the moving average with the least validation error so far.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as format_tensors
from torch import Tensor, nn

from srgan.checkpoint import load_checkpoint, save_checkpoint, write_atomic
from srgan.dataset import Batch, SampleMaker
from srgan.errors import InvalidCheckpoint, ModelError
from srgan.generator import Generator
from srgan.losses import LossWeights, attainable, supervised_losses
from srgan.metrics import rmse
from srgan.score import first_guess_alone
from srgan.spec import SIZES
from srgan.store import ChipStore

LOG = logging.getLogger(__name__)


class TrainSettings(BaseModel):
    """Everything that decides what a run computes. Frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Literal["tiny", "small", "base"] = "small"
    guidance: Literal["none", "concat", "error_feedback"] = "error_feedback"
    steps: int = Field(2000, ge=1, description="Length of the run, and of the cosine")
    batch: int = Field(4, ge=1)
    crop: int = Field(128, ge=64, multiple_of=64, description="Edge of a training crop, pixels")
    rate: float = Field(5e-4, gt=0, description="Learning rate at its highest")
    warmup: int = Field(50, ge=0, description="Steps over which the rate rises")
    decay: float = Field(1e-4, ge=0, description="Weight decay of AdamW")
    clip: float = Field(1.0, gt=0, description="Norm to which the gradient is cut")
    average: float = Field(0.999, ge=0, lt=1, description="Moving average of the weights; shorter at the start")
    real_share: float = Field(0.4, ge=0, le=1, description="Share of real cloudy samples")
    hold_guess: bool = Field(default=True, description="Ask for the first guess where the ground cannot be seen")
    fine_levels: int = Field(0, ge=0, description="Only this many levels learn, the finest; 0: all of them")
    weight_reconstruction: float = Field(1.0, ge=0)
    weight_structure: float = Field(1.0, ge=0)
    weight_ssim: float = Field(0.5, ge=0)
    weight_gradient: float = Field(1.0, ge=0)
    validate_every: int = Field(200, ge=1, description="Steps between validations, and between saves of `last`")
    validation_samples: int = Field(12, ge=1)
    seed: int = 0
    start: str = Field("", description="Checkpoint to start from; its weights must be of this preset and guidance")

    @property
    def loss_weights(self) -> LossWeights:
        """Weights of the loss terms."""
        return LossWeights(self.weight_reconstruction, self.weight_structure, self.weight_ssim, self.weight_gradient)


class NotFinite(ModelError):
    """The loss was not finite three times in a row: lower the rate, or look at the batch that was saved."""


class Run:
    """State of a training run: weights, moving average, optimiser, step."""

    def __init__(self, settings: TrainSettings) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.generator = Generator(SIZES[settings.preset](settings.guidance))
        if settings.start:
            start = load_checkpoint(settings.start)
            if start.spec.widths != self.generator.spec.widths or start.spec.guidance != settings.guidance:
                raise InvalidCheckpoint(
                    f"{settings.start} is no {settings.preset} with guidance {settings.guidance}: start from another"
                )
            self.generator.load_state_dict(start.generator.state_dict())
        if settings.fine_levels:
            freeze_coarse(self.generator, settings.fine_levels)
        self.average = Generator(self.generator.spec).requires_grad_(requires_grad=False).eval()
        self.average.load_state_dict(self.generator.state_dict())
        self.optimiser = torch.optim.AdamW(
            [part for part in self.generator.parameters() if part.requires_grad],
            lr=settings.rate,
            betas=(0.9, 0.99),
            weight_decay=settings.decay,
            fused=True,
        )
        self.step = 0
        self.skipped = 0
        self.best = math.inf

    def update(self, batch: Batch) -> dict[str, float] | None:
        """One step of the optimiser; None where the loss was not finite and nothing was changed."""
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.step, settings)
        target = batch.target
        if settings.hold_guess:
            with torch.no_grad():
                target = attainable(batch, self.generator.default)
        output = self.generator(*batch.inputs)
        terms = supervised_losses(output, target, batch.mask, batch.counts, batch.present, settings.loss_weights)
        self.optimiser.zero_grad(set_to_none=True)
        terms["total"].backward()
        norm = torch.nn.utils.clip_grad_norm_(self.generator.parameters(), settings.clip)
        if not bool(torch.isfinite(norm)) or not bool(torch.isfinite(terms["total"])):
            return None
        self.optimiser.step()
        # A moving average over as many steps as there were, at first: 0.999 would remember the start for a thousand.
        keep = min(settings.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mine, theirs in zip(self.average.parameters(), self.generator.parameters(), strict=True):
                if theirs.requires_grad:
                    mine.lerp_(theirs, 1 - keep)
        return {name: float(term.detach()) for name, term in terms.items()} | {"norm": float(norm)}

    def save(self, path: Path) -> None:
        """Write everything that resuming needs, atomically."""
        tensors = {f"weights.{name}": value for name, value in self.generator.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for name, parameter in self.generator.named_parameters():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser.{key}.{name}"] = value
        meta = {
            "settings": self.settings.model_dump_json(),
            "step": str(self.step),
            "best": repr(self.best),
            "skipped": str(self.skipped),
        }
        write_atomic(path, format_tensors({name: value.contiguous().clone() for name, value in tensors.items()}, meta))

    @classmethod
    def resume(cls, path: Path) -> Run:
        """The run that `save` wrote. Raises InvalidCheckpoint where the file is none."""
        try:
            with safe_open(path, "pt") as file:
                meta = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # no mapping
            run = cls(TrainSettings.model_validate_json(meta["settings"]))
            run.step, run.best, run.skipped = int(meta["step"]), float(meta["best"]), int(meta["skipped"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InvalidCheckpoint(f"{path} is no training state ({error}): start anew in another folder") from error

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        run.generator.load_state_dict(part("weights."))
        run.average.load_state_dict(part("average."))
        for name, parameter in run.generator.named_parameters():
            state = {
                key: tensors[f"optimiser.{key}.{name}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"optimiser.{key}.{name}" in tensors
            }
            if state:
                run.optimiser.state[parameter] = state
        return run


def train(store: ChipStore, output: Path, settings: TrainSettings, until: int | None = None) -> Run:
    """Train to `settings.steps`, or stop after step `until` as an interruption would; go on from `output/last.safetensors` where it is.

    Raises InvalidCheckpoint where that file is of other settings, NotFinite after three losses in a row that are not finite.
    """
    output.mkdir(parents=True, exist_ok=True)
    last = output / "last.safetensors"
    run = Run.resume(last) if last.is_file() else Run(settings)
    if run.settings != settings:
        raise InvalidCheckpoint(f"{last} was made with other settings: take another folder, or the same settings")
    maker = SampleMaker(store.split("train"), settings.crop, settings.seed, settings.real_share)
    judge = SampleMaker(store.split("val"), settings.crop, seed=2**31, real_share=settings.real_share)
    failures, started, sums = 0, time.monotonic(), dict[str, float]()

    while run.step < min(settings.steps, until or settings.steps):
        batch = maker.batch(run.step, settings.batch)
        terms = run.update(batch)
        run.step += 1
        if terms is None:
            failures, run.skipped = failures + 1, run.skipped + 1
            LOG.warning("step %d: the loss is not finite, skipped", run.step)
            if failures == 3:
                write_atomic(
                    output / "not_finite.safetensors",
                    format_tensors({k: v.contiguous() for k, v in batch._asdict().items()}),
                )
                raise NotFinite(
                    f"step {run.step}: no finite loss three times in a row; the batch is in {output / 'not_finite.safetensors'}"
                )
        else:
            failures = 0
            for name, value in (terms | {"counted": 1.0}).items():
                sums[name] = sums.get(name, 0.0) + value
        if run.step % 20 == 0:
            pace, counted = (time.monotonic() - started) / 20, max(sums.pop("counted", 0.0), 1.0)
            LOG.info(
                "step %d  %s  %.2f s",
                run.step,
                "  ".join(f"{name} {value / counted:.4f}" for name, value in sums.items()),
                pace,
            )
            started, sums = time.monotonic(), {}
        if run.step % settings.validate_every == 0 or run.step == settings.steps:
            validate_and_save(run, judge, store, output)
            started = time.monotonic()
    run.save(last)
    return run


def validate_and_save(run: Run, judge: SampleMaker, store: ChipStore, output: Path) -> None:
    """Validate the moving average; write `last`, and `best` where it is the best so far."""
    error, baseline = validate(run.average, judge, run.settings.validation_samples)
    LOG.info("step %d  validation RMSE on cloudy pixels %.5f  (first guess alone %.5f)", run.step, error, baseline)
    if error < run.best:
        run.best = error
        card: dict[str, Any] = {
            "training": {"settings": run.settings.model_dump(), "step": run.step, "split_hash": store.split_hash},
            "scores": {"validation_rmse_cloudy": error},
        }
        save_checkpoint(output / "best.safetensors", run.average, card)
    run.save(output / "last.safetensors")


@torch.no_grad()
def validate(generator: Generator, judge: SampleMaker, samples: int) -> tuple[float, float]:
    """Mean RMSE on cloudy pixels over fixed samples, of the generator and of its first guess."""
    errors: list[float] = []
    baselines: list[float] = []
    blank = first_guess_alone(generator)
    for index in range(samples):
        batch = judge.batch(index, 1)
        where = (batch.mask * batch.counts)[0]
        if where.sum() < 64:
            continue
        bands = batch.present[0].bool()
        for model, into in ((generator, errors), (blank, baselines)):
            restored = model(*batch.inputs).restored[0, bands]
            into.append(rmse(restored, batch.target[0, bands], where))
    return sum(errors) / max(len(errors), 1), sum(baselines) / max(len(baselines), 1)


def freeze_coarse(generator: Generator, levels: int) -> None:
    """Let only the `levels` finest levels and the heads learn: what is seen through haze is local, and a step costs less."""
    generator.requires_grad_(requires_grad=False)
    parts: list[nn.Module] = [generator.stem, generator.stem_present, generator.reference_stem]
    parts += [*generator.encoder[:levels], *generator.decoder[:levels], *generator.downs[: levels - 1]]
    parts += [*generator.ups[: levels - 1], generator.correction, generator.opacity]
    if generator.spec.guidance != "none":
        parts += [generator.gradient_branch, *generator.fusions[:levels]]
    for part in parts:
        part.requires_grad_(requires_grad=True)
    generator.default.requires_grad_()


def rate_at(step: int, settings: TrainSettings) -> float:
    """Learning rate: linear warm-up, then a cosine down to a hundredth."""
    warm = min(1.0, (step + 1) / max(settings.warmup, 1))
    return settings.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / settings.steps))))


def main() -> None:
    """Command line: every field of `TrainSettings` is an option."""
    parser = argparse.ArgumentParser(description="Train a generator")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    for name, field in TrainSettings.model_fields.items():
        parser.add_argument(f"--{name.replace('_', '-')}", default=field.default, help=field.description)
    arguments = vars(parser.parse_args())
    store, output, threads = arguments.pop("store"), arguments.pop("output"), arguments.pop("threads")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(threads)
    settings = TrainSettings.model_validate(arguments)
    LOG.info("settings %s", json.dumps(settings.model_dump()))
    train(ChipStore(store), output, settings)


if __name__ == "__main__":
    main()
