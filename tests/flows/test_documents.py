"""README.md and docs/: every command is run as printed by a test, or listed with the reason why not; what is named exists."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
import typer
import yaml
from PIL import Image

from catalogs.splits import Splits
from flows.cli import app, main
from tests.flows.documents import (
    NOT_RUN,
    PAGES,
    ROOT,
    RUN,
    anchors,
    blocks,
    commands,
    inline_commands,
    listed,
    text_of,
    words,
)

NOT_RUN_PYTHON = {"docs/operations.md": "needs Kubernetes"}


def test_every_command_is_run_or_listed_and_nothing_else_is() -> None:
    printed = {command for _, command in commands()}
    assert {command: listed(command) for command in printed if len(listed(command)) > 1} == {}
    assert {
        pattern for pattern in NOT_RUN if not any(re.fullmatch(pattern, text, re.DOTALL) for text in printed)
    } == set()
    assert {words(command)[0] for command in RUN} == {"decloud"}
    assert {words(command)[1] for command in RUN} == {"run", "plan", "status", "report", "backfill", "pairs"}
    assert {block.page for block in blocks("python", "py")} == {
        "README.md",
        "docs/cube.md",
        "docs/products.md",
        *NOT_RUN_PYTHON,
    }


DECLOUD = list(dict.fromkeys(command for _, command in commands() if command.startswith("decloud ")))


@pytest.mark.parametrize("command", DECLOUD)
def test_every_command_is_understood(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What stands after --help is still parsed, and refused where it is unknown."""
    arguments = words(command)[1:]
    assert main([*arguments, "--help"]) == 0
    assert main([arguments[0], "--no-such-option", *arguments[1:]]) == 2
    capsys.readouterr()


def test_commands_in_running_text_have_the_options_that_they_name() -> None:
    known = {
        name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        | {"--help"}
        for name, command in typer.main.get_command(app).commands.items()
    }
    told = inline_commands()
    assert told
    for page, command in told:
        name, *rest = words(command)[1:]
        assert {word for word in rest if word.startswith("--")} <= known[name], (page, command)


def test_make_knows_its_targets() -> None:
    targets = {words(command)[1] for _, command in commands() if words(command)[0] == "make"}
    known = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert targets <= set(known)
    assert {"demo", "test", "server", "deploy", "bench"} <= targets


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.is_file(), target
        if anchor:
            assert anchor in anchors(there.resolve().relative_to(ROOT).as_posix()), target


@pytest.mark.parametrize("page", PAGES)
def test_what_is_named_exists(page: str) -> None:
    """Files of the repository and modules of ours."""
    for path in re.findall(
        r"`((?:srgan|docs|pipeline|benchmarks|tests)/[\w./]+|[A-Z]\w+\.md|environment\.yml|prefect\.yaml)`",
        text_of(page),
    ):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`(?:python -m )?((?:pipeline|srgan|catalogs|flows)(?:\.[a-z_]+)+)", text_of(page)):
        package, module = name.split(".")[:2]
        known = (ROOT / package / f"{module}.py").is_file() or (ROOT / package / module).is_dir()
        assert known or module in import_module(package).__all__, name


def test_every_page_is_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+)", text_of("README.md")))
    assert {page for page in PAGES if page != "README.md"} | {"docs/notebook.ipynb"} <= linked


def test_pictures_are_small_and_can_be_opened() -> None:
    named = set(re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text_of("README.md")))
    assert named
    for path in named:
        assert (ROOT / path).stat().st_size < 700_000
        with Image.open(ROOT / path) as picture:
            picture.verify()


def test_the_file_of_splits_is_one(tmp_path: Path) -> None:
    (block,) = blocks("yaml", page="docs/training.md")
    path = tmp_path / "splits.yaml"
    path.write_text(block.text, encoding="utf-8")
    splits = Splits.read(path)
    for group, split in yaml.safe_load(block.text).items():
        assert splits.of(group if group != "*" else "any other") == split
