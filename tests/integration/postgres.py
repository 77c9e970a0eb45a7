"""A PostgreSQL server of a test's own, in a folder that is gone afterwards."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.machine import free_port, until

USER, PASSWORD = "declouder", "only-for-tests"


def programs() -> Path:
    """Folder of initdb and postgres, or a skip."""
    found = shutil.which("initdb")
    places = (
        [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    )
    if not places:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return places[0]


def somebody() -> dict[str, str]:
    """Arguments of subprocess that make it another user's: PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return {"user": pwd.getpwnam(name).pw_name}
    pytest.skip("no user but root, as whom PostgreSQL does not run")


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """URL of an empty database."""
    bin_, owner = programs(), somebody()
    folder = Path(tempfile.mkdtemp(prefix="declouder-postgres-"))
    try:
        (folder / "password").write_text(PASSWORD)
        if owner:
            shutil.chown(folder, owner["user"])
            shutil.chown(folder / "password", owner["user"])
        data = folder / "data"
        subprocess.run(
            [
                bin_ / "initdb", "--pgdata", data, "--username", USER, "--auth", "scram-sha-256", "--encoding", "UTF8",
                "--no-sync", "--pwfile", folder / "password", "--locale", "C",
            ],
            check=True, capture_output=True, cwd=folder, **owner,
        )  # fmt: skip
        port = free_port()
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [bin_ / "postgres", "-D", data, "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1"],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder, start_new_session=True, **owner,
            )  # fmt: skip
        try:
            ready = [bin_ / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
            until("PostgreSQL", lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0, 120)
            make = [bin_ / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", USER, "prefect"]
            subprocess.run(make, check=True, capture_output=True, env={**os.environ, "PGPASSWORD": PASSWORD})
            yield f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/prefect"
        finally:
            # Fast: whoever is still connected is let go.
            server.send_signal(signal.SIGINT)
            server.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
