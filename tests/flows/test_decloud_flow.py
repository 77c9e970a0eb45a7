"""The Prefect flows, on a real embedded server."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

import flows.demo
from flows.embedded import OneLine
from flows.request import AreaRequest, SceneRequest
from flows.run import run_in_prefect
from flows.summary import RunSummary
from pipeline.errors import WriteFailed
from pipeline.runner import SceneOutcome
from pipeline.simulation.simulate import Simulated
from tests.flows.conftest import Decloud, MadeScene, area_run
from tests.flows.served import SERVED, last_run, task_runs
from tests.flows.test_status import request_of

pytestmark = SERVED


def test_the_flow_makes_the_same_product_bit_for_bit(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    from prefect.artifacts import Artifact

    from flows.artifacts import artifact_key

    day = ("--dates", "2023-07-13")
    plain = decloud(*area_run(area, tmp_path / "plain", "--json", *day)).document["scenes"][0]
    flow = decloud(*area_run(area, tmp_path / "flow", "--json", "--prefect", *day))
    assert flow.status == 0, flow.err
    (scene,) = flow.document["scenes"]
    one, other = Path(plain["product"]).parent, Path(scene["product"]).parent
    assert one.name == other.name
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        if not name.endswith(".json"):
            assert (one / name).read_bytes() == (other / name).read_bytes(), name

    run = last_run()
    assert run.name == "decloud-aoi 2023-07-13"
    assert run.state.is_completed()
    assert {"search", "33UWP 2023-07-13"} <= set(task_runs(run.id))
    page = Artifact.get(artifact_key(f"scene-{scene['scene']}"))
    assert page is not None
    assert "data:image/png;base64," in str(page.data)
    assert "| restored |" in str(page.data)
    table = Artifact.get("decloud-run")
    assert table is not None
    (row,) = json.loads(str(table.data))
    assert (row["scene"], row["state"]) == (scene["scene"], "done")


def test_bad_input_fails_the_flow_after_all_were_tried_and_is_not_retried(area: Simulated, tmp_path: Path) -> None:
    request = AreaRequest(
        output=tmp_path / "out", catalog=str(area.catalogue), aoi=area.aoi, dates=area.dates,
        settings={"checkpoint": "identity", "references": 0, "max_generated": 0.3, "tile": 64},
    )  # fmt: skip
    summary = run_in_prefect(request, quiet=True)
    assert [scene.state for scene in summary.scenes] == ["done", "invalid", "done"]
    run = last_run()
    assert run.state.is_failed()
    assert "1 invalid" in run.state.message
    tasks = task_runs(run.id)
    assert tasks["33UWP 2023-07-13"].state.is_failed()
    assert tasks["33UWP 2023-07-13"].run_count == 1
    assert tasks["33UWP 2023-07-18"].state.is_completed()


def test_what_may_pass_is_tried_again(scene: MadeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import flows.decloud
    import flows.execution

    real = flows.execution.run_scene
    tries = []

    def flaky(item: Any, *arguments: Any, **options: Any) -> SceneOutcome:
        tries.append(item.id)
        if len(tries) < 3:
            return SceneOutcome(item.id, "failed", str(WriteFailed("the disk was full")))
        return real(item, *arguments, **options)

    monkeypatch.setattr("flows.execution.run_scene", flaky)
    patient = flows.decloud.scene_task.with_options(retry_delay_seconds=[0.1] * 3, retry_jitter_factor=0)
    monkeypatch.setattr("flows.decloud.scene_task", patient)
    summary = run_in_prefect(request_of(scene, tmp_path / "out"), quiet=True)
    assert [entry.state for entry in summary.scenes] == ["done"]
    assert len(tries) == 3
    run = last_run()
    assert run.state.is_completed()
    assert task_runs(run.id)["33UWP 2023-08-10"].run_count == 3


def test_expected_errors_are_told_without_a_traceback() -> None:
    def record(error: Exception) -> logging.LogRecord:
        return logging.LogRecord(
            "prefect.flow_runs", logging.ERROR, "", 0, "failed: %s", ("x",), (type(error), error, None)
        )

    expected, unexpected = record(WriteFailed("the disk\nis full")), record(ZeroDivisionError("a slip"))
    assert OneLine(WriteFailed).filter(expected)
    assert OneLine(WriteFailed).filter(unexpected)
    assert (expected.getMessage(), expected.exc_info) == ("the disk is full", None)
    assert unexpected.exc_info
    assert unexpected.getMessage() == "failed: x"


def test_prefect_is_set_up_only_where_nobody_else_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.embedded import prepare_environment

    names = (
        "PREFECT_HOME", "PREFECT_API_URL", "PREFECT_PROFILES_PATH", "PREFECT_LOGGING_LEVEL", "PREFECT_LOGGING_EXTRA_LOGGERS",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW",
    )  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in names:
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    prepare_environment()
    assert os.environ["PREFECT_HOME"].startswith(str(tmp_path / "cache" / "decloud" / "prefect-3."))
    assert os.environ["PREFECT_LOGGING_LEVEL"] == "INFO"
    assert os.environ["PREFECT_LOGGING_EXTRA_LOGGERS"].split(",") == ["pipeline", "srgan"]
    monkeypatch.delenv("PREFECT_HOME")
    (tmp_path / ".prefect").mkdir()
    (tmp_path / ".prefect" / "profiles.toml").write_text("")
    prepare_environment()
    assert "PREFECT_HOME" not in os.environ
    (tmp_path / ".prefect" / "profiles.toml").unlink()
    (tmp_path / "cache" / "decloud").rename(tmp_path / "away")
    (tmp_path / "cache" / "decloud").write_text("in the way")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    prepare_environment()
    assert Path(os.environ["PREFECT_HOME"]).is_dir()


def test_waits_grow_and_are_spread() -> None:
    from prefect.cache_policies import NO_CACHE

    from flows.decloud import scene_task, search_task
    from flows.patience import FIRST_WAIT, RETRIES

    for task in (scene_task, search_task):
        assert task.retries == RETRIES
        assert task.retry_delay_seconds == [FIRST_WAIT * 2**n for n in range(RETRIES)]
        assert task.retry_jitter_factor == 0.5
        assert task.cache_policy == NO_CACHE
        assert task.persist_result is False


def test_parameters_carry_help_texts() -> None:
    from flows.decloud import decloud_aoi, decloud_scene_flow

    assert (decloud_aoi.name, decloud_scene_flow.name) == ("decloud-aoi", "decloud-scene")
    for flow in (decloud_aoi, decloud_scene_flow):
        schema = json.dumps(flow.parameters.model_dump(mode="json"))
        for text in ("Folder of the products", "Metres by which cloud and shadow are grown", "Memory that the process"):
            assert text in schema
    required = decloud_aoi.parameters.model_dump()["definitions"]["AreaRequest"]["required"]
    # No default area: a schedule that lost its parameters must fail, not declouded some other place.
    assert {"catalog", "aoi", "dates", "output"} <= set(required)


def test_wrong_settings_are_one_line_on_the_command_line(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    ended = decloud(*scene.arguments(tmp_path / "out", "--checkpoint", tmp_path / "gone", "--prefect", "--quiet"))
    assert ended.status == 2
    assert "gone" in ended.error
    assert isinstance(request_of(scene, tmp_path / "out"), SceneRequest)


def test_the_demo_shows_that_most_of_the_error_is_gone(
    tmp_path: Path, decloud: Decloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = list[object]()
    monkeypatch.setattr("webbrowser.open", opened.append)
    ended = decloud("demo", "--output", tmp_path / "demo", "--size", "192", "--json", "--quiet")
    assert ended.status == 0, ended.err
    document = ended.document
    assert document["enough"] is True
    assert document["truth"]
    for scene in document["truth"]:
        assert scene["after"] <= 0.5 * scene["before"]
    assert Path(document["picture"]).stat().st_size > 10_000
    page = tmp_path / "demo" / "products" / "report.html"
    assert document["report"] == str(page)
    assert all(
        scene["product"].rpartition("/")[2].removesuffix(".json") in page.read_text()
        for scene in document["run"]["scenes"]
    )
    monkeypatch.setattr("flows.demo.ENOUGH", 0.0)
    strict = decloud("demo", "--output", tmp_path / "demo", "--size", "192", "--quiet")
    assert strict.status == 1
    assert "MORE THAN HALF of the error is left" in strict.out
    assert "unchanged" in strict.out
    assert f"report    {page}\n" in strict.out
    page.unlink()
    assert flows.demo._page(RunSummary("", str(page.parent))) is None
    assert opened == []


def test_the_deployments_find_their_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.flows import load_flow_from_entrypoint

    root = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(root)
    entries = yaml.safe_load((root / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    found = {entry["name"]: load_flow_from_entrypoint(entry["entrypoint"]).name for entry in entries}
    assert found == {
        "scheduled": "decloud-aoi", "window": "decloud-aoi", "backfill": "backfill", "build-pairs": "build-pairs",
        "train": "train", "evaluate": "evaluate",
    }  # fmt: skip
