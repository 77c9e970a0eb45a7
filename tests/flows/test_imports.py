"""A command imports what it uses and nothing else: starting is most of a small run's time."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from flows.imports import UNUSED, unused_left_out
from tests.flows.conftest import Decloud, MadeScene

NEVER = {
    "torch", "prefect", "distributed", "dask", "matplotlib", "pandas", "geopandas", "pyarrow", "tensorboard", "skimage", "xarray", "rioxarray",
    "boto3", "botocore", "fsspec", "pystac", "pystac_client", "httpx",
}  # fmt: skip
"""What a run of local files without a network has no use for."""


_COMMAND = """
import sys
from flows.cli import main
status = main(sys.argv[1:])
print("imported", *sorted({name.partition(".")[0] for name, module in sys.modules.items() if module is not None}), file=sys.stderr)
sys.exit(status)
"""


def imported(*arguments: object) -> set[str]:
    """Top-level names of all modules that a command, run in a process of its own, has imported when it ends."""
    command = [sys.executable, "-c", _COMMAND, *(str(argument) for argument in arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr[-2000:]
    names = set(ended.stderr.splitlines()[-1].split())
    assert {"imported", "flows"} <= names
    return names


def test_the_modules_that_are_watched_for_are_installed() -> None:
    """Else their absence would say nothing; those of extras may be absent."""
    extras = {"tensorboard", "skimage", "boto3", "botocore"}
    missing = {name for name in NEVER | {"zarr", "rio_cogeo", "scipy"} if importlib.util.find_spec(name) is None}
    assert missing <= extras


def test_help_imports_no_library_that_computes() -> None:
    names = imported("--help")
    assert (
        names & (NEVER | {"numpy", "rasterio", "pydantic", "shapely", "odc", "dask", "zarr", "scipy", "rich"})
    ) == set()


def test_a_run_to_cog_and_its_plan(scene: MadeScene, tmp_path: Path) -> None:
    run = scene.arguments(tmp_path / "out", "--quiet")
    assert "rio_cogeo" in (names := imported(*run))
    assert (names & (NEVER | {"zarr"})) == set()
    planned = imported("plan", *run[1:])
    assert "rasterio" in planned
    assert (planned & (NEVER | {"zarr", "rio_cogeo"})) == set()


def test_a_run_to_zarr(scene: MadeScene, tmp_path: Path) -> None:
    assert "zarr" in (names := imported(*scene.arguments(tmp_path / "out", "--quiet", "--format", "zarr")))
    assert (names & (NEVER - {"fsspec"} | {"rio_cogeo"})) == set()


def test_status(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    assert decloud(*scene.arguments(tmp_path / "out", "--quiet")).status == 0
    assert (imported("status", tmp_path / "out") & (NEVER | {"zarr", "rio_cogeo"})) == set()


@pytest.mark.parametrize(("module", "absent"), UNUSED.items())
def test_what_was_left_out_can_be_imported_later(module: str, absent: str) -> None:
    """In a process of its own: here both are imported already."""
    if importlib.util.find_spec(absent) is None:
        pytest.skip(f"{absent} is not installed")
    lines = (
        "import importlib, sys",
        "from flows.imports import unused_left_out",
        f"with unused_left_out(): importlib.import_module({module!r})",
        f"assert {absent!r} not in sys.modules",
        f"assert importlib.import_module({absent!r}).__path__",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=300)


def test_a_module_that_is_there_already_is_left_there() -> None:
    before = {name: sys.modules.get(name) for name in UNUSED.values()}
    finders = list(sys.meta_path)
    with unused_left_out():
        spec = importlib.util.find_spec("rasterio.session")
        assert spec is not None
        assert spec.origin is not None
        assert spec.origin.endswith("session.py")
        assert importlib.util.find_spec("rasterio.no_such_module") is None
    assert sys.meta_path == finders
    assert {name: sys.modules.get(name) for name in UNUSED.values()} == before
