"""Objects of S3 stores, through fsspec's s3fs, with what the environment says of them.

Credentials are found as every AWS tool finds them (`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, `AWS_PROFILE`, a role of the
machine). `AWS_NO_SIGN_REQUEST=YES` reads public buckets without any. `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` or GDAL's
`AWS_S3_ENDPOINT` name another server than Amazon's, whose buckets are then part of the path and not of the host's name.
GDAL reads the pixels by itself: `gdal_options` tells it the same.
"""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from catalogs.errors import CatalogError, InvalidItem, SourceUnavailable

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

TRIES = 4
"""How often a request is sent at most; botocore waits longer before each."""
_CONNECT, _SILENCE = 10, 60
"""Seconds to connect, and between two pieces of an answer."""
_WAY_OUT = (
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE; AWS_NO_SIGN_REQUEST=YES reads public buckets"
)
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "CredentialRetrievalError")
_QUERY = re.compile(r"\?[^\s\"')]*")

_opened: dict[tuple[object, ...], AbstractFileSystem] = {}
_lock = threading.Lock()


def endpoint() -> str | None:
    """URL of the S3 server that the environment names; None for Amazon's own."""
    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if named:
        return named.rstrip("/")
    host = os.environ.get("AWS_S3_ENDPOINT", "").rstrip("/")
    if not host:
        return None
    plain = os.environ.get("AWS_HTTPS", "YES").upper() in ("NO", "FALSE", "OFF")
    return host if "://" in host else f"{'http' if plain else 'https'}://{host}"


def unsigned() -> bool:
    """Whether requests are to go without credentials."""
    return os.environ.get("AWS_NO_SIGN_REQUEST", "").upper() in ("YES", "TRUE", "ON", "1")


def gdal_options() -> dict[str, str]:
    """What GDAL must be told to use the same server; what it finds in the environment by itself is left out."""
    url = endpoint()
    if url is None:
        return {}
    parts = urlsplit(url)
    return {
        "AWS_S3_ENDPOINT": parts.netloc + parts.path,
        "AWS_HTTPS": "NO" if parts.scheme == "http" else "YES",
        "AWS_VIRTUAL_HOSTING": os.environ.get("AWS_VIRTUAL_HOSTING", "FALSE"),
    }


def s3() -> AbstractFileSystem:
    """The file system of all `s3://` URLs, as the environment is now; one is opened for each environment and process.

    Raises InvalidItem where s3fs is not installed.
    """
    try:
        from s3fs import S3FileSystem
    except ImportError:
        raise InvalidItem("s3:// needs s3fs: pip install 'declouder[s3]'") from None
    # Threads of fsspec do not survive a fork; credentials may change between two calls of a long process.
    key = (os.getpid(), *sorted(entry for entry in os.environ.items() if entry[0].startswith("AWS_")))
    with _lock:
        if key not in _opened:
            _opened[key] = S3FileSystem(
                anon=unsigned(),
                endpoint_url=endpoint(),
                requester_pays=os.environ.get("AWS_REQUEST_PAYER", "") == "requester",
                use_listings_cache=False,
                skip_instance_cache=True,
                config_kwargs={
                    "connect_timeout": _CONNECT,
                    "read_timeout": _SILENCE,
                    "retries": {"mode": "standard", "total_max_attempts": TRIES},
                    **({"s3": {"addressing_style": "path"}} if endpoint() else {}),
                },
            )
        return _opened[key]


def read_object(url: str) -> bytes:
    """The content of one object. Raises InvalidItem where it cannot be had, SourceUnavailable where it may be had later."""
    store = s3()
    try:
        content: bytes = store.cat_file(url)
    except failures() as error:
        raise failure(error, url) from None
    return content


def failures() -> tuple[type[Exception], ...]:
    """What a request may raise: s3fs makes most of it an OSError, but not all."""
    from botocore.exceptions import BotoCoreError

    return (OSError, BotoCoreError)


def code_of(error: BaseException) -> str:
    """S3's own name of what went wrong, `NoSuchBucket`; empty where the server gave none."""
    for each in (error, error.__cause__, error.__context__):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def is_absent(error: BaseException) -> bool:
    """Whether the object is not there, in a bucket that is."""
    return isinstance(error, FileNotFoundError) and code_of(error) != "NoSuchBucket"


def failure(error: Exception, url: str) -> CatalogError:
    """`error` of a request for `url` as ours, one line: SourceUnavailable where asking again may help, else InvalidItem."""
    code, kind = code_of(error), type(error).__name__
    named = f" ({code})" if code else ""
    if code == "NoSuchBucket":
        return InvalidItem(f"{url}: there is no bucket {urlsplit(url).netloc}: check its name and AWS_ENDPOINT_URL")
    if kind in _NO_CREDENTIALS:
        return InvalidItem(f"{url}: no credentials ({kind}): {_WAY_OUT}")
    if isinstance(error, PermissionError):
        return InvalidItem(f"{url}: refused{named}: {_WAY_OUT}")
    if isinstance(error, FileNotFoundError):
        return InvalidItem(f"{url}: no such object")
    text = _QUERY.sub("", " ".join(str(error).split()))[:200]
    return SourceUnavailable(f"{url}: no answer, perhaps only now{named}: {text or kind}")
