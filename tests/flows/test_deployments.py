"""prefect.yaml as it is, and what is said of one that is wrong: no server is needed for either."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.automations import HEARTBEAT, SILENCE, TAG
from flows.deploy import main
from flows.deployments import FILE, ROOT, faults, home_faults, read_deployments
from pipeline.errors import InvalidSettings

HOME = {"DECLOUD_HOME": str(ROOT)}
Change = Callable[[dict[str, Any]], object]


def said(tmp_path: Path, change: Change) -> list[str]:
    """What is wrong with the file after a change."""
    document = yaml.safe_load((ROOT / FILE).read_text(encoding="utf-8"))
    document["deployments"] = [entry for entry in document["deployments"] if entry["name"] in ("scheduled", "evaluate")]
    change(document)
    path = tmp_path / FILE
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return list(faults(read_deployments(path, HOME)))


def first(document: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = document["deployments"][0]
    assert entry["name"] == "scheduled"
    return entry


def request(document: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = first(document)["schedules"][0]["parameters"]["request"]
    return given


def test_the_file_has_no_fault(tmp_path: Path) -> None:
    file = read_deployments(environ=HOME)
    assert list(faults(file)) == []
    assert file.names == ("scheduled", "window", "backfill", "build-pairs", "train", "evaluate")
    assert file.pools == ("gpu", "cpu")
    assert file.slugs("scheduled") == ("daily",)
    assert said(tmp_path, dict) == []


def test_what_the_pitfalls_ask_for_holds() -> None:
    entries = {entry["name"]: entry for entry in read_deployments(environ=HOME).deployments}
    assert {name: entry["concurrency_limit"] for name, entry in entries.items()} == {
        name: {"limit": 1, "collision_strategy": "CANCEL_NEW" if name == "scheduled" else "ENQUEUE"} for name in entries
    }
    # A backfill waits for its windows, so it must not hold the one slot of their pool.
    assert entries["window"]["work_pool"]["name"] == "gpu"
    assert entries["backfill"]["work_pool"]["name"] == "cpu"
    # A schedule that lost its parameters fails for want of an area.
    assert all("parameters" not in entry for entry in entries.values())
    for entry in entries.values():
        assert TAG in entry["tags"]
        assert entry["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(HEARTBEAT)
        assert len(entry["description"]) > 20
    assert SILENCE.total_seconds() == 90


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d.update(deployment=[]), "the file: deployment means nothing to Prefect, which would drop it in silence: did you mean deployments?"),
        (lambda d: first(d).update(work_pol={}), "scheduled: deployment: work_pol means nothing"),
        (lambda d: first(d).pop("work_pool"), "scheduled: work_pool missing"),
        (lambda d: first(d)["work_pool"].update(job_variable={}), "did you mean job_variables?"),
        (lambda d: first(d)["work_pool"]["job_variables"]["env"].clear(), 'PREFECT_FLOWS_HEARTBEAT_FREQUENCY must be "30"'),
        (lambda d: first(d).update(tags=["other"]), "tags without declouder"),
        (lambda d: first(d)["concurrency_limit"].update(colision_strategy="ENQUEUE"), "did you mean collision_strategy?"),
        (lambda d: first(d)["concurrency_limit"].update(collision_strategy="CANCEL"), "one of ENQUEUE, CANCEL_NEW"),
        (lambda d: first(d).update(concurrency_limit=1), "concurrency_limit: give a limit and a collision_strategy"),
        (lambda d: first(d).update(schedules=[]), "schedules is empty, which removes none from the server"),
        (lambda d: first(d)["schedules"][0].pop("slug"), "schedule None: give a slug and active"),
        (lambda d: first(d)["schedules"][0].pop("active"), "schedule daily: give a slug and active"),
        (lambda d: first(d)["schedules"][0].update(interval=60), "schedule daily: give one of cron, interval, rrule"),
        (lambda d: first(d)["schedules"][0].update(cron="61 5 * * *"), "schedule daily: cron 61 5 * * *"),
        (lambda d: first(d)["schedules"][0].update(timezone="Europe/Atlantis"), "timezone Europe/Atlantis: Invalid timezone"),
        (lambda d: first(d)["schedules"].append(dict(first(d)["schedules"][0])), "schedule daily: two have this slug"),
        (lambda d: first(d)["schedules"][0].pop("parameters"), "schedule daily: has no parameters: a run would not know its area"),
        (lambda d: request(d).pop("aoi"), "schedule daily: parameters do not fit"),
        (lambda d: request(d).update(aoi=""), "schedule daily: parameters do not fit"),
        (lambda d: request(d).update(aoi="15,45"), "schedule daily: parameters do not fit"),
        (lambda d: request(d).update(dates="the other day"), "schedule daily: parameters do not fit"),
        (lambda d: request(d).update(outptu="x"), "outptu"),
        (lambda d: first(d).update(entrypoint="flows/decloud.py:decluod"), "scheduled: flows/decloud.py:decluod: no such flow"),
        (lambda d: first(d).update(entrypoint="flows/gone.py:flow"), "scheduled: flows/gone.py:flow: no such flow"),
        (lambda d: d["deployments"].append(first(d)), "scheduled: deployed twice"),
        (lambda d: d["deployments"][1]["triggers"][0].update(expects=[]), "evaluate: trigger: expects means nothing"),
        (lambda d: first(d).update(work_pool="gpu"), "scheduled: work_pool: 'gpu' is no mapping"),
        (lambda d: first(d).update(work_pool=None), "scheduled: work_pool: None is no mapping"),
        (lambda d: first(d).update(tags=None), "scheduled: tags: None is no list"),
        (lambda d: first(d).update(tags="declouder"), "scheduled: tags: 'declouder' is no list"),
        (lambda d: first(d).update(schedules={"slug": "daily"}), "schedules: {'slug': 'daily'} is no list"),
        (lambda d: first(d).update(schedules=None), "schedules is empty"),
        (lambda d: first(d).update(schedules=["daily"]), "scheduled: schedules: 'daily' is no mapping"),
        (lambda d: first(d).update(triggers="train"), "scheduled: triggers: 'train' is no list"),
        (lambda d: first(d).update(triggers=["train"]), "scheduled: triggers: 'train' is no mapping"),
        (lambda d: first(d).update(parameters=["request"]), "scheduled: parameters: ['request'] is no mapping"),
        (lambda d: first(d)["schedules"][0].update(parameters="x"), "scheduled: schedules: parameters: 'x' is no mapping"),
        (lambda d: first(d)["schedules"][0].update(slug=["daily"], active="on"), "schedule ['daily']: give a slug and active"),
        (lambda d: first(d)["work_pool"].update(job_variables=["env"]), "work_pool: job_variables: ['env'] is no mapping"),
        (lambda d: first(d)["work_pool"]["job_variables"].update(env="x=1"), "job_variables: env: 'x=1' is no mapping"),
        (lambda d: request(d).update(output="{{ $DECLOUD_ELSEWHERE }}/x"), "$DECLOUD_ELSEWHERE is not set"),
    ],
)  # fmt: skip
def test_a_slip_in_the_file_is_named(change: Change, expected: str, tmp_path: Path) -> None:
    lines = said(tmp_path, change)
    assert any(expected in line for line in lines), lines
    assert all("\n" not in line for line in lines)


def test_the_pools_of_a_file_with_faults_can_be_read(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(
        "deployments: [{name: a, work_pool: gpu}, {name: b, work_pool: {name: cpu}}, just text]", encoding="utf-8"
    )
    file = read_deployments(tmp_path / FILE, HOME)
    assert file.pools == ("cpu",)
    assert len(list(faults(file))) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("deployments: [", "no YAML"),
        ("name: x", "holds no list of deployments"),
        ("[]", "holds no list of deployments"),
    ],
)
def test_a_file_that_is_none(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text(text)
    with pytest.raises(InvalidSettings, match=expected):
        read_deployments(path, HOME)
    path.unlink()
    with pytest.raises(InvalidSettings, match="No such file"):
        read_deployments(path, HOME)


def test_the_home_must_be_a_checkout(tmp_path: Path) -> None:
    assert list(home_faults(str(ROOT))) == []
    for home, expected in (
        (None, "is not set"),
        ("", "is not set"),
        ("flows", "absolute path"),
        (str(tmp_path), "no checkout"),
    ):
        (line,) = home_faults(home)
        assert expected in line


def test_make_deploy_refuses_without_a_home(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Before anything is asked of a server, of which there is none.
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.delenv("DECLOUD_HOME", raising=False)
    assert main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: DECLOUD_HOME is not set: workers run the flows there.")
    monkeypatch.setenv("DECLOUD_HOME", str(ROOT))
    assert main(["scheduld", "--check"]) == 2
    assert "scheduld: prefect.yaml has no such deployment, only scheduled, window" in capsys.readouterr().err
    assert main(["--check"]) == 0
    assert "6 deployments, no fault found" in capsys.readouterr().out
