"""Progress artifacts: what the server holds of a long task, and that neither a slow server nor none costs the task anything."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.meter import GRACE, SCENE, Counting, Meter, Reached, metered
from flows.request import AreaRequest
from flows.run import run_directly, run_in_prefect
from pipeline.progress import PLAN
from pipeline.simulation.simulate import Simulated
from tests.flows.conftest import make_scene
from tests.flows.served import SERVED, last_run, task_runs
from tests.flows.test_status import request_of as scene_request

pytestmark = SERVED
LOG = logging.getLogger("tests.meter")


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is a long task, and is looked at often."""
    monkeypatch.setattr("flows.meter.AFTER", 0.0)
    monkeypatch.setattr("flows.meter.EVERY", 0.1)


def until(true: Callable[[], object]) -> None:
    """Wait for something that another thread does."""
    late = time.monotonic() + 60
    while not true():
        assert time.monotonic() < late
        time.sleep(0.05)


def shown(key: str) -> list[Any]:
    """All versions of an artifact that the last flow run left, oldest first."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, FlowRunFilter, FlowRunFilterId

    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])),
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[last_run().id])),
        )
    return sorted(found, key=lambda one: one.created)


def test_a_task_is_shown_while_it_works_and_when_it_has_ended() -> None:
    from prefect import flow

    now, seen = {"look": (0.25, "restore 1/4")}, []

    @flow
    def working() -> None:
        with Meter("made-progress", "33TWL", lambda: now["look"], LOG) as meter:
            until(lambda: shown("made-progress"))
            now["look"] = (0.5, "read https://me:pw@host/B02.tif?sig=hush")
            until(lambda: float(shown("made-progress")[0].data) == 50.0)
            seen.extend(shown("made-progress"))
            meter.end("done in 3 s")

    working()
    assert [(one.type, one.description) for one in seen] == [("progress", "33TWL: read https://host/B02.tif")]
    (ended,) = shown("made-progress")
    assert (float(ended.data), ended.description) == (100.0, "33TWL: done in 3 s")


def test_one_that_fails_stays_where_it_was_and_says_why() -> None:
    from prefect import flow

    @flow
    def failing() -> None:
        with metered("made-progress", "pairs", LOG) as progress:
            progress("places", 3, 12)
            until(lambda: shown("made-progress"))
            raise ZeroDivisionError("a slip")

    with pytest.raises(ZeroDivisionError):
        failing()
    (ended,) = shown("made-progress")
    assert (float(ended.data), ended.description) == (25.0, "pairs: stopped: a slip")


def test_what_is_over_soon_makes_no_call_and_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("flows.meter.AFTER", 60.0)
    monkeypatch.setattr("flows.showing.get_client", lambda *_, **__: calls.append("client"))
    with Meter("made-progress", "33TWL", lambda: (0.0, "begins"), LOG) as meter:
        meter.end("done")
    assert not [thread for thread in threading.enumerate() if thread.name == "meter of made-progress"]
    assert calls == []


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/api"


def test_a_server_that_says_nothing_is_waited_for_by_nobody(
    silent_server: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from prefect import flow
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setattr("flows.showing.TIMEOUT", 0.3)
    monkeypatch.setattr("flows.meter.GRACE", 0.01)

    @flow
    def working() -> None:
        # The run's own client has another server, which answers: the meter's must not be that one.
        with temporary_settings({PREFECT_API_URL: silent_server}):
            meter = Meter("made-progress", "33TWL", lambda: (0.1, "mask"), LOG)
            with meter:
                until(lambda: "Prefect does not show how far 33TWL is: ReadTimeout" in caplog.text)
            # It ends by itself: one try, without Prefect's five more.
            until(lambda: not meter._thread.is_alive())

    working()
    assert last_run().state.is_completed()
    assert len([record for record in caplog.records if record.name == LOG.name]) == 1


def test_nobody_waits_at_the_end_of_a_task_for_a_server_that_is_known_to_be_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flows import showing

    monkeypatch.setattr("flows.meter.AFTER", 60.0)
    waited = list[float]()
    for away in (False, True):
        with Meter("made-progress", "33TWL", lambda: (0.1, "mask"), LOG) as meter:
            monkeypatch.setattr(meter._thread, "join", waited.append)
            if away:
                showing.not_answered()
    assert waited == [GRACE, 0]


def test_a_server_that_comes_back_is_told_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from prefect import flow
    from prefect.client.orchestration import SyncPrefectClient

    real, tries = SyncPrefectClient.request, []

    def faulty(client: SyncPrefectClient, method: str, path: str, **options: Any) -> Any:
        if path == "/artifacts/":
            tries.append(path)
            if len(tries) < 4:
                raise httpx.ConnectError("refused")
        return real(client, method, path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(SyncPrefectClient, "request", faulty)

    @flow
    def working() -> None:
        with Meter("made-progress", "33TWL", lambda: (0.5, "write"), LOG):
            until(lambda: shown("made-progress"))

    working()
    assert len(tries) == 4
    assert [record.getMessage() for record in caplog.records if record.name == LOG.name] == [
        "Prefect does not show how far 33TWL is: ConnectError: refused"
    ]
    assert float(shown("made-progress")[0].data) == 100.0


def request_of(area: Simulated, output: Path, **values: Any) -> AreaRequest:
    return AreaRequest(
        output=output, catalog=str(area.catalogue), aoi=area.aoi, dates=area.dates,
        settings={"checkpoint": "identity", "tile": 64}, **values,
    )  # fmt: skip


def test_scenes_and_the_run_have_progress_of_their_own(area: Simulated, tmp_path: Path) -> None:
    from flows.execution import decloud_one

    def slow(work: Any, progress: Any) -> Any:
        scene = decloud_one(work, progress)
        count = work.number
        until(lambda: len(shown("scene-progress")) == count)
        return scene

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.decloud.decloud_one", slow)
        summary = run_in_prefect(request_of(area, tmp_path), quiet=True)
    assert not summary.failed
    scenes = shown("scene-progress")
    tasks = task_runs(last_run().id)
    assert [one.description.partition(": ")[0] for one in scenes] == [scene.name for scene in summary.scenes]
    assert [one.task_run_id for one in scenes] == [tasks[scene.name].id for scene in summary.scenes]
    assert [(float(one.data), one.description) for one in scenes] == [
        (100.0, f"{scene.name}: {scene.line}") for scene in summary.scenes
    ]
    (run,) = shown("decloud-progress")
    assert (float(run.data), run.task_run_id) == (100.0, None)


def test_the_progress_of_a_run_ends_with_how_many_scenes_failed(area: Simulated, tmp_path: Path) -> None:
    from flows.execution import decloud_one

    def slow(work: Any, progress: Any) -> Any:
        until(lambda: shown("decloud-progress"))
        if work.number == 3:
            until(lambda: shown("decloud-progress")[0].description.startswith("all scenes: 1 of 3 done, 1 failed, "))
        return decloud_one(work, progress)

    request = request_of(area, tmp_path)
    strict = request.settings.model_copy(update={"references": 0, "max_generated": 0.3})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.decloud.decloud_one", slow)
        summary = run_in_prefect(request.model_copy(update={"settings": strict}), quiet=True)
    assert [scene.state for scene in summary.scenes] == ["done", "invalid", "done"]
    until(lambda: float(shown("decloud-progress")[0].data) == 100.0)
    (run,) = shown("decloud-progress")
    assert run.description == "all scenes: 1 of 3 failed"


@pytest.mark.parametrize("cloudy", [True, False])
def test_a_scenes_share_never_falls_and_ends_whole(tmp_path: Path, *, cloudy: bool) -> None:
    """What the engine tells, in the order in which it does, of a scene with and of one without work for the network."""
    reached, shares = Reached(SCENE), list[float]()

    class Watched:
        def __enter__(self) -> Watched:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def scene(self, *_: object) -> Callable[[str, int, int], None]:
            def tell(stage: str, done: int, total: int) -> None:
                if stage == PLAN:
                    needed.append(done)
                reached.tell(stage, done, total)
                shares.append(reached.look()[0])

            return tell

        def ended(self, line: str) -> None:
            assert line.startswith("done")

    needed = list[int]()
    scene = make_scene(tmp_path / "scene", cloud=slice(30, 60) if cloudy else slice(0, 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.run.watcher", lambda **_: Watched())
        run_directly(scene_request(scene, tmp_path / "out"))
    assert bool(needed[0]) == cloudy
    assert shares == sorted(shares)
    assert len(set(shares)) > 3
    assert shares[0] <= SCENE["restore"]
    assert shares[-1] == pytest.approx(1.0)


def test_the_share_of_a_task_of_unknown_stages_is_that_of_the_stage() -> None:
    now = [0.0]
    reached = Reached(clock=lambda: now[0])
    assert reached.look() == (0.0, "begins")
    reached.tell("places", 0, 4)
    now[0] = 2.0
    reached.tell("places", 3, 4)
    assert reached.look() == (0.75, "places 3/4, 1.5/s, 0:00:01 left")
    # What a slower thread tells later takes nothing back, and where nothing moves the time left grows.
    reached.tell("places", 2, 4)
    now[0] = 6.0
    assert reached.look() == (0.75, "places 3/4, 0.5/s, 0:00:02 left")


def test_a_run_of_one_scene_has_none_beside_the_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[object]()
    monkeypatch.setattr("flows.meter.Meter.__enter__", made.append)
    monkeypatch.setattr("flows.meter.Meter.__exit__", lambda *_: None)
    with Counting(LOG) as one:
        one.scene(1, 1, "a")
        one.ended("done")
    assert made == []
    with Counting(LOG) as several:
        for number in (1, 2):
            several.scene(number, 2, "a")
            several.ended("done")
    assert len(made) == 1
