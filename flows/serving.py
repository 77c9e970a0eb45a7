"""`python -m flows.serving`, which is `make server`: a Prefect server and its workers on one machine, until ctrl-C.

One worker for each pool of `flows.pools`; that of `gpu` takes one flow run at a time. Everything is kept in one folder:
database, leases and logs; a PREFECT_HOME or a database that the environment names wins for the first two. Deploy into
it from another terminal: `make deploy`.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Self

from flows.database import VARIABLE, check_database, connection_url, shown
from flows.deploy import refusals
from flows.deployments import ROOT
from flows.pools import POOLS, ensure_pools
from flows.services import Service, Services
from pipeline.errors import InvalidSettings, PipelineError

START = 900.0
"""Seconds that the server has to answer: its first start makes the database, 10 s on an idle machine."""
_BEAT = 0.5
_DATABASE = ("PREFECT_API_DATABASE_", "PREFECT_SERVER_DATABASE_")
"""How Prefect's settings of the database begin: URL and password among them, so only the server gets any."""
_DATABASE_URLS = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")
_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
}


@dataclass(frozen=True)
class Serving:
    """Where a server listens and keeps its things."""

    host: str
    port: int
    state: Path
    """Folder of database, leases and logs; made where it is missing."""
    database: str = ""
    """URL of a PostgreSQL database, as DECLOUD_DATABASE_URL gives it; empty = SQLite in `state`."""

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise InvalidSettings(f"--port {self.port}: give a number from 1 to 65535")

    @property
    def api(self) -> str:
        """What PREFECT_API_URL is on this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/api"

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment of the server, which alone knows the database's password."""
        ours = {
            **_QUIET,
            "PREFECT_HOME": str(self.state / "prefect"),
            "PREFECT_API_URL": self.api,
            # In memory, a server that is started again would forget them, and every flow that runs would crash.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            # A busy machine answers late, and SQLite one at a time: better late than "service unavailable".
            "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
            "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "30",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        ours = {name: environ.get(name, value) for name, value in ours.items()} | {"PREFECT_API_URL": self.api}
        kept = {name: value for name, value in environ.items() if name != VARIABLE}
        # In the environment, not among the arguments, which everybody on the machine may read.
        database = {_DATABASE_URLS[0]: connection_url(self.database)} if self.database else {}
        return {**kept, **ours, **database}

    def worker_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment of the workers, and so of every flow: they ask the server, never its database."""
        return {name: value for name, value in self.environment(environ).items() if not name.startswith(_DATABASE)}


class Asked:
    """How often we were asked to stop, by ctrl-C or SIGTERM; used as a context manager in the main thread."""

    def __init__(self) -> None:
        self.times = 0

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.times += 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until ctrl-C or SIGTERM; 0 stopped when asked, 1 something ended by itself, 2 it could not begin."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.serving", description="A Prefect server and its workers on this machine, until ctrl-C."
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 for every one (default %(default)s)"
    )
    parser.add_argument("--port", type=int, default=4200, help="Port to listen on (default %(default)s)")
    parser.add_argument(
        "--state", type=Path, default=None, help="Folder of database and logs (default ~/.local/state/declouder)"
    )
    parser.add_argument("--no-workers", action="store_true", help="Only the server; workers run elsewhere")
    given = parser.parse_args(arguments)
    asked = Asked()
    try:
        serving = Serving(
            given.host, given.port, (given.state or state_folder()).absolute(), os.environ.get(VARIABLE, "")
        )
        with asked:
            serve(serving, asked, () if given.no_workers else tuple(POOLS))
    except InvalidSettings as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except PipelineError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    _say("stopped")
    return 0


def state_folder() -> Path:
    """Where things are kept unless one says otherwise: XDG_STATE_HOME, else ~/.local/state."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "declouder"


def serve(serving: Serving, asked: Asked, pools: Sequence[str] = tuple(POOLS)) -> None:
    """Start server and workers, wait until we are asked to stop, stop them all.

    Raises InvalidSettings for a port that is taken, a database that does not answer or a folder that is not writable;
    ServiceFailed where one of them ends by itself, after the others were stopped.
    """
    _check(serving)
    environ = serving.environment(os.environ)
    with Services(serving.state / "logs", lambda: asked.times > 1) as services:
        command = ("server", "start", "--host", serving.host, "--port", str(serving.port))
        server = services.start("server", _prefect(*command), environ, ROOT)
        _say(f"server starts: {_where(environ)}")
        if not _answers(serving.api, server, asked):
            return
        _make_pools(serving.api)
        for pool in pools:
            limit = POOLS.get(pool)
            limited = ("--limit", str(limit)) if limit is not None else ()
            worker = (
                "worker",
                "start",
                "--pool",
                pool,
                "--type",
                "process",
                "--name",
                f"{socket.gethostname()}-{pool}",
                *limited,
            )
            services.start(f"worker-{pool}", _prefect(*worker), serving.worker_environment(os.environ), ROOT)
            _say(f"worker starts: pool {pool}{f', {limit} flow run at a time' if limit else ''}")
        _say(f"ready: {serving.api.removesuffix('/api')} (logs in {services.logs}); ctrl-C stops everything")
        _say(f"in another terminal: export PREFECT_API_URL={serving.api} DECLOUD_HOME={ROOT} && make deploy")
        while not asked.times:
            services.check()
            time.sleep(_BEAT)
        _say("stopping: workers first, flows have 30 seconds to end; ctrl-C again ends all at once")


def _check(serving: Serving) -> None:
    try:
        (serving.state / "prefect").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSettings(f"--state {serving.state}: {error.strerror}; name a folder that is writable") from None
    family = socket.AF_INET6 if ":" in serving.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((serving.host, serving.port))
        except OSError as error:
            said = f"cannot listen there ({error.strerror})"
            raise InvalidSettings(
                f"--host {serving.host} --port {serving.port}: {said}; stop what does, or give another --port"
            ) from None
    if serving.database:
        check_database(connection_url(serving.database))


def _answers(api: str, server: Service, asked: Asked) -> bool:
    """Wait until the server answers; False where we are asked to stop before. Raises ServiceFailed."""
    until = time.monotonic() + START
    while time.monotonic() < until and not asked.times:
        server.check()
        try:
            with urllib.request.urlopen(f"{api}/health", timeout=5) as answer:  # noqa: S310 - our own server
                if answer.status == 200:
                    return True
        except (urllib.error.URLError, OSError):
            time.sleep(_BEAT)
    if not asked.times:
        raise InvalidSettings(f"{api}: no answer within {START:.0f} s: {server.last_words} (more in {server.log})")
    return False


def _where(environ: Mapping[str, str]) -> str:
    """The database of a server with this environment, in words."""
    url = next((environ[name] for name in _DATABASE_URLS if environ.get(name)), "")
    return shown(url) if url else f"SQLite in {environ['PREFECT_HOME']}"


def _make_pools(api: str) -> None:
    from prefect.client.orchestration import SyncPrefectClient

    with refusals(api), SyncPrefectClient(api) as client:
        for line in ensure_pools(client):
            _say(line)


def _prefect(*words: str) -> list[str]:
    return [sys.executable, "-m", "prefect", *words]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
