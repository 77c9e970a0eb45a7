"""What the user does every day, on real servers: backfill, schedule, training and its evaluation."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.machine import ROOT, Machine, until
from tests.integration.products import complete

pytestmark = [pytest.mark.integration, pytest.mark.timeout(7200)]

AOI = "15.2,45.2,16.2,45.9"
DATES = "2023-08-01/2023-08-31"
QUICK = {"checkpoint": "identity", "references": 1}
AGAIN = 15.0
"""Seconds that a backfill of which everything is done may take, on a machine that has nothing else to do."""
PAIRS = ("1158_spring", "39", 100), ("1868_summer", "102", 100), ("1970_fall", "136", 840)
SPLITS = {"ROIs1158_spring_39": "train", "ROIs1868_summer_102": "val", "ROIs1970_fall_136": "test"}
TINY: dict[str, Any] = {
    "widths": [4, 4, 4, 8, 8, 8], "epochs": 1, "epoch_steps": 2, "batch": 1, "validation_samples": 1, "warmup": 1,
    "discriminator_width": 4, "losses": {"perceptual": 0, "style": 0},
}  # fmt: skip


def request(catalog: Path, output: Path, **more: Any) -> dict[str, Any]:
    return {"catalog": str(catalog), "aoi": AOI, "dates": DATES, "output": str(output), "settings": QUICK} | more


def busy() -> float:
    """How much slower this machine is than an idle one, at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("products") / "out"


def test_a_backfill_completes_and_again_publishes_nothing(working: Machine, catalog: Path, output: Path) -> None:
    wanted = json.dumps(request(catalog, output))
    first = working.completed(working.run("backfill/backfill", wanted))
    made = complete(output)
    assert len(made) == 5, working.said(first["id"])
    stamps = {path: path.stat().st_mtime_ns for path in output.rglob("*.tif")}

    started = time.monotonic()
    second = working.completed(working.run("backfill/backfill", wanted))
    whole = time.monotonic() - started
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.tif")} == stamps
    assert set(complete(output)) == set(made)
    begun, ended = (datetime.fromisoformat(second[name]) for name in ("start_time", "end_time"))
    seconds = (ended - begun).total_seconds()
    print(f"rerun: flow {seconds:.1f} s, from the command to its end {whole:.1f} s, load {busy():.1f}")
    assert seconds < AGAIN * busy()
    # All of it under the one deployment that the file names, with the tag that the automations look for.
    assert all("declouder" in run["tags"] for run in (first, second))


def deployed(machine: Machine, folder: Path, catalog: Path, output: Path, *, active: bool) -> dict[str, Any]:
    """Deploy `scheduled` with a schedule of this area every few seconds; the schedule as the server has it."""
    document = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    (entry,) = [entry for entry in document["deployments"] if entry["name"] == "scheduled"]
    entry["schedules"] = [
        {"slug": "often", "interval": 15, "active": active, "parameters": {"request": request(catalog, output)}},
        {**entry["schedules"][0], "active": False},
    ]
    file = folder / "prefect.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    machine.command("flows.deploy", "--file", str(file), "scheduled")
    found = machine.ask("GET", "/deployments/name/decloud-aoi/scheduled")
    (schedule,) = [schedule for schedule in found["schedules"] if schedule["slug"] == "often"]
    return dict(schedule)


def test_a_schedule_fires_by_itself_and_keeps_its_parameters_when_paused_and_resumed(
    working: Machine, catalog: Path, output: Path, tmp_path: Path
) -> None:
    schedule = deployed(working, tmp_path, catalog, output, active=True)
    wanted = {"request": request(catalog, output)}
    assert schedule["active"] is True
    assert schedule["parameters"] == wanted

    def fired() -> dict[str, Any] | None:
        runs = [
            run for run in working.flow_runs("scheduled") if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED")
        ]
        return runs[0] if runs else None

    run = until("a scheduled run", fired)
    assert run["state_type"] == "COMPLETED", working.said(run["id"])
    assert run["auto_scheduled"] is True
    assert run["parameters"] == wanted
    assert len(complete(output)) == 5
    # Those that came while it ran were dropped, not queued.
    later = [run for run in working.flow_runs("scheduled") if run["state_type"] == "CANCELLED"]
    assert all("concurrency" in str(run["state"]["message"]).lower() for run in later)

    paused = deployed(working, tmp_path, catalog, output, active=False)
    assert (paused["active"], paused["parameters"]) == (False, wanted)
    waiting = [run for run in working.flow_runs("scheduled") if run["state_type"] == "SCHEDULED"]
    assert not waiting
    resumed = deployed(working, tmp_path, catalog, output, active=True)
    assert (resumed["active"], resumed["parameters"]) == (True, wanted)
    moment = datetime.now(UTC).isoformat()

    def fired_again() -> list[str]:
        runs = working.flow_runs("scheduled")
        return [run["id"] for run in runs if run["state_type"] == "COMPLETED" and run["expected_start_time"] > moment]

    until("a run of the resumed schedule", fired_again)
    deployed(working, tmp_path, catalog, output, active=False)


def test_pairs_become_a_training_and_that_an_evaluation(working: Machine, shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("s2cloudless")
    for season, roi, patch in PAIRS:
        for side in ("s2", "s2_cloudy"):
            name = f"ROIs{season}_{side}/{side}_{roi}/ROIs{season}_{side}_{roi}_p{patch}.tif"
            (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(shared_data / "SEN12MSCR" / name, tmp_path / "tree" / name)
    splits, table, training = tmp_path / "splits.json", tmp_path / "pairs.parquet", tmp_path / "training"
    splits.write_text(json.dumps(SPLITS))
    pairs = {"root": str(tmp_path / "tree"), "layout": "sen12mscr", "output": str(table), "splits": str(splits)}
    working.completed(working.run("build-pairs/build-pairs", json.dumps(pairs)))
    assert table.is_file()

    asked = {"pairs": [str(table)], "output": str(training), "preset": "tiny", "settings": TINY, "export": []}
    asked |= {"splits": str(splits), "device": "cpu"}
    trained = working.completed(working.run("train/train", json.dumps(asked)))
    assert (training / "best.safetensors").is_file(), working.said(trained["id"])
    evaluation = until("the evaluation that the training triggers", lambda: working.flow_runs("evaluate"))[-1]
    assert evaluation["parameters"]["request"] == {
        "pairs": [str(table)], "splits": str(splits), "device": "cpu",
        "checkpoint": f"{training}/best.safetensors", "output": f"{training}/evaluation",
    }  # fmt: skip
    working.completed(evaluation["id"])
    report = json.loads((training / "evaluation" / "report.json").read_text())
    assert report["chips"]["used"] == 1
    assert len(working.flow_runs("evaluate")) == 1
