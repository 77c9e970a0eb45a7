"""Products that other tools read: of real scenes on one grid and on three where the data is there, and of a simulated area with three."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio

from catalogs import Query, SceneItem, open_sources
from catalogs.search import search
from pipeline import DecloudSettings, Product, decloud_scene
from pipeline.simulation.simulate import SimulatedDate, simulate_area
from pipeline.simulation.weather import Weather

ClearPixels = Callable[[tuple[int, int]], np.ndarray]


@dataclass(frozen=True)
class Made:
    """A product and what it was made from. Read it, never write to it."""

    source: SceneItem
    product: Product

    @property
    def keys(self) -> dict[str, Path]:
        """Asset key -> the source's file, of everything that the product has from its source."""
        assets = [*self.source.bands.values(), *([self.source.scl] if self.source.scl else [])]
        return {asset.key: Path(asset.href) for asset in assets if asset.key in self.product.item["assets"]}

    @property
    def crs(self) -> rasterio.CRS:
        with rasterio.open(next(iter(self.keys.values()))) as file:
            return file.crs

    def source_item(self) -> pystac.Item:
        """The source's item, its grids as they are in its files: the samples of 33TWL were shrunk, and their items were not."""
        item = pystac.Item.from_file(str(self.source.origin))
        for key, path in self.keys.items():
            with rasterio.open(path) as file:
                item.assets[key].extra_fields["proj:shape"] = list(file.shape)
                item.assets[key].extra_fields["proj:transform"] = list(file.transform)[:6]
        return item

    def product_item(self) -> pystac.Item:
        return pystac.Item.from_file(str(self.product.path))

    def raster_keys(self) -> list[str]:
        """Keys of all assets that are rasters."""
        kind = pystac.MediaType.COG
        return [key for key, asset in self.product_item().assets.items() if asset.media_type == kind]

    def grids(self) -> dict[tuple[int, int], list[str]]:
        """Shape of a grid -> the keys on it that the product shares with its source."""
        found: dict[tuple[int, int], list[str]] = {}
        for key, path in self.keys.items():
            with rasterio.open(path) as file:
                found.setdefault(file.shape, []).append(key)
        return found

    def observed(self, shape: tuple[int, int]) -> np.ndarray:
        """bool (rows, cols) of a grid of `shape`: True = all pixels of the finest grid in it are observed."""
        with rasterio.open(self.product.folder / "provenance.tif") as file:
            seen = file.read(1) == 1
        rows, cols = shape
        return seen.reshape(rows, seen.shape[0] // rows, cols, seen.shape[1] // cols).all(axis=(1, 3))


Decloud = Callable[[str], Made]


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Decloud:
    """Declouds the cloudy one of two simulated dates, 10, 20 and 60 m, with the packaged network."""
    home = tmp_path_factory.mktemp("simulated")
    dates = (
        SimulatedDate(0, Weather(cumulus=0.004, cell=300, base=600)),
        SimulatedDate(5, Weather(cumulus=0.3, cell=400, base=500)),
    )
    area = simulate_area(home, size=192, dates=dates)
    scenes = search(Query(), str(area.catalogue))

    def decloud(kind: str) -> Made:
        settings = DecloudSettings(format=kind, references=1, max_generated=1)  # type: ignore[arg-type]
        return Made(scenes[1], decloud_scene(scenes[1], home / kind, settings, candidates=scenes))

    return decloud


@pytest.fixture(scope="session")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Decloud:
    """Declouds 33TWL of 18 August 2023, half of it under cloud; without a network, which takes long and is not looked at here."""
    home = tmp_path_factory.mktemp("real")
    scenes = search(Query(tile="33TWL"), str(shared_data / "stac/earth-search/catalog.json"))
    (cloudy,) = (scene for scene in scenes if scene.datetime.day == 18)

    def decloud(kind: str) -> Made:
        settings = DecloudSettings(format=kind, checkpoint="identity", references=1)  # type: ignore[arg-type]
        return Made(cloudy, decloud_scene(cloudy, home / kind, settings, candidates=scenes))

    return decloud


@pytest.fixture(scope="session")
def real_grids(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Decloud:
    """Declouds four bands of 29RKH on three grids, COGs, without a network; its item leads to the files on disk, as a local copy does."""
    home = tmp_path_factory.mktemp("grids")
    (path,) = (shared_data / "stac" / "sentinel2_29RKH").glob("*/*.json")
    item = json.loads(path.read_text(encoding="utf-8"))
    for asset in item["assets"].values():
        local = path.parent / Path(asset["href"]).name
        if local.is_file():
            shutil.copy(local, home)
            asset["href"] = f"./{local.name}"
    there = home / path.name
    there.write_text(json.dumps(item), encoding="utf-8")
    (scene,) = open_sources([str(there)])

    def decloud(kind: str) -> Made:
        chosen = {"bands": ("B01", "B02", "B05", "B08"), "references": 0, "checkpoint": "identity", "format": kind}
        return Made(scene, decloud_scene(scene, home / kind, DecloudSettings.model_validate(chosen)))

    return decloud


@pytest.fixture(scope="session", params=["simulated", "real", "real_grids"])
def made(request: pytest.FixtureRequest) -> Made:
    """A product of COGs."""
    decloud: Decloud = request.getfixturevalue(request.param)
    return decloud("cog")


@pytest.fixture(scope="session", params=["simulated", "real"])
def stored(request: pytest.FixtureRequest) -> tuple[Made, Made]:
    """The same product as COGs and as a Zarr store."""
    decloud: Decloud = request.getfixturevalue(request.param)
    return decloud("cog"), decloud("zarr")


def pixels(path: Path) -> Any:
    """The first band of a raster."""
    with rasterio.open(path) as file:
        return file.read(1)
