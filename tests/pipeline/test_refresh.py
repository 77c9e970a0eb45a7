"""When a scene that has a product is done again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from catalogs.item import SceneItem
from pipeline.engine import decloud_scene
from pipeline.product import Product
from pipeline.refresh import Kept, kept_product
from pipeline.settings import DecloudSettings

from .made import WHEN, made_item

SETTINGS = DecloudSettings(checkpoint="identity", tile=64, overlap=16, references=1, grow=0, feather=0)


def date(folder: Path, name: str, days: float, cloud: slice) -> SceneItem:
    pixels = np.random.default_rng(9).integers(800, 4000, (96, 96)).astype(np.uint16)
    hidden = np.zeros((96, 96), bool)
    hidden[cloud, cloud] = True
    pixels[hidden] = 8000
    return made_item(
        folder / name, {"B02": pixels}, scl=np.where(hidden, 9, 4), when=WHEN + timedelta(days=days), tile="33UWP"
    )


@pytest.fixture
def scene(tmp_path: Path) -> SceneItem:
    return date(tmp_path, "scene", 0, slice(20, 60))


@pytest.fixture
def half(tmp_path: Path) -> SceneItem:
    """A date that shows a part of what the scene's cloud hides."""
    return date(tmp_path, "half", 4, slice(30, 60))


@pytest.fixture
def made(scene: SceneItem, half: SceneItem, tmp_path: Path) -> Product:
    """The scene's product, restored from the half clear date."""
    return decloud_scene(scene, tmp_path / "out", SETTINGS, candidates=[half])


def asked(scene: SceneItem, made: Product, others: list[SceneItem], **changes: object) -> Kept | None:
    settings = SETTINGS.model_copy(update={name: changes.pop(name) for name in ("grow",) if name in changes})
    return kept_product(scene, made.folder.parent, settings, candidates=others, **changes)  # type: ignore[arg-type]


def test_the_same_run_is_kept_whatever_is_asked_for(scene: SceneItem, half: SceneItem, made: Product) -> None:
    for redo in ("changed", "recipe", "better"):
        kept = asked(scene, made, [half], redo=redo)
        assert kept is not None
        assert (kept.product.id, kept.reason) == (made.id, "")


def test_another_parameter_or_source_is_always_done(
    scene: SceneItem, half: SceneItem, made: Product, tmp_path: Path
) -> None:
    again = date(tmp_path, "scene-again", 0, slice(20, 50))
    reprocessed = replace(again, id=scene.id)
    for redo in ("changed", "recipe", "better"):
        assert asked(scene, made, [half], redo=redo, grow=20.0) is None
        assert asked(reprocessed, made, [half], redo=redo) is None
        assert asked(replace(scene, id="another"), made, [half], redo=redo) is None


def test_another_date_alone_changes_only_what_is_asked_for(
    scene: SceneItem, half: SceneItem, made: Product, tmp_path: Path
) -> None:
    worse = date(tmp_path, "worse", 2, slice(21, 60))
    clear = date(tmp_path, "clear", 20, slice(0, 5))
    for others in ([half, worse], [half, clear]):
        assert asked(scene, made, others, redo="changed") is None
        kept = asked(scene, made, others, redo="recipe")
        assert kept is not None
        assert kept.product.id == made.id
        assert "--refresh" in kept.reason
    kept = asked(scene, made, [half, worse], redo="better")
    assert kept is not None
    assert "no better date" in kept.reason
    assert asked(scene, made, [half, clear], redo="better") is None


def test_a_date_that_is_gone_or_unreadable_makes_nothing_better(
    scene: SceneItem, half: SceneItem, made: Product, tmp_path: Path
) -> None:
    worse = date(tmp_path, "worse", 2, slice(21, 60))
    kept = asked(scene, made, [worse], redo="better")
    assert kept is not None, "the only date left is worse than the one that is gone"
    assert asked(scene, made, [], redo="better") is not None
    broken = Path(half.bands["B02"].href)
    broken.write_bytes(broken.read_bytes()[:300])
    kept = asked(scene, made, [half, worse], redo="better")
    assert kept is not None, "what cannot be read today was not displaced by something better"


def test_what_is_done_again_follows_its_predecessor(
    scene: SceneItem, half: SceneItem, made: Product, tmp_path: Path
) -> None:
    clear = date(tmp_path, "clear", 20, slice(0, 5))
    new = decloud_scene(scene, made.folder.parent, SETTINGS, candidates=[half, clear])
    (link,) = [link for link in new.item["links"] if link["rel"] == "predecessor-version"]
    assert link["title"] == made.id
    assert new.item["properties"]["declouder:recipe"] == made.item["properties"]["declouder:recipe"]
    assert new.item["properties"]["declouder:run_key"] != made.item["properties"]["declouder:run_key"]
    # Of two products the newer one is kept.
    worse = date(tmp_path, "worse", 2, slice(21, 60))
    kept = asked(scene, made, [half, clear, worse], redo="recipe")
    assert kept is not None
    assert kept.product.id == new.id


def test_a_damaged_product_is_not_kept(scene: SceneItem, half: SceneItem, made: Product, tmp_path: Path) -> None:
    other = date(tmp_path, "worse", 2, slice(21, 60))
    band = made.folder / "B02.tif"
    band.write_bytes(band.read_bytes()[:-100])
    for redo in ("recipe", "better"):
        assert asked(scene, made, [half, other], redo=redo) is None


def test_a_product_of_an_older_version_without_a_recipe_is_done_again(
    scene: SceneItem, half: SceneItem, made: Product, tmp_path: Path
) -> None:
    path = made.path
    item = json.loads(path.read_text())
    del item["properties"]["declouder:recipe"]
    path.write_text(json.dumps(item))
    assert asked(scene, made, [half, date(tmp_path, "worse", 2, slice(21, 60))], redo="recipe") is None
