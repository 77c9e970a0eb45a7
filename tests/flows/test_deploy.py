"""`make deploy` onto a real server: everything in prefect.yaml is read back and compared, and what the server does with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import pools
from flows.automations import ORPHANS, TAG, ZOMBIES
from flows.deploy import NotDeployed, _deployed, _without_waiting, main
from flows.deployments import FILE, ROOT, read_deployments
from flows.serving import _make_pools
from pipeline.errors import InvalidSettings
from tests.flows.served import SERVED
from tests.flows.serving import serving, using, write_database

pytestmark = SERVED


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of this module's own, at first empty: what is deployed here would be in others' way."""
    database = write_database(tmp_path_factory, tmp_path_factory.mktemp("server") / "prefect.db")
    with serving(database) as url, using(url):
        yield url


@pytest.fixture(scope="module", autouse=True)
def environment(server: str) -> Iterator[None]:
    """What processes of this module's find the server and the checkout by."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", server)
        patch.setenv("DECLOUD_HOME", str(ROOT))
        yield


@pytest.fixture(scope="module")
def told() -> list[str]:
    """What was said while everything was deployed to an empty server."""
    done = subprocess.run([sys.executable, "-m", "flows.deploy"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def on_server() -> dict[str, Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return {deployment.name: deployment for deployment in client.read_deployments()}


def automations() -> dict[str, Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.request("POST", "/automations/filter", json={})
    return {entry["name"]: entry for entry in found.json()}


def in_file() -> dict[str, Any]:
    text = (ROOT / FILE).read_text(encoding="utf-8").replace("{{ $DECLOUD_HOME }}", str(ROOT))
    return {entry["name"]: entry for entry in yaml.safe_load(text)["deployments"]}


def test_all_that_the_file_says_is_on_the_server(told: list[str]) -> None:
    found, wanted = on_server(), in_file()
    assert set(found) == set(wanted)
    for name, entry in wanted.items():
        one = found[name]
        assert one.entrypoint == entry["entrypoint"]
        assert one.description == entry["description"]
        assert one.tags == entry["tags"]
        assert one.parameters == entry.get("parameters", {})
        assert one.work_pool_name == entry["work_pool"]["name"]
        assert one.job_variables == entry["work_pool"]["job_variables"]
        assert one.global_concurrency_limit is not None
        assert one.global_concurrency_limit.limit == entry["concurrency_limit"]["limit"]
        assert one.concurrency_options.collision_strategy.value == entry["concurrency_limit"]["collision_strategy"]
        assert one.pull_steps == [{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}]
        assert one.enforce_parameter_schema
        schedules = {schedule.slug: schedule for schedule in one.schedules}
        assert set(schedules) == {schedule["slug"] for schedule in entry.get("schedules", ())}
        for schedule in entry.get("schedules", ()):
            there = schedules[schedule["slug"]]
            assert (there.schedule.cron, there.schedule.timezone) == (schedule["cron"], schedule["timezone"])
            assert there.active is schedule["active"]
            assert there.parameters == schedule["parameters"]
        assert f"deployment {name}: work pool {entry['work_pool']['name']}; runs when asked" in told


def test_the_pools_are_made_with_their_limits(told: list[str]) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        pools = {name: client.read_work_pool(name) for name in ("cpu", "gpu")}
    assert {name: (pool.type, pool.concurrency_limit) for name, pool in pools.items()} == {
        "cpu": ("process", None), "gpu": ("process", 1),
    }  # fmt: skip
    assert "work pool gpu: made, 1 at once" in told
    assert "env" in pools["cpu"].base_job_template["variables"]["properties"]


@pytest.mark.usefixtures("told")
def test_every_form_has_help_and_refuses_nonsense() -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    for name, one in on_server().items():
        schema = one.parameter_openapi_schema
        assert schema["required"] == ["request"], name
        models = [model for model in schema["definitions"].values() if model["type"] == "object"]
        for model in models:
            bare = [field for field, form in model.get("properties", {}).items() if not _helped(form, schema)]
            assert not bare, f"{name}: {model['title']}: {bare} without help"
        with get_client(sync_client=True) as client:
            for parameters in ({}, {"request": {}}, {"request": {"outptu": "x"}}):
                with pytest.raises(PrefectHTTPStatusError) as caught:
                    client.create_flow_run_from_deployment(one.id, parameters=parameters)
                assert caught.value.response.status_code == 422 or caught.value.response.status_code == 409


@pytest.mark.usefixtures("told")
def test_the_form_of_a_training_holds_its_settings_and_names_what_is_wrong() -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    train = on_server()["train"]
    forms = train.parameter_openapi_schema["definitions"]
    assert forms["TrainRequest"]["properties"]["preset"]["enum"] == ["tiny", "small", "base", "seed"]
    assert "rate" in forms["TrainSettingsOverrides"]["properties"]
    with get_client(sync_client=True) as client:
        for values, said in (({"rat": 1}, "'rat' was unexpected"), ({"rate": -1}, "settings.rate")):
            parameters = {"request": {"pairs": ["pairs.parquet"], "output": "out", "settings": values}}
            with pytest.raises(PrefectHTTPStatusError) as caught:
                client.create_flow_run_from_deployment(train.id, parameters=parameters)
            assert said in caught.value.response.text


def _helped(form: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Whether a form says what a field is: by itself, or by the model that it is."""
    model = schema["definitions"].get(form.get("$ref", "").rpartition("/")[2], {})
    return bool(form.get("description") or model.get("description")) or "const" in str(form)


@pytest.mark.usefixtures("told")
def test_training_triggers_its_evaluation() -> None:
    (trigger,) = [one for name, one in automations().items() if name.startswith("evaluate")]
    assert trigger["enabled"]
    assert trigger["trigger"]["expect"] == ["prefect.flow-run.Completed"]
    assert trigger["trigger"]["match_related"] == {
        "prefect.resource.role": "deployment", "prefect.resource.name": "train",
    }  # fmt: skip
    (action,) = trigger["actions"]
    assert (action["type"], action["deployment_id"]) == ("run-deployment", str(on_server()["evaluate"].id))
    assert action["parameters"] == in_file()["evaluate"]["triggers"][0]["parameters"]


def test_the_trigger_makes_a_request_of_the_trainings_own() -> None:
    from prefect.utilities.schema_tools.hydration import HydrationContext, hydrate

    from flows.evaluate_request import EvaluateRequest

    class Run:
        parameters = {"request": {"pairs": ["a'b.parquet", "c.parquet"], "output": "training"}}  # noqa: RUF012

    template = in_file()["evaluate"]["triggers"][0]["parameters"]
    context = HydrationContext(render_jinja=True, raise_on_error=True, jinja_context={"flow_run": Run})
    request = EvaluateRequest.model_validate(hydrate(template, context)["request"])
    assert request.pairs == ("a'b.parquet", "c.parquet")
    assert (request.checkpoint, request.output) == ("training/best.safetensors", Path("training/evaluation"))
    assert (request.splits, request.device, request.split) == (None, "auto", "test")
    Run.parameters["request"] |= {"splits": "s.yaml", "device": "cpu"}
    request = EvaluateRequest.model_validate(hydrate(template, context)["request"])
    assert (request.splits, request.device) == ("s.yaml", "cpu")


def test_the_automations_watch_our_flow_runs_only(told: list[str]) -> None:
    found = automations()
    assert f"automation {ZOMBIES!r}: made" in told
    for name, seconds in ((ZOMBIES, 90), (ORPHANS, 600)):
        one = found[name]
        assert one["enabled"]
        assert one["trigger"]["posture"] == "Proactive"
        assert one["trigger"]["within"] == seconds
        assert one["trigger"]["for_each"] == ["prefect.resource.id"]
        assert one["trigger"]["match_related"]["prefect.resource.id"] == f"prefect.tag.{TAG}"
        (action,) = one["actions"]
        assert (action["type"], action["state"]) == ("change-flow-run-state", "CRASHED")
    assert "prefect.flow-run.heartbeat" in found[ZOMBIES]["trigger"]["after"]
    assert not set(found[ORPHANS]["trigger"]["after"]) & set(found[ORPHANS]["trigger"]["expect"])


def deploy(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    status = main(arguments)
    said = capsys.readouterr()
    return status, said.out + said.err


@pytest.mark.usefixtures("told")
def test_pausing_and_resuming_in_the_file_keeps_a_schedules_parameters(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = yaml.safe_load((ROOT / FILE).read_text(encoding="utf-8"))
    entry = next(entry for entry in document["deployments"] if entry["name"] == "scheduled")
    (schedule,) = entry["schedules"]
    seen = []
    for active in (True, False, True):
        schedule["active"] = active
        (tmp_path / FILE).write_text(yaml.safe_dump(document), encoding="utf-8")
        status, said = deploy(capsys, "--file", str(tmp_path / FILE), "scheduled")
        assert status == 0, said
        assert ("runs by itself: daily" in said) is active
        (there,) = on_server()["scheduled"].schedules
        assert there.active is active
        seen.append(there.parameters)
    assert seen[0]["request"]["aoi"] == "15.2,45.2,16.2,45.9"
    assert seen == [seen[0]] * 3
    # One that is no longer in the file goes on, and that is said.
    schedule["slug"] = "hourly"
    (tmp_path / FILE).write_text(yaml.safe_dump(document), encoding="utf-8")
    status, said = deploy(capsys, "--file", str(tmp_path / FILE), "scheduled")
    assert status == 0
    assert "warning: scheduled: schedule daily is on the server and not in prefect.yaml, still ACTIVE" in said


@pytest.mark.usefixtures("told")
def test_a_pool_that_nobody_made_is_refused_before_anything_is_deployed(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = yaml.safe_load((ROOT / FILE).read_text(encoding="utf-8"))
    for entry in document["deployments"]:
        if entry["name"] == "train":
            entry["work_pool"] = {**entry["work_pool"], "name": "tpu"}
            entry["description"] = "would have been deployed all the same"
    (tmp_path / FILE).write_text(yaml.safe_dump(document), encoding="utf-8")
    status, said = deploy(capsys, "--file", str(tmp_path / FILE))
    assert status == 2
    assert "work pool tpu is not on the server and is none of cpu, gpu: make it first" in said
    assert on_server()["train"].description == in_file()["train"]["description"]


@pytest.mark.usefixtures("told")
def test_no_pool_is_made_where_another_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.client.orchestration import get_client

    monkeypatch.setattr(pools, "POOLS", {"extra": 2})
    with get_client(sync_client=True) as client:
        with pytest.raises(InvalidSettings, match="work pool tpu is not on the server"):
            list(pools.ensure_pools(client, ("extra", "tpu")))
        assert "extra" not in {pool.name for pool in client.read_work_pools()}
        assert list(pools.ensure_pools(client, ("extra", "cpu"))) == ["work pool extra: made, 2 at once"]
        client.delete_work_pool("extra")


@pytest.mark.usefixtures("told")
def test_a_pool_that_another_makes_at_the_same_moment_is_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:

        def not_yet(name: str) -> None:
            raise ObjectNotFound(Exception(name))

        monkeypatch.setattr(client, "read_work_pool", not_yet)
        assert list(pools.ensure_pools(client)) == []


def test_all_planned_runs_are_taken_away_and_none_that_was_asked_for() -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
    from prefect.client.schemas.schedules import CronSchedule

    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name("planned")
        minutely = DeploymentScheduleCreate(schedule=CronSchedule(cron="* * * * *"), active=True)
        made = client.create_deployment(flow, "planned", schedules=[minutely])
        mine = {client.create_flow_run_from_deployment(made).id for _ in range(2)}
        start = (datetime.now(UTC) - timedelta(hours=10)).isoformat()
        planned = {"start_time": start, "min_runs": 230, "max_runs": 230}
        client.request("POST", f"/deployments/{made}/schedule", json=planned)
        (line,) = _without_waiting(client, client.read_deployment(made))
        assert line == "deployment planned: 230 planned runs of its paused schedules taken away"
        there = DeploymentFilter(id=DeploymentFilterId(any_=[made]))
        assert {run.id for run in client.read_flow_runs(deployment_filter=there)} == mine
        assert list(_without_waiting(client, client.read_deployment(made))) == []
        for run in mine:
            client.delete_flow_run(run)
        client.delete_deployment(made)


def test_a_placeholder_on_the_server_is_told_as_such(tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client

    entrypoint = "flows/decloud.py:placeholder"
    (tmp_path / FILE).write_text(
        yaml.safe_dump({"deployments": [{"name": "placeholder", "entrypoint": entrypoint}]}), encoding="utf-8"
    )
    steps = [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $DECLOUD_HOME }}"}}]
    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name("placeholder")
        made = client.create_deployment(flow, "placeholder", entrypoint=entrypoint, pull_steps=steps)
        with pytest.raises(NotDeployed, match=r"placeholder: the server keeps a placeholder .*DECLOUD_HOME"):
            _deployed(client, read_deployments(tmp_path / FILE), "placeholder")
        client.delete_deployment(made)
        with pytest.raises(NotDeployed, match="placeholder: the server has 0 deployments of that name"):
            _deployed(client, read_deployments(tmp_path / FILE), "placeholder")


class Answers(BaseHTTPRequestHandler):
    """A server in good health that says `told` to everything else; a bad one hangs up."""

    told: tuple[int, str] | None = None

    def do_GET(self) -> None:
        if self.path.endswith("/health"):
            self.answer(200, "true")
        elif self.told is not None:
            self.answer(*self.told)

    do_POST = do_GET  # noqa: N815 - http.server's name

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ((401, '{"detail": "who are you?"}'), '401 Unauthorized: {"detail": "who are you?"}'),
        ((403, ""), "403 Forbidden"),
        ((500, "one\ntwo"), "500 Internal Server Error: one two"),
        ((200, "<html>"), "is no Prefect server, or one of another version (JSONDecodeError)"),
        ((200, "{}"), "is no Prefect server, or one of another version (ValidationError)"),
        (None, "Server disconnected without sending a response."),
    ],
)
def test_whatever_the_server_says_is_one_line(
    told: tuple[int, str] | None, expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    monkeypatch.setattr(Answers, "told", told)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        where = f"127.0.0.1:{server.server_port}/api"
        try:
            with temporary_settings({PREFECT_API_URL: f"http://me:secret@{where}", PREFECT_CLIENT_MAX_RETRIES: 0}):
                status, said = deploy(capsys)
                with pytest.raises(NotDeployed) as caught:
                    _make_pools(f"http://me:secret@{where}")
        finally:
            server.shutdown()
            thread.join()
    assert status == 1
    assert [line for line in said.splitlines() if line.startswith("error: ")] == [
        f"error: Prefect server http://{where}: {expected}"
    ]
    assert str(caught.value) == f"Prefect server http://{where}: {expected}"
    assert "secret" not in said
    assert "Traceback" not in said


def test_a_server_that_does_not_answer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        status, said = deploy(capsys)
    assert status == 1
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Prefect server http://127.0.0.1:9/api does not answer" in lines[0]
    assert "make server" in lines[0]


def test_make_deploy_is_this_and_refuses_without_a_home() -> None:
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "deploy: install\n\t@$(BIN)/python -m flows.deploy $(DEPLOY)" in rules
    environ = {name: value for name, value in os.environ.items() if name != "DECLOUD_HOME"}
    done = subprocess.run(
        [sys.executable, "-m", "flows.deploy"], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: DECLOUD_HOME is not set")
