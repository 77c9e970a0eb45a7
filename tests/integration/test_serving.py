"""`make server` as a whole: server and both workers on PostgreSQL, until ctrl-C; and a database that does not let us in."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import psutil
import pytest

from tests.integration.machine import Machine, family, machine, until
from tests.integration.postgres import PASSWORD

pytestmark = [pytest.mark.integration, pytest.mark.timeout(7200)]


def online(made: Machine) -> set[str]:
    """Pools of which a worker has said that it is there."""
    found = set()
    for pool in ("cpu", "gpu"):
        workers = made.ask("POST", f"/work_pools/{pool}/workers/filter", {})
        found |= {pool for worker in workers if worker["status"] == "ONLINE"}
    return found


def test_server_and_workers_come_up_and_ctrl_c_stops_them_all(tmp_path: Path) -> None:
    with machine(tmp_path / "machine", "") as made:
        made.serve()
        until("both workers", lambda: online(made) == {"cpu", "gpu"})
        there = family(made.started["serving"].pid)
        assert len(there) >= 4
        assert "SQLite in " in made.log("serving")
        assert made.stop("serving", signal.SIGINT) == 0
        assert made.log("serving").splitlines()[-1] == "stopped"
        _, alive = psutil.wait_procs(there, timeout=30)
        assert not alive
        with pytest.raises(httpx.HTTPError):
            made.ask("GET", "/health")
        # Again on the same folder: what was made is there.
        made.serve("--no-workers")
        assert made.ask("GET", "/work_pools/gpu")["concurrency_limit"] == 1


def test_a_worker_that_dies_takes_the_others_with_it_and_is_named(tmp_path: Path) -> None:
    with machine(tmp_path / "machine", "") as made:
        made.serve()
        process = made.started["serving"]
        (worker,) = [one for one in family(process.pid) if "--limit" in one.cmdline() and "worker" in one.cmdline()]
        there = family(process.pid)
        worker.kill()
        assert process.wait(300) == 1
        assert "error: worker-gpu ended with status -9" in made.log("serving")
        _, alive = psutil.wait_procs(there, timeout=30)
        assert not alive


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.replace(PASSWORD, "wrong"), "password authentication failed"),
        (lambda url: url.replace("/prefect", "/gone"), 'database "gone" does not exist'),
    ],
)
def test_a_database_that_does_not_let_us_in_is_one_line(change, said: str, database: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with machine(tmp_path / "machine", change(database)) as made:
        words = ("--port", str(made.port), "--state", str(tmp_path / "state"))
        process = made.start("serving", "flows.serving", *words, DECLOUD_DATABASE_URL=made.database)
        assert process.wait(600) == 2
        (line,) = made.log("serving").splitlines()
        assert line.startswith("error: DECLOUD_DATABASE_URL postgresql+asyncpg://127.0.0.1:")
        assert said in line
        assert PASSWORD not in line
        assert "wrong" not in line
