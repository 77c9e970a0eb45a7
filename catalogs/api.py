"""STAC APIs, through pystac-client: space, time, ids and paging by the server, everything else filtered by `search`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pystac
import shapely
from pystac_client import Client
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from catalogs.documents import Document, api_failure, links_of
from catalogs.errors import InvalidItem, InvalidQuery
from catalogs.query import Query
from catalogs.sources import SourceRules

PAGE = 100
"""Items asked for at a time."""
LIMIT = 20_000
"""Items after which a search is given up as too wide: 27 years of one tile."""
_SENTINEL2 = re.compile(r"sentinel[-_]?(2|s2)|(^|[-_])s2([-_]|$)", re.IGNORECASE)


def search_api(query: Query, url: str, rules: SourceRules | None, io: StacApiIO) -> Iterator[Document]:
    """The items of the API at `url` that match `query` in space, time and id, page by page.

    Raises InvalidQuery for a query that the API refuses or that would return the whole archive, SourceUnavailable
    where it does not answer.
    """
    if query.aoi is None and not query.ids and not (query.tile and rules and rules.tile):
        raise InvalidQuery(f"{url}: an API holds the whole Earth: name an area (--aoi) or ids")
    try:
        with warnings.catch_warnings():
            # What an API fails to declare shows as an error of the search itself, with a better message.
            warnings.simplefilter("ignore")
            client = Client.open(url, stac_io=io)
            found = client.search(method="POST", limit=PAGE, **_parameters(query, client, rules))
            for number, item in enumerate(found.items_as_dicts(), 1):
                if number > LIMIT:
                    raise InvalidQuery(f"{url}: more than {LIMIT} items: narrow the area or the dates")
                yield Document(item, _href(item, url), url)
    except APIError as error:
        failure = api_failure(error, url)
        raise (InvalidQuery(str(failure)) if isinstance(failure, InvalidItem) else failure) from None
    except (pystac.STACError, pystac.STACTypeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise InvalidQuery(f"{url}: does not answer as a STAC API: {type(error).__name__}: {error}") from None


def _parameters(query: Query, client: Client, rules: SourceRules | None) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    if query.collections:
        parameters["collections"] = list(query.collections)
    elif rules and rules.collections:
        level = query.level or "L2A"
        if level not in rules.collections:
            raise InvalidQuery(f"{rules.name} has no {level}: it has {', '.join(rules.collections)}")
        parameters["collections"] = [rules.collections[level]]
    else:
        names = [collection.id for collection in client.get_collections()]
        parameters["collections"] = [name for name in names if _SENTINEL2.search(name)] or names
    if query.aoi is not None:
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


def _href(item: dict[str, Any], url: str) -> str:
    for link in links_of(item):
        if link["rel"] == "self" and link["href"].startswith("http"):
            return str(link["href"])
    return f"{url.rstrip('/')}/collections/{item.get('collection')}/items/{item.get('id')}"
