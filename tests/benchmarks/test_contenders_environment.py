"""The contenders' own environment: pinned, in groups, and what cannot be installed is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.bench.covers import Cover
from benchmarks.bench.entry import Setup
from benchmarks.bench.environment import CONSTRAINTS, FILE, SHARED, Environment, Group, read_groups
from benchmarks.bench.images import Images
from benchmarks.bench.lines.identity import IdentityLine
from benchmarks.bench.lines.network import NetworkLine


def pins(lines: list[str]) -> dict[str, str]:
    return dict(line.partition("#")[0].strip().split("==") for line in lines)


def test_the_file_agrees_with_the_products_pins() -> None:
    product = pins([line for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines() if re.match(r"\w", line)])
    groups = read_groups(FILE.read_text(encoding="utf-8"))
    assert next(iter(groups)) == SHARED
    for group in groups.values():
        for name, version in pins([*group.needs, *group.alone]).items():
            assert product.get(name, version) == version
    assert groups["opensr-utils"].alone == ("opensr-utils==2.1.0",)
    assert not any("torchvision" in need for group in groups.values() for need in group.needs)


@pytest.mark.parametrize("line", [IdentityLine(), NetworkLine(Cover("some", 0.5, 9), None)])
def test_every_contenders_group_is_in_the_file(
    line: IdentityLine | NetworkLine, images: Images, tmp_path: Path
) -> None:
    groups = read_groups(FILE.read_text(encoding="utf-8"))
    entries = line.entries(Setup(tmp_path, images, tmp_path, 1, 192))
    assert {entry.group for entry in entries} - {""} <= set(groups)
    assert {"decloud", line.yardstick()} <= {entry.name for entry in entries}
    assert len({entry.name for entry in entries}) == len(entries)


@pytest.mark.parametrize("text", ["numpy==2.0\n", "# [shared]\nnumpy>=2\n"])
def test_a_requirement_without_group_or_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="numpy"):
        read_groups(text)


def made(folder: Path, script: str) -> Environment:
    """An environment whose interpreter is a shell script."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    python.chmod(0o755)
    return Environment(folder, lambda _: None)


def test_a_group_that_cannot_be_installed_costs_its_contender_only(tmp_path: Path) -> None:
    script = 'case "$*" in *rare*) echo "ERROR: No matching distribution found for rare==1"; exit 1;; esac'
    environment = made(tmp_path, script)
    environment.make([Group(SHARED, ("numpy==2",)), Group("odd", ("rare==1",)), Group("alone", (), ("even==2",))])
    assert environment.python("alone") == (str(tmp_path / "bin" / "python"), "")
    assert environment.python("odd")[1] == "not installed: ERROR: No matching distribution found for rare==1"
    assert environment.python("")[1] == ""


def test_without_what_all_share_nobody_runs_but_the_product(tmp_path: Path) -> None:
    environment = made(tmp_path, "echo 'ERROR: no network'; exit 1")
    environment.make([Group(SHARED, ("numpy==2",)), Group("dask", ("dask==1",))])
    assert "no network" in environment.python("dask")[1]
    assert environment.python("")[1] == ""


def test_what_is_installed_is_not_installed_again_until_a_version_changes(tmp_path: Path) -> None:
    environment = made(tmp_path, f'echo "$*" >> {tmp_path}/calls')
    for version in ("1", "1", "2"):
        environment.make([Group("dask", (f"dask=={version}",), ("more==3",))])
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert [call.split()[-1] for call in calls] == ["dask==1", "more==3", "dask==2", "more==3"]
    assert ["--no-deps" in call for call in calls] == [False, True, False, True]


def test_an_environment_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "new", lambda _: None, own="/bin/false")
    environment.make([Group(SHARED, ("numpy==2",))])
    assert environment.python("dask")[1].startswith("no environment")
    assert not (tmp_path / "new").exists()
