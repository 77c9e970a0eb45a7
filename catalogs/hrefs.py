"""Hrefs of catalogues: made absolute, and kept inside the folder that they may speak for.

A catalogue is data from elsewhere. A relative href in it may name a file in its own folder and below, never above it
by `..`; `file:` URLs, GDAL's virtual paths (`/vsi...`, `HDF5:...`) and `.vrt` files, all of which can reach any other
file of the machine, are refused. A URL (http, https, s3, gs) may point anywhere: it can only fetch.

Symbolic links count as where they lead: an archive that was unpacked may hold links to anywhere. Who keeps data
elsewhere and a catalogue of links to it says so by DECLOUD_FOLLOW_LINKS=1.
"""

from __future__ import annotations

import os
import posixpath
import re
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from catalogs.errors import InvalidItem

FOLLOW_LINKS = "DECLOUD_FOLLOW_LINKS"
"""Name of an environment variable; 1: symbolic links may lead out of a catalogue's folder."""
_REMOTE = ("http", "https", "s3", "gs")


def is_remote(href: str) -> bool:
    """Whether `href` is a URL of the network (http, https, s3, gs), not a path of this machine."""
    return href.partition("://")[0].lower() in _REMOTE and "://" in href


def absolute(path: str | os.PathLike[str]) -> str:
    """`path` made absolute against the working folder and normalised; URLs stay as they are. Touches no disk."""
    text = os.fspath(path)
    if is_remote(text):
        return text
    if text.lower().startswith("file://"):
        text = unquote(urlsplit(text).path)
    # Path would follow links, and raise where a user is not there, as os.path does for a NUL.
    home = text if "\0" in text else os.path.expanduser(text)  # noqa: PTH111
    return os.path.abspath(home)  # noqa: PTH100


def folder_of(href: str) -> str:
    """Folder (path or URL, no trailing slash) that holds `href`: the boundary of a lone item.

    >>> folder_of("https://example.com/a/item.json?x=1"), folder_of("/data/item.json")
    ('https://example.com/a', '/data')
    """
    if not is_remote(href):
        return os.path.dirname(href)  # noqa: PTH120 - text in, text out
    parts = urlsplit(href)
    return f"{parts.scheme}://{parts.netloc}{posixpath.dirname(parts.path)}".rstrip("/")


def without_credentials(href: str) -> str:
    """A path or URL without user, password, query and fragment: signed URLs keep their secrets there.

    A password whose `/`, `?` or `#` was not escaped goes too, where it shows: what stands for the port is no number,
    and an `@` follows. `https://host/a@2x.png` and `https://host:80/a@2x.png` have an `@` and no password.

    >>> without_credentials("https://me:pw@host/a/B02.tif?sig=secret"), without_credentials("https://me:p/w@host/a")
    ('https://host/a/B02.tif', 'https://host/a')
    """
    parts = urlsplit(href)
    if not parts.scheme or len(parts.scheme) == 1:
        return href
    if _cut_password(parts.netloc) and "@" in href:
        place = href.partition("://")[2]
        before = re.split("[?#]", place, maxsplit=1)[0]
        rest = before.rpartition("@")[2] if "@" in before else place.partition("@")[2]
        parts = urlsplit(f"{parts.scheme}://{rest}")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _cut_password(netloc: str) -> bool:
    """Whether this is no host and port, but a user and the beginning of his password."""
    _, colon, port = netloc.rpartition("]")[2].partition(":")
    return "@" not in netloc and bool(colon) and not port.isdecimal()


def joined(base: str, href: str) -> str:
    """`href` as written in the document at the URL `base`; urljoin knows no `s3:`.

    >>> joined("s3://bucket/out/catalog.json", "./S2_A/S2_A.json")
    's3://bucket/out/S2_A/S2_A.json'
    """
    scheme, found, rest = base.partition("://")
    if not found or scheme.lower() in ("http", "https") or is_remote(href):
        return urljoin(base, href)
    return urljoin(f"http://{rest}", href).replace("http://", f"{scheme}://", 1)


def resolve_href(href: str, base: str, boundary: str) -> str:
    """`href`, as written in the document `base`, as an absolute path or URL.

    `base` and `boundary` (a folder) are absolute paths or URLs. The result is a URL, or a path inside `boundary`.
    Raises InvalidItem for an href that leaves `boundary` by a path, or that is of a kind never followed.

    >>> resolve_href("./B02.tif", "/data/cat/item/item.json", "/data/cat")
    '/data/cat/item/B02.tif'
    """
    if not isinstance(href, str) or not href or any(ord(char) < 32 for char in href):
        raise InvalidItem(f"{base}: href {href!r} is empty or holds control characters")
    try:
        path = urlsplit(href).path
    except ValueError as error:
        raise InvalidItem(f"{base}: href {href!r}: {error}") from None
    if "/vsi" in href.lower() or path.lower().endswith(".vrt"):
        raise InvalidItem(f"{base}: href {href!r}: virtual files are not followed, they can reach any other file")
    if is_remote(href):
        return href
    # Schemes have two letters or more, so that a drive letter is not taken for one (such a path fails below).
    scheme, colon, _ = href.partition(":")
    if colon and len(scheme) > 1 and scheme.replace("_", "").replace("+", "").isalnum():
        raise InvalidItem(f"{base}: href {href!r}: only relative paths and http, https, s3 and gs URLs are followed")
    if is_remote(base):
        resolved = joined(base, href)
        place, root = (posixpath.normpath(unquote(urlsplit(url).path) or "/") for url in (resolved, boundary))
        # urljoin drops any `..` that would climb above the host, so count them as written too.
        inside = urlsplit(resolved).netloc != urlsplit(base).netloc or _within(place, root)
        if not inside or _climbs(href, base, boundary):
            raise InvalidItem(f"{base}: href {href!r} leaves the catalogue's folder {boundary}")
        return resolved
    resolved = os.path.normpath(os.path.join(folder_of(base), href))  # noqa: PTH118 - text in, text out
    if not _within(resolved, os.path.normpath(boundary)):
        raise InvalidItem(f"{base}: href {href!r} leaves the catalogue's folder {boundary}")
    return resolved


def require_inside(path: str, base: str, boundary: str) -> None:
    """Raise InvalidItem where the local `path`, which `base` names, leads by symbolic links out of the folder `boundary`.

    Not where DECLOUD_FOLLOW_LINKS is 1, nor for URLs, nor for what is not there.
    """
    if is_remote(path) or is_remote(boundary) or os.environ.get(FOLLOW_LINKS) == "1" or not os.path.lexists(path):
        return
    real = os.path.realpath(path)
    if not _within(real, os.path.realpath(boundary)):
        raise InvalidItem(
            f"{base}: {path} is a link that leads out of the catalogue's folder, to {real}: if you trust it, set {FOLLOW_LINKS}=1"
        )


def _within(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _climbs(href: str, base: str, boundary: str) -> bool:
    """Whether a relative `href` has more `..` than there are folders between `base` and `boundary`."""
    inner = urlsplit(folder_of(base)).path[len(urlsplit(boundary).path) :].strip("/")
    depth = len(inner.split("/")) if inner else 0
    if href.startswith("/"):
        return False
    for part in unquote(urlsplit(href).path).split("/"):
        depth += -1 if part == ".." else 0 if part in ("", ".") else 1
        if depth < 0:
            return True
    return False
