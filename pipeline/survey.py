"""`survey`: the products that lie in an output, and what else lies there that looks like one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.address import output_url
from pipeline.checksums import MANIFEST
from pipeline.errors import InvalidScene
from pipeline.items import Items, read_items
from pipeline.productview import ProductView, product_view


@dataclass(frozen=True)
class Survey:
    """What was found in an output."""

    products: tuple[ProductView, ...] = ()
    """The newest product of each scene, oldest scene first."""
    older: tuple[ProductView, ...] = ()
    """Products that a newer one of the same scene has followed."""
    strange: Mapping[str, str] = field(default_factory=dict)
    """Folder -> why it is not shown."""
    items: Items = field(default_factory=Items, repr=False)
    """What all this was found in."""


def survey(output: Path) -> Survey:
    """Look at every folder of an output and read the items in it; no raster is opened. Raises as `read_items` does."""
    items = read_items(output)
    found, strange = [], dict(items.unread)
    for name, item in items.complete.items():
        try:
            found.append(product_view(output / name, item))
        except InvalidScene as error:
            strange[name] = str(error)
    strange |= {name: reason for name in items.none if (reason := _why_none(output, name)) is not None}
    newest: dict[str, ProductView] = {}
    for view in sorted(found, key=lambda view: (view.created, view.id)):
        newest[view.scene] = view
    shown = sorted(newest.values(), key=_when)
    chosen = {view.id for view in shown}
    older = sorted((view for view in found if view.id not in chosen), key=_when)
    return Survey(tuple(shown), tuple(older), strange, items)


def _when(view: ProductView) -> tuple[bool, str, str]:
    """Scenes without a time come last."""
    return view.time is None, "" if view.time is None else view.time.isoformat(), view.id


def _why_none(output: Path, name: str) -> str | None:
    """Why a folder without a complete item is no product; None for one that never was to be."""
    if output_url(output) is not None:
        return "holds no complete item: half a product, or none; the next run of its scene replaces it"
    folder = output / name
    try:
        text = (folder / f"{name}.json").read_bytes()
    except FileNotFoundError:
        if (folder / MANIFEST).is_file():
            return "half a product: its files are there, its item is not; the next run of its scene replaces it"
        if any(folder.glob("*.json")) or any(folder.glob("*.tif")):
            return f"holds no {name}.json: it is no product of declouder, or half of one"
        return None
    except OSError as error:
        return f"{name}.json cannot be read: {error.strerror or error}"
    try:
        item = json.loads(text)
    except (ValueError, RecursionError):
        return f"{name}.json is damaged: it is no JSON; decloud the scene again"
    if not isinstance(item, dict) or item.get("type") != "Feature":
        return f"{name}.json is no STAC item"
    if item.get("id") != name:
        return f"{name}.json is the item of {item.get('id')!r}: the folder has another name than its product"
    return f"{name}.json lists assets that are none; decloud the scene again"
