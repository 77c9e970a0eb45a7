"""Passwords and signatures of URLs are used, and never shown or kept: not in what is printed, logged, published, remembered, or told to Prefect."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.hostile.case import AREA, item

SECRET = "hunter2hunter2"  # noqa: S105 - nobody else's
USER = "somebody-special"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """A catalogue of one made scene behind a password, its files behind signatures; the URL's place, `127.0.0.1:port`."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = subprocess.Popen(
        [sys.executable, ROOT / "tests" / "catalogs" / "range_server.py", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    place = f"127.0.0.1:{server.stdout.readline().strip()}"
    document = item(folder)
    for asset in document["assets"].values():
        name = asset["href"].removeprefix("./")
        asset["href"] = f"http://{place}/{name}?sig={SECRET}&X-Amz-Signature={SECRET}"
    link = {"rel": "item", "href": f"http://{place}/item.json?sig={SECRET}"}
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "a", "description": "a", "links": [link]}
    (folder / "item.json").write_text(json.dumps(document))
    (folder / "catalog.json").write_text(json.dumps(catalog))
    try:
        yield place
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def decloud(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A process of its own, whose homes and caches are in `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "DECLOUD", "XDG"))}
    own = {
        "HOME": str(folder / "home"), "PREFECT_HOME": str(folder / "home" / "prefect"), "OMP_NUM_THREADS": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PYTHONPATH": str(ROOT),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120", "PREFECT_LOGGING_LEVEL": "DEBUG",
    }  # fmt: skip
    command = [sys.executable, "-m", "flows", *(str(word) for word in words)]
    return subprocess.run(command, cwd=folder, env=kept | own, capture_output=True, text=True, check=False)


def leaks(folder: Path, said: Sequence[str]) -> list[str]:
    """Files below `folder` and words said that hold the secret or the user."""
    found = [text for text in said for word in (SECRET, USER) if word in text]
    for path in folder.rglob("*"):
        if path.is_file() and "served" not in path.relative_to(folder).parts:
            content = path.read_bytes()
            found += [f"{path.relative_to(folder)} holds {word}" for word in (SECRET, USER) if word.encode() in content]
    return found


@pytest.mark.parametrize("prefect", [(), ("--prefect",)], ids=["alone", "prefect"])
def test_nothing_secret_is_left_behind(served: str, prefect: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    catalog = f"http://{USER}:{SECRET}@{served}/catalog.json?key={SECRET}"
    words = ("--catalog", catalog, *AREA, "--output", tmp_path / "out", "--checkpoint", "identity", "--references", "0", "--tile", "64",
             "--mask", tmp_path / "served" / "mask.tif", "--debug", *prefect)  # fmt: skip
    done = decloud(tmp_path, "run", *words)
    assert done.returncode == 0, done.stderr
    (tmp_path / "served" / "T33UWP_20230810_B03.tif").unlink()
    failed = decloud(tmp_path, "run", *words, "--overwrite")
    assert failed.returncode == 1, failed.stderr
    assert "T33UWP_20230810_B03.tif" in failed.stdout + failed.stderr
    elsewhere = decloud(tmp_path, "run", *words, "--dates", "2020-01-01")
    assert "0 scenes" in elsewhere.stdout + elsewhere.stderr
    status = decloud(tmp_path, "status", tmp_path / "out", "--json")
    report = decloud(tmp_path, "report", tmp_path / "out")
    said = [text for one in (done, failed, elsewhere, status, report) for text in (one.stdout, one.stderr)]
    assert leaks(tmp_path, said) == []
    # The same search finds what is there.
    (tmp_path / "out" / "proof").write_text(SECRET)
    assert leaks(tmp_path, said) == [f"out/proof holds {SECRET}"]
