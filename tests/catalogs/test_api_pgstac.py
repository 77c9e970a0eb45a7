"""A real STAC API, pgstac on PostgreSQL: searched, declouded from, changed under a run, and filled with products of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pystac
import pytest
from pystac_client import Client
from rasterio.shutil import copy

from catalogs.aoi import parse_aoi
from catalogs.dates import parse_dates
from catalogs.errors import InvalidQuery
from catalogs.item import SceneItem
from catalogs.query import Query
from catalogs.search import search
from pipeline.runner import SceneOutcome, run_scenes
from pipeline.settings import DecloudSettings
from tests.catalogs.faults import proxy
from tests.catalogs.pgstac import change, load, pgstac, withdraw

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
AREA = "15.2,45.2,16.2,45.9"
QUERY = Query(parse_aoi(AREA), *parse_dates("2023-08-01/2023-08-31"))
COLLECTION = "sentinel-2-l2a"
SETTINGS = DecloudSettings(checkpoint="identity", bands=("B02",), references=0)
OLD, CLEAR = "S2B_33TWL_20230813_0_L2A", "S2A_33TWL_20230815_0_L2A"


class Catalogue:
    """The API, and the server of the files that its items name."""

    def __init__(self, url: str, files: Path, address: str, source: Path) -> None:
        self.url, self.files, self.address = url, files, address
        self.collection = json.loads((source / "collection.json").read_text())
        self.items = {path.stem: self._served(path) for path in sorted(source.glob("*/*.json"))}

    def _served(self, path: Path) -> dict[str, Any]:
        """The item with its files here; what lies elsewhere is left out."""
        item: dict[str, Any] = json.loads(path.read_text())
        here = {key: asset for key, asset in item["assets"].items() if (path.parent / asset["href"]).is_file()}
        (self.files / path.stem).mkdir()
        for asset in here.values():
            if path.stem in (OLD, CLEAR) and asset["href"].endswith(".tif"):
                # Their CRS is in a file beside them, and nobody looks beside a URL; a provider's own have it inside.
                copy(path.parent / asset["href"], self.files / path.stem / asset["href"], driver="GTiff", tiled=True)
            asset["href"] = f"{self.address}/{path.stem}/{asset['href']}"
        return item | {"assets": here, "collection": COLLECTION}

    def find(self, *names: str, **more: Any) -> list[SceneItem]:
        found = search(Query(QUERY.aoi, QUERY.start, QUERY.end, ids=names, **more), self.url)
        assert found.problems == ()
        return list(found)


@pytest.fixture(scope="module")
def catalogue(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    source = shared_data / "stac" / "earth-search" / COLLECTION
    files = tmp_path_factory.mktemp("files")
    program = [sys.executable, str(Path(__file__).parent / "range_server.py"), str(files)]
    with pgstac(tmp_path_factory.mktemp("api")) as url:
        server = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, start_new_session=True)
        try:
            assert server.stdout is not None
            made = Catalogue(url, files, f"http://127.0.0.1:{server.stdout.readline().strip()}", source)
            load(url, made.collection, list(made.items.values()))
            yield made
        finally:
            server.terminate()
            server.communicate(timeout=60)


@pytest.mark.parametrize("page", [1, 2, 100])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_page_by_get_and_by_post(
    catalogue: Catalogue, shared_data: Path, monkeypatch: pytest.MonkeyPatch, method: str, page: int
) -> None:
    def only(landing: dict[str, Any]) -> dict[str, Any]:
        links = [link for link in landing["links"] if link["rel"] != "search" or link["method"] == method]
        return landing | {"links": links}

    monkeypatch.setattr("catalogs.api.PAGE", page)
    from_files = search(QUERY, str(shared_data / "stac" / "earth-search"))
    with proxy(catalogue.url) as between:
        between.edit(only, path="/")
        result = search(QUERY, between.url)
        asked = [asked.method for asked in between.asked if asked.path.startswith("/search")]
    assert [item.id for item in result] == [item.id for item in from_files]
    assert len(result) == 5
    assert asked == [method] * {1: 5, 2: 3, 100: 1}[page]
    assert result.problems == ()
    assert [item.bands["B02"].scale for item in result] == [item.bands["B02"].scale for item in from_files]
    assert [item.bands["B02"].offset for item in result] == [0.0] * 5


def test_collections_that_do_not_exist(catalogue: Catalogue) -> None:
    with pytest.raises(InvalidQuery, match="has no collection 'sentinel-2-l2b': it has sentinel-2-l2a"):
        catalogue.find(collections=("sentinel-2-l2b",))
    assert len(catalogue.find(collections=(COLLECTION,))) == 5


def test_the_command_on_one_scene_of_an_api(catalogue: Catalogue, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "flows", "run", "--catalog", catalogue.url, "--aoi", AREA, "--dates", "2023-08-15/2023-08-15",
        "--checkpoint", "identity", "--references", "0", "--bands", "B02", "--output", str(tmp_path / "out"), "--json",
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    [scene] = json.loads(ended.stdout)["scenes"]
    assert scene["state"] == "done"
    [product] = search(Query(), str(tmp_path / "out"))
    sources = [link["href"] for link in product.stac["links"] if link["rel"] == "derived_from"]
    assert sources == [f"{catalogue.url}/collections/{COLLECTION}/items/{CLEAR}"]


def run(
    items: list[SceneItem], output: Path, candidates: list[SceneItem] | None = None, **changes: Any
) -> list[SceneOutcome]:
    settings = SETTINGS.model_copy(update=changes)
    return list(run_scenes(items, output, settings, candidates=candidates or []).outcomes)


def test_a_scene_withdrawn_between_search_and_read_fails_alone(catalogue: Catalogue, tmp_path: Path) -> None:
    """The item is gone and its files answer 404, as it is where a provider takes a scene back."""
    gone, stays = catalogue.find(OLD, CLEAR)
    assert (gone.id, stays.id) == (OLD, CLEAR)
    withdraw(catalogue.url, COLLECTION, OLD)
    hidden = catalogue.files / OLD
    hidden.rename(catalogue.files / "away")
    try:
        bad, good = run([gone, stays], tmp_path / "one")
        assert (bad.state, good.state) == ("invalid", "done")
        assert f"{catalogue.address}/{OLD}/B02.tif: " in bad.reason
        assert "404" in bad.reason
        assert "\n" not in bad.reason
        # As another date it is missing, and nothing else.
        [outcome] = run([stays], tmp_path / "two", [gone], references=1)
        assert outcome.state == "done"
        assert outcome.product is not None
        assert OLD in {entry["id"] for entry in outcome.product.item["properties"]["declouder:references_skipped"]}
        assert [item.id for item in catalogue.find(OLD, CLEAR)] == [CLEAR]
    finally:
        (catalogue.files / "away").rename(hidden)
        load(catalogue.url, catalogue.collection, [catalogue.items[OLD]])


def test_an_item_changed_between_search_and_read(catalogue: Catalogue, tmp_path: Path) -> None:
    """A run does what it found; the next one finds what has changed, and its product follows the first."""
    before = catalogue.find(CLEAR)
    changed = json.loads(json.dumps(catalogue.items[CLEAR]))
    changed["properties"]["s2:processing_baseline"] = "05.10"
    change(catalogue.url, changed)
    try:
        [first] = run(before, tmp_path)
        [second] = run(catalogue.find(CLEAR), tmp_path)
    finally:
        change(catalogue.url, catalogue.items[CLEAR])
    assert first.product is not None
    assert second.product is not None
    baselines = [product.item["properties"]["s2:processing_baseline"] for product in (first.product, second.product)]
    assert baselines == ["05.09", "05.10"]
    assert first.product.id != second.product.id
    links = {link["rel"]: link.get("title") for link in second.product.item["links"]}
    assert links["predecessor-version"] == first.product.id


def test_products_are_items_of_an_api_as_others_are(catalogue: Catalogue, tmp_path: Path) -> None:
    [outcome] = run(catalogue.find(CLEAR), tmp_path)
    assert outcome.product is not None
    item = pystac.Item.from_file(str(outcome.product.path))
    item.make_asset_hrefs_absolute()
    name = "sentinel-2-l2a-declouded"
    links = [link for link in catalogue.collection["links"] if link["rel"] == "license"]
    document = item.to_dict(include_self_link=False, transform_hrefs=False)
    load(catalogue.url, catalogue.collection | {"id": name, "links": links}, [document | {"collection": name}])
    # Whoever else searches finds it, whole and valid.
    client = Client.open(catalogue.url)
    [found] = client.search(collections=[name], bbox=[15.2, 45.2, 16.2, 45.9], datetime="2023-08").items()
    assert found.id == outcome.product.id
    assert found.properties == item.properties
    assert found.assets.keys() == item.assets.keys()
    for key, asset in item.assets.items():
        assert found.assets[key].to_dict() == asset.to_dict()
    found.stac_extensions = []  # their rules are in test_stac_item; here they would be fetched
    assert found.validate()
    # To us it is a scene where it is asked for, and never one to be declouded beside its source.
    [product] = catalogue.find(collections=(name,))
    assert (product.id, product.level, product.tile) == (outcome.product.id, "L2A", "33TWL")
    assert product.bands["B02"].offset == 0
    assert (
        product.bands["B02"].href == f"{catalogue.url}/collections/{name}/items/B02.tif"
        or "B02.tif" in product.bands["B02"].href
    )
    assert [item.id for item in catalogue.find()] == sorted(catalogue.items, key=lambda name: name.split("_")[2])
