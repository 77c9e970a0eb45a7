"""The hooks that close what a killed flow run left open in the journal."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.schemas.objects import FlowRun, State, StateType

from flows.hooks import note_cancelled, note_crashed
from flows.record import runs_of, write_record
from flows.request import AreaRequest
from pipeline.journal import Journal, entries, latest


@flow
def nothing() -> None:
    """Stands for a flow, of which the hooks need nothing."""


def request_to(output: Path) -> AreaRequest:
    return AreaRequest(output=output, catalog="catalog.json", aoi="1,2,3,4", dates="2023-08-01")


def killed(output: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[FlowRun, Journal]:
    """A flow run that ended one scene, was in the middle of another, and had a third before it."""
    run = FlowRun(
        id=uuid4(), flow_id=uuid4(), name="decloud-aoi x", parameters={"request": {"output": str(output), "dates": "x"}}
    )
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(run.id))
    journal = Journal(output, f"20230101-{run.id}")
    write_record(journal.run, request_to(output))
    for scene in ("A", "B", "C"):
        journal.write(scene, "planned")
    journal.write("A", "running")
    journal.write("A", "done", product="A_1")
    journal.write("B", "running")
    return run, journal


def states(output: Path) -> dict[str, str]:
    return {scene: entry.state for scene, entry in latest(output).items()}


def test_a_crash_closes_what_was_open_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, journal = killed(tmp_path, monkeypatch)
    note_crashed(nothing, run, State(type=StateType.CRASHED, message="Flow run process exited\nwith status -9"))
    assert states(tmp_path) == {"A": "done", "B": "interrupted", "C": "interrupted"}
    said = latest(tmp_path)["B"]
    assert said.run == journal.run
    assert said.reason == (
        "flow run decloud-aoi x crashed (Flow run process exited with status -9); run again, finished blocks are kept"
    )
    before = len(list(entries(tmp_path)))
    note_crashed(nothing, run, State(type=StateType.CRASHED))
    assert len(list(entries(tmp_path))) == before


def test_a_cancellation_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = killed(tmp_path, monkeypatch)
    note_cancelled(nothing, run, State(type=StateType.CANCELLING))
    assert latest(tmp_path)["C"].reason.startswith("flow run decloud-aoi x was cancelled; run again")


def test_a_scene_that_a_later_run_took_up_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = killed(tmp_path, monkeypatch)
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(uuid4()))
    other = Journal(tmp_path, "20230102-other")
    write_record(other.run, request_to(tmp_path))
    other.write("B", "running")
    note_crashed(nothing, run, State(type=StateType.CRASHED))
    # The other run's process is this one, which is alive.
    assert states(tmp_path) == {"A": "done", "B": "running", "C": "interrupted"}


@pytest.mark.parametrize(
    "parameters", [{}, {"request": {}}, {"request": {"output": "/nowhere/at/all"}}, {"request": 3}]
)
def test_a_flow_run_without_products_is_no_error(parameters: dict[str, object], tmp_path: Path) -> None:
    run = FlowRun(id=uuid4(), flow_id=uuid4(), name="x", parameters=parameters)
    note_crashed(nothing, run, State(type=StateType.CRASHED))
    assert not list(tmp_path.iterdir())


def test_records_that_cannot_be_read_name_no_flow_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, journal = killed(tmp_path, monkeypatch)
    runs = tmp_path / "runs"
    (runs / "cut.json").write_text('{"run": ')
    (runs / "list.json").write_text("[]")
    (runs / "older.json").write_text(json.dumps({"run": "older"}))
    assert runs_of(tmp_path, str(run.id)) == {journal.run}
    assert runs_of(tmp_path, str(uuid4())) == frozenset()
