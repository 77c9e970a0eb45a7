"""`decloud train` on made chips: what it leaves, how it goes on, what it refuses, whom it tells."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from shapely.geometry import box

from catalogs.pairs import PairTable
from flows import fitting, interrupts
from flows.cli import main
from flows.train_request import make_train_request
from flows.train_watch import Bar, Lines, Silent, train_watcher
from flows.trained import Chips, Exported, Fitted, Trained
from pipeline.errors import InvalidSettings
from pipeline.lock import locked
from srgan.archive import ExportRecord, read_record
from srgan.checkpoint import load_checkpoint
from srgan.errors import ExportFailed
from srgan.parity import Inputs, made_inputs
from srgan.progress import Progress
from tests.flows.conftest import Decloud
from tests.pipeline.made_chips import bright_is_cloud, clouded, land, write_patch
from tests.srgan.made import write_store

# `tiny`, narrower still.
SETTINGS: dict[str, Any] = {
    "widths": [4, 4, 4, 8, 8, 8], "epochs": 2, "epoch_steps": 3, "batch": 1, "validation_samples": 2, "warmup": 2,
    "discriminator_width": 4,
}  # fmt: skip
STEPS = 6
QUICK = ("--preset", "tiny", *(f"--set={name}={value}" for name, value in SETTINGS.items()))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


# Measuring the margin takes half a minute and is not what is looked at here.
DECLOUD = """
import sys, srgan.trainer
srgan.trainer.measure_margin = lambda *_, **__: 64
from flows.cli import main
sys.exit(main(sys.argv[1:]))
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", DECLOUD, "train", *(str(argument) for argument in arguments)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in `DECLOUD`; and each test begins without a ctrl-C."""
    monkeypatch.setattr("srgan.trainer.measure_margin", lambda *_, **__: 64)
    interrupts.forget()
    yield
    interrupts.forget()


def two_inputs(record: ExportRecord) -> Iterator[tuple[str, Inputs]]:
    """Of the inputs on which an export is compared with its checkpoint, the first ones: tests/srgan looks at all."""
    return itertools.islice(made_inputs(record), 2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made chip store. Read it, never write to it."""
    return write_store(tmp_path_factory.mktemp("made") / "store")


@pytest.fixture(scope="module")
def trained(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Folder and JSON document of a training that nobody interrupted, with an export."""
    output = tmp_path_factory.mktemp("trained") / "out"
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(told):
        patch.setattr("srgan.trainer.measure_margin", lambda *_, **__: 64)
        patch.setattr("srgan.parity.made_inputs", two_inputs)
        status = main(
            ["train", str(store), "--output", str(output), *QUICK, "--export", "torchscript", "--json", "--quiet"]
        )
    assert status == 0
    return output, json.loads(told.getvalue())


def made_pairs(folder: Path) -> Path:
    """A pair table of three made pairs, two for training, one for validation."""
    rows = []
    for number, split in enumerate(("train", "train", "val")):
        group = f"ROIs1158_spring_{number}"
        ground = land(number, fields=number)
        rows.append({
            "id": f"{group}_p1", "place": f"{group}_p1", "group": group, "split": split, "role": "pair",
            "quality": "ok", "reason": "", "layout": "sen12mscr", "crs": "EPSG:32633", "mask": "s2cloudless",
            "clear_href": write_patch(folder / f"{group}_clear.tif", ground),
            "cloudy_href": write_patch(folder / f"{group}_cloudy.tif", clouded(ground, slice(0, 25))),
            "geometry": box(number, 45, number + 0.03, 45.03),
        })  # fmt: skip
    PairTable.from_rows(rows, layout="sen12mscr", root=str(folder)).write(folder / "pairs.parquet")
    return folder / "pairs.parquet"


def same_tensors(one: Path, other: Path) -> None:
    ours, theirs = load_file(one), load_file(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_a_training_leaves_state_checkpoint_card_export_and_figures(
    store: Path, trained: tuple[Path, dict[str, Any]]
) -> None:
    output, document = trained
    assert document["chips"] == {
        "folder": str(store), "splits": {"test": 1, "train": 3, "val": 1}, "split_hash": "made", "left_out": []
    }  # fmt: skip
    assert document["fitted"]["step"] == STEPS
    assert document["fitted"]["worked"] is True
    assert document["fitted"]["best"] == str(output / "best.safetensors")
    assert document["fitted"]["scores"]["best_rmse_cloudy"] <= document["fitted"]["scores"]["rmse_cloudy"]
    checkpoint = load_checkpoint(output / "best.safetensors")
    assert checkpoint.card["training"]["split_hash"] == "made"
    assert document["card"] == str(output / "best.md")
    assert checkpoint.digest in (output / "best.md").read_text()
    (made,) = document["exports"]
    assert Path(made["path"]).is_file()
    assert Path(made["path"]).parent == output / "export"
    assert made["max_difference"] < 1e-4
    assert list((output / "tensorboard").glob("events.*"))
    assert len((output / "log.jsonl").read_text().splitlines()) == 1 + 2  # before training, and after each epoch
    assert not list(output.glob("*.lock"))


def test_resuming_what_is_finished_says_so_and_makes_nothing_again(
    store: Path, trained: tuple[Path, dict[str, Any]], decloud: Decloud
) -> None:
    output, before = trained
    weights = {name: (output / name).read_bytes() for name in ("last.safetensors", "best.safetensors")}
    exported = Path(before["exports"][0]["path"])
    stamp = exported.stat().st_mtime_ns
    ended = decloud("train", store, "--output", output, *QUICK, "--export", "torchscript", "--resume")
    assert ended.status == 0, ended.err
    assert f"finished before, after {STEPS} steps: nothing to do" in ended.out
    assert "was there already" in ended.out
    assert exported.stat().st_mtime_ns == stamp
    for name, content in weights.items():
        assert (output / name).read_bytes() == content, name


def test_an_export_that_is_damaged_or_of_other_weights_is_made_again(
    trained: tuple[Path, dict[str, Any]], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    shutil.copytree(trained[0], output)
    exported, report = output / "export" / "best.ts", output / "export" / "best.ts.json"
    said = json.loads(report.read_text())
    assert read_record(exported).weights == load_checkpoint(output / "best.safetensors").digest == said["weights"]
    made: list[Path] = []

    def count(_: object, path: Path, kind: str) -> Any:
        made.append(path)
        raise ExportFailed(f"{kind} is asked for")

    monkeypatch.setattr("srgan.export.export_checkpoint", count)
    request = make_train_request({"pairs": [str(store)], "output": output, "preset": "tiny"})

    def again() -> Exported:
        fitted = Fitted(STEPS, str(output / "best.safetensors"))
        return fitting.export(request, fitted, "torchscript", lambda *_: None)

    assert again() == Exported("torchscript", str(exported), said["max_difference"], kept=True)
    for change in ({"weights": "0" * 64}, {"margin": 32}, {"sha256": ""}):
        report.write_text(json.dumps(said | change))
        with pytest.raises(ExportFailed):
            again()
    for damaged in ("", "[]"):
        report.write_text(damaged)
        with pytest.raises(ExportFailed):
            again()
    report.write_text(json.dumps(said))
    exported.write_bytes(exported.read_bytes()[:-100])
    with pytest.raises(ExportFailed):
        again()
    assert made == [exported] * 6


def test_what_is_there_is_neither_overwritten_nor_taken_for_something_else(
    trained: tuple[Path, dict[str, Any]], store: Path, tmp_path: Path, decloud: Decloud
) -> None:
    output, _ = trained
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    arguments = ("train", store, "--output", output, *QUICK, "--export", "none", "--quiet")
    again = decloud(*arguments)
    assert again.status == 2
    assert "holds a training already (last.safetensors): go on with it by --resume" in again.error
    other = decloud(*arguments, "--resume", "--set", "rate=0.5")
    assert other.status == 2
    assert "rate" in other.error
    size = decloud(*arguments, "--resume", "--set", "guidance=none")
    assert size.status == 2
    assert "guidance" in size.error
    nothing = decloud("train", store, "--output", tmp_path / "none", *QUICK, "--resume")
    assert nothing.status == 2
    assert "--resume: " in nothing.error
    assert "leave --resume out to begin one" in nothing.error
    assert not (tmp_path / "none").exists()
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_ctrl_c_saves_says_how_to_go_on_and_the_rest_gives_the_same_weights(
    store: Path, trained: tuple[Path, dict[str, Any]], tmp_path: Path, decloud: Decloud
) -> None:
    output = tmp_path / "out"
    arguments = (store, "--output", output, *QUICK, "--export", "none")
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            if "epoch 1, step 1/6" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopping: the step under way is finished and saved first" in err
    assert f"interrupted: the training is kept in {output}; the same command with --resume goes on from there" in err
    assert "Traceback" not in err + "".join(seen)
    assert out == ""
    ended = decloud("train", *arguments, "--resume", "--json", "--quiet")
    assert ended.status == 0, ended.err
    assert ended.document["fitted"]["step"] == STEPS
    same_tensors(output / "last.safetensors", trained[0] / "last.safetensors")
    assert (output / "best.safetensors").read_bytes() == (trained[0] / "best.safetensors").read_bytes()


def test_ctrl_c_before_anything_was_saved_says_that_too(
    store: Path, tmp_path: Path, decloud: Decloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(fitting, "make_chips", interrupted)
    ended = decloud("train", store, "--output", tmp_path / "out", *QUICK)
    assert ended.status == 130
    assert "interrupted: nothing was trained yet; the same command begins again" in ended.err
    interrupts.forget()


def test_noted_ctrl_c_raises_nothing_and_the_handler_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    interrupts.forget()
    with interrupts.noted("a moment"):
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.asked()
    assert signal.getsignal(signal.SIGINT) is before
    assert capsys.readouterr().err == "a moment\n"
    interrupts.forget()


@pytest.mark.parametrize("named", ["nowhere.safetensors", None])
def test_vgg_weights_that_are_not_to_be_had_are_one_line_that_names_the_option(
    named: str | None, store: Path, tmp_path: Path, decloud: Decloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    if named is None:
        # Nobody listens there: as without a network.
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("DECLOUD_VGG_WEIGHTS", named or "")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    ended = decloud("train", store, "--output", output, "--preset", "small")
    assert ended.status == 2
    assert "--vgg-weights" in ended.error
    assert ended.err.count("\n") == 1
    assert not output.exists()


def test_pair_tables_become_chips_in_the_folder_of_the_training(
    tmp_path: Path, decloud: Decloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.images.s2cloudless", bright_is_cloud)
    table = made_pairs(tmp_path / "pairs")
    splits = tmp_path / "splits.yaml"
    splits.write_text("ROIs1158_spring_0: val\nROIs1158_spring_1: train\n")
    arguments = ("train", table, "--output", tmp_path / "out", *QUICK, "--set", "crop=64", "--export", "none")
    ended = decloud(*arguments, "--splits", splits, "--json")
    assert ended.status == 0, ended.err
    assert "chips" in ended.err.splitlines()
    chips = ended.document["chips"]
    assert (chips["folder"], chips["splits"]) == (str(tmp_path / "out" / "chips"), {"other": 1, "train": 1, "val": 1})
    manifest = json.loads((tmp_path / "out" / "chips" / "manifest.json").read_text())
    assert chips["split_hash"] == manifest["split_hash"]
    assert load_checkpoint(tmp_path / "out" / "best.safetensors").card["training"]["split_hash"] == chips["split_hash"]
    # Another split is another training.
    other = decloud(*arguments, "--resume", "--quiet")
    assert other.status == 2
    assert "was trained on another split" in other.error

    gone = next((tmp_path / "pairs").glob("*_cloudy.tif"))
    gone.unlink()
    moved = decloud("train", table, "--output", tmp_path / "anew", *QUICK, "--quiet")
    assert moved.status == 2
    assert gone.name in moved.error
    assert not (tmp_path / "anew" / "last.safetensors").exists()


def test_pairs_that_are_none(store: Path, tmp_path: Path, decloud: Decloud) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.parquet").write_text("no parquet")
    (tmp_path / "splits.yaml").write_text("a: train\n")
    cases: dict[tuple[object, ...], str] = {
        (tmp_path / "gone.parquet",): "gone.parquet: no such pair table",
        (tmp_path / "text.parquet",): "text.parquet: ",
        (tmp_path / "empty",): "empty",
        (store, tmp_path / "gone.parquet"): "name one chip store, or pair tables (.parquet), not both",
        (store, "--splits", tmp_path / "splits.yaml"): "--splits goes with pair tables",
        (store, "--set", "rat=1"): "--set: rat is no setting: did you mean rate?",
        (store, "--export", "onx"): "--export onx: ",
        (store, "--device", "cuda:99"): "cuda:99",
    }
    for arguments, said in cases.items():
        ended = decloud("train", *arguments, "--output", tmp_path / "out", *QUICK, "--quiet")
        assert ended.status == 2, arguments
        assert said in ended.error, arguments
        assert not list((tmp_path / "out").glob("*"))


def test_one_training_at_a_time_in_a_folder(store: Path, tmp_path: Path, decloud: Decloud) -> None:
    with locked(tmp_path / "out" / "out.lock"):
        ended = decloud("train", store, "--output", tmp_path / "out", *QUICK, "--quiet")
    assert ended.status == 2
    assert "out: another run is working on it" in ended.error


def test_only_the_first_of_several_processes_makes_anything_and_none_makes_chips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    request = make_train_request({"pairs": ["a.parquet"], "output": tmp_path / "out", "preset": "tiny"})
    assert not fitting.leads()
    with pytest.raises(InvalidSettings, match="several processes cannot write one chip store"):
        fitting.make_chips(request, lambda *_: None)
    made = Chips("store", {}, "made")
    steps = fitting.Steps(lambda _: made, lambda *_: Fitted(5, "best"), forbidden, forbidden)
    assert fitting.run_training(request, steps) == Trained(str(tmp_path / "out"), made, Fitted(5, "best"))
    assert not (tmp_path / "out").exists()


def forbidden(*_: object) -> Any:
    raise AssertionError("not this one's business")


PROGRESS = Progress(
    epoch=2, step=30, steps=120, terms={"reconstruction": 0.04123456, "gradient_consistency": 0.5}, rate=3.0,
    wait_share=0.02, seconds_left=30.2,
)  # fmt: skip


def test_plain_lines_come_now_and_again_and_for_each_validation() -> None:
    now = 0.0
    lines: list[str] = []
    watcher = Lines(lines.append, clock=lambda: now)
    with watcher:
        watcher.stage("chips", 0, 57)
        now = 6.0
        watcher.stage("chips", 12, 57)
        for step in range(30, 51):
            now += 0.5
            watcher.step(replace(PROGRESS, step=step))
        watcher.step(replace(PROGRESS, step=60, validation={"rmse_cloudy": 0.0412345, "psnr": 27.123456}))
        watcher.step(replace(PROGRESS, step=120))
    assert lines[:2] == ["chips", "chips 12/57, 2.0/s, 0:00:22 left"]
    assert lines[2] == (
        "epoch 2, step 39/120, 3.00 steps/s, 0:00:30 left, 2% waiting: reconstruction 0.04123, gradient consistency 0.5"
    )
    assert lines[3].startswith("epoch 2, step 49/120, ")
    assert lines[4] == "epoch 2, step 60 validated: rmse cloudy 0.04123, psnr 27.12"
    assert lines[5].startswith("epoch 2, step 120/120, ")
    assert len(lines) == 6
    with Silent() as nobody:
        nobody.stage("chips", 0, 1)
        nobody.step(PROGRESS)


def test_a_terminal_gets_a_bar_with_losses_and_validations_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    shown = io.StringIO()
    bar = Bar(Console(file=shown, force_terminal=True, width=120))
    with bar:
        bar.stage("chips", 12, 57)
        bar.step(replace(PROGRESS, validation={"rmse_cloudy": 0.0412345}))
    text = shown.getvalue()
    for part in ("epoch 2", "30/120", "3.00 steps/s, 0:00:30 left, 2% waiting", "reconstruction 0.04123"):
        assert part in text
    # What stays when the bar is wiped.
    assert "epoch 2, step 30 validated: rmse cloudy 0.04123\n" in text
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(train_watcher(), Lines)
    assert isinstance(train_watcher(quiet=True), Silent)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert isinstance(train_watcher(), Bar)


def test_prefect_is_not_imported_without_being_asked_for(store: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from flows.cli import main
status = main({["train", str(store), "--output", str(tmp_path / "out"), "--resume"]!r})
print("ENDED", status, "prefect" in sys.modules, "torch" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ENDED 2 False False" in told.stdout
