"""Train SRG-GAN: one loop from top to bottom.

    python -m srgan.trainer --store STORE --output DIR --preset small
    torchrun --nproc-per-node 4 -m srgan.trainer --store STORE --output DIR --preset base

A step: one batch of synthetic and real samples, one forward pass of the generator, the six losses, one step of the generator, one of the
discriminator. `DIR/last.safetensors` is the state from which a run goes on; `DIR/best.safetensors` is the release checkpoint with its
card: the moving average of the weights with the least validation error so far, and its measured margin.
"""

from __future__ import annotations

import copy
import logging
import math
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save as format_tensors

from srgan import calibration
from srgan.atomic import write_atomic
from srgan.board import Board
from srgan.calibration import calibrate
from srgan.checkpoint import load_checkpoint, save_checkpoint
from srgan.command import parser
from srgan.dataset import Batch, SampleMaker
from srgan.devices import Devices, together
from srgan.errors import InvalidCheckpoint, InvalidSettings, InvalidStore, ModelError, NotFinite, NotSaved
from srgan.loader import Loader, Steps, spare_processes
from srgan.lock import alone
from srgan.losses import SupervisedLosses
from srgan.margin import measure_margin
from srgan.progress import Progress, TrainResult
from srgan.release import release_card
from srgan.settings import TrainSettings, load_settings, parse_overrides
from srgan.state import Material, TrainState
from srgan.steps import Stepper
from srgan.store import ChipStore
from srgan.validation import STREAM, validate
from srgan.vgg import load_vgg

LOG = logging.getLogger(__name__)

__all__ = ["Progress", "Run", "TrainResult", "train"]

LOG_EVERY = 10
"""Steps between lines of the log."""
MARGIN_SAMPLES = 2
"""Scenes, at most, on which the margin of each new best is measured; the last one gets the full measurement."""


def train(
    store: ChipStore,
    output: Path,
    settings: TrainSettings,
    *,
    resume: bool = False,
    device: str = "auto",
    workers: int | None = None,
    vgg_weights: Path | None = None,
    stop: Callable[[], bool] | None = None,
    report: Callable[[Progress], None] | None = None,
) -> TrainResult:
    """Train to the end of the settings' epochs, or until `stop()`, which is asked between steps, says so.

    `resume` goes on from `output/last.safetensors`. `workers` processes make batches ahead (left out: the machine's spare cores beside a
    GPU, none on a CPU, whose cores compute); they change nothing in the result. Raises InvalidCheckpoint where the state is missing, damaged, or of
    other settings, or where there is one and `resume` was not asked for; InvalidStore for chips that cannot be used; NotFinite after
    three steps in a row without a finite loss; NotSaved where the disk is full.
    """
    last = output / "last.safetensors"
    _check_last(last, resume=resume)
    makers = (
        SampleMaker(store.split("train"), settings, settings.seed),
        SampleMaker(store.split("val"), settings, STREAM),
        SampleMaker(store.split("val"), settings, calibration.STREAM),
    )
    with together(device) as devices:
        vgg = load_vgg(vgg_weights).to(devices.device) if settings.losses.needs_vgg else None
        with alone(output, leads=devices.leads):
            _check_last(last, resume=resume)  # another may have begun, and ended, meanwhile
            material = Material(store.split_hash, store.digest, devices.world)
            if resume:
                state = TrainState.load(last, settings, devices.device, material)
            else:
                state = TrainState(settings, devices.device, material)
            run = Run(state, SupervisedLosses(vgg), devices, output, makers)
            return run.go(workers, stop or (lambda: False), report or (lambda _: None))


def _check_last(last: Path, *, resume: bool) -> None:
    if last.is_file() and not resume:
        raise InvalidCheckpoint(f"{last} is there already: resume that run, or train in another folder")
    if resume and not last.is_file():
        raise InvalidCheckpoint(f"{last} is not there: nothing to resume; leave resuming out to begin")


class Run:
    """A state on its way through the steps."""

    def __init__(
        self,
        state: TrainState,
        losses: SupervisedLosses,
        devices: Devices,
        output: Path,
        makers: tuple[SampleMaker, SampleMaker, SampleMaker],
    ) -> None:
        self.state, self.devices, self.output = state, devices, output
        self.maker, self.judge, self.scale = makers
        settings = state.settings
        self.settings = settings
        self.real = settings.batch if settings.real_batch is None else settings.real_batch
        self.epoch_steps = settings.epoch_steps or math.ceil(len(self.maker.clear) / (settings.batch * devices.world))
        self.steps = settings.epochs * self.epoch_steps
        self.stepper = Stepper(state, losses, devices, self.steps)
        if devices.device.type == "cuda":
            torch.backends.cudnn.benchmark = True

    @property
    def last(self) -> Path:
        """File of the state."""
        return self.output / "last.safetensors"

    def go(self, workers: int | None, stop: Callable[[], bool], report: Callable[[Progress], None]) -> TrainResult:
        """Take all steps that are left, measure the margin, and say what came of it."""
        board = None
        try:
            board = Board(self.output, self.state.step) if self.devices.leads else None
            scores, interrupted = self.loop(board, workers, stop, report)
            if not interrupted and self.devices.leads:
                self.measure()
        except KeyboardInterrupt:
            # It may have come in the middle of a step, whose weights are half done: the last save stands.
            scores, interrupted = {}, True
        except OSError as error:
            raise NotSaved(
                f"{self.output}: {error.strerror or error} ({error.filename or 'a file of the run'}); the last state saved is as it "
                "was: make room and resume"
            ) from error
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise InvalidSettings(
                f"{self.devices.device}: {self.settings.batch + self.real} samples of {self.settings.crop} pixels do not fit into its memory: "
                "set a smaller batch, real_batch or crop"
            ) from error
        finally:
            if board is not None:
                board.close()
        best = self.output / "best.safetensors"
        known = {"first_rmse_cloudy": self.state.first, "best_rmse_cloudy": self.state.best}
        return TrainResult(self.state.step, self.last, best if best.is_file() else None, scores | known, interrupted)

    def loop(
        self, board: Board | None, workers: int | None, stop: Callable[[], bool], report: Callable[[Progress], None]
    ) -> tuple[dict[str, float], bool]:
        """The steps; returns the last scores, and whether `stop` ended them early."""
        state, settings, scores = self.state, self.settings, dict[str, float]()
        if state.step == 0:
            scores = self.judged(board)
            state.first = scores["rmse_cloudy"]
            if not scores["samples"] and self.devices.leads:
                raise InvalidStore(
                    f"none of {settings.validation_samples} validation samples has clouds over known ground: set more "
                    "validation_samples, or catalogue more pairs of split val"
                )
            self.save()
        clock, waited, since = time.perf_counter(), 0.0, state.step
        loader = self.loader(workers)
        for batch in loader:
            if self.devices.agree(flag=stop()):
                self.save()
                return scores, True
            terms = self.stepper.update(batch)
            state.step += 1
            self.count(batch, terms)
            waited, seconds = waited + loader.waited, time.perf_counter() - clock
            pace = seconds / (state.step - since)
            epoch, left = math.ceil(state.step / self.epoch_steps), (self.steps - state.step) * pace
            told = Progress(epoch, state.step, self.steps, terms or {}, 1 / pace, waited / seconds, left)
            self.log(board, told)
            if state.step % self.epoch_steps == 0:
                scores = self.epoch(board, told)
                told = replace(told, validation=scores)
                clock, waited, since = time.perf_counter(), 0.0, state.step
            elif settings.save_every and state.step % settings.save_every == 0:
                self.save()
            report(told)
        return scores, False

    def loader(self, workers: int | None) -> Loader:
        """Batches of the steps that are left."""
        device, count = self.devices.device, self.settings.batch + self.real
        source = Steps(self.maker, self.settings.batch, self.real, self.devices.rank * count)
        ahead = (spare_processes() if device.type == "cuda" else 0) if workers is None else workers
        return Loader(source, self.state.step, self.steps, device, ahead)

    def count(self, batch: Batch, terms: dict[str, float] | None) -> None:
        """Keep account of steps that were skipped. Raises NotFinite after three in a row, with the batch saved."""
        state = self.state
        state.failures = 0 if terms is not None else state.failures + 1
        if terms is not None:
            return
        state.skipped += 1
        LOG.warning("step %d: the loss is not finite, skipped", state.step)
        if state.failures == 3:
            file = self.output / f"not_finite_{self.devices.rank}.safetensors"
            write_atomic(
                file, format_tensors({name: part.cpu().contiguous() for name, part in batch._asdict().items()})
            )
            raise NotFinite(
                f"step {state.step}: no finite loss three times in a row; the batch is in {file}: look at it, or lower `rate`"
            )

    def epoch(self, board: Board | None, told: Progress) -> dict[str, float]:
        """The end of an epoch: validate, keep the best, save."""
        state, scores = self.state, dict[str, float]()
        if self.devices.leads:
            scores = self.judged(board)
            LOG.info(
                "epoch %d  step %d  validation: RMSE on cloudy pixels %.5f (%.5f before training)  PSNR %.2f dB  %.2f s a step, "
                "%.0f %% of it waiting", told.epoch, state.step, scores["rmse_cloudy"], state.first,
                scores.get("psnr", math.nan), 1 / told.rate, 100 * told.wait_share,
            )  # fmt: skip
            if math.isnan(scores["rmse_cloudy"]):
                raise NotFinite(
                    f"step {state.step}: what the network makes is not finite: train anew with a lower `rate`"
                )
            if scores["rmse_cloudy"] < state.best:
                state.best = scores["rmse_cloudy"]
                self.release(scores)
        self.save()
        return scores

    def judged(self, board: Board | None) -> dict[str, float]:
        """Scores of the moving average on the validation split, at full strength: what was learned, before it is calibrated."""
        found = validate(self.state.average, self.judge, self.settings.validation_samples)
        if board is not None:
            board.scalars(self.state.step, {f"validation/{name}": value for name, value in found.scores.items()})
            board.pictures(self.state.step, found.shown)
        return found.scores

    def release(self, scores: dict[str, float]) -> None:
        """Write the moving average as a release checkpoint, with its margin as measured."""
        state = self.state
        calibrate(state.average, self.scale, self.settings.validation_samples)
        # On the CPU, wherever it was trained: a margin is a distance, not a matter of the device.
        samples = min(MARGIN_SAMPLES, self.settings.margin_samples)
        margin = measure_margin(copy.deepcopy(state.average).cpu(), samples=samples)
        run = {"step": state.step, "steps": self.steps, "devices": self.devices.world}
        card = release_card(state, {"train": self.maker, "val": self.judge}, scores, run) | {"margin_samples": samples}
        spec = state.average.spec.model_copy(update={"margin": margin})
        save_checkpoint(self.output / "best.safetensors", state.average, card, spec=spec, dtype=torch.float32)
        state.average.strength.fill_(1)  # the next checkpoints are judged by what they learned

    def save(self) -> None:
        """Write `last`."""
        if self.devices.leads:
            self.state.save(self.last)
        self.devices.wait()

    def measure(self) -> None:
        """Measure the margin of the best on as many scenes as it deserves, now that it is the last one."""
        file, samples = self.output / "best.safetensors", self.settings.margin_samples
        best = load_checkpoint(file) if file.is_file() else None
        if best is None or best.card.get("margin_samples") == samples:
            return
        margin = measure_margin(best.generator, samples=samples)
        spec = best.spec.model_copy(update={"margin": margin})
        save_checkpoint(file, best.generator, {**best.card, "margin_samples": samples}, spec=spec, dtype=torch.float32)
        LOG.info("margin of the best checkpoint, measured: %d pixels", margin)

    def log(self, board: Board | None, told: Progress) -> None:
        """Write the figures of a step."""
        if board is not None and told.terms and (told.step % LOG_EVERY == 0 or "share/reconstruction" in told.terms):
            figures = {name if "/" in name else f"train/{name}": value for name, value in told.terms.items()}
            speed = {"speed/steps_per_second": told.rate, "speed/wait_share": told.wait_share}
            board.scalars(told.step, figures | speed)


def main() -> None:
    """Command line: `--set name=value` changes a setting of the preset. Exit status 130 where ctrl-C stopped the run."""
    arguments = parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    asked: list[bool] = []
    signal.signal(signal.SIGINT, lambda *_: asked.append(True))
    try:
        settings = load_settings(arguments.preset, parse_overrides(arguments.set))
        result = train(
            ChipStore(arguments.store), arguments.output, settings, resume=arguments.resume, device=arguments.device,
            workers=arguments.workers, vgg_weights=arguments.vgg_weights, stop=lambda: bool(asked),
        )  # fmt: skip
    except ModelError as error:
        LOG.error("error: %s", error)
        sys.exit(1 if isinstance(error, NotSaved | NotFinite) else 2)
    if result.interrupted:
        LOG.info("interrupted after step %d; the same command with --resume goes on", result.step)
        sys.exit(130)


if __name__ == "__main__":
    main()
