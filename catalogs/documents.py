"""JSON documents of catalogues, from a path or an http(s) URL, with retries that back off and one-line errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalogs.errors import CatalogError, InvalidItem, SourceUnavailable
from catalogs.hrefs import is_remote

if TYPE_CHECKING:
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between two pieces of an answer."""
RETRIES = 3
"""Further tries after a lost connection or an answer 429, 500, 502, 503, 504."""
BACKOFF = 0.5
"""Seconds; the second wait is twice that, each further one twice the one before, 20 s at most."""


@dataclass(frozen=True)
class Document:
    """A STAC item as read, with where it came from and the folder that its local hrefs may not leave."""

    stac: dict[str, Any]
    href: str
    boundary: str


@dataclass(frozen=True)
class Problem:
    """Something of a catalogue that could not be used."""

    href: str
    """Path or URL of the document."""
    reason: str
    """One line."""


@contextmanager
def session() -> Iterator[StacApiIO]:
    """A connection pool for `read_json` and pystac-client, closed at the end."""
    # These take half a second to import, and local files need none of them.
    from pystac_client.stac_api_io import StacApiIO
    from urllib3 import Retry

    retry = Retry(
        total=RETRIES,
        backoff_factor=BACKOFF,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
        backoff_max=20,
    )
    io = StacApiIO(timeout=TIMEOUT, max_retries=retry)
    try:
        yield io
    finally:
        io.session.close()


def read_json(href: str, io: StacApiIO) -> dict[str, Any]:
    """The JSON object at `href`, an absolute path or an http(s) URL.

    Raises InvalidItem for what is missing, unreadable or no JSON object, SourceUnavailable where a server fails.
    """
    if is_remote(href):
        if not href.lower().startswith("http"):
            raise InvalidItem(f"{href}: catalogues are read by path or http(s) URL")
        from pystac_client.exceptions import APIError

        try:
            text = io.read_text(href)
        except APIError as error:
            raise api_failure(error, href) from None
    else:
        try:
            text = Path(href).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InvalidItem(f"{href}: no such file") from None
        except UnicodeDecodeError:
            raise InvalidItem(f"{href}: is not JSON (not even text)") from None
        except OSError as error:
            raise InvalidItem(f"{href}: cannot be read: {error.strerror or error}") from None
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidItem(f"{href}: is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidItem(f"{href}: is JSON, but no STAC object")
    return document


def links_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The links of a STAC document that have a relation and an href; anything else under `links` is ignored."""
    links = document.get("links")
    found = [link for link in links if isinstance(link, dict)] if isinstance(links, list) else []
    return [link for link in found if isinstance(link.get("href"), str) and isinstance(link.get("rel"), str)]


def api_failure(error: APIError, href: str) -> CatalogError:
    """`error` as ours: InvalidItem where asking again will not help (4xx), else SourceUnavailable."""
    # pystac-client sets it only where there was an answer.
    status: int | None = getattr(error, "status_code", None)
    reason = " ".join(str(error).split())[:300]
    if status is not None and 400 <= status < 500 and status not in (408, 429):
        return InvalidItem(f"{href}: refused with status {status}: {reason or 'no reason given'}")
    return SourceUnavailable(f"{href}: no answer: {reason}")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
