"""The examples in Python of README.md and docs/ are run as printed, and the notebook is."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import shutil
from pathlib import Path
from typing import Any

import geopandas
import nbformat
import pytest
from nbclient import NotebookClient

import pipeline
from flows.cli import main
from pipeline.simulation.simulate import Simulated
from tests.flows.documents import ROOT, blocks, fill, words

# odc-geo calls what shapely announces to give up.
pytestmark = pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning")
AREA = "--catalog demo/stac/catalog.json --aoi 15.545,48.305,15.56,48.315 --dates 2023-07-10/2023-07-15"


@pytest.fixture(scope="module")
def folder(area: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages speak of."""
    return fill(tmp_path_factory.mktemp("examples"), area)


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def run_code(code: str) -> dict[str, Any]:
    """Run an example in this process; its variables."""
    names: dict[str, Any] = {}
    exec(compile(code, "example", "exec"), names)  # noqa: S102 - the documentation's own
    return names


@pytest.mark.usefixtures("here")
def test_the_library_in_five_lines() -> None:
    example = blocks("python", page="README.md")[0].text
    assert sum(bool(line) for line in example.splitlines()) == 5
    product = run_code(example)["product"]
    assert product.path.is_file()
    assert 0 < product.provenance["observed"] < 1
    assert "\n".join(f"    {line}" for line in example.splitlines() if line) in str(pipeline.__doc__)


def test_the_library_is_typed_and_described() -> None:
    """Every public function has a type for each parameter and for what it returns, and says what it raises."""
    for name in pipeline.__all__:
        offered = getattr(pipeline, name)
        assert inspect.getdoc(offered), name
        if inspect.isfunction(offered):
            signature = inspect.signature(offered)
            assert all(
                parameter.annotation is not inspect.Parameter.empty for parameter in signature.parameters.values()
            )
            assert signature.return_annotation is not inspect.Signature.empty
            assert "Raises" in str(offered.__doc__), name
    for package in ("pipeline", "catalogs", "srgan", "flows"):
        assert (ROOT / package / "py.typed").is_file()


def test_the_longer_example_of_the_library(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_code(blocks("python", page="README.md")[1].text)
    assert "'observed'" in capsys.readouterr().out
    assert list((here / "out").glob("*/*.zarr"))


@pytest.fixture(scope="module")
def products(folder: Path) -> Path:
    """Where `out` holds a product as COGs and one as a Zarr store, and cube.zarr a series."""
    home = folder / "products"
    home.mkdir()
    shutil.copytree(folder / "demo", home / "demo")
    wanted = f"{AREA} --bands B02,B03,B04,B08 --output out --quiet"
    with contextlib.chdir(home), contextlib.redirect_stdout(io.StringIO()):
        assert main(words(f"run {wanted}")) == 0
        assert main(words(f"run {wanted} --format zarr")) == 0
        assert main(words(f"backfill {wanted} --cube cube.zarr")) == 0
    return home


def test_the_examples_of_reading_a_product(products: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(products)
    (cog,), (store,) = (list(Path("out").glob(f"*/{name}")) for name in ("provenance.tif", "*.zarr"))
    read, zarr, filtered, reflectance, tabled = (
        block.text.replace("ITEM", store.stem if ".zarr" in block.text else cog.parent.name)
        for block in blocks("py", page="docs/products.md")
    )
    assert set(run_code(read)["bands"].data_vars) == {"provenance", "red"}
    assert run_code(zarr)["bands"].B04.shape == (192, 192)
    names = run_code(filtered)
    assert 0 < int(names["seen"].red.count()) < int(names["likely"].red.count()) < 192 * 192
    assert 0 <= float(names["made_up"]) < 0.6
    run_code(tabled)
    assert sorted(geopandas.read_parquet("out.parquet")["id"]) == sorted([cog.parent.name, store.stem])
    red = run_code(reflectance)["red"]
    assert 0 < red.mean() < 1


def test_the_example_of_the_cube(products: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(products)
    (example,) = blocks("py", page="docs/cube.md")
    with contextlib.closing(run_code(f"{example.text}\nnumbers = seen.compute()")["cube"]) as cube:
        assert cube.sizes["time"] == 1


def test_the_notebook_runs_and_is_kept_without_outputs(
    products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    # The kernel imports what this process does, and writes nothing into the user's folders.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(products)}}
    ).execute()
    shown = [output for cell in cells for output in cell.outputs]
    assert [output for output in shown if output.output_type == "error" or output.get("name") == "stderr"] == []
    pictures = [output.data["image/png"] for output in shown if "image/png" in output.get("data", {})]
    assert len(pictures) == 3
    assert any("'replaced'" in output.data["text/plain"] for output in shown if "data" in output)
