"""The README's commands: those that need only the simulated area are run as written, all others are parsed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows import run as run_command
from flows.cli import main
from pipeline.simulation.simulate import Simulated
from tests.flows.conftest import Decloud, area_run

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines() if line.strip()]
DECLOUD = [command[1:] for command in COMMANDS if command[0] == "decloud"]
OFFLINE = [
    command
    for command in DECLOUD
    if (command[0] in ("run", "plan") and "demo/stac/catalog.json" in command and "--prefect" not in command)
    or command[0] == "status"
]


def test_there_are_commands_of_every_kind() -> None:
    assert {command[0] for command in COMMANDS} == {"make", "decloud"}
    assert {command[0] for command in DECLOUD} == {
        "demo",
        "plan",
        "run",
        "status",
        "backfill",
        "pairs",
        "train",
        "export",
        "evaluate",
    }
    assert len(OFFLINE) == 4


def test_the_data_flow_stands_on_top() -> None:
    assert re.match(r"# declouder\n\n```\ndecloud   catalogs\.search > ", README)
    import pipeline

    assert pipeline.__doc__ is not None
    for line in re.search(r"```\n(.*?)```", README, re.DOTALL)[1].splitlines():  # type: ignore[index]
        assert line in pipeline.__doc__.splitlines()


@pytest.mark.parametrize("command", [command[1] for command in COMMANDS if command[0] == "make"])
def test_make_knows_its_targets(command: str) -> None:
    assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def folder(area: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where `decloud demo --output demo` has been."""
    home = tmp_path_factory.mktemp("readme")
    shutil.copytree(area.catalogue.parent, home / "demo" / "stac")
    return home


def test_commands_that_need_only_the_demo_run_as_written(
    folder: Path, decloud: Decloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for command in OFFLINE:
        ended = decloud(*command)
        assert ended.status == 0, (command, ended.err)
        assert "1 scene" in ended.out, command
    assert len(list((folder / "out").glob("*/provenance.tif"))) == 1
    assert len(list((folder / "out").glob("*/*.zarr"))) == 1


def test_the_reading_example_runs_as_written(folder: Path, area: Simulated, decloud: Decloud) -> None:
    files, store = blocks("py")
    output = folder / "read" / "out"
    for kind in ("cog", "zarr"):
        wanted = ("--dates", "2023-07-13", "--bands", "B04,B11")
        assert decloud(*area_run(area, output, *wanted, "--format", kind)).status == 0
    (cog,), (zarr,) = (list(output.glob(f"*/{name}")) for name in ("provenance.tif", "*.zarr"))
    code = (
        files.replace("ITEM", cog.parent.name)
        + "assert int(bands.provenance.max()) > 1\nassert len(bands.data_vars) == 2\n"
        + store.replace("ITEM", zarr.stem)
        + "print(bands.B04.shape, int(bands.provenance.max()))"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=output.parent, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("(192, 192) ")


def test_what_the_tree_of_a_product_names_is_there(folder: Path, area: Simulated, decloud: Decloud) -> None:
    output = folder / "tree"
    assert decloud(*area_run(area, output, "--dates", "2023-07-13", "--bands", "B02")).status == 0
    tree = README.split("## What you get")[1].split("```")[1]
    (made,) = [path.parent for path in output.glob("*/provenance.tif")]
    for name in (path.name for path in [*made.iterdir(), *output.glob(".*")]):
        known = name.replace(made.name, "<item-id>").replace("cloudmask.tif.", "*.").replace("provenance.tif.", "*.")
        assert known in tree, name
    assert sorted(path.name for path in output.glob(".*")) == [".cache", ".lock", ".staging"]


def test_the_python_example_runs_as_written(folder: Path) -> None:
    (code,) = blocks("python")
    ended = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "'observed'" in ended.stdout


@pytest.mark.parametrize("command", DECLOUD, ids=" ".join)
def test_every_command_is_understood(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(run_command, "run_directly", lambda request, **_: asked.append(request) or _stop())
    monkeypatch.setattr(run_command, "run_in_prefect", lambda request, **_: asked.append(request) or _stop())
    if command[0] == "run":
        assert main(command) == 130
        (request,) = asked
        assert str(request.output) == "out"
    else:
        # What stands after --help is still parsed, and refused where it is unknown.
        assert main([*command, "--help"]) == 0
        assert main([command[0], "--no-such-option", *command[1:]]) == 2


def _stop() -> None:
    raise KeyboardInterrupt


def test_the_table_of_classes_is_that_of_the_layer() -> None:
    from pipeline.layers import PROVENANCE

    table = dict(re.findall(r"^\| (\d) \| (\w+) \|", README, re.MULTILINE))
    assert {int(value): name for value, name in table.items() if name != "wrong"} == dict(PROVENANCE)


def test_the_picture_is_there_and_small() -> None:
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).stat().st_size < 700_000


def test_files_that_are_named_exist() -> None:
    for path in re.findall(r"`((?:srgan|docs)/[\w./]+|\w+\.(?:md|yml|yaml|txt))`", README):
        assert (ROOT / path).exists(), path
