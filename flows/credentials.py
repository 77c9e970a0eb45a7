"""What a request must not carry into Prefect, which keeps the parameters of every flow run: users, passwords and signatures of its URLs.

They stay in this process: `hide` takes them out before a flow is called here, and whoever asks a server calls `given`. A deployment's
parameters are stored before any of our code runs, so its catalogue's user and password belong into `~/.netrc` of the worker.
"""

from __future__ import annotations

from typing import TypeVar

from catalogs.hrefs import is_remote
from flows.request import CatalogRequest, Request, SceneRequest
from pipeline.hrefs import without_signature

_R = TypeVar("_R", bound=Request)
_given: dict[str, str] = {}
"""URL as it may be kept -> URL as it was given."""


def hide(request: _R) -> _R:
    """`request` with URLs that may be kept; `given` knows, in this process, what they were."""
    if isinstance(request, CatalogRequest):
        return request.model_copy(update={"catalog": _hidden(request.catalog)})
    if isinstance(request, SceneRequest):
        return request.model_copy(update={"sources": tuple(map(_hidden, request.sources))})
    return request


def given(url: str) -> str:
    """The URL, path or name as the user gave it."""
    return _given.get(url, url)


def _hidden(url: str) -> str:
    bare = without_signature(url) if is_remote(url) else url
    if bare == url:
        return url
    # What looks like a signature may be all that tells two files apart.
    number = 1
    while _given.setdefault(bare, url) != url:
        number += 1
        bare = f"{bare.partition('#')[0]}#{number}"
    return bare
