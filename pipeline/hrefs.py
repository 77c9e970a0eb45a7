"""Hrefs as they may be shown: signed URLs keep secrets in their query."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def without_credentials(href: str) -> str:
    """A path or URL without user, password, query and fragment: signed URLs keep their secrets there.

    >>> without_credentials("https://me:pw@host/a/B02.tif?sig=secret")
    'https://host/a/B02.tif'
    """
    parts = urlsplit(href)
    if not parts.scheme or len(parts.scheme) == 1:
        return href
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
