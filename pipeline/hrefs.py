"""Hrefs as they may be shown: signed URLs keep secrets in their query."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

from catalogs.hrefs import without_credentials

__all__ = ["without_credentials", "without_signature"]

# Azure (sig and what it signs), AWS, Google, and the usual names of tokens and keys.
_SIGNATURE = re.compile(
    r"sig|se|sp|sv|sr|st|spr|sk[a-z]+|x-(amz|goog)-.*|awsaccesskeyid|googleaccessid|signature|expires|policy|key-pair-id"
    r"|.*token|api[_-]?key|key|subscription-key|password|secret",
    re.IGNORECASE,
)


def without_signature(href: str) -> str:
    """A path or URL without user, password, fragment and those parts of its query that sign it: two signatures, one file.

    >>> without_signature("https://host/get?file=B02.tif&sig=secret&se=2026-01-01")
    'https://host/get?file=B02.tif'
    """
    bare = without_credentials(href)
    query = [(name, value) for name, value in parse_qsl(urlsplit(href).query) if not _SIGNATURE.fullmatch(name)]
    return f"{bare}?{urlencode(query)}" if query and bare != href else bare
