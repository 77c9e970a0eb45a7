"""Prefect servers for tests: what they cost, databases and starts, is paid once where that is enough."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def write_database(tmp_path_factory: pytest.TempPathFactory, target: Path) -> Path:
    """Write an empty database of Prefect's to `target`.

    To make its tables takes longer than to start a server: they are made once, for all processes of a test run.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    made, template = folder / "prefect-made.db", folder / "prefect.db"
    with (folder / "prefect.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            environment = os.environ | {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{made}"}
            done = subprocess.run(
                [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
                env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            # What lies beside the file, in its log, is in the copy.
            with contextlib.closing(sqlite3.connect(made)) as connection:
                connection.execute("VACUUM INTO ?", [f"{template}.part"])
            Path(f"{template}.part").rename(template)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(template, target)
    return target


@contextlib.contextmanager
def serving(database: Path) -> Iterator[str]:
    """Start Prefect's embedded server on a database; gives its URL, which nobody asks before `using` it."""
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL, temporary_settings

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    # One with a port is not the one that Prefect takes where no URL is set.
    started = SubprocessASGIServer(port)
    with temporary_settings({PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{database}"}):
        started.start(timeout=300)
    try:
        yield started.api_url
    finally:
        started.stop()


@contextlib.contextmanager
def using(url: str) -> Iterator[None]:
    """All flows and clients of this process ask the server at `url`, without heartbeats."""
    import prefect.context
    from prefect.events.worker import EventsWorker
    from prefect.logging.configuration import setup_logging
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
        pytest.MonkeyPatch.context() as patch,
    ):
        # Threads that the tests start have no settings but these.
        patch.setattr(prefect.context, "GLOBAL_SETTINGS_CONTEXT", prefect.context.get_settings_context())
        # Prefect's console handler keeps the stream that it finds first: not one of a single test.
        setup_logging()
        yield
        # They keep the server that they were made for.
        APILogWorker.drain_all()
        EventsWorker.drain_all()
