"""A server of a folder's files by range requests, that can be told to misbehave. A program, for GDAL holds Python's lock while it reads.

`python flaky_server.py FOLDER` prints its port. `POST /.faults` takes JSON: `mode` (cut, status, slow, ignore-ranges), `code`, `times`
(how many requests are answered so, -1 = all), `after` (requests that pass before), `match` (a part of the path), `seconds`.
`GET /.log` gives the requests so far, one line each: method, path with query, range.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_faults: dict = {}
_log: list[str] = []
_lock = threading.Lock()


def _fault(path: str) -> dict:
    """What is wrong with this request; nothing where it is `{}`."""
    with _lock:
        if not _faults or _faults.get("match", "") not in path:
            return {}
        if _faults.get("after", 0) > 0:
            _faults["after"] -= 1
            return {}
        if _faults.get("times", -1) == 0:
            return {}
        _faults["times"] = _faults.get("times", -1) - 1
        return dict(_faults)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        with _lock:
            _faults.clear()
            _faults.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            _log.clear()
        self._send(200, b"")

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        if self.path == "/.log":
            self._send(200, "\n".join(_log).encode())
        else:
            self._answer()

    def _answer(self) -> None:
        with _lock:
            _log.append(f"{self.command} {self.path} {self.headers.get('Range') or ''}")
        path = Path(sys.argv[1]) / self.path.partition("?")[0].lstrip("/")
        if not path.is_file():
            self._send(404, b"")
            return
        fault = _fault(self.path)
        if fault.get("mode") == "status":
            self._send(fault["code"], b"busy", {"Retry-After": "0"})
            return
        if fault.get("mode") == "slow":
            time.sleep(fault["seconds"])
        content = path.read_bytes()
        match = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if match is None or fault.get("mode") == "ignore-ranges":
            self._send(200, content, cut=fault.get("mode") == "cut")
            return
        first = int(match[1])
        part = content[first : int(match[2] or len(content)) + 1]
        header = {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(content)}", "Accept-Ranges": "bytes"}
        self._send(206, part, header, cut=fault.get("mode") == "cut")

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
