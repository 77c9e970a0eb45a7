"""`SickServer`: a folder over HTTP, by range requests too, that misbehaves as it is told."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.catalogs.conftest import serving


@dataclass
class SickServer:
    """What is wrong: `illness` befalls requests whose path `where` finds, so many `times` (-1: always), after so many that pass."""

    folder: Path
    url: str = ""
    illness: str = ""
    """status 500, status 503, close, truncate, silent, trickle, html."""
    where: str = ""
    times: int = -1
    after: int = 0
    asked: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ill(self, illness: str, where: str, *, times: int = -1, after: int = 0) -> None:
        with self._lock:
            self.illness, self.where, self.times, self.after = illness, where, times, after

    def well(self) -> None:
        self.ill("", "")

    def illness_of(self, path: str) -> str:
        with self._lock:
            self.asked.append(path)
            if not self.illness or not re.search(self.where, path) or self.times == 0:
                return ""
            if self.after > 0:
                self.after -= 1
                return ""
            self.times -= 1
            return self.illness


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, server: SickServer, *arguments: Any) -> None:
        self.sick = server
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        name = self.path.partition("?")[0]
        illness, path = self.sick.illness_of(name), self.sick.folder / name.lstrip("/")
        if illness.startswith("status"):
            self._send(int(illness.split()[1]), b'{"description": "overworked"}', "application/json")
        elif illness == "html":
            self._send(200, b"<html>Sign in</html>", "text/html")
        elif not path.is_file():
            self._send(404, b"", "text/plain")
        elif illness == "silent":
            self.connection.settimeout(20)
            with_nothing(self.connection)
            self.close_connection = True
        else:
            self._file(path.read_bytes(), illness)

    def _file(self, content: bytes, illness: str) -> None:
        match = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        first = int(match[1]) if match else 0
        part = content[first : int(match[2] or len(content)) + 1] if match else content
        headers = {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(content)}"} if match else {}
        self._send(206 if match else 200, part, "application/json", illness, headers)

    def _send(
        self, status: int, body: bytes, media: str, illness: str = "", headers: dict[str, str] | None = None
    ) -> None:
        # Truncated, and yet as long as it says: only who reads it can tell.
        whole, body = len(body), body[: len(body) // 2] if illness in ("truncate", "close") else body
        self.send_response(status)
        said = {"Content-Type": media, "Accept-Ranges": "bytes", **(headers or {})}
        for name, value in said.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if illness == "truncate" else whole))
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            if illness == "trickle":
                for number in range(200):
                    self.wfile.write(body[number : number + 1])
                    time.sleep(0.05)
                self.close_connection = True
                return
            self.wfile.write(body)
            if illness == "close":
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the one who asked has given up

    def log_message(self, *_: object) -> None:
        pass


def with_nothing(connection: socket.socket) -> None:
    """Wait until the other side has gone."""
    try:
        connection.recv(1)
    except OSError:
        return


@contextmanager
def sick_server(folder: Path) -> Iterator[SickServer]:
    """A server of `folder`, well until it is told otherwise."""
    made = SickServer(folder)
    with serving(partial(_Handler, made)) as url:
        made.url = url
        yield made
