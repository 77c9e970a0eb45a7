"""The loop: it learns, it resumes bit for bit after a kill, it swallows nothing that is not finite."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from srgan.checkpoint import load_checkpoint
from srgan.dataset import Batch, SampleMaker
from srgan.devices import Devices, pick
from srgan.errors import InvalidCheckpoint, InvalidSettings, InvalidStore, ModelError, NotFinite, NotSaved
from srgan.loader import spare_processes
from srgan.lock import alone
from srgan.losses import SupervisedLosses
from srgan.margin import measure_margin
from srgan.settings import TrainSettings, load_settings
from srgan.state import Material, TrainState
from srgan.steps import Stepper, clear_images, gan_weight, other_triple, rate_at
from srgan.store import ChipStore
from srgan.trainer import Progress, TrainResult, main, train
from tests.srgan.made import write_store

torch.set_num_threads(1)
SMALL = {
    "widths": [8, 8, 12, 12], "depths": [1, 1, 1, 1], "discriminator_width": 8, "batch": 1, "real_batch": 1, "crop": 64,
    "epochs": 2, "epoch_steps": 4, "warmup": 1, "rate": 1e-3, "validation_samples": 2, "margin_samples": 1, "shares_every": 3,
    "gan_start": 0.2, "gan_ramp": 0.2, "skies": {"haze": 1, "broken": 1}, "whole_bands": False,
}  # fmt: skip
SETTINGS = load_settings("tiny", SMALL)
STEPS = 8
CPU = torch.device("cpu")

MARGIN_TILE = 64
"""Edge of the tiles on which margins are measured here, pixels, instead of 256: how they are measured is for test_margin.py."""


@pytest.fixture(scope="module", autouse=True)
def small_margin_scenes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("srgan.trainer.measure_margin", partial(measure_margin, tile=MARGIN_TILE))
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ChipStore:
    return ChipStore(write_store(tmp_path_factory.mktemp("store")))


@dataclass(frozen=True)
class Whole:
    """A run from its beginning to its end, in this process."""

    folder: Path
    result: TrainResult
    told: list[Progress]


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory) -> Whole:
    """`SETTINGS`, undisturbed; read only."""
    folder, told = tmp_path_factory.mktemp("whole"), list[Progress]()
    return Whole(folder, train(store, folder, SETTINGS, report=told.append), told)


def changed(**values) -> TrainSettings:
    return load_settings("tiny", SMALL | values)


def stepper(settings: TrainSettings, steps: int = 100) -> Stepper:
    return Stepper(TrainState(settings, CPU), SupervisedLosses(None), Devices(CPU), steps)


def equal_files(first: Path, second: Path) -> bool:
    mine, theirs = load_file(first), load_file(second)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


PROGRAM = f"""
import os, signal
from functools import partial
from srgan import trainer
from srgan.steps import Stepper

def update(stepper, batch, update=Stepper.update):
    terms = update(stepper, batch)
    if stepper.state.step == int(os.environ.get("KILLED_IN_STEP", 0)) - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return terms

Stepper.update = update
trainer.measure_margin = partial(trainer.measure_margin, tile={MARGIN_TILE})
trainer.main()
"""
"""`python -m srgan.trainer`, but for where margins are measured, and for a kill in the midst of a step."""


def options(store: ChipStore, output: Path, *more: str) -> list[str]:
    pairs = [f"--set={name}={json.dumps(value)}" for name, value in SMALL.items()]
    run = ["--store", str(store.folder), "--output", str(output), "--preset", "tiny", "--threads", "1"]
    return [*run, *pairs, *more]


def command(store: ChipStore, output: Path, *more: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, *options(store, output, *more)]


def test_a_run_leaves_what_it_promises(whole):
    folder, result, told = whole.folder, whole.result, whole.told
    assert (result.step, result.interrupted) == (STEPS, False)
    assert [progress.step for progress in told] == list(range(1, STEPS + 1))
    assert [progress.epoch for progress in told] == [1] * (STEPS // 2) + [2] * (STEPS // 2)
    ends = [progress.step for progress in told if progress.validation is not None]
    assert ends == [STEPS // 2, STEPS]
    assert all(0 <= progress.wait_share <= 1 and progress.rate > 0 for progress in told)
    assert told[-1].seconds_left == 0
    assert {"reconstruction", "structural", "gradient_consistency", "adversarial", "discriminator"} <= told[
        -1
    ].terms.keys()
    assert not {"perceptual", "style"} & told[-1].terms.keys()
    shares = {name: value for name, value in told[2].terms.items() if name.startswith("share/")}
    assert sum(shares.values()) == pytest.approx(1)
    assert {
        "rmse",
        "rmse_cloudy",
        "psnr",
        "psnr_cloudy",
        "cc",
        "sam",
        "ssim",
        "first_rmse_cloudy",
    } <= result.scores.keys()

    best = load_checkpoint(folder / "best.safetensors")
    assert best.card["training"]["split_hash"] == "made"
    assert best.card["training"]["settings"]["model"] == "tiny"
    assert best.spec.margin % best.spec.grid == 0
    assert best.card["margin_samples"] == 1

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert {"validation/rmse_cloudy", "share/reconstruction", "train/norm", "train/rate"} <= set(
        events.Tags()["scalars"]
    )
    assert [event.step for event in events.Images("validation")] == [0, *ends]
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation/psnr" in line] == [0, *ends]


def test_stopping_and_resuming_gives_the_same_bits(tmp_path, store, whole):
    asked = iter([False] * 5 + [True])
    stopped = train(store, tmp_path, SETTINGS, stop=lambda: next(asked))
    assert (stopped.step, stopped.interrupted) == (5, True)
    assert train(store, tmp_path, SETTINGS, resume=True).step == STEPS
    assert equal_files(whole.folder / "last.safetensors", tmp_path / "last.safetensors")
    assert (whole.folder / "best.json").read_bytes() == (tmp_path / "best.json").read_bytes()
    assert shown(tmp_path) == shown(whole.folder)
    # Finished: nothing is left to do, and nothing changes.
    again = train(store, tmp_path, SETTINGS, resume=True)
    assert (again.step, again.interrupted) == (STEPS, False)
    assert equal_files(whole.folder / "last.safetensors", tmp_path / "last.safetensors")


def shown(run: Path) -> dict[str, list[int]]:
    """Steps of each scalar that TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    return {name: [event.step for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.mark.slow
def test_a_run_killed_after_half_its_steps_and_resumed_gives_the_same_bits(tmp_path, store, whole, monkeypatch):
    last = tmp_path / "last.safetensors"
    # A step and the weights of the next one are lost.
    killed = os.environ | {"KILLED_IN_STEP": str(STEPS // 2 + 2)}
    run = subprocess.run(command(store, tmp_path), check=False, capture_output=True, timeout=200, env=killed)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert state_step(last) == STEPS // 2
    monkeypatch.setattr(sys, "argv", ["trainer", *options(store, tmp_path, "--resume", "--workers", "1")])
    handler = signal.getsignal(signal.SIGINT)
    try:
        main()
    finally:
        signal.signal(signal.SIGINT, handler)
    assert state_step(last) == STEPS
    assert equal_files(whole.folder / "last.safetensors", last)
    assert equal_files(whole.folder / "best.safetensors", tmp_path / "best.safetensors")


def state_step(file: Path) -> int:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        return int(json.loads(opened.metadata()["counters"])["step"])


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, store):
    with subprocess.Popen(
        command(store, tmp_path, "--set=epochs=500", "--set=epoch_steps=2", "--workers", "1"),
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "epoch 1 " in line:
                break
        run.send_signal(signal.SIGINT)
        rest = run.stderr.read()
    assert run.returncode == 130
    assert "--resume goes on" in rest
    assert "Traceback" not in rest
    assert state_step(tmp_path / "last.safetensors") >= 2


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path, store):
    values = {"real_batch": 0, "hold_guess": False, "whole_bands": True, "epochs": 1}
    losses = {"losses.adversarial": 0, "losses.structural": 0, "losses.uncertainty": 0}
    train(store, tmp_path / "one", load_settings("tiny", SMALL | values | losses | {"batch": 2}))
    more = [f"--set={name}={json.dumps(value)}" for name, value in (values | losses).items()]
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    run = [str(program), *options(store, tmp_path / "two", *more, "--device", "cpu")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *run]
    subprocess.run(launcher, check=True, capture_output=True, timeout=200, env=os.environ | {"OMP_NUM_THREADS": "1"})
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    # The same four samples a step; means of means differ from means where a sample has fewer known pixels.
    moved = [name for name in one if name.startswith("weights.")]
    start = TrainState(SETTINGS, CPU).generator.state_dict()
    for name in moved:
        step = (one[name] - start[name.removeprefix("weights.")]).abs().mean()
        apart = (one[name] - two[name]).abs().mean()
        assert apart <= 0.2 * step + 1e-7, name


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rate": 1e-3 * 2}, "made with rate 0.001, now rate is 0.002"),
        ({"widths": [8, 8, 12, 16]}, r"made with widths \(8, 8, 12, 12\), now widths is \(8, 8, 12, 16\)"),
        ({"guidance": "none"}, "made with guidance error_feedback"),
    ],
)
def test_resuming_with_other_settings_is_refused(tmp_path, values, said):
    TrainState(SETTINGS, CPU).save(tmp_path / "last.safetensors")
    with pytest.raises(InvalidCheckpoint, match=said):
        TrainState.load(tmp_path / "last.safetensors", changed(**values), CPU)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (Material("b" * 64, "c" * 64, 2), r"another split \(aaaaaaaaaaaa\.\.\., now bbbbbbbbbbbb"),
        (Material("a" * 64, "d" * 64, 2), r"other chips \(cccccccccccc\.\.\., now dddddddddddd"),
        (Material("a" * 64, "c" * 64, 1), "trained by 2 processes, now there are 1"),
    ],
)
def test_resuming_on_other_material_is_refused(tmp_path, now, said):
    TrainState(SETTINGS, CPU, Material("a" * 64, "c" * 64, 2)).save(tmp_path / "last.safetensors")
    with pytest.raises(InvalidCheckpoint, match=said):
        TrainState.load(tmp_path / "last.safetensors", SETTINGS, CPU, now)


def test_states_that_are_none(tmp_path, store):
    last = tmp_path / "last.safetensors"
    with pytest.raises(InvalidCheckpoint, match="nothing to resume"):
        train(store, tmp_path, SETTINGS, resume=True)
    last.write_bytes(b"no tensors")
    with pytest.raises(InvalidCheckpoint, match="is there already"):
        train(store, tmp_path, SETTINGS)
    with pytest.raises(InvalidCheckpoint, match="no training state"):
        train(store, tmp_path, SETTINGS, resume=True)
    TrainState(SETTINGS, CPU, Material("made")).save(last)
    last.write_bytes(last.read_bytes()[:-1000])
    with pytest.raises(InvalidCheckpoint, match="no training state"):
        train(store, tmp_path, SETTINGS, resume=True)
    # A release checkpoint is no state.
    train(store, tmp_path / "run", changed(epochs=1, epoch_steps=1))
    last.write_bytes((tmp_path / "run" / "best.safetensors").read_bytes())
    with pytest.raises(InvalidCheckpoint, match="no training state"):
        train(store, tmp_path, SETTINGS, resume=True)


def test_a_full_disk_leaves_the_previous_state(tmp_path):
    """A limit on the size of files stands in for the disk: it fails at the same call, in the middle of the file."""
    state, last = TrainState(SETTINGS, CPU), tmp_path / "last.safetensors"
    state.save(last)
    before = last.read_bytes()
    state.step = 7
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(NotSaved) as caught:
            state.save(last)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "could not be written (File too large); the previous state is as it was" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert last.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [last.name]
    assert TrainState.load(last, SETTINGS, CPU).step == 0
    assert issubclass(NotSaved, ModelError)


def test_it_learns_one_chip(store):
    stepping = stepper(changed(rate=2e-3, gan_start=1, gan_ramp=0))
    batch = SampleMaker(store.split("train")[:1], SETTINGS, 0).batch(3, 1, 0)
    losses = []
    for _ in range(12):
        terms = stepping.update(batch)
        assert terms is not None
        losses.append(terms["total"])
        stepping.state.step += 1
    assert losses[-1] < 0.85 * losses[0]


def test_what_is_not_finite_changes_nothing_and_stops_the_third_time(tmp_path, store, monkeypatch):
    stepping = stepper(SETTINGS)
    batch = SampleMaker(store.split("train"), SETTINGS, 0).batch(0, 1, 1)
    before = {name: value.clone() for name, value in stepping.state.generator.state_dict().items()}
    assert stepping.update(broken(batch)) is None
    assert all(torch.equal(before[name], value) for name, value in stepping.state.generator.state_dict().items())
    assert not stepping.state.optimiser.state

    real = SampleMaker.batch
    calls = iter([True, True, False, True, True, True])

    def batches(maker, step, synthetic, count, first=0):
        made = real(maker, step, synthetic, count, first)
        return broken(made) if synthetic and count and next(calls) else made

    monkeypatch.setattr(SampleMaker, "batch", batches)
    with pytest.raises(NotFinite, match="step 6: no finite loss three times in a row; the batch is in"):
        train(store, tmp_path, changed(epochs=1, epoch_steps=50))
    assert load_file(tmp_path / "not_finite_0.safetensors")["target"].isnan().any()


def test_a_step_that_another_process_skips_is_skipped(store):
    class Together(Devices):
        def agree(self, *, flag: bool) -> bool:  # noqa: ARG002
            return True

    stepping = Stepper(TrainState(SETTINGS, CPU), SupervisedLosses(None), Together(CPU), 100)
    before = {name: value.clone() for name, value in stepping.state.generator.state_dict().items()}
    assert stepping.update(SampleMaker(store.split("train"), SETTINGS, 0).batch(0, 1, 1)) is None
    assert all(torch.equal(before[name], value) for name, value in stepping.state.generator.state_dict().items())


def broken(batch: Batch) -> Batch:
    return batch._replace(target=batch.target * math.nan)


def test_a_term_of_weight_zero_is_left_out(store):
    batch = SampleMaker(store.split("train"), SETTINGS, 0).batch(0, 1, 1)
    for name in ("reconstruction", "structural", "gradient_consistency", "adversarial", "uncertainty"):
        weights = {
            "reconstruction": 0,
            "structural": 0,
            "gradient_consistency": 0,
            "adversarial": 0,
            "uncertainty": 0,
            name: 1.0,
        }
        stepping = stepper(changed(losses={"perceptual": 0, "style": 0, **weights}), steps=2)
        stepping.state.step = 1
        terms = stepping.update(batch)
        assert terms is not None
        assert terms["total"] == pytest.approx(terms[name])
        assert not (weights.keys() - {name}) & terms.keys()


def test_the_discriminator_is_shown_no_made_clouds_as_real(store):
    paired, unpaired = (SampleMaker(store.split("train"), changed(paired=share), 0) for share in (1.0, 0.0))
    parts = [paired.batch(0, 1, 1), unpaired.batch(0, 0, 1)]
    batch = Batch(*(torch.cat(part) for part in zip(*parts, strict=True)))
    made = torch.full_like(batch.target, 0.77)
    truth, bands = clear_images(batch, made)
    assert torch.equal(bands, batch.present[:2])
    seen = batch.counts[:2] * bands[:, :, None, None]
    assert torch.equal(truth * seen, batch.target[:2] * seen)
    assert float((truth == 0.77).float().mean()) < 0.5
    # With nothing else to show, all are shown.
    alone, _ = clear_images(parts[1], made[2:])
    assert alone.shape == made[2:].shape


def test_the_rate_rises_and_falls():
    settings = changed(warmup=10, rate=1.0)
    rates = [rate_at(step, 100, settings) for step in range(100)]
    assert rates[0] < rates[5] < rates[9]
    assert rates[10] > rates[50] > rates[99] > 0
    assert {rate_at(step, 100, changed(warmup=0, rate=0.5, schedule="constant")) for step in range(100)} == {0.5}


def test_the_adversarial_weight_waits_and_then_rises():
    weights = [gan_weight(step, 100, load_settings("tiny")) for step in range(100)]
    assert weights[:9] == [0.0] * 9
    assert 0 < weights[12] < weights[17] < weights[19] == weights[99] == 0.01


def test_the_other_triple_is_drawn_by_the_step():
    triples = [other_triple(0, step) for step in range(60)]
    assert triples == [other_triple(0, step) for step in range(60)]
    assert all(len(set(triple)) == 3 and not {1, 2, 3, 10} & set(triple) for triple in triples)
    assert {index for triple in triples for index in triple} == {0, 4, 5, 6, 7, 8, 9, 11, 12}


def test_starting_from_a_checkpoint(tmp_path, store):
    train(store, tmp_path / "first", changed(epochs=1, epoch_steps=1))
    best = tmp_path / "first" / "best.safetensors"
    state = TrainState(changed(start=str(best)), CPU)
    expected = load_checkpoint(best).generator.state_dict()
    assert (expected["strength"] < 1).any()
    expected["strength"] = torch.ones_like(expected["strength"])  # whatever was measured: all of it is to learn
    assert all(torch.equal(value, expected[name]) for name, value in state.generator.state_dict().items())
    assert (state.average.strength == 1).all()
    with pytest.raises(InvalidCheckpoint, match="guidance error_feedback; the settings ask for"):
        TrainState(changed(start=str(best), guidance="none"), CPU)


def test_devices_that_are_not_there():
    assert pick("cpu") == CPU
    for wrong in ("cuda:99", "abacus", "mps"):
        with pytest.raises(InvalidSettings, match="device"):
            pick(wrong)


@pytest.mark.parametrize(("cores", "trainings", "spare"), [(1, 1, 1), (8, 1, 7), (64, 1, 12), (16, 4, 3), (4, 8, 1)])
def test_batches_are_made_by_the_cores_that_are_left(monkeypatch, cores, trainings, spare):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(trainings))
    assert spare_processes() == spare


def test_a_store_without_validation_chips(tmp_path, store):
    manifest = json.loads((store.folder / "manifest.json").read_text())
    folder = tmp_path / "store"
    folder.mkdir()
    chips = [chip for chip in manifest["chips"] if chip["split"] != "val"]
    (folder / "manifest.json").write_text(json.dumps(manifest | {"chips": chips}))
    for chip in chips:
        (folder / chip["id"]).symlink_to(store.folder / chip["id"])
    with pytest.raises(InvalidStore, match="has no chip of split 'val': it has"):
        train(ChipStore(folder), tmp_path / "run", SETTINGS)


def test_one_training_a_folder(tmp_path, store):
    with alone(tmp_path), pytest.raises(NotSaved, match="another training is at work in it"):
        train(store, tmp_path, SETTINGS)
    assert not (tmp_path / "last.safetensors").exists()
    with alone(tmp_path):
        pass  # it was given back


def test_an_output_that_is_a_file(tmp_path, store):
    (tmp_path / "out").write_text("")
    with pytest.raises(NotSaved, match=r"out: cannot be written to .*train in another folder"):
        train(store, tmp_path / "out", SETTINGS)


def test_a_tensorboard_folder_that_is_a_file(tmp_path, store):
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(NotSaved, match="tensorboard"):
        train(store, tmp_path, SETTINGS)


def test_weights_that_leave_the_finite_end_the_run_before_they_are_saved(tmp_path, store, monkeypatch):
    def spoil(self: Stepper, _: Batch) -> dict[str, float]:
        for parameter in self.state.average.parameters():
            parameter.data.fill_(math.nan)
        return {"total": 1.0}

    monkeypatch.setattr(Stepper, "update", spoil)
    with pytest.raises(NotFinite, match="step 2: what the network makes is not finite"):
        train(store, tmp_path, changed(epoch_steps=2))
    assert state_step(tmp_path / "last.safetensors") == 0
    assert not (tmp_path / "best.safetensors").exists()


def test_validation_that_says_nothing_is_told_before_the_first_step(tmp_path, store, monkeypatch):
    monkeypatch.setattr("srgan.validation.LEAST_PIXELS", 10**9)
    with pytest.raises(InvalidStore, match="none of 2 validation samples has clouds over known ground"):
        train(store, tmp_path, SETTINGS)


def test_a_device_without_enough_memory(tmp_path, store, monkeypatch):
    def full(_: Stepper, __: Batch) -> dict[str, float]:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(Stepper, "update", full)
    with pytest.raises(InvalidSettings, match="2 samples of 64 pixels do not fit into its memory: set a smaller batch"):
        train(store, tmp_path, SETTINGS)


def test_what_a_begun_run_logged_is_not_there_twice(tmp_path, store):
    (tmp_path / "log.jsonl").write_text('{"step": 0, "validation/rmse": 1.0}\n{"step": 7}\n')
    train(store, tmp_path, changed(epochs=1, epoch_steps=2))
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps.count(0) == 1
    assert 7 not in steps
