"""A real STAC API of a test's own: stac-fastapi-pgstac on PostgreSQL with PostGIS, with transactions, and nothing in it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.integration.machine import free_port, until
from tests.integration.postgres import postgres


@contextlib.contextmanager
def pgstac(folder: Path) -> Iterator[str]:
    """URL of the API, without a slash at its end; `folder` gets its log. Skips where a part of it is not installed."""
    if not all(importlib.util.find_spec(name) for name in ("stac_fastapi", "pypgstac")):
        pytest.skip("stac-fastapi-pgstac is not installed: pip install stac-fastapi-pgstac 'pypgstac[psycopg]'")
    with postgres() as database, (folder / "pgstac.log").open("wb") as log:
        _check_postgis(database)
        parts = urlsplit(database)
        environment = os.environ | {
            "PGUSER": str(parts.username), "PGPASSWORD": str(parts.password), "PGHOST": str(parts.hostname),
            "PGPORT": str(parts.port), "PGDATABASE": parts.path.strip("/"), "ENABLE_TRANSACTIONS_EXTENSIONS": "TRUE",
        }  # fmt: skip
        told: dict[str, Any] = {"env": environment, "stdout": log, "stderr": log, "cwd": folder}
        subprocess.run([Path(sys.executable).parent / "pypgstac", "migrate"], check=True, **told)
        port = free_port()
        server = subprocess.Popen(
            [
                sys.executable, "-m", "uvicorn", "stac_fastapi.pgstac.app:create_app", "--factory",
                "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning",
            ],
            stdin=subprocess.DEVNULL, start_new_session=True, **told,
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            until("the STAC API", lambda: _answers(url, server), 300)
            yield url
        finally:
            server.terminate()
            server.wait(60)


def _check_postgis(database: str) -> None:
    import psycopg

    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'postgis'").fetchone()
    if found is None:
        pytest.skip("PostGIS is not installed: apt-get install postgresql-postgis")


def _answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    assert server.poll() is None, "the STAC API ended: see pgstac.log"
    try:
        return requests.get(url, timeout=30).ok
    except requests.ConnectionError:
        return False


def load(url: str, collection: dict[str, Any], items: list[dict[str, Any]]) -> None:
    """Put a collection and its items into the API, as a catalogue's owner does."""
    identifier = collection["id"]
    if requests.get(f"{url}/collections/{identifier}", timeout=60).status_code == 404:
        _ok(requests.post(f"{url}/collections", json=collection, timeout=60))
    named = {item["id"]: item | {"collection": identifier} for item in items}
    bulk = {"items": named, "method": "insert"}
    _ok(requests.post(f"{url}/collections/{identifier}/bulk_items", json=bulk, timeout=120))


def change(url: str, item: dict[str, Any]) -> None:
    """Replace an item of the API."""
    _ok(requests.put(f"{url}/collections/{item['collection']}/items/{item['id']}", json=item, timeout=60))


def withdraw(url: str, collection: str, item: str) -> None:
    """Delete an item of the API."""
    _ok(requests.delete(f"{url}/collections/{collection}/items/{item}", timeout=60))


def _ok(response: requests.Response) -> None:
    assert response.ok, f"{response.request.method} {response.url}: {response.status_code} {response.text[:500]}"
