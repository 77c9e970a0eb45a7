"""The commands of README.md and docs/ that need no network, no server and no hours are run as printed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import interrupts
from pipeline.simulation.simulate import Simulated
from tests.flows.conftest import Decloud
from tests.flows.documents import RUN, fill, words

AREA = "--catalog demo/stac/catalog.json --aoi 15.545,48.305,15.56,48.315 --dates 2023-07-10/2023-07-15"
NEEDS = {"--mask csmask": "ukis_csmask", "SEN12MSCR ": "s2cloudless"}
"""What is in a command -> the extra's module that it needs."""


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    interrupts.forget()


@pytest.fixture(scope="module")
def folder(area: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages speak of."""
    return fill(tmp_path_factory.mktemp("documents"), area)


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("command", RUN)
def test_a_command_runs_as_printed(command: str, here: Path, decloud: Decloud, request: pytest.FixtureRequest) -> None:
    for part, module in NEEDS.items():
        if part in command:
            pytest.importorskip(module)
    if "SEN12MSCR " in command:
        few_pairs(request.getfixturevalue("shared_data"), here)
    if command in ("decloud status out", "decloud report out"):
        shutil.rmtree(here / "out", ignore_errors=True)
        assert decloud(*words(f"decloud run {AREA} --output out")[1:]).status == 0
    ended = decloud(*words(command)[1:])
    assert ended.status == 0, ended.err
    assert "Traceback" not in ended.err
    if words(command)[1] == "run":
        assert "1 scene" in ended.out
        assert list((here / "out").glob("*/*.json"))
    if words(command)[1] == "pairs":
        assert (here / "pairs.parquet").is_file()


def few_pairs(shared_data: Path, home: Path) -> None:
    """A tree of two real pairs."""
    for side in ("s2", "s2_cloudy"):
        for patch in (100, 500):
            name = f"SEN12MSCR/ROIs1158_spring_{side}/{side}_39/ROIs1158_spring_{side}_39_p{patch}.tif"
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(shared_data / name, home / name)
