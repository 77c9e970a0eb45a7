"""JSON documents of catalogues, from a path, an http(s) or an s3 URL, with one-line errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catalogs.errors import InvalidItem
from catalogs.hrefs import is_remote
from catalogs.local import read_whole
from catalogs.objects import read_object

if TYPE_CHECKING:
    from catalogs.connection import Connection


_DIGITS = 400
"""Of a whole number at most; 309 say all that a float can hold."""


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
def session() -> Iterator[Connection]:
    """Connections for `read_json` and pystac-client, closed at the end."""
    # What it needs takes half a second to import.
    from catalogs.connection import Connection

    connection = Connection()
    try:
        yield connection
    finally:
        connection.session.close()


def read_json(href: str, io: Connection) -> dict[str, Any]:
    """The JSON object at `href`, an absolute path, an http(s) or an s3 URL.

    Raises InvalidItem for what is missing, unreadable or no JSON object, SourceUnavailable where a server fails.
    """
    in_bucket = href.lower().startswith("s3://")
    if is_remote(href) and not in_bucket:
        return io.read_json(href)
    try:
        return parse_object((read_object(href) if in_bucket else read_whole(href)).decode())
    except FileNotFoundError:
        raise InvalidItem(f"{href}: no such file") from None
    except UnicodeDecodeError:
        raise InvalidItem(f"{href}: is not JSON (not even text)") from None
    except OSError as error:
        raise InvalidItem(f"{href}: cannot be read: {error.strerror or error}") from None
    except json.JSONDecodeError as error:
        raise InvalidItem(f"{href}: is not JSON: {error}") from None
    except ValueError as error:
        raise InvalidItem(f"{href}: {error}") from None


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object that `text` is.

    Raises json.JSONDecodeError for what is no JSON or not whole, ValueError for JSON that is no object, nests too
    deep, or has numbers that JSON does not.
    """
    try:
        document = json.loads(text, parse_constant=_no_constant, parse_int=_number)
    except RecursionError:
        raise ValueError("is not JSON: nested too deep") from None
    if not isinstance(document, dict):
        raise ValueError("is JSON, but no STAC object")
    return document


def links_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The links of a STAC document that have a relation and an href; anything else under `links` is ignored."""
    links = document.get("links")
    found = [link for link in links if isinstance(link, dict)] if isinstance(links, list) else []
    return [link for link in found if isinstance(link.get("href"), str) and isinstance(link.get("rel"), str)]


def _number(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"is not JSON: a number of {len(digits)} digits")
    return int(digits)


def _no_constant(name: str) -> None:
    raise ValueError(f"is not JSON: {name} is no JSON number")
