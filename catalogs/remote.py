"""How GDAL reads files of servers: `https://` by range requests, `s3://` with the environment's credentials.

What a user sets for GDAL in the environment (`GDAL_HTTP_...`, `AWS_...`) holds; the options here fill in the rest. GDAL remembers what
it has heard of a file, failures too, for as long as the process lives: a file that was once not to be had would stay so. It is told to
forget a file that is closed, so that another try asks again.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

from catalogs.errors import InvalidItem, SourceUnavailable
from catalogs.objects import failure, failures, s3
from catalogs.objects import gdal_options as s3_options

TRIES = 3
"""How often an opening or a reading is tried; each try holds GDAL's own tries of each request."""

_HEAD = 64
_SILENCE = 30
_NO_RASTER = "it is no GeoTIFF and no JPEG 2000 file"
_NO_RANGES = "its server ignores range requests: download the file and give its path"
_PREFIXES = {"http": "/vsicurl/http://", "https": "/vsicurl/https://", "s3": "/vsis3/", "gs": "/vsigs/"}
_DEFAULTS = {
    # A listing of the folder costs a request for each file, and no sidecar of a product is wanted from there.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_RETRY_CODES": "408,425,429,500,502,503,504",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    # A server that has gone silent.
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsigs/",
}
_WITH_SIDECARS = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"}
_GONE = re.compile(
    r"response[ _]code:? *4(?!08|25|29)\d\d|HTTP error code ?: 4(?!08|25|29)\d\d|does not exist|no such file|NoSuchKey|NoSuchBucket"
    r"|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|InvalidCredentials|AWS_NO_SIGN_REQUEST",
    re.IGNORECASE,
)
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?:[^/\s@]*@)?(?P<rest>[^\s?#'\",]*)(?:[?#][^\s'\",]*)?", re.IGNORECASE
)
_QUERY = re.compile(r"\?[^\s'\",]*=[^\s'\",]*")
_LOGGERS = ("rasterio", "rasterio._env", "rasterio._io", "rasterio._base", "rasterio._err")


def vsi_path(href: str) -> str:
    """The name by which GDAL opens a URL; anything else as it is.

    >>> vsi_path("s3://bucket/B02.tif"), vsi_path("https://host/B02.tif?sig=x"), vsi_path("/data/B02.tif")
    ('/vsis3/bucket/B02.tif', '/vsicurl/https://host/B02.tif?sig=x', '/data/B02.tif')
    """
    scheme, found, rest = href.partition("://")
    prefix = _PREFIXES.get(scheme.lower()) if found else None
    return href if prefix is None else prefix + rest


def gdal_options(*, sidecars: bool = False) -> dict[str, str]:
    """Options of GDAL for files of servers. sidecars: `.aux.xml` and the like are asked for, which costs requests."""
    wanted = {**_DEFAULTS, **(_WITH_SIDECARS if sidecars else {})}
    return {name: value for name, value in wanted.items() if name not in os.environ} | s3_options()


def waits() -> Iterator[float]:
    """Seconds before each further try: four times GDAL's own first wait, then twice as long each time."""
    try:
        first = float(os.environ.get("GDAL_HTTP_RETRY_DELAY", _DEFAULTS["GDAL_HTTP_RETRY_DELAY"]))
    except ValueError:
        first = 0.5
    yield from (4 * first * 2**number for number in range(TRIES - 1))


def is_gone(cause: str) -> bool:
    """Whether GDAL's words mean that asking again will not help."""
    return _GONE.search(cause) is not None


def shown(text: str) -> str:
    """`text` with every URL in it without user, password, query and fragment.

    >>> shown("404 at https://me:pw@host/a.tif?sig=secret, a.tif?sig=secret, band 1")
    '404 at https://host/a.tif, a.tif, band 1'
    """
    return _QUERY.sub("", _URL.sub(lambda match: match["scheme"] + match["rest"], text))


def why_not_opened(href: str) -> tuple[bool, str]:
    """Why GDAL cannot open a URL that it takes for no raster: whether that may pass, and what is wrong.

    GDAL says the same of a page that is no raster, of a server that ignores ranges, and of one that broke down after the first
    bytes, so the first bytes are asked for once more.
    """
    if href.lower().startswith("s3://"):
        try:
            store = s3()
        except InvalidItem:
            return True, "not recognized as a raster file"
        try:
            store.cat_file(href, 0, _HEAD)
        except failures() as error:
            told = failure(error, shown(href))
            return isinstance(told, SourceUnavailable), str(told).removeprefix(f"{shown(href)}: ")
        return False, _NO_RASTER
    if not href.lower().startswith(("http://", "https://")) or "@" in urlsplit(href).netloc:
        return True, "not recognized as a raster file"
    request = urllib.request.Request(href, headers={"Range": f"bytes=0-{_HEAD - 1}"})  # noqa: S310 - http or https
    try:
        with urllib.request.urlopen(request, timeout=_SILENCE) as answer:  # noqa: S310
            status = answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code >= 500 or error.code in (408, 425, 429), f"status {error.code}"
    except (OSError, http.client.HTTPException) as error:
        return True, shown(str(getattr(error, "reason", error)))
    return False, _NO_RASTER if status == 206 else _NO_RANGES


def redact_logs() -> None:
    """See that rasterio, which logs what GDAL says of a URL, logs no signature and no password."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if _redacted not in logger.filters:
            logger.addFilter(_redacted)


def _redacted(record: logging.LogRecord) -> bool:
    record.msg, record.args = shown(record.getMessage()), ()
    return True
