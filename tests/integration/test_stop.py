"""A flow run that is cancelled, and one whose process alone is killed: the journal says so, and the same request goes on."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.machine import Machine, family, until
from tests.integration.products import complete
from tests.integration.test_operation import busy, request

pytestmark = [pytest.mark.integration, pytest.mark.timeout(7200)]

BLOCK = 30.0
"""Seconds that a block may take on an idle machine, and the worker's notice with it."""


def lines(output: Path) -> list[dict[str, Any]]:
    """What all journals say, in the order of time."""
    texts = [line for path in (output / "runs").glob("*.jsonl") for line in path.read_text().splitlines()]
    return sorted((json.loads(text) for text in texts), key=lambda entry: str(entry["time"]))


def states(output: Path) -> dict[str, str]:
    return {entry["scene"]: entry["state"] for entry in lines(output)}


def begun(machine: Machine, catalog: Path, output: Path) -> tuple[str, dict[str, Any]]:
    """A flow run in the middle of a scene, and what it was asked."""
    asked = request(catalog, output)
    run = machine.run("decloud-aoi/window", json.dumps(asked))

    def first() -> bool:
        assert machine.flow_run(run)["state_type"] in ("SCHEDULED", "PENDING", "RUNNING"), machine.said(run)
        return any(entry["state"] == "running" for entry in lines(output))

    until("first scene", first, beat=0.1)
    return run, asked


def flow_process(machine: Machine) -> psutil.Process:
    """The process in which the flow of the worker `gpu` runs: the last that was started."""
    members = family(machine.started["worker-gpu"].pid)[1:]
    return max(members, key=lambda process: float(process.create_time()))


def finished(machine: Machine, asked: dict[str, Any], output: Path) -> None:
    machine.completed(machine.run("decloud-aoi/window", json.dumps(asked)))
    assert set(states(output).values()) <= {"done", "unchanged"}
    assert len(complete(output)) == 5


def test_cancelling_ends_within_a_block_and_leaves_what_can_go_on(
    working: Machine, catalog: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run, asked = begun(working, catalog, output)
    process, start = flow_process(working), time.monotonic()
    working.ask("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    ended = working.ended(run)
    seconds = time.monotonic() - start
    print(f"cancelled after {seconds:.1f} s, load {busy():.1f}")
    assert ended["state_type"] == "CANCELLED", ended["state"]
    assert seconds < BLOCK * busy()
    until("end of the flow's process", lambda: not process.is_running(), 60)
    assert "running" not in states(output).values()
    assert "interrupted" in states(output).values()
    complete(output)
    finished(working, asked, output)


def test_a_flow_that_is_killed_is_crashed_at_once_and_its_lines_are_closed(
    working: Machine, catalog: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run, asked = begun(working, catalog, output)
    flow_process(working).kill()
    ended = working.ended(run)
    assert ended["state_type"] == "CRASHED"
    assert "no heartbeat" not in ended["state"]["message"]

    def closed() -> list[str]:
        told = [entry["reason"] for entry in lines(output) if entry["state"] == "interrupted"]
        return told if not set(states(output).values()) & {"running", "planned"} else []

    reasons = until("the hook's lines in the journal", closed)
    # By the name that the run had when its worker took it up.
    assert all(re.match(r"flow run \S+ crashed \(.*SIGKILL", reason) for reason in reasons), reasons
    complete(output)
    finished(working, asked, output)
