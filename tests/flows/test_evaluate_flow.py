"""The flow `evaluate` and its deployment's form, on a real embedded server."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flows.evaluate_flow
from catalogs.errors import InvalidItem
from flows import interrupts
from flows.evaluate_request import make_evaluate_request
from tests.flows.conftest import Decloud
from tests.flows.served import SERVED, last_run, task_runs
from tests.flows.test_evaluate import SPEC, command, made_pairs, report_of, timeless
from tests.pipeline.made_chips import bright_is_cloud
from tests.srgan.made import lively

pytestmark = SERVED


@pytest.fixture(autouse=True)
def made() -> Iterator[None]:
    """Clouds found without a model, and no ctrl-C left from before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.images.s2cloudless", bright_is_cloud)
        interrupts.forget()
        yield
        interrupts.forget()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A table of three made pairs and a network that was not trained."""
    from srgan.checkpoint import save_checkpoint

    folder = tmp_path_factory.mktemp("given")
    return made_pairs(folder / "pairs"), save_checkpoint(folder / "made.safetensors", lively(SPEC), {})


def test_the_flow_makes_the_report_that_the_command_makes_and_shows_its_scores(
    given: tuple[Path, Path], tmp_path: Path, decloud: Decloud
) -> None:
    from prefect.artifacts import Artifact

    direct = decloud(*command(*given, tmp_path / "direct", "--split", "val", "--json", "--quiet"))
    flowed = decloud(*command(*given, tmp_path / "flowed", "--split", "val", "--json", "--quiet", "--prefect"))
    assert (direct.status, flowed.status) == (0, 0), flowed.err
    assert timeless(report_of(tmp_path / "flowed")) == timeless(report_of(tmp_path / "direct"))
    assert flowed.document["scores"] == direct.document["scores"]
    run = last_run()
    assert run.name == f"evaluate {given[1].parent.name}/made.safetensors on val"
    assert run.state.is_completed()
    assert set(task_runs(run.id)) == {"score", "report"}
    shown: Any = Artifact.get("evaluate-scores")
    assert str(shown.flow_run_id) == str(run.id)
    rows = json.loads(shown.data)
    assert len(rows) == len(flowed.document["scores"])
    assert {row["method"] for row in rows} >= {"made", "identity", "mean fill"}


def test_a_missed_bound_fails_the_run_and_is_told_as_without_prefect(
    given: tuple[Path, Path], tmp_path: Path, decloud: Decloud
) -> None:
    ended = decloud(
        *command(*given, tmp_path / "out", "--split", "val", "--fail-below", "psnr=99", "--prefect", "--quiet")
    )
    assert ended.status == 1
    assert ended.error.startswith("error: --fail-below pair.all.psnr=99: psnr of pair, all pixels is ")
    assert "RMSE under cloud" in ended.out
    assert (tmp_path / "out" / "report.json").is_file()
    run = last_run()
    assert run.state.is_failed()
    assert "asked was 99" in run.state.message


def test_bad_input_is_one_line_and_fails_the_run(given: tuple[Path, Path], tmp_path: Path, decloud: Decloud) -> None:
    _, checkpoint = given
    ended = decloud(*command(tmp_path / "gone.parquet", checkpoint, tmp_path / "out", "--prefect", "--quiet"))
    assert ended.status == 2
    assert "gone.parquet: no such pair table" in ended.error
    assert not (tmp_path / "out").exists()
    assert last_run().state.is_failed()
    request = make_evaluate_request({"pairs": [str(tmp_path / "gone.parquet")], "output": tmp_path / "out"})
    with pytest.raises(InvalidItem, match="no such pair table"):
        flows.evaluate_flow.evaluate_flow(request)


def test_ctrl_c_in_the_flow_leaves_no_half_report(
    given: tuple[Path, Path], tmp_path: Path, decloud: Decloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(flows.evaluate_flow, "score", pressed)
    ended = decloud(*command(*given, tmp_path / "out", "--split", "val", "--prefect", "--quiet"))
    assert ended.status == 130
    assert ended.err.splitlines()[-1].startswith(f"interrupted: there is no report in {tmp_path / 'out'}")
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out").exists()
    assert not last_run().state.is_completed()


def test_the_form_of_the_deployment_refuses_what_the_command_refuses(given: tuple[Path, Path], tmp_path: Path) -> None:
    from prefect.exceptions import ParameterTypeError

    values = {"pairs": [str(given[0])], "output": str(tmp_path / "out"), "fail_below": ["rmse=1"]}
    with pytest.raises(ParameterTypeError, match="write --fail-above rmse=1"):
        flows.evaluate_flow.evaluate_flow(values)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
