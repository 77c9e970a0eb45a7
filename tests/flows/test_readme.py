"""What README.md and docs/products.md say of products, against the products, and what stands where."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import pipeline
from pipeline.layers import CLOUD_CLASSES, PROVENANCE
from pipeline.simulation.simulate import Simulated
from tests.flows.conftest import Decloud, area_run
from tests.flows.documents import blocks, text_of

README = text_of("README.md")
PRODUCTS = text_of("docs/products.md")


def test_the_data_flow_stands_on_top_and_is_one() -> None:
    assert re.match(r"# declouder\n\n```\ndecloud   catalogs\.search > ", README)
    (first, *_), (architecture, *_) = (blocks("", page=page) for page in ("README.md", "docs/architecture.md"))
    assert first.text == architecture.text
    assert first.text.strip() in str(pipeline.__doc__)


def test_what_it_is_one_picture_two_commands_five_uses() -> None:
    """In this order, before anything else."""
    (commands,) = re.findall(r"^```sh\n(.*?)^```$", README.split("## Five uses")[0], re.MULTILINE | re.DOTALL)
    assert [line.split("  ")[0] for line in commands.splitlines()] == ["make demo", "make test"]
    assert README.index("![") < README.index("```sh") < README.index("## Five uses")
    uses = re.findall(r"^### (.+)$", README, re.MULTILINE)
    assert uses == ["My own image", "An area on a schedule", "A backfill", "Train on my pairs", "Evaluate"]


def table(text: str, name: str) -> dict[int, str]:
    """Value -> class of the table whose first column is called `name`."""
    rows = re.findall(rf"^\| {name} \|.*\n\|[-:| ]+\n((?:\|.*\n)+)", text, re.MULTILINE)[0]
    return {int(value): label for value, label in re.findall(r"^\| (\d) \| (\w+)", rows, re.MULTILINE)}


def test_tables_of_classes_are_those_of_the_layers() -> None:
    assert table(README, "provenance") == table(PRODUCTS, "provenance") == dict(PROVENANCE)
    assert table(PRODUCTS, "cloudmask") == dict(CLOUD_CLASSES)


@pytest.fixture(scope="module")
def made(area: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a product with a network."""
    from flows.cli import main

    output = tmp_path_factory.mktemp("readme") / "out"
    wanted = ("--dates", "2023-07-13", "--bands", "B02,B04", "--tile", "256", "--checkpoint", "default")
    assert main([str(argument) for argument in area_run(area, output, *wanted)]) == 0
    (item,) = output.glob("S2*/*.json")
    return item.parent


def test_what_the_tree_of_a_product_names_is_there(made: Path) -> None:
    tree = next(block.text for block in blocks("", page="docs/products.md") if "manifest" in block.text)
    names = [path.name for path in [*made.iterdir(), *made.parent.glob(".*")]]
    for name in names:
        known = name.replace(made.name, "<item-id>").replace("cloudmask.tif.", "*.").replace("provenance.tif.", "*.")
        assert known in tree.replace("B12.tif", "B04.tif"), name
    # Checksums are remembered of files that are not brand-new only.
    assert {path.name for path in made.parent.glob(".*")} | {".cache"} == {".cache", ".lock", ".staging"}
    short = next(block.text for block in blocks("", page="README.md") if "catalog.json" in block.text)
    assert {line.split()[0] for line in short.splitlines()} <= {
        line.split()[0].rstrip(",") for line in tree.splitlines()
    } | {"out/runs/"}


def test_every_layer_and_property_is_described(made: Path) -> None:
    item = json.loads((made / f"{made.name}.json").read_text(encoding="utf-8"))
    own = {name for name in item["properties"] if name.startswith("declouder:")}
    described = set(re.findall(r"`(declouder:\w+)`", PRODUCTS.split("## The item")[1].split("\nLinks lead")[0]))
    assert own <= described
    source = (Path(pipeline.__file__).parent / "stac_item.py").read_text(encoding="utf-8")
    assert {name for name in described if f'"{name}"' not in source} == set()
    layers = re.findall(r"^\| `(\w+)` \| uint8 \| (\d+|the)", PRODUCTS, re.MULTILINE)
    for name, nodata in layers:
        key = "scl" if name == "SCL" else name
        (band,) = item["assets"][key]["raster:bands"]
        assert (band["data_type"], band["nodata"]) == ("uint8", int(nodata)), name


def test_a_clean_run_shows_what_the_exit_status_table_says(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    statuses = [
        int(value) for value in re.findall(r"^\| (\d+) \| (?:done|some|wrong|interrupted)", README, re.MULTILINE)
    ]
    assert statuses == [0, 1, 2, 130]
    assert decloud(*area_run(area, tmp_path, "--bands", "B99")).status == 2
