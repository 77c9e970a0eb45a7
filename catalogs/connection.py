"""`Connection`: what pystac-client asks the network through; it asks again what may pass, and gives up in time.

pystac-client's own leaves the following to chance: `Client.open` takes the time-out away; an answer that trickles in
never times out, as each piece of it is in time; an answer that breaks off is not asked for again; a `Retry-After` of
hours is waited for; and an error's text quotes the URL with its secrets. So one request here is one loop: tries, waits
and answers share one limit in time, and every error is one line of ours that shows no credentials.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

import requests
import urllib3
from pystac_client.stac_api_io import StacApiIO
from requests.auth import HTTPBasicAuth

from catalogs.documents import parse_object
from catalogs.errors import InvalidItem, SourceUnavailable
from catalogs.hrefs import without_credentials
from catalogs.paging import pages
from catalogs.patience import Patience

PATIENCE = Patience()
"""Of every connection that is not given its own."""
_PIECE = 1 << 16
_NEVER = (501, 505)  # of the answers from 500 on, those that will be the same tomorrow


class _MayPass(Exception):
    """A try failed, and another one may not."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait
        """Seconds that the server asks for."""


class Connection(StacApiIO):
    """Connections to the servers of one search; safe in threads. Close `session` at the end."""

    def __init__(self, patience: Patience | None = None) -> None:
        """Open no connection yet; `patience` is `PATIENCE` where it is not given."""
        super().__init__(max_retries=None)
        self._patience = patience or PATIENCE
        self._logins: dict[str, HTTPBasicAuth] = {}

    def read_json(self, source: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The JSON object at the URL `source`; see `request`."""
        return self._ask_patiently(str(source), *args, **kwargs)[1]

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """The text of the JSON object that `href` answers with.

        Raises InvalidItem where asking again will not help (a refusal, no JSON, too large), SourceUnavailable where no
        answer came in time or none that is whole. A user and a password in `href` are sent to its host from then on.
        """
        return self._ask_patiently(href, method, headers, parameters)[0]

    def get_pages(
        self, url: str, method: str | None = None, parameters: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """See `catalogs.paging.pages`."""
        return pages(self.read_json, url, (method or "GET").upper(), parameters or {})

    def _ask_patiently(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> tuple[str, dict[str, Any]]:
        where = without_credentials(href)
        if not href.lower().startswith(("http://", "https://")):
            raise InvalidItem(f"{where}: catalogues are read by path or http(s) URL")
        bare, secrets = self._login(href)
        method = (method or "GET").upper()
        body = {"json" if method == "POST" else "params": parameters or {}}
        request = requests.Request(method, bare, headers=headers, auth=self._logins.get(urlsplit(bare).netloc), **body)
        start = time.monotonic()
        deadline = start + self._patience.total
        waits = self._patience.waits()
        tries = 0
        while True:
            tries += 1
            try:
                return self._ask(request, where, deadline)
            except _MayPass as failure:
                reason, asked = _without(str(failure), secrets), failure.wait
            except InvalidItem as error:
                raise InvalidItem(_without(str(error), secrets)) from None
            wait = next(waits, None)
            if wait is not None and asked is not None:
                # Coming back before the server wants to be asked again only prolongs its trouble.
                wait = max(wait, asked)
            if wait is None or time.monotonic() + wait >= deadline:
                seconds = time.monotonic() - start
                later = f" in {asked:.0f} s" if asked else " later"
                count = f"{tries} tries" if tries > 1 else "one try"
                raise SourceUnavailable(
                    f"{where}: no answer after {count} in {seconds:.0f} s: {reason}: try again{later}"
                )
            time.sleep(wait)

    def _login(self, href: str) -> tuple[str, list[str]]:
        """`href` without user and password, which are kept for its host; and all in it that no error may quote."""
        parts = urlsplit(href)
        login, _, host = parts.netloc.rpartition("@")
        secrets = [value for _, value in parse_qsl(parts.query)]
        if login:
            user, _, password = login.partition(":")
            self._logins[host] = HTTPBasicAuth(unquote(user), unquote(password))
            secrets += [login, password, unquote(password)]
        if parts.query:
            secrets.append(parts.query)
        return urlunsplit(parts._replace(netloc=host)), secrets

    def _ask(self, request: requests.Request, where: str, deadline: float) -> tuple[str, dict[str, Any]]:
        """One try."""
        left = max(deadline - time.monotonic(), 0.01)
        limits = (min(self._patience.connect, left), min(self._patience.silence, left))
        try:
            prepared = self.session.prepare_request(request)
            settings = self.session.merge_environment_settings(prepared.url or where, {}, True, True, None)  # noqa: FBT003
            with self.session.send(prepared, timeout=limits, **settings) as response:
                content = self._content(response, where, deadline)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise _lost(error, where) from None
        except requests.RequestException as error:
            raise InvalidItem(f"{where}: cannot be asked: {type(error).__name__}: {error}") from None
        except urllib3.exceptions.HTTPError as error:
            silent = isinstance(error, urllib3.exceptions.TimeoutError)
            raise _MayPass("silent in the middle of the answer" if silent else "the answer breaks off") from None
        if not 200 <= response.status_code < 300:
            raise _refused(response, content, where)
        return _parsed(content, response.headers.get("Content-Type", ""), where)

    def _content(self, response: requests.Response, where: str, deadline: float) -> bytes:
        pieces, size = [], 0
        # `read1` returns what is there, so that one who sends a byte at a time is noticed.
        while piece := response.raw.read1(_PIECE, decode_content=True):
            size += len(piece)
            if size > self._patience.largest:
                raise InvalidItem(
                    f"{where}: answers with more than {self._patience.largest >> 20} MiB: is it a catalogue? If so, "
                    "narrow the area or the dates"
                )
            if time.monotonic() > deadline:
                raise _MayPass(f"still sending after {self._patience.total:.0f} s ({size} bytes)")
            pieces.append(piece)
        return b"".join(pieces)


def _lost(error: requests.RequestException, where: str) -> Exception:
    """No answer at all, said by its cause: the texts of requests and urllib3 quote the whole URL."""
    chain: list[BaseException] = [error]
    while chain[-1].args or chain[-1].__cause__:
        last = chain[-1]
        inner = getattr(last, "reason", None) or last.__cause__ or next(iter(last.args), None)
        if not isinstance(inner, BaseException) or inner in chain:
            break
        chain.append(inner)
    for cause in chain:
        if isinstance(cause, socket.gaierror):
            if cause.errno == socket.EAI_NONAME:
                return SourceUnavailable(f"{where}: no host of that name is known: check the name and the network")
            return _MayPass(f"its name cannot be looked up ({cause.strerror})")
        if isinstance(cause, ssl.SSLCertVerificationError):
            return InvalidItem(
                f"{where}: its certificate is not trusted: {cause.verify_message}: see REQUESTS_CA_BUNDLE"
            )
    if isinstance(error, requests.ConnectTimeout):
        return _MayPass("no connection in time")
    if isinstance(error, requests.Timeout):
        return _MayPass("silent for too long")
    deepest = next((cause for cause in reversed(chain) if isinstance(cause, OSError) and cause.strerror), None)
    return _MayPass((deepest.strerror or "") if deepest else f"the connection was lost ({type(chain[-1]).__name__})")


def _refused(response: requests.Response, content: bytes, where: str) -> Exception:
    status = response.status_code
    said = _said(content) or response.reason or "no reason given"
    if status in (408, 425, 429) or (status >= 500 and status not in _NEVER):
        return _MayPass(f"status {status}: {said}", _asked_wait(response.headers.get("Retry-After")))
    way_out = {401: ": it wants a user and a password", 404: ": check the address"}.get(status, "")
    return InvalidItem(f"{where}: refused with status {status}: {said}{way_out}")


def _asked_wait(header: str | None) -> float | None:
    """Seconds that a `Retry-After` asks for, as a number or as a date; None for one that says neither."""
    try:
        return urllib3.Retry().parse_retry_after(header) if header else None
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None


def _said(content: bytes) -> str:
    """The reason in an error's body, one line."""
    text = content.decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return "" if "<" in text else " ".join(text.split())[:300]
    if isinstance(document, Mapping):
        names = ("description", "detail", "message", "title", "error", "code")
        document = next((document[name] for name in names if document.get(name)), document)
    return " ".join((document if isinstance(document, str) else json.dumps(document)).split())[:300]


def _parsed(content: bytes, media: str, where: str) -> tuple[str, dict[str, Any]]:
    """The JSON object in `content`. One that was cut off may be whole next time."""
    try:
        text = content.decode("utf-8")
        return text, parse_object(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        kind = media.partition(";")[0].strip().lower() or "something without a type"
        if content and "json" not in kind and content.lstrip()[:1] not in (b"{", b"["):
            raise InvalidItem(
                f"{where}: answers with {kind}, which is not JSON: name the catalogue's own address; perhaps a page to sign "
                "in stands before it"
            ) from None
        if _cut_off(error):
            raise _MayPass(f"the answer of {len(content)} bytes is cut off ({error})") from None
        raise InvalidItem(f"{where}: is not JSON: {error}") from None
    except ValueError as error:
        raise InvalidItem(f"{where}: {error}") from None


def _cut_off(error: json.JSONDecodeError | UnicodeDecodeError) -> bool:
    """Whether it is the end that is missing: inside a string, a character, or a word of at most `false`."""
    if isinstance(error, UnicodeDecodeError):
        return error.end == len(error.object)
    return error.msg.startswith(("Unterminated", "Invalid \\u")) or len(error.doc.rstrip()) - error.pos < 5


def _without(text: str, secrets: list[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) > 2:
            text = text.replace(secret, "***")
    return text
