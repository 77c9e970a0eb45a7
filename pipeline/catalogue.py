"""The catalogue of an output: a STAC document with a link to each product; the same products give the same bytes.

It says nothing that the products do not say themselves, so it can be made from them at any time. Publishing one product reads
none of the others: what is linked stays so while its folder is there, and only folders that are not linked are looked into.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

CATALOG = "catalog.json"
_HREF = re.compile(r"\./([^/]+)/\1\.json")


def catalogue(names: Iterable[str]) -> dict[str, Any]:
    """The catalogue of the products called `names`."""
    links: list[dict[str, str]] = [
        {"rel": "root", "href": f"./{CATALOG}", "type": "application/json", "title": "Cloud-free scenes"}
    ]
    links += [
        {"rel": "item", "href": f"./{name}/{name}.json", "type": "application/geo+json", "title": name}
        for name in sorted(names)
    ]
    return {
        "type": "Catalog",
        "stac_version": "1.1.0",
        "id": "declouder",
        "title": "Cloud-free scenes",
        "description": "Sentinel-2 scenes from which clouds were removed; where each pixel comes from is in their asset `provenance`.",
        "links": links,
    }


def linked(text: str | bytes) -> set[str] | None:
    """The products that a catalogue links; None where `text` is no catalogue of ours, so that it has to be made anew."""
    try:
        document = json.loads(text)
        hrefs = [str(link["href"]) for link in document["links"] if link["rel"] == "item"]
    except (ValueError, KeyError, TypeError):
        return None
    found = [_HREF.fullmatch(href) for href in hrefs]
    return {match[1] for match in found if match} if all(found) else None


def up_to_date(known: Collection[str] | None, there: Collection[str], holds_item: Callable[[str], bool]) -> list[str]:
    """The products that the catalogue is to link, sorted.

    known: those that it links; None makes it anew. there: every folder. holds_item: looks into one folder; it is asked only of
    folders that are not linked, which are few.
    """
    kept = set(known or ()) & set(there)
    return sorted(kept | {name for name in there if name not in kept and holds_item(name)})


def as_text(content: Mapping[str, Any]) -> str:
    """JSON as we write it."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
