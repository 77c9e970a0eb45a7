"""`--dask` and DECLOUD_DASK: what is told, what is refused, and that the record of a run holds it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from flows.request import ResourceRequest, make_request
from pipeline import cluster
from pipeline.errors import InvalidSettings
from pipeline.simulation.simulate import Simulated
from tests.flows.conftest import Decloud, MadeScene, area_run

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a scheduler that is not there."""
    monkeypatch.setattr(cluster, "TIMEOUT", 2.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{taken.getsockname()[1]}"


def test_processes_on_this_machine_give_the_same_product(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    alone = decloud(*scene.arguments(tmp_path / "alone", "--json"))
    ended = decloud(*scene.arguments(tmp_path / "out", "--json", "--dask", "local:1", "--device", "cpu"))
    assert ended.status == 0, ended.err
    notes = [line for line in ended.err.splitlines() if "dashboard" in line]
    assert len(notes) == 1
    assert notes[0].startswith("note: dashboard of --dask local:1: http://127.0.0.1:")
    made, other = (Path(one.document["scenes"][0]["product"]) for one in (ended, alone))
    assert made.name == other.name, "where it is computed is no part of the run key"
    for path in sorted(made.parent.glob("*.tif")):
        assert path.read_bytes() == (other.parent / path.name).read_bytes()
    (record,) = (tmp_path / "out" / "runs").glob("*.json")
    assert json.loads(record.read_text())["request"]["resources"]["dask"] == "local:1"
    again = decloud(*scene.arguments(tmp_path / "out", "--json", "--dask", "local:1"))
    assert [entry["state"] for entry in again.document["scenes"]] == ["unchanged"]
    assert "dashboard" not in again.err, "nothing to do, no process started"


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_scheduler_that_is_not_there(
    command: str,
    by: str,
    nowhere: str,
    area: Simulated,
    tmp_path: Path,
    decloud: Decloud,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more: tuple[str, ...] = ("--dask", nowhere)
    if by == "environment":
        monkeypatch.setenv("DECLOUD_DASK", nowhere)
        more = ()
    ended = decloud(*area_run(area, tmp_path / "out", *more, command=command))
    assert ended.status == 1
    assert f"--dask {nowhere}: no scheduler answers within 2 s; start one (dask scheduler)" in ended.error
    assert ended.out == ""
    assert not (tmp_path / "out" / "runs").exists()


def test_what_is_no_cluster_is_refused_before_anything_is_read(
    area: Simulated, tmp_path: Path, decloud: Decloud
) -> None:
    ended = decloud(*area_run(area, tmp_path / "out", "--dask", "many"))
    assert ended.status == 2
    assert (
        ended.error
        == "error: --dask 'many': use local:N for N processes on this machine, or a scheduler's tcp://host:port"
    )


def test_plan_counts_the_processes_without_starting_them(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    ended = decloud(
        *area_run(area, tmp_path / "out", "--json", "--dask", "local:3", "--max-memory", "4GiB", command="plan")
    )
    assert ended.status == 0, ended.err
    assert {scene["state"] for scene in ended.document["scenes"]} == {"new"}
    tight = decloud(*area_run(area, tmp_path / "out", "--json", "--dask", "local:64", command="plan"))
    assert tight.status == 1
    assert "and 64 processes beside this one: give at least" in tight.document["scenes"][0]["reason"]


def test_a_request_goes_on_as_resources() -> None:
    assert ResourceRequest(dask="local:2").resources().dask == "local:2"
    assert ResourceRequest().resources().dask == ""


@pytest.mark.parametrize("kind", ["area", "scenes"])
def test_a_deployments_parameters_are_refused_as_the_options_are(kind: str, tmp_path: Path) -> None:
    what = {
        "area": {"catalog": "earth-search", "aoi": "15,45,16,46", "dates": "2023-01-01/2023-01-31"},
        "scenes": {"sources": ["a.tif"]},
    }
    asked = {"kind": kind, "output": str(tmp_path), "settings": {"precision": "bf16"}, **what[kind]}
    with pytest.raises(InvalidSettings, match="--precision bf16: not with --dask, whose workers compute in fp32"):
        make_request(asked | {"resources": {"dask": "local:2"}})
    assert make_request(asked).settings.precision == "bf16"
    assert make_request(asked | {"settings": {}, "resources": {"dask": "local:2"}}).resources.dask == "local:2"
    with pytest.raises(InvalidSettings, match="precision"):
        make_request(asked | {"settings": {"precision": "fp8"}, "resources": {"dask": "local:2"}})
