"""The files around the code agree with each other: requirements, pins, environments, deployments, Makefile, CI."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"torch": "pytorch", "opencv-python-headless": "py-opencv"}
"""PyPI's name -> conda-forge's, where they differ."""
ONLY_CONDA = {"python", "pip", "distributed"}
"""In environment.yml for what is an extra of another package on PyPI (dask[distributed]), or the base."""
NOT_ON_CONDA_FORGE = {"atheris", "pypgstac", "stac-fastapi-pgstac", "ukis-csmask", "types-defusedxml", "types-shapely"}
LARGEST = 16 * 2**20
LONGEST_MODULE = 320


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements() -> dict[str, Requirement]:
    """Canonical name -> requirement, of the package and all its extras."""
    listed = project()["project"]
    lines = [*listed["dependencies"], *(line for extra in listed["optional-dependencies"].values() for line in extra)]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    content = path.read_bytes()
    return "" if b"\0" in content else content.decode("utf-8")


def test_every_pin_is_exact_and_named_once() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    exact = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in exact)
    assert len(pins()) == len(exact)


def test_every_requirement_is_pinned_inside_its_range() -> None:
    for name, requirement in requirements().items():
        assert name in pins(), f"{name} is not pinned in constraints.txt"
        assert requirement.specifier.contains(pins()[name]), f"{requirement} does not allow {pins()[name]}"


def test_pins_hold_what_prefect_needs() -> None:
    assert SpecifierSet("<0.151").contains(pins()["fastapi"])
    assert SpecifierSet("<2.1").contains(pins()["sqlalchemy"])


def test_conda_environment_asks_for_what_pyproject_asks_for() -> None:
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    conda = {Requirement(line).name: Requirement(line) for line in listed if isinstance(line, str)}
    (pip,) = (entry["pip"] for entry in listed if isinstance(entry, dict))
    by_pip = {Requirement(line).name: Requirement(line) for line in pip}
    assert set(by_pip) == NOT_ON_CONDA_FORGE

    wanted = {CONDA_NAMES.get(name, name): requirement for name, requirement in requirements().items()}
    assert set(conda) - ONLY_CONDA == set(wanted) - NOT_ON_CONDA_FORGE
    for name, requirement in wanted.items():
        assert (conda | by_pip)[name].specifier == requirement.specifier, name
    assert conda["python"].specifier == SpecifierSet(project()["project"]["requires-python"])
    assert conda["distributed"].specifier == requirements()["dask"].specifier


def test_deployments_name_flows_that_exist() -> None:
    config = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    assert set(config) <= {"name", "prefect-version", "build", "push", "pull", "definitions", "deployments"}
    assert config["pull"] == [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $DECLOUD_HOME }}"}}]
    # Prefect drops a key it does not know without a word.
    known = {
        "name",
        "description",
        "entrypoint",
        "work_pool",
        "concurrency_limit",
        "schedules",
        "parameters",
        "tags",
        "triggers",
    }
    for deployment in config["deployments"]:
        assert set(deployment) <= known
        assert set(deployment["work_pool"]) <= {"name", "work_queue_name", "job_variables"}
        assert all(isinstance(value, str) for value in deployment["work_pool"]["job_variables"]["env"].values())
        file, name = deployment["entrypoint"].split(":")
        functions = {
            node.name
            for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, deployment["entrypoint"]
        for schedule in deployment.get("schedules", ()):
            assert {"slug", "active"} <= set(schedule)


def test_packages_ship_what_pyproject_says() -> None:
    for package, patterns in project()["tool"]["setuptools"]["package-data"].items():
        for pattern in patterns:
            assert list((ROOT / package).glob(pattern)), f"{package}/{pattern} matches nothing"


def test_licence_is_the_one_declared() -> None:
    declared = project()["project"]
    assert declared["license"] == "Apache-2.0"
    text = (ROOT / declared["license-files"][0]).read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert len(text) > 11000


def test_changelog_has_a_section_for_what_comes_next() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## (.+)$", text, re.MULTILINE)
    assert first is not None
    assert first.group(1) == "[Unreleased]"
    assert "### Added" in text


def test_no_large_file_is_tracked() -> None:
    assert not [path for path in tracked() if path.stat().st_size > LARGEST]


def test_no_place_of_one_machine_is_tracked() -> None:
    # Written so that this line does not match itself.
    places = re.compile(
        r"(?<![\w.])/(?:home|Users|root|work)/[A-Za-z]|files\.python" + r"hosted|download\.pytorch" + r"\.org/whl"
    )
    found = [f"{path.relative_to(ROOT)}: {match}" for path in tracked() for match in places.findall(text_of(path))]
    assert not found


def test_no_pickle_is_tracked() -> None:
    assert not [path for path in tracked() if path.suffix in {".pkl", ".pickle", ".pt", ".pth", ".ckpt"}]


def test_modules_stay_short() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for package in project()["tool"]["setuptools"]["packages"]
        for path in (ROOT / package).rglob("*.py")
    }
    assert lengths
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST_MODULE}


def test_ci_runs_the_tests_of_the_makefile() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    lines = [line for line in script.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert "set -euo pipefail" in lines
    assert lines[-1].startswith("make ")
    assert lines[-1].endswith(" test")


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
    return subprocess.run(
        ["make", "-C", str(folder), *arguments], capture_output=True, text=True, check=False, env=clean
    )


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def interpreter(folder: Path, body: str) -> Path:
    path = folder / "fake-python"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_make_says_that_python_is_too_old(fresh: Path) -> None:
    old = interpreter(fresh, 'if [ "$1" = --version ]; then echo Python 3.9.2; else exit 1; fi')
    done = make(fresh, f"PYTHON={old}", "demo")
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "Python 3.9.2" in done.stderr
    assert not (fresh / ".venv").exists()


def test_make_says_what_to_install_where_venv_is_missing(fresh: Path) -> None:
    done = make(fresh, f"PYTHON={interpreter(fresh, 'case $1 in -m) exit 1;; esac')}", "test")
    assert done.returncode != 0
    assert "apt-get install python3-venv" in done.stderr
    assert not (fresh / ".venv").exists()


def test_make_installs_once_and_again_when_requirements_change(fresh: Path) -> None:
    binaries = fresh / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name in ("python", "decloud"):
        (binaries / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {fresh}/calls\n', encoding="utf-8")
        (binaries / name).chmod(0o755)
        os.utime(binaries / name, (1, 1))
    calls = fresh / "calls"

    def called() -> list[str]:
        done = make(fresh, f"PYTHON={sys.executable}", "demo", "DEMO=here")
        assert done.returncode == 0, done.stderr
        lines = calls.read_text(encoding="utf-8").splitlines()
        calls.unlink()
        return lines

    first = called()
    assert len(first) == 2
    assert "--constraint constraints.txt --editable ." in first[0]
    assert first[1] == "decloud demo --output here"
    assert called() == ["decloud demo --output here"]
    later = (fresh / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(fresh / "constraints.txt", (later, later))
    assert len(called()) == 2
