"""Passwords and signatures of URLs are used, and never shown or kept: not in what is printed, logged, published, remembered, or told to Prefect."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.flows.serving import write_database
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


# One process for all: each would start a server of its own.
COMMANDS = """
import json, os, sys
from flows.cli import main
for words in json.loads(sys.argv[1]):
    if words[0] == "remove":
        os.remove(words[1])
        continue
    status = main(words)
    for stream in (sys.stdout, sys.stderr):
        print(f"\\nstatus={status}", file=stream, flush=True)
"""


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    out: str
    err: str
    status: int

    @property
    def text(self) -> str:
        return self.out + self.err


def decloud(folder: Path, *commands: Sequence[object]) -> list[Said]:
    """Commands in a process of its own, whose homes and caches are in `folder`; `remove` takes a file away in between."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "DECLOUD", "XDG"))}
    own = {
        "HOME": str(folder / "home"), "PREFECT_HOME": str(folder / "home" / "prefect"), "OMP_NUM_THREADS": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PYTHONPATH": str(ROOT),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120", "PREFECT_LOGGING_LEVEL": "DEBUG",
    }  # fmt: skip
    given = json.dumps([[str(word) for word in command] for command in commands])
    process = subprocess.run(
        [sys.executable, "-c", COMMANDS, given], cwd=folder, env=kept | own, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    outs, errs = (re.split(r"\nstatus=(\d+)\n", text) for text in (process.stdout, process.stderr))
    assert outs[1::2] == errs[1::2]
    found = [Said(*each) for each in zip(outs[0::2], errs[0::2], (*map(int, outs[1::2]), 0), strict=True)]
    assert len(found) == 1 + len([command for command in commands if command[0] != "remove"])
    return found


def leaks(folder: Path, said: Sequence[str]) -> list[str]:
    """Files below `folder` and words said that hold the secret or the user."""
    found = [text for text in said for word in (SECRET, USER) if word in text]
    for path in folder.rglob("*"):
        if path.is_file() and "served" not in path.relative_to(folder).parts:
            content = path.read_bytes()
            found += [f"{path.relative_to(folder)} holds {word}" for word in (SECRET, USER) if word.encode() in content]
    return found


@pytest.mark.parametrize("prefect", [(), ("--prefect",)], ids=["alone", "prefect"])
def test_nothing_secret_is_left_behind(
    served: str, prefect: Sequence[str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kept = tmp_path / "home" / "prefect" / "prefect.db"
    kept.parent.mkdir(parents=True)
    if prefect:
        write_database(tmp_path_factory, kept)
    catalog = f"http://{USER}:{SECRET}@{served}/catalog.json?key={SECRET}"
    run = ("run", "--catalog", catalog, *AREA, "--output", tmp_path / "out", "--checkpoint", "identity", "--references", "0", "--tile", "64",
           "--mask", tmp_path / "served" / "mask.tif", "--debug", *prefect)  # fmt: skip
    done, failed, elsewhere, status, report, end = decloud(
        tmp_path,
        run,
        ("remove", tmp_path / "served" / "T33UWP_20230810_B03.tif"),
        (*run, "--overwrite"),
        (*run, "--dates", "2020-01-01"),
        ("status", tmp_path / "out", "--json"),
        ("report", tmp_path / "out"),
    )
    assert done.status == 0, done.err
    assert failed.status == 1, failed.err
    assert "T33UWP_20230810_B03.tif" in failed.text
    assert "0 scenes" in elsewhere.text
    said = [text for one in (done, failed, elsewhere, status, report, end) for text in (one.out, one.err)]
    assert leaks(tmp_path, said) == []
    if prefect:
        with closing(sqlite3.connect(kept)) as database:
            states = [state for (state,) in database.execute("SELECT state_type FROM flow_run ORDER BY start_time")]
        assert states == ["COMPLETED", "FAILED", "COMPLETED"], "what was searched is not the database of the runs"
    # The same search finds what is there.
    (tmp_path / "out" / "proof").write_text(SECRET)
    assert leaks(tmp_path, said) == [f"out/proof holds {SECRET}"]
