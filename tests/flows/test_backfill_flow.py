"""The flow `backfill` and its windows as runs of a deployment, on a real server; a schedule that looks back; cancellation."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from flows import interrupts
from flows.ledger import Ledger
from flows.request import AreaRequest
from flows.scene_log import SceneLog, WithoutCredentials, plain
from flows.summary import RunSummary
from pipeline.errors import InvalidSettings
from pipeline.publish import published_items
from pipeline.simulation.simulate import Simulated
from tests.flows.conftest import Decloud
from tests.flows.served import SERVED, last_run, task_runs
from tests.flows.test_backfill import NOW, WEEKLY, backfill, request_of

pytestmark = SERVED


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    interrupts.forget()


def rows(key: str) -> list[dict[str, Any]]:
    """The table artifact called `key`."""
    from prefect.artifacts import Artifact

    table = Artifact.get(key)
    assert table is not None
    found: list[dict[str, Any]] = json.loads(str(table.data))
    return found


def of_deployments(client: Any) -> list[Any]:
    """The runs of deployments that are on the server."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId

    wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(is_null_=False))
    return list(client.read_flow_runs(flow_run_filter=wanted))


def published(output: Path, count: int) -> list[Any]:
    """The events of products below `output`, when the server has at least so many of them."""
    from prefect.client.orchestration import get_client
    from prefect.events.filters import EventFilter, EventNameFilter

    with get_client(sync_client=True) as client:
        for _ in range(200):
            named = EventFilter(event=EventNameFilter(name=["decloud.scene.published"]))
            found = client.read_events(named, limit=50).events
            mine = [event for event in found if Path(event.payload["item"]).is_relative_to(output)]
            if len(mine) >= count:
                return mine
            time.sleep(0.2)
    raise AssertionError(f"{len(mine)} events of products below {output}")


def test_inline_windows_their_table_and_the_event_of_each_product(
    area: Simulated, tmp_path: Path, decloud: Decloud
) -> None:
    output = tmp_path / "out"
    ended = decloud(*backfill(area, output, *WEEKLY, "--prefect", "--json"))
    assert ended.status == 0, ended.err
    assert ended.document["published"] == 3
    run = last_run()
    assert (run.name, run.state.is_completed()) == (f"backfill {area.dates}", True)
    assert {"33UWP 2023-07-08", "33UWP 2023-07-13", "33UWP 2023-07-18"} <= set(task_runs(run.id))
    assert [(row["scenes"], row["done"], row["state"]) for row in rows("decloud-backfill")] == [(1, 1, "done")] * 3
    found = {event.resource.id: event for event in published(output, 3)}
    assert set(found) == {f"declouder.scene.{scene}" for scene in area.items}
    for scene in area.items:
        payload = found[f"declouder.scene.{scene}"].payload
        item = json.loads(Path(payload["item"]).read_text())
        assert payload["product"] == item["id"]
        assert payload["run_key"] == item["properties"]["declouder:run_key"]
        assert payload["shares"] == item["properties"]["declouder:provenance"]
    again = decloud(*backfill(area, output, *WEEKLY, "--prefect", "--json"))
    assert (again.status, again.document["published"]) == (0, 0)
    assert len(published(output, 3)) == 3
    assert decloud(*backfill(area, output, *WEEKLY, "--json")).document["published"] == 0


def test_a_schedule_looks_back_from_the_time_it_was_to_start(area: Simulated, tmp_path: Path) -> None:
    """Through the engine as a worker uses it: a run that was scheduled for a day long ago, and begins only now."""
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow
    from prefect.states import Scheduled

    from flows.decloud import decloud_aoi

    request = AreaRequest(
        output=tmp_path, catalog=str(area.catalogue), aoi=area.aoi, dates="last 6 days",
        settings={"checkpoint": "identity", "tile": 64},
    )  # fmt: skip
    planned = datetime(2023, 7, 15, 5, tzinfo=UTC)
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(
            decloud_aoi,
            parameters={"request": request.model_dump(mode="json")},
            state=Scheduled(scheduled_time=planned),
        )
        run = client.read_flow_run(run.id)
    assert run.expected_start_time == planned
    run_flow(decloud_aoi, flow_run=run, parameters={"request": request}, return_type="state")
    assert [name.rsplit("_", 1)[0] for name in published_items(tmp_path)] == [area.items[1]]
    (record,) = (tmp_path / "runs").glob("*.json")
    assert json.loads(record.read_text())["request"]["dates"] == "2023-07-09/2023-07-15"
    (row,) = rows("decloud-run")
    assert (row["scene"], row["state"]) == (area.items[1], "done")
    assert {
        name: type(value) for name, value in row.items() if name.endswith("%") or name == "seconds"
    } == dict.fromkeys(("seconds", "observed %", "blended %", "restored %", "generated %", "refused %"), float)
    assert sum(row[name] for name in row if name.endswith("%")) == pytest.approx(100, abs=0.1)


class Worker(threading.Thread):
    """Takes the runs of the deployment `window` as a worker does, and ends each as `ends` says, in turn."""

    def __init__(self, ends: list[str], output: Path) -> None:
        super().__init__(daemon=True)
        self.ends, self.output, self.error = ends, output, None
        self.runs: list[Any] = []

    def run(self) -> None:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
        from prefect.client.schemas.objects import StateType
        from prefect.states import Completed, Crashed, Failed, Running

        late = time.monotonic() + 250
        scheduled = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])))
        with get_client(sync_client=True) as client:
            while self.ends and time.monotonic() < late:
                for run in client.read_flow_runs(flow_run_filter=scheduled):
                    if run.deployment_id is None:
                        continue
                    self.runs.append(run)
                    window = AreaRequest.model_validate(run.parameters["request"])
                    ledger = Ledger(self.output, window.part_of)
                    client.set_flow_run_state(run.id, Running(), force=True)
                    end, _, wordless = self.ends.pop(0).partition(" ")
                    if not wordless:
                        ledger.write(window.dates, "running")
                    if end == "completed":
                        ledger.write(window.dates, "done", RunSummary("r", str(self.output)))
                    elif end == "failed":
                        ledger.write(window.dates, "failed", RunSummary("r", str(self.output), problems=("a: gone",)))
                    made = {"completed": Completed, "crashed": Crashed, "failed": Failed}[end]
                    client.set_flow_run_state(run.id, made(message=f"it {end}"), force=True)
                time.sleep(0.1)


@pytest.fixture
def deployed() -> Iterator[UUID]:
    """A deployment `window` on a pool of its own."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    from flows.decloud import decloud_aoi

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="windows", type="process"), overwrite=True)
        flow = client.create_flow(decloud_aoi)
        made = client.create_deployment(
            flow, "window", work_pool_name="windows", entrypoint="flows/decloud.py:decloud_aoi"
        )
        yield made
        client.delete_deployment(made)
        client.delete_work_pool("windows")


@pytest.mark.usefixtures("deployed")
def test_windows_run_by_the_deployment_and_one_that_crashes_is_started_again(
    area: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.backfill_flow import run_backfill_flow

    monkeypatch.setattr("flows.children.POLL", 0.1)
    worker = Worker(["completed", "crashed", "completed", "failed"], tmp_path)
    worker.start()
    summary = run_backfill_flow(request_of(area, tmp_path))
    worker.join(60)
    assert [line.state for line in summary.windows] == ["done", "done", "failed"]
    assert summary.failed
    asked = [run.parameters["request"]["dates"] for run in worker.runs]
    windows = [line.window for line in summary.windows]
    assert asked == [windows[0], windows[1], windows[1], windows[2]]
    assert asked == sorted(asked)
    keys = [run.idempotency_key for run in worker.runs]
    assert len(set(keys)) == 4
    assert [key.rsplit(":", 1)[1] for key in keys] == ["1", "1", "2", "1"]
    assert {run.parameters["request"]["part_of"] for run in worker.runs} == {summary.id}
    # The windows are its children: who looks at it finds them.
    assert all(child.parent_task_run_id is not None for child in worker.runs)

    worker = Worker(["crashed"] * 3 + ["completed"] * 2, tmp_path)
    worker.start()
    summary = run_backfill_flow(request_of(area, tmp_path))
    worker.join(60)
    assert [line.state for line in summary.windows] == ["interrupted", "done", "done"]
    assert "it crashed" in summary.windows[0].reason


@pytest.mark.usefixtures("deployed")
def test_windows_in_another_folder_are_told_whole_paths_and_a_retry_finds_what_was_done(
    area: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import flow, get_run_logger

    from flows.backfilling import run_windows
    from flows.children import DeployedWindows, find_windows

    monkeypatch.setattr("flows.children.POLL", 0.1)
    monkeypatch.chdir(tmp_path)
    worker = Worker(["completed"] * 3, tmp_path / "out")
    worker.start()
    request = request_of(area, Path("out"), overwrite=True)

    @flow(retries=1)
    def tried_twice() -> list[str]:
        found = find_windows()
        assert found is not None
        summary = run_windows(request, DeployedWindows(found, get_run_logger()), NOW, lambda _: None)
        tries.append([line.state for line in summary.windows])
        assert len(tries) == 2
        return tries[-1]

    tries: list[list[str]] = []
    assert tried_twice() == ["done"] * 3
    worker.join(60)
    assert tries == [["done"] * 3] * 2
    assert len(worker.runs) == 3
    assert {run.parameters["request"]["output"] for run in worker.runs} == {str(tmp_path / "out")}


@pytest.mark.usefixtures("deployed")
def test_a_window_that_failed_before_and_now_crashes_without_a_line_says_that_it_crashed(
    area: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.backfill_flow import run_backfill_flow

    monkeypatch.setattr("flows.children.POLL", 0.1)
    request = request_of(area, tmp_path, dates="2023-07-08/2023-07-10")
    for ends, state, reason in ((["failed"], "failed", ""), (["crashed wordless"] * 3, "interrupted", "it crashed")):
        worker = Worker(list(ends), tmp_path)
        worker.start()
        (line,) = run_backfill_flow(request).windows
        worker.join(60)
        assert line.state == state
        assert reason in line.reason


@pytest.mark.usefixtures("deployed")
def test_a_server_that_is_away_for_a_while_costs_no_window(
    area: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx
    from prefect.client.orchestration import SyncPrefectClient, get_client

    from flows.backfill_flow import run_backfill_flow

    monkeypatch.setattr("flows.children.POLL", 0.1)
    read, answer = SyncPrefectClient.read_flow_run, httpx.Response(503, request=httpx.Request("GET", "http://server"))
    faults: list[httpx.HTTPError] = []

    def faulty(client: SyncPrefectClient, run_id: UUID) -> Any:
        run = read(client, run_id)
        if run.deployment_id is not None and faults:
            raise faults.pop()
        return run

    monkeypatch.setattr(SyncPrefectClient, "read_flow_run", faulty)
    request = request_of(area, tmp_path, dates="2023-07-08/2023-07-10")
    faults += [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("late"),
        httpx.HTTPStatusError("busy", request=answer.request, response=answer),
    ]
    worker = Worker(["completed"], tmp_path)
    worker.start()
    assert not run_backfill_flow(request).failed
    worker.join(60)
    assert not faults

    # One that stays away ends the wait, and leaves the window to its worker.
    monkeypatch.setattr("flows.children.ABSENCE", -1.0)
    faults.append(httpx.ConnectError("refused"))
    with pytest.raises(httpx.ConnectError, match="refused"):
        run_backfill_flow(request)
    with get_client(sync_client=True) as client:
        (waiting,) = [run for run in of_deployments(client) if run.state_name == "Scheduled"]
        client.delete_flow_run(waiting.id)


@pytest.mark.usefixtures("deployed")
def test_a_stop_stays_a_stop_where_the_window_cannot_be_cancelled(
    area: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx
    from prefect.client.orchestration import SyncPrefectClient, get_client

    from flows.backfill_flow import run_backfill_flow

    change, asked = SyncPrefectClient.set_flow_run_state, []

    def faulty(client: SyncPrefectClient, run_id: Any, state: Any, *more: Any, **options: Any) -> Any:
        if state.is_cancelling():
            asked.append(run_id)
            raise httpx.ConnectError("refused")
        return change(client, run_id, state, *more, **options)

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SyncPrefectClient, "set_flow_run_state", faulty)
    monkeypatch.setattr("flows.children.sleep", stop)
    with pytest.raises(KeyboardInterrupt):
        run_backfill_flow(request_of(area, tmp_path))
    monkeypatch.undo()
    (left,) = asked
    with get_client(sync_client=True) as client:
        client.delete_flow_run(left)


@pytest.mark.usefixtures("deployed")
def test_inline_is_inline_and_a_finished_backfill_starts_no_windows(area: Simulated, tmp_path: Path) -> None:
    from flows.backfill_flow import run_backfill_flow

    summary = run_backfill_flow(request_of(area, tmp_path, windows="inline"))
    assert not summary.failed
    assert len(published_items(tmp_path)) == 3
    # Nobody takes runs of the deployment here: a backfill that is finished waits for none.
    again = run_backfill_flow(request_of(area, tmp_path, windows="deployed"))
    assert (again.failed, again.published) == (False, 0)
    assert [scene.state for line in again.windows for scene in line.scenes] == ["unchanged"] * 3
    nothing = run_backfill_flow(request_of(area, tmp_path, windows="deployed", dates="2021-07-01/2021-07-03"))
    assert not nothing.failed
    assert "0 scenes between 2021-07-01" in nothing.windows[0].reason


def test_a_deployment_that_is_not_there(area: Simulated, tmp_path: Path) -> None:
    from flows.backfill_flow import run_backfill_flow
    from flows.children import find_windows

    assert find_windows() is None
    with pytest.raises(InvalidSettings, match="no deployment decloud-aoi/window: make deploy"):
        run_backfill_flow(request_of(area, tmp_path, windows="deployed"))


@pytest.mark.usefixtures("deployed")
def test_windows_whose_catalogue_needs_what_only_we_know_are_given_to_no_worker(
    area: Simulated, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from flows.backfill_flow import _runner, run_backfill_flow
    from flows.children import DeployedWindows
    from flows.credentials import hide

    log = logging.getLogger("tests.backfill")
    open_to_all = request_of(area, tmp_path, catalog="https://open.example.org/catalog.json")
    assert isinstance(_runner(hide(open_to_all), log), DeployedWindows)
    assert caplog.text == ""
    request = hide(request_of(area, tmp_path, catalog="https://me:hush@closed.example.org/catalog.json"))
    assert not isinstance(_runner(request, log), DeployedWindows)
    (line,) = [record.getMessage() for record in caplog.records if record.name == log.name]
    assert line.startswith("windows run here: ")
    assert "~/.netrc of the worker" in line
    assert "hush" not in line
    with pytest.raises(InvalidSettings, match=r"windows `deployed`: .*~/\.netrc of the worker"):
        run_backfill_flow(request.model_copy(update={"windows": "deployed"}))


@pytest.mark.usefixtures("deployed")
def test_a_backfill_does_not_wait_for_the_slot_that_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolUpdate

    from flows.backfill_flow import backfill as flow
    from flows.children import find_windows

    with get_client(sync_client=True) as client:
        made = client.create_deployment(client.create_flow(flow), "backfill", work_pool_name="windows")
        run = client.create_flow_run_from_deployment(made)
        monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(run.id))
        found = find_windows()
        assert found is not None
        assert (found.pool, found.problem) == ("windows", "")
        client.update_work_pool("windows", WorkPoolUpdate(concurrency_limit=1))
        found = find_windows()
        assert found is not None
        assert "holds the only slot of the work pool windows" in found.problem
        client.delete_flow_run(run.id)
        client.delete_deployment(made)


@pytest.mark.usefixtures("deployed")
def test_stopping_a_backfill_stops_the_window_that_it_waits_for(
    area: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import get_client

    from flows.backfill_flow import run_backfill_flow

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.children.sleep", stop)
    with pytest.raises(KeyboardInterrupt):
        run_backfill_flow(request_of(area, tmp_path))
    monkeypatch.undo()
    with get_client(sync_client=True) as client:
        stopped = [run for run in of_deployments(client) if run.state_name in ("Cancelled", "Cancelling")]
    assert [run.parameters["request"]["dates"] for run in stopped] == [request_of(area, tmp_path).split(NOW)[0].dates]


def test_sigterm_from_a_worker_is_remembered_where_its_exception_was_swallowed() -> None:
    from prefect.exceptions import TerminationSignal
    from prefect.utilities.engine import capture_sigterm, is_prefect_sigterm_handler_installed

    from flows.cancelling import cancellable

    def swallowed() -> None:
        with capture_sigterm(), cancellable():
            # Prefect calls a run cancelled only where its own handler is in place.
            assert is_prefect_sigterm_handler_installed()
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
                raise AssertionError("no signal came")
            except TerminationSignal:
                pass
            while not interrupts.asked():
                time.sleep(0.01)
            interrupts.checked(lambda *_: None)("restore", 1, 9)

    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(TerminationSignal):
            swallowed()
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGTERM, before)


def test_log_lines_name_scene_and_block_and_no_credentials(caplog: pytest.LogCaptureFixture) -> None:
    import numpy as np

    from pipeline.block import BlockResult
    from pipeline.staging import Staging

    now = 0.0
    log = logging.getLogger("test.scene")
    caplog.set_level(logging.INFO)
    # Pytest listens to loggers that do not propagate.
    before = list(logging.getLogger("declouder.blocks").handlers)
    folder = Path(os.environ["PREFECT_HOME"]) / "staged" / "S2A_33UWP_0123456789" / "blocks"
    with SceneLog(log, "S2A_33UWP", clock=lambda: now) as watcher:
        tell = watcher.scene(2, 5, "33UWP 2023-08-10")
        tell("mask", 0, 1)
        tell("restore", 0, 9)
        tell("restore", 1, 9)
        now = 6.0
        tell("restore", 2, 9)
        one = np.zeros((2, 2), np.uint16)
        Staging(folder).save(BlockResult(slice(0, 2), slice(4, 6), {"B02": one}, one.astype(np.uint8)))
        watcher.ended("failed: https://me:pw@host/B02.tif?sig=hush: 403")
    lines = [record.getMessage() for record in caplog.records if record.name == "test.scene"]
    assert lines == [
        'scene=S2A_33UWP stage=begin place=2/5 label="33UWP 2023-08-10"',
        "scene=S2A_33UWP stage=mask",
        "scene=S2A_33UWP stage=restore",
        "scene=S2A_33UWP stage=restore done=2 total=9",
        "scene=S2A_33UWP stage=restore block=0_2_4_6",
        'scene=S2A_33UWP stage=end result="failed: https://host/B02.tif: 403"',
    ]
    blocks = [record for record in caplog.records if getattr(record, "block", "") and record.name == "test.scene"]
    assert [(record.__dict__["scene"], record.__dict__["block"]) for record in blocks] == [("S2A_33UWP", "0_2_4_6")]
    assert logging.getLogger("declouder.blocks").handlers == before

    record = logging.LogRecord(
        "x", logging.INFO, "", 0, "read %s", ("s3://key:secret@bucket/a?X-Amz-Signature=1",), None
    )
    assert WithoutCredentials().filter(record)
    assert record.getMessage() == "read s3://bucket/a"
    assert plain("nothing to hide: 3/4 at 12:30") == "nothing to hide: 3/4 at 12:30"


def test_look_back_follows_the_calendar_of_utc() -> None:
    request = AreaRequest(output=Path("out"), catalog="c", aoi="1,2,3,4", dates="P7D")
    moment = datetime(2023, 8, 10, 23, 30, tzinfo=UTC)
    assert request.at(moment).dates == "2023-08-03/2023-08-10"
    assert request.at(moment + timedelta(hours=1)).dates == "2023-08-04/2023-08-11"
    assert request.at(moment).at(moment + timedelta(days=90)).dates == "2023-08-03/2023-08-10"
