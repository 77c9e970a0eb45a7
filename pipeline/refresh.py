"""Whether a scene that has a product already is to be done again.

A run key covers every date that a scene may be restored from, so each new date in a catalogue gives all scenes around it
another key. Doing them all again, day after day, would make many products that hardly differ. So what is asked for decides:

- `changed`: again where anything differs. For scenes that are named together: who names another date means it to help.
- `recipe`: again where anything but the other dates differs: the source, the checkpoint, a parameter.
- `better`: as `recipe`, and where a date would now be chosen that was not there before.

A scene without a product, one that was refused before among them, is done in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from catalogs.item import SceneItem
from pipeline.folders import CACHE
from pipeline.output import find_product, product_id, products_of
from pipeline.prepare import prepare
from pipeline.product import Product
from pipeline.runkey import RunKey, run_key
from pipeline.scene import open_scene
from pipeline.settings import DecloudSettings, Resources

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

Redo = Literal["changed", "recipe", "better"]
"""When a scene that has a product is done again."""


@dataclass(frozen=True)
class Kept:
    """A product that stays as it is."""

    product: Product
    reason: str = ""
    """Why, where its run key is another one than today's."""


def kept_product(
    item: SceneItem,
    output: Path,
    settings: DecloudSettings,
    *,
    candidates: Sequence[SceneItem] = (),
    area: BaseGeometry | None = None,
    redo: Redo = "changed",
) -> Kept | None:
    """The product of `item` in `output` that stays, or None where the scene is to be done; parameters as for `decloud_scene`.

    `better` masks the scene and ranks its other dates where they changed, which takes as long as planning it.
    Raises what `decloud_scene` raises before its first block.
    """
    region = area.wkt if area is not None and settings.clip else None
    key = run_key(item, settings, candidates, region, cache=output / CACHE)
    same = find_product(output, product_id(item, key))
    if same is not None:
        return Kept(same)
    made = _of_recipe(output, item, key) if redo != "changed" else None
    if made is None:
        return None
    if redo == "recipe":
        return Kept(
            made, f"{made.id} stays, though other dates are there to restore it from; --refresh takes better ones"
        )
    if _better(item, settings, candidates, area, made):
        return None
    return Kept(made, f"{made.id} stays: no better date is there to restore it from")


def _of_recipe(output: Path, item: SceneItem, key: RunKey) -> Product | None:
    """The newest whole product of the scene that differs in its other dates alone."""
    for name in reversed(products_of(output, item.id)):
        product = find_product(output, name)
        if product is not None and product.item["properties"].get("declouder:recipe") == key.recipe:
            return product
    return None


def _better(
    item: SceneItem,
    settings: DecloudSettings,
    candidates: Sequence[SceneItem],
    area: BaseGeometry | None,
    made: Product,
) -> bool:
    """Whether a date would be chosen today that was not, and each that it displaces was there to be chosen.

    The choice prefers the clearest date, and of equals the nearest; so what displaces a date that is still there and
    readable is better, and what fills the place of one that is gone need not be.
    """
    with open_scene(item, settings.bands) as scene:
        prepared = prepare(scene, settings, candidates, area, threads=Resources().threads)
        try:
            chosen = {reference.id for reference in prepared.references}
            there = {other.id for other in candidates} - set(prepared.skipped)
        finally:
            prepared.close()
    before = {str(entry["id"]) for entry in made.item["properties"].get("declouder:references", ())}
    return bool(chosen - before) and before - chosen <= there
