"""How the server is asked for what is only shown in Prefect: pages, tables, links, tags, progress.

Once, for a few seconds at most, and not by the client of the run, which waits for a minute and asks five times more. A server that did not
answer is not waited for again for a while: else each of a hundred scenes would wait.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import SettingsContext, SyncClientContext, get_settings_context
from prefect.settings import (
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    Settings,
)

TIMEOUT = 5.0
"""Seconds that the server has to answer."""
PAUSE = 60.0
"""Seconds for which one that did not answer is asked for nothing that somebody would wait for."""

# The client of the run has looked at the server's version.
_PATIENCE: dict[Any, Any] = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False}

_silent_until: float | None = None
_impatient: tuple[Settings, Settings] | None = None


@contextmanager
def asked_once() -> Iterator[SyncPrefectClient]:
    """Within it Prefect's functions, of this thread, ask the server once; the client with which they do."""
    around = get_settings_context()
    with (
        SettingsContext(profile=around.profile, settings=_with_little_patience(around.settings)),
        get_client({"timeout": TIMEOUT} | _trust(), sync_client=True) as client,
        # Not by its constructor: that takes the client of the run.
        SyncClientContext.model_construct(client=client),
    ):
        yield client


def _with_little_patience(settings: Settings) -> Settings:
    """`settings` that ask once. Kept, as Prefect reads all sources of its settings for each copy, which takes longer than what is asked."""
    global _impatient
    kept = _impatient
    if kept is None or kept[0] is not settings:
        kept = _impatient = settings, settings.copy_with_update(updates=_PATIENCE)
    return kept[1]


def _trust() -> dict[str, Any]:
    """Whom a client trusts; reading the certificates takes longer than all that it is asked for."""
    if PREFECT_API_TLS_INSECURE_SKIP_VERIFY.value():
        return {}
    return {"verify": _certificates(PREFECT_API_SSL_CERT_FILE.value())}


@lru_cache(maxsize=1)
def _certificates(file: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=file) if file else httpx.create_ssl_context()


def silent() -> bool:
    """Whether the server did not answer a while ago, and has answered nothing since."""
    return _silent_until is not None and time.monotonic() < _silent_until


def not_answered() -> bool:
    """The server did not answer just now; whether that is news."""
    global _silent_until
    news = not silent()
    _silent_until = time.monotonic() + PAUSE
    return news


def answered() -> None:
    """The server has answered, or a new one is asked."""
    global _silent_until
    _silent_until = None


def may_answer(error: BaseException) -> bool:
    """Whether the server may answer later: it is away, or has trouble of its own."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code == 429
    return isinstance(error, httpx.TransportError)
