"""`Proxy`: a loopback server before a real STAC API that fails as it is told, and passes on everything else.

Each fault is used once, by the first request that it fits; after the last one all is well again.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from typing import Any

import requests

from tests.catalogs.conftest import serving

Answer = Callable[["Handler"], None]
"""Answers a request in the API's place."""
Edit = Callable[[Any], Any]
"""Changes the JSON document that the API answered with."""


@dataclass
class Asked:
    """One request that came."""

    method: str
    path: str
    body: Any
    authorization: str | None
    moment: float = field(default_factory=time.monotonic)


@dataclass
class Proxy:
    """What the server does, and what it was asked."""

    upstream: str
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    _plan: list[tuple[str, Answer | None, Edit | None]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, *answers: Answer, path: str = "/search") -> None:
        """Answer the next requests whose path begins with `path` by `answers`."""
        self._plan += [(path, answer, None) for answer in answers]

    def edit(self, *edits: Edit, path: str = "/search") -> None:
        """Change the API's next answers to requests whose path begins with `path`."""
        self._plan += [(path, None, edit) for edit in edits]

    def gaps(self, path: str = "/search") -> list[float]:
        """Seconds between the requests for `path`."""
        moments = [asked.moment for asked in self.asked if asked.path.startswith(path)]
        return [after - before for before, after in pairwise(moments)]

    def next_step(self, path: str) -> tuple[Answer | None, Edit | None]:
        """What is to be done with a request for `path`."""
        with self._lock:
            for number, (prefix, answer, edit) in enumerate(self._plan):
                if path == prefix or (prefix != "/" and path.startswith(prefix)):
                    del self._plan[number]
                    return answer, edit
        return None, None


class Handler(BaseHTTPRequestHandler):
    """Passes requests on, or does what the proxy's plan says."""

    def __init__(self, proxy: Proxy, *args: Any) -> None:
        self.proxy = proxy
        super().__init__(*args)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(self.command, self.path, json.loads(body) if body else None, self.headers["Authorization"])
        self.proxy.asked.append(asked)
        answer, edit = self.proxy.next_step(self.path)
        try:
            if answer is not None:
                answer(self)
                return
            headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
            found = requests.request(
                self.command, self.proxy.upstream + self.path, data=body, headers=headers, timeout=120
            )
            # Its links lead back through here, as a real reverse proxy's do.
            text = found.text.replace(self.proxy.upstream, self.proxy.url)
            if edit is not None:
                text = json.dumps(edit(json.loads(text)))
            self.reply(text.encode(), found.status_code, found.headers["Content-Type"])
        except (BrokenPipeError, ConnectionResetError):
            pass  # the one who asked has given up

    def reply(self, body: bytes, status: int = 200, media: str = "application/json", **headers: str) -> None:
        """A whole answer."""
        self.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in ({"Content-Type": media, "Content-Length": str(len(body))} | named).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def status(code: int, text: str = '{"description": "busy"}', media: str = "application/json", **headers: str) -> Answer:
    """An error; `Retry_After="1"` is its header `Retry-After: 1`."""
    return lambda handler: handler.reply(text.encode(), code, media, **headers)


def cut(handler: Handler) -> None:
    """The connection breaks off in the middle of the answer."""
    handler.reply(b'{"type": "FeatureCollection", "featu', Content_Length="5000")


def cut_but_whole(handler: Handler) -> None:
    """JSON that ends in the middle, in an answer whose length is right."""
    handler.reply(b'{"type": "FeatureCollection", "features": [{"id": "a", "ty')


def silent(handler: Handler) -> None:
    """No answer before the other side has gone."""
    handler.connection.settimeout(60)
    handler.connection.recv(1)


def trickling(handler: Handler) -> None:
    """A byte at a time, without an end."""
    handler.reply(b"{", Content_Length="1000000")
    for _ in range(2000):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def endless(handler: Handler) -> None:
    """More and more, as fast as it goes."""
    handler.reply(b"{", Content_Length=str(1 << 40))
    for _ in range(4096):
        handler.wfile.write(b" " * (1 << 16))


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """A proxy before the API at `upstream`, a URL without a slash at its end."""
    made = Proxy(upstream)
    with serving(partial(Handler, made)) as url:
        made.url = url
        yield made
