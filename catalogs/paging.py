"""`pages`: the pages of a search, or of a list of collections, one `next` link after the other.

pystac-client ends at the first empty page, though a server that filters behind its index has empty pages between full
ones, and follows a link that leads back for ever. Half a result must not look like a whole one, so both are told apart
here: an empty page with a `next` link is passed over, and paging that brings nothing new is an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urljoin

from catalogs.documents import links_of
from catalogs.errors import InvalidItem, SourceUnavailable
from catalogs.hrefs import is_remote, without_credentials

IDLE = 20
"""Pages in a row without anything new, after which paging is taken to go in circles."""

Ask = Callable[[str, str, dict[str, str] | None, dict[str, Any]], dict[str, Any]]
"""(URL, GET or POST, headers, parameters or body) -> the JSON object that it answers with."""


def pages(ask: Ask, url: str, method: str, parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The pages that hold anything, from `url` on, each a FeatureCollection or a document with `collections`.

    Raises InvalidItem for what is no page, SourceUnavailable where the `next` links lead in circles.
    """
    where = without_credentials(url)
    body, headers = dict(parameters), None
    asked: set[str] = set()
    seen: set[tuple[str, str]] = set()
    idle = 0
    while True:
        asked.add(json.dumps([method, url, body], sort_keys=True))
        page = ask(url, method, headers, body)
        entries = page.get("features", page.get("collections"))
        if not isinstance(entries, list):
            raise InvalidItem(f"{where}: answers with no page of items or collections (type {page.get('type')!r})")
        names = {_name(entry) for entry in entries}
        idle = 0 if names - seen else idle + 1
        seen |= names
        if entries:
            yield page
        link = next((link for link in links_of(page) if link["rel"] == "next"), None)
        if link is None:
            return
        url, method, headers, body = _target(link, url, parameters)
        if idle >= IDLE or json.dumps([method, url, body], sort_keys=True) in asked:
            raise SourceUnavailable(
                f"{where}: its pages go in circles after {len(seen)} entries: narrow the area or the dates, or tell the catalogue"
            )


def _target(
    link: Mapping[str, Any], url: str, parameters: Mapping[str, Any]
) -> tuple[str, str, dict[str, str] | None, dict[str, Any]]:
    """What a `next` link asks for; a POST has a body, which `merge` adds to that of the first request."""
    href = urljoin(url, link["href"])
    method = str(link.get("method") or "GET").upper()
    body, headers = link.get("body") or {}, link.get("headers") or None
    sound = isinstance(body, dict) and (headers is None or isinstance(headers, dict))
    if not is_remote(href) or method not in ("GET", "POST") or not sound:
        raise InvalidItem(f"{without_credentials(url)}: its link to the next page cannot be followed ({method} {href})")
    if method == "GET":
        return href, method, headers, {}
    return href, method, headers, {**parameters, **body} if link.get("merge") else dict(body)


def _name(entry: object) -> tuple[str, str]:
    """What tells an entry from others; one without an id is told apart by all of it."""
    if not isinstance(entry, dict) or "id" not in entry:
        return "", json.dumps(entry, sort_keys=True)
    return str(entry.get("collection") or ""), str(entry["id"])
