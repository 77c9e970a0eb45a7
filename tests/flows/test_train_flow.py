"""The flow `train`, on a real embedded server; its deployment is looked at in test_deploy.py."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

import flows.train_artifacts
from flows import interrupts
from flows.train_request import TrainRequest, make_train_request
from pipeline.errors import WriteFailed
from srgan.checkpoint import load_checkpoint
from tests.flows.conftest import Decloud
from tests.flows.served import SERVED, last_run, task_runs
from tests.flows.test_train import SETTINGS, STEPS, made_pairs, same_tensors, two_inputs
from tests.pipeline.made_chips import bright_is_cloud

pytestmark = SERVED

ROOT = Path(__file__).resolve().parents[2]
# As `quick` below; and the process is killed like by `kill -9` in the second epoch, after the first was saved.
KILLED = f"""
import os, signal, sys
import flows.train, pipeline.images, srgan.trainer
from flows.train_request import TrainRequest
from tests.pipeline.made_chips import bright_is_cloud
pipeline.images.s2cloudless = bright_is_cloud
srgan.trainer.measure_margin = lambda *_, **__: 64
step = flows.train.Artifacts.step
def killed(self, progress):
    step(self, progress)
    if progress.step == {STEPS} - 1:
        os.kill(os.getpid(), signal.SIGKILL)
flows.train.Artifacts.step = killed
flows.train.train_flow(TrainRequest.model_validate_json(sys.argv[1]))
"""


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Clouds found without a model, and no half minute for the margin: neither is what is looked at here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.images.s2cloudless", bright_is_cloud)
        patch.setattr("srgan.trainer.measure_margin", lambda *_, **__: 64)
        patch.setattr("srgan.parity.made_inputs", two_inputs)
        # This training is shown from its beginning, as a long one is.
        patch.setattr("flows.meter.AFTER", 0.0)
        yield


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair table of three made pairs."""
    return made_pairs(tmp_path_factory.mktemp("pairs"))


def request_of(pairs: Path, output: Path, **values: Any) -> TrainRequest:
    given = {"pairs": [str(pairs)], "output": output, "preset": "tiny", "settings": SETTINGS, "export": []}
    return make_train_request(given | values)


@pytest.fixture(scope="module")
def flowed(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Folder and flow run of a training that nobody interrupted."""
    from flows.train import train_flow

    output = tmp_path_factory.mktemp("flowed") / "out"
    trained = train_flow(request_of(pairs, output, export=["torchscript"]))
    assert trained.fitted.step == STEPS
    assert Path(trained.exports[0].path).is_file()
    return output, last_run()


def artifact(key: str) -> Any:
    from prefect.artifacts import Artifact

    return Artifact.get(key)


def artifacts(key: str) -> list[Any]:
    """All versions."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    with get_client(sync_client=True) as client:
        return list(client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key]))))


def test_each_step_is_a_task_and_leaves_its_files(flowed: tuple[Path, Any]) -> None:
    output, run = flowed
    assert run.name == "train out (tiny)"
    assert run.state.is_completed()
    tasks = task_runs(run.id)
    assert set(tasks) == {"chips", "fit", "export torchscript", "card"}
    assert all(task.state.is_completed() for task in tasks.values())
    assert {chip["split"] for chip in json.loads((output / "chips" / "manifest.json").read_text())["chips"]} == {
        "train", "val"
    }  # fmt: skip
    assert load_checkpoint(output / "best.safetensors").digest in (output / "best.md").read_text()


def test_artifacts_tell_progress_scores_and_card_with_a_small_picture(flowed: tuple[Path, Any]) -> None:
    from prefect.artifacts import Artifact

    output, run = flowed
    # The chips and the export have one of the same key.
    progress = next(one for one in artifacts("train-progress") if f"step {STEPS}/{STEPS}" in one.description)
    assert progress.type == "progress"
    assert float(progress.data) == 100.0
    rows = json.loads(artifact("train-scores").data)
    assert [row["step"] for row in rows] == [0, 3, 6]
    for row in rows:
        assert set(row) >= {"rmse_cloudy", "psnr", "ssim"}
        assert all(isinstance(value, int | float) or value is None for value in row.values())
    card: Artifact | None = artifact("train-card")
    assert card is not None
    text = str(card.data)
    assert text.startswith("# best")
    encoded = text.rpartition("data:image/png;base64,")[2].rpartition(")")[0]
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        assert max(picture.size) <= 256
        assert min(picture.size) >= 20
        colours = picture.convert("RGB").getcolors(256 * 256)
    assert colours is not None
    assert len(colours) > 50, "no picture of anything"
    assert {str(progress.flow_run_id), str(card.flow_run_id)} == {str(run.id)}
    assert str(output) in card.description


def test_kill_9_and_a_new_run_give_what_an_uninterrupted_run_gives(
    pairs: Path, flowed: tuple[Path, Any], server: str, tmp_path: Path
) -> None:
    from flows.train import train_flow

    output = tmp_path / "out"
    request = request_of(pairs, output)
    environment = {**os.environ, "PREFECT_API_URL": server, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, request.model_dump_json()],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (output / "last.safetensors").is_file()
    assert not (output / "best.md").exists()
    chips = {path: path.stat().st_mtime_ns for path in (output / "chips").rglob("*.npy")}
    assert len(chips) == 6

    trained = train_flow(request)
    assert trained.fitted.step == STEPS
    assert trained.fitted.worked
    assert {path: path.stat().st_mtime_ns for path in (output / "chips").rglob("*.npy")} == chips
    same_tensors(output / "last.safetensors", flowed[0] / "last.safetensors")
    assert (output / "best.safetensors").read_bytes() == (flowed[0] / "best.safetensors").read_bytes()
    # The figures of the steps that were done twice are there once.
    steps = [json.loads(line)["step"] for line in (output / "log.jsonl").read_text().splitlines()]
    assert steps == [0, 3, 6]


def test_the_same_request_again_makes_nothing_and_another_is_refused_in_one_line(
    pairs: Path, flowed: tuple[Path, Any]
) -> None:
    from flows.train import train_flow
    from srgan.errors import InvalidCheckpoint

    output, _ = flowed
    before = {path: path.stat().st_mtime_ns for path in (output / "last.safetensors", *(output / "export").iterdir())}
    trained = train_flow(request_of(pairs, output, export=["torchscript"]))
    assert not trained.fitted.worked
    assert trained.exports[0].kept
    with pytest.raises(InvalidCheckpoint, match="rate"):
        train_flow(request_of(pairs, output, settings=SETTINGS | {"rate": 0.5}))
    run = last_run()
    assert run.state.is_failed()
    assert "rate" in run.state.message
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_ctrl_c_in_the_flow_saves_and_the_command_goes_on(
    pairs: Path, flowed: tuple[Path, Any], tmp_path: Path, decloud: Decloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    arguments = ("train", pairs, "--output", output, "--preset", "tiny", *settings, "--export", "none", "--prefect")
    step = flows.train_artifacts.Artifacts.step

    def interrupted(self: Any, progress: Any) -> None:
        step(self, progress)
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(flows.train_artifacts.Artifacts, "step", interrupted)
        stopped = decloud(*arguments, "--quiet")
    assert stopped.status == 130, stopped.err
    assert "the same command with --resume goes on from there" in stopped.err
    assert "Traceback" not in stopped.err
    assert not last_run().state.is_completed()
    ended = decloud(*arguments, "--resume", "--json", "--quiet")
    assert ended.status == 0, ended.err
    assert ended.document["fitted"]["step"] == STEPS
    same_tensors(output / "last.safetensors", flowed[0] / "last.safetensors")
    interrupts.forget()


def test_a_server_that_does_not_answer_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    from prefect.client.orchestration import SyncPrefectClient

    from srgan.progress import Progress

    asked = []

    def gone(*_: Any, **__: Any) -> None:
        asked.append(threading.current_thread())
        raise httpx.ConnectError("nobody there")

    monkeypatch.setattr(flows.train_artifacts, "create_table_artifact", gone)
    monkeypatch.setattr(SyncPrefectClient, "create_artifact", gone)
    logger = logging.getLogger("told")
    with caplog.at_level("INFO", "told"), flows.train_artifacts.Artifacts(logger, tmp_path) as watcher:
        watcher.step(Progress(1, 5, 5, {"total": 1.0}, 1.0, 0.0, 0.0, {"psnr": 20.0}))
        for _ in range(500):
            if set(asked) - {threading.current_thread()}:
                break
            time.sleep(0.02)
    warnings = sorted(record.message for record in caplog.records if record.levelname == "WARNING")
    meter = f"Prefect does not show how far {tmp_path} is: ConnectError: nobody there"
    scores = "no scores in Prefect: nobody there; the server is asked for nothing of that kind for 60 s"
    # Who is first says so; the other one only where it had asked by then.
    assert warnings in ([meter], [scores], [meter, scores])
    assert set(asked) - {threading.current_thread()}
    assert any("step 5 validated: psnr 20" in record.message for record in caplog.records)


def test_pixels_that_may_be_read_later_are_tried_again_and_bad_input_is_not(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flows.train
    from flows.trained import Chips
    from srgan.errors import InvalidStore

    tries = []

    def flaky(*_: Any) -> Chips:
        tries.append(1)
        if len(tries) < 3:
            raise WriteFailed("the disk was full")
        raise InvalidStore("no chips at all")

    monkeypatch.setattr("flows.train.make_chips", flaky)
    patient = flows.train.chips_task.with_options(retry_delay_seconds=[0.1] * 3, retry_jitter_factor=0)
    monkeypatch.setattr("flows.train.chips_task", patient)
    with pytest.raises(InvalidStore, match="no chips at all"):
        flows.train.train_flow(request_of(pairs, tmp_path / "out"))
    assert len(tries) == 3
    assert task_runs(last_run().id)["chips"].run_count == 3


def test_a_slip_in_the_flows_parameters_names_the_nearest_setting(pairs: Path, tmp_path: Path) -> None:
    from prefect.exceptions import ParameterTypeError

    from flows.train import train_flow

    given = {"pairs": [str(pairs)], "output": str(tmp_path / "out"), "settings": {"rat": 1}}
    with pytest.raises(ParameterTypeError, match=r"rat is no setting: did you mean rate\?"):
        train_flow(given)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
