"""STAC APIs, through pystac-client: space, time, ids and paging by the server, everything else filtered by `search`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import pystac
import shapely
from pystac_client.item_search import ItemSearch

from catalogs.documents import Document, links_of
from catalogs.errors import InvalidItem, InvalidQuery
from catalogs.hrefs import without_credentials
from catalogs.query import Query
from catalogs.sources import SourceRules

if TYPE_CHECKING:
    from catalogs.connection import Connection

PAGE = 100
"""Items asked for at a time."""
LIMIT = 20_000
"""Items after which a search is given up as too wide: 27 years of one tile."""
_SENTINEL2 = re.compile(r"sentinel[-_]?(2|s2)|(^|[-_])s2([-_]|$)", re.IGNORECASE)
_ITEM_SEARCH = re.compile(r"https://api\.stacspec\.org/v1\.\d+\.\d+(-[\w.]+)?/item-search$")
_COLLECTIONS = re.compile(r"https://api\.stacspec\.org/v1\.\d+\.\d+(-[\w.]+)?/(collections|ogcapi-features)$")


def is_api(landing: Mapping[str, Any], url: str) -> bool:
    """Whether the catalogue `landing`, read from `url`, can be searched; one that leads to its items can be walked.

    Raises InvalidQuery for an API that can be neither.
    """
    if _search_link(landing, url) is not None:
        return True
    if "conformsTo" in landing and not any(link["rel"] in ("child", "item") for link in links_of(landing)):
        raise InvalidQuery(
            f"{without_credentials(url)}: an API without item search (conformance `item-search`), and without links to "
            "items: name another catalogue, or a static copy of this one"
        )
    return False


def check_bounded(query: Query, url: str, rules: SourceRules | None) -> None:
    """Raise InvalidQuery for a query that would return the whole archive."""
    if query.aoi is None and not query.ids and not (query.tile and rules and rules.tile):
        raise InvalidQuery(f"{without_credentials(url)}: an API holds the whole Earth: name an area (--aoi) or ids")


def search_api(
    query: Query, landing: Mapping[str, Any], url: str, rules: SourceRules | None, io: Connection
) -> Iterator[Document]:
    """The items of the API whose landing page is `landing`, read from `url`, that match in space, time and id, page by page.

    Raises InvalidQuery for a query that the API refuses or that would return the whole archive and for a collection
    that it does not have, SourceUnavailable where it does not answer.
    """
    check_bounded(query, url, rules)
    where = without_credentials(url)
    try:
        collections = _collections(query, landing, url, rules, io)
        href, method = _search_link(landing, url) or (url, "POST")
        found = ItemSearch(
            href, method=method, stac_io=io, limit=PAGE, collections=collections, **_parameters(query, method, rules)
        )
        for number, item in enumerate(found.items_as_dicts(), 1):
            if number > LIMIT:
                raise InvalidQuery(f"{where}: more than {LIMIT} items: narrow the area or the dates")
            yield Document(item, _href(item, where), where)
    except InvalidItem as error:
        raise InvalidQuery(str(error)) from None
    except (pystac.STACError, pystac.STACTypeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise InvalidQuery(f"{where}: does not answer as a STAC API: {type(error).__name__}: {error}") from None


def _search_link(landing: Mapping[str, Any], url: str) -> tuple[str, str] | None:
    """URL and method of the search; None where there is none. POST where there is a choice: areas can be long."""
    links = [link for link in links_of(landing) if link["rel"] == "search"]
    if links:
        chosen = next((link for link in links if str(link.get("method")).upper() == "POST"), links[0])
        return urljoin(url, chosen["href"]), str(chosen.get("method") or "GET").upper()
    return (f"{url.rstrip('/')}/search", "POST") if _conforms(landing, _ITEM_SEARCH) else None


def _conforms(landing: Mapping[str, Any], name: re.Pattern[str]) -> bool:
    stated = landing.get("conformsTo")
    return isinstance(stated, list) and any(name.match(str(entry)) for entry in stated)


def _collections(
    query: Query, landing: Mapping[str, Any], url: str, rules: SourceRules | None, io: Connection
) -> list[str]:
    """The collections to search. A name that the API does not know would find nothing, and say so as if there were none."""
    if not query.collections and rules and rules.collections:
        level = query.level or "L2A"
        if level not in rules.collections:
            raise InvalidQuery(f"{rules.name} has no {level}: it has {', '.join(rules.collections)}")
        return [rules.collections[level]]
    data = next((link["href"] for link in links_of(landing) if link["rel"] == "data"), None)
    if data is None and not _conforms(landing, _COLLECTIONS):
        return list(query.collections)
    href = urljoin(url, data) if data else f"{url.rstrip('/')}/collections"
    there = [
        str(entry["id"])
        for page in io.get_pages(href)
        for entry in page["collections"]
        if isinstance(entry, dict) and "id" in entry
    ]
    for name in query.collections:
        if name not in there:
            near = difflib.get_close_matches(name, there) or there[:5]
            has = f"it has {', '.join(near)}{', ...' if len(near) < len(there) else ''}" if there else "it has none"
            raise InvalidQuery(f"{without_credentials(url)}: has no collection {name!r}: {has}")
    return list(query.collections) or [name for name in there if _SENTINEL2.search(name)] or there


def _parameters(query: Query, method: str, rules: SourceRules | None) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    if query.aoi is not None and method == "GET":
        # An outline may be too long for a URL; what lies in the box alone is sorted out afterwards.
        parameters["bbox"] = list(query.aoi.geometry.bounds)
    elif query.aoi is not None:
        parameters["intersects"] = shapely.geometry.mapping(query.aoi.geometry)
    if query.start or query.end:
        parameters["datetime"] = f"{_time(query.start)}/{_time(query.end)}"
    if query.ids:
        parameters["ids"] = list(query.ids)
    if query.tile and rules and rules.tile:
        value = rules.tile["prefix"] + query.tile.upper().removeprefix("T")
        parameters["query"] = {rules.tile["property"]: {"eq": value}}
    return parameters


def _time(moment: datetime | None) -> str:
    return ".." if moment is None else moment.isoformat().replace("+00:00", "Z")


def _href(item: object, where: str) -> str:
    if not isinstance(item, dict):
        return where
    for link in links_of(item):
        if link["rel"] == "self" and link["href"].startswith("http"):
            return str(link["href"])
    return f"{where.rstrip('/')}/collections/{item.get('collection')}/items/{item.get('id')}"
