"""kill -9 of worker and flow in the middle of a backfill, at random moments: nothing half done, nothing to repair by hand.

How often and from which seed: DECLOUD_KILLS (2) and DECLOUD_KILL_SEED (0). With which network: DECLOUD_KILL_CHECKPOINT
(identity, which is quick; `default` is what users run).
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from tests.integration.machine import Machine, until
from tests.integration.products import complete, pixels
from tests.integration.test_operation import request

pytestmark = [pytest.mark.integration, pytest.mark.timeout(14400)]

KILLS = int(os.environ.get("DECLOUD_KILLS", "2"))
SEED = int(os.environ.get("DECLOUD_KILL_SEED", "0"))
SETTINGS = {"checkpoint": os.environ.get("DECLOUD_KILL_CHECKPOINT", "identity"), "references": 1}
POOLS = {"cpu": (), "gpu": ("--limit", "1")}


def workers(machine: Machine) -> None:
    for pool, words in POOLS.items():
        machine.work(pool, *words)


def backfill(machine: Machine, catalog: Path, output: Path) -> str:
    wanted = request(catalog, output, settings=SETTINGS, step="10d")
    return machine.run("backfill/backfill", json.dumps(wanted))


def begun(machine: Machine, run: str, output: Path) -> bool:
    """Whether the first scene is being worked on."""
    state = machine.flow_run(run)["state_type"]
    assert state in ("SCHEDULED", "PENDING", "RUNNING"), machine.said(run)
    return any('"running"' in path.read_text() for path in (output / "runs").glob("*.jsonl"))


def test_a_backfill_survives_kill_9_at_any_moment(operated: Machine, catalog: Path, tmp_path: Path) -> None:
    rng = random.Random(SEED)  # noqa: S311 - moments, not secrets
    workers(operated)
    undisturbed = tmp_path / "undisturbed"
    run = backfill(operated, catalog, undisturbed)
    until("first scene", lambda: begun(operated, run, undisturbed), beat=0.1)
    start = time.monotonic()
    operated.completed(run)
    whole = time.monotonic() - start
    expected = complete(undisturbed)
    assert len(expected) == 5

    killed = []
    for number in range(KILLS):
        output = tmp_path / f"killed-{number}"
        run = backfill(operated, catalog, output)
        until("first scene", lambda run=run, output=output: begun(operated, run, output), beat=0.1)  # type: ignore[misc]
        moment = rng.uniform(0.0, whole)
        time.sleep(moment)
        count = operated.kill(*(f"worker-{pool}" for pool in POOLS))
        left = complete(output)
        assert set(left) <= set(expected)
        print(f"kill {number}: {moment:.1f} s of {whole:.1f}, {count} processes, {len(left)} products there")
        killed.append((run, operated.flow_run(run)["state_type"]))

        # No repair: the workers are started again, as systemd would, and the same backfill is asked for again.
        workers(operated)
        operated.completed(backfill(operated, catalog, output))
        there = complete(output)
        assert pixels(there) == pixels(expected)
        assert {name: set(files) for name, files in there.items()} == {name: set(f) for name, f in expected.items()}
        for name, files in left.items():
            # What was complete when it was killed was not made again.
            assert there[name] == files
    for pool in reversed(POOLS):
        operated.stop(f"worker-{pool}")
    # Those that were running when they were killed are no longer: nobody had to say so.
    for run, state in killed:
        ended = operated.ended(run)
        assert ended["state_type"] == ("COMPLETED" if state == "COMPLETED" else "CRASHED")
        if state == "RUNNING":
            assert "no heartbeat for 90 s" in ended["state"]["message"]
