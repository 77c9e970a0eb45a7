"""`Machine`: what runs on a machine where Declouder is operated, started from nothing and stopped by number.

Asks the server over plain HTTP, so that what it says is not seen through the library that is looked at.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 1800.0
"""Seconds that anything may take here: the machine may have other things to do."""
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(what: str, answer: Callable[[], Any], patience: float = PATIENCE, beat: float = 0.5) -> Any:
    """The first true answer; fails with `what` where there is none in time."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found = answer()
        if found:
            return found
        time.sleep(beat)
    raise AssertionError(f"{what}: not within {patience:.0f} s")


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it started, itself first."""
    with contextlib.suppress(psutil.NoSuchProcess):
        head = psutil.Process(pid)
        return [head, *head.children(recursive=True)]
    return []


@dataclass
class Machine:
    """A Prefect server with what belongs to it, in a folder."""

    folder: Path
    database: str
    """URL of a PostgreSQL database."""
    port: int = field(default_factory=free_port)
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _logs: list[BinaryIO] = field(default_factory=list)

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def environment(self) -> dict[str, str]:
        """As in a terminal of whoever operates it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "DECLOUD"))}
        return kept | {
            "PREFECT_API_URL": self.api,
            "PREFECT_HOME": str(self.folder / "client"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "DECLOUD_HOME": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }

    def start(self, name: str, *words: str, **more: str) -> subprocess.Popen[bytes]:
        """Start `python -m ...` in a session of its own."""
        log = (self.folder / f"{name}.log").open("ab")
        self._logs.append(log)
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=ROOT, env=self.environment | more, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.started[name] = process
        return process

    def serve(self, *words: str) -> None:
        """Start `make server`, and wait until it is ready."""
        state = str(self.folder / "state")
        # The log of an earlier server goes on: its word does not count.
        log = self.folder / "serving.log"
        before = len(self.log("serving")) if log.exists() else 0
        command = ("flows.serving", "--port", str(self.port), "--state", state, *words)
        process = self.start("serving", *command, DECLOUD_DATABASE_URL=self.database)

        def ready() -> bool:
            assert process.poll() is None, self.log("serving")
            return "ready: " in self.log("serving")[before:]

        until("server and workers", ready)

    def work(self, pool: str, *words: str) -> None:
        """Start a worker of a pool."""
        command = ("prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", f"test-{pool}", *words)
        self.start(f"worker-{pool}", *command, PREFECT_WORKER_QUERY_SECONDS="2")

    def command(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `python -m ...` to its end."""
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def run(self, deployment: str, request: str) -> str:
        """`prefect deployment run`: the id of the flow run."""
        said = self.command("prefect", "deployment", "run", deployment, "--param", f"request={request}").stdout
        found = re.search(r"UUID:\s*([0-9a-f-]{36})", said)
        assert found, said
        return found[1]

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """What the server answers."""
        answer = httpx.request(method, f"{self.api}{path}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def flow_run(self, one: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/flow_runs/{one}")
        return found

    def flow_runs(self, deployment: str) -> list[dict[str, Any]]:
        """Flow runs of a deployment, the oldest first."""
        query = {"deployments": {"name": {"any_": [deployment]}}, "sort": "EXPECTED_START_TIME_ASC"}
        found: list[dict[str, Any]] = self.ask("POST", "/flow_runs/filter", query)
        return found

    def ended(self, one: str) -> dict[str, Any]:
        """A flow run when it is over."""

        def final() -> dict[str, Any] | None:
            run = self.flow_run(one)
            return run if run["state_type"] in FINAL else None

        found: dict[str, Any] = until(f"end of flow run {one}", final, beat=1.0)
        return found

    def completed(self, one: str) -> dict[str, Any]:
        """A flow run that has to end well."""
        run = self.ended(one)
        assert run["state_type"] == "COMPLETED", f"{run['name']}: {run['state']['message']}\n{self.said(one)}"
        return run

    def said(self, one: str) -> str:
        """What a flow run logged."""
        query = {"logs": {"flow_run_id": {"any_": [one]}}, "sort": "TIMESTAMP_ASC"}
        return "\n".join(entry["message"] for entry in self.ask("POST", "/logs/filter", query))

    def kill(self, *names: str) -> int:
        """`kill -9` of processes and of all that they started, at once; how many there were."""
        members = [member for name in names for member in family(self.started[name].pid)]
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGKILL)
        for name in names:
            self.started.pop(name).wait()
        psutil.wait_procs(members, timeout=30)
        return len(members)

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """Ask a process to end; its exit status. What is left of its family is killed."""
        process = self.started.pop(name)
        members = family(process.pid)[1:]
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(120)
        finally:
            for member in [process, *members]:
                with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                    member.kill()
            process.wait()

    def close(self) -> None:
        """Stop everything, the last first."""
        for name in reversed(list(self.started)):
            self.stop(name)
        for log in self._logs:
            log.close()


@contextlib.contextmanager
def machine(folder: Path, database: str) -> Iterator[Machine]:
    """A machine that is empty and is left empty."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Machine(folder, database)
    try:
        yield made
    finally:
        made.close()
