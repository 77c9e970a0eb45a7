"""`search`: the scenes of a catalogue that lie in an area, a span of time, a tile.

A source is a known name (`earth-search`), the URL of a STAC API, or a static catalogue by path or URL (its entry
document, or the folder that holds `catalog.json`); a lone item and a FeatureCollection of items work too, and so does
the folder of a run of ours. Whatever the source filters by itself, the result is filtered here again, so that every
source gives the same answer. What cannot be read among things that can is reported, never hidden and never fatal.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from catalogs.documents import Document, Problem, links_of, read_json, session
from catalogs.errors import CatalogError, InvalidItem, InvalidQuery
from catalogs.hrefs import absolute, folder_of, is_remote, without_credentials
from catalogs.item import SceneItem
from catalogs.newest import newest
from catalogs.query import Query
from catalogs.sources import SourceRules, known_sources
from catalogs.stac import resolve_item
from catalogs.static import walk


@dataclass(frozen=True)
class SearchResult(Sequence[SceneItem]):
    """The scenes found, a sequence ordered by (datetime, tile, id), and what could not be read on the way."""

    items: tuple[SceneItem, ...]
    problems: tuple[Problem, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[SceneItem]:
        return iter(self.items)

    @overload
    def __getitem__(self, index: int) -> SceneItem: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[SceneItem, ...]: ...
    def __getitem__(self, index: int | slice) -> SceneItem | tuple[SceneItem, ...]:
        return self.items[index]


def search(query: Query, source: str) -> SearchResult:
    """The scenes of `source` that match `query`, duplicates resolved to the newest, ordered by (datetime, tile, id).

    Raises InvalidQuery for a source that is no catalogue, InvalidItem where its entry document cannot be used,
    SourceUnavailable where a server does not answer after retries.
    """
    known = known_sources().get(source)
    href = known.url if known and known.url else _entry(source)
    if known:
        from catalogs.api import check_bounded

        check_bounded(query, href, known)
    with session() as io:
        document = read_json(href, io)
        kind = document.get("type")
        if known or _maybe_api(document):
            # What asks an API takes long to import, and files need none of it.
            from catalogs.api import is_api, search_api

            rules = known or next((rules for rules in known_sources().values() if rules.url == href.rstrip("/")), None)
            if is_api(document, href):
                return _collect(query, search_api(query, document, href, rules, io), rules)
        if kind in ("Catalog", "Collection"):
            return _collect(query, walk(document, href, io))
        if kind == "FeatureCollection" and isinstance(document.get("features"), list):
            found = (Document(feature, href, folder_of(href)) for feature in document["features"])
            return _collect(query, found)
        if kind == "Feature":
            return _result(query, [resolve_item(document, href)], [])
    shown = without_credentials(source)
    raise InvalidQuery(f"{shown}: is JSON, but no STAC catalogue, collection, API or item (type {kind!r})")


def _maybe_api(document: Mapping[str, Any]) -> bool:
    return "conformsTo" in document or any(link["rel"] == "search" for link in links_of(document))


def _collect(query: Query, found: Iterable[Document | Problem], rules: SourceRules | None = None) -> SearchResult:
    items: list[SceneItem] = []
    problems: list[Problem] = []
    for entry in found:
        if isinstance(entry, Problem):
            problems.append(entry)
            continue
        try:
            if not isinstance(entry.stac, dict):
                raise InvalidItem(f"{entry.href}: a feature is no object")
            items.append(resolve_item(entry.stac, entry.href, rules, boundary=entry.boundary))
        except CatalogError as error:
            problems.append(Problem(entry.href, _reason(error, entry.href)))
    return _result(query, items, problems)


def _result(query: Query, items: Iterable[SceneItem], problems: list[Problem]) -> SearchResult:
    matching = newest(item for item in items if query.matches(item))
    ordered = sorted(matching, key=lambda item: (item.datetime, item.tile or "", item.id, item.origin))
    return SearchResult(tuple(ordered), tuple(problems))


def _entry(source: str) -> str:
    """Path or URL of the entry document of `source`."""
    href = absolute(source)
    if href.lower().startswith("s3://") and not href.lower().endswith((".json", ".geojson")):
        # A bucket knows no folders and no APIs: this can only mean the catalogue below a prefix.
        return f"{href.rstrip('/')}/catalog.json"
    if is_remote(href):
        return href
    if os.path.isdir(href):  # noqa: PTH112 - text in, text out
        for name in ("catalog.json", "collection.json"):
            if os.path.isfile(os.path.join(href, name)):  # noqa: PTH113, PTH118
                return os.path.join(href, name)  # noqa: PTH118
        raise InvalidQuery(f"{source}: no catalogue in this folder (no catalog.json, no collection.json)")
    if not os.path.exists(href):  # noqa: PTH110
        names = ", ".join(known_sources())
        raise InvalidQuery(f"{source}: no such catalogue: give a path, a URL, or one of {names}")
    return href


def _reason(error: CatalogError, href: str) -> str:
    return str(error).removeprefix(f"{href}: ")
