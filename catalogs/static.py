"""Static STAC catalogues: every item below an entry document, link by link, level by level.

pystac-client does not search static catalogues, and pystac's own walk stops at the first broken link, so the links
are followed here: `child` and `item`, nothing else. Documents of one level are read eight at a time over http. A
document is visited once however many links lead to it, so that a cycle ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from catalogs.documents import Document, Problem, links_of, read_json
from catalogs.errors import CatalogError, InvalidItem, SourceUnavailable
from catalogs.hrefs import folder_of, is_remote, require_inside, resolve_href

if TYPE_CHECKING:
    from catalogs.connection import Connection

_THREADS = 8


def walk(entry: dict[str, Any], href: str, io: Connection) -> Iterator[Document | Problem]:
    """The items below `entry`, read from `href`, in the order of the links; broken links as problems.

    Local hrefs may not leave the folder of the entry document. Raises SourceUnavailable where a server fails:
    half a catalogue must not look like a whole one.
    """
    boundary = folder_of(href)
    seen = {href}
    level: list[tuple[dict[str, Any], str]] = [(entry, href)]
    while level:
        links: list[str] = []
        for document, where in level:
            for target in _targets(document, where, boundary):
                if isinstance(target, Problem):
                    yield target
                elif target not in seen:
                    seen.add(target)
                    links.append(target)
        level = []
        for link, read in zip(links, _read_all(links, io), strict=True):
            if isinstance(read, Problem):
                yield read
            elif read.get("type") == "Feature":
                yield Document(read, link, folder_of(link) if is_remote(link) != is_remote(href) else boundary)
            elif read.get("type") in ("Catalog", "Collection"):
                level.append((read, link))
            else:
                yield Problem(link, f"is no STAC catalogue, collection or item (type {read.get('type')!r})")


def _targets(document: dict[str, Any], where: str, boundary: str) -> Iterator[str | Problem]:
    for link in links_of(document):
        if link["rel"] in ("child", "item"):
            try:
                target = resolve_href(link["href"], where, boundary)
                require_inside(target, where, boundary)
                yield target
            except InvalidItem as error:
                yield Problem(where, str(error).removeprefix(f"{where}: "))


def _read_all(hrefs: list[str], io: Connection) -> Iterator[dict[str, Any] | Problem]:
    def read(href: str) -> dict[str, Any] | Problem:
        try:
            return read_json(href, io)
        except SourceUnavailable:
            raise
        except CatalogError as error:
            return Problem(href, str(error).removeprefix(f"{href}: "))

    if not any(map(is_remote, hrefs)):
        yield from map(read, hrefs)
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(read, hrefs)
