"""A server of a folder's files that answers range requests, as those of satellite images do.

Run as a program, for GDAL holds Python's lock while it opens a URL: `python range_server.py FOLDER` prints its port.
"""

from __future__ import annotations

import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Ranges(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = Path(sys.argv[1]) / self.path.partition("?")[0].lstrip("/")
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = path.read_bytes()
        match = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        part = content[int(match[1]) : int(match[2] or len(content)) + 1] if match else content
        self.send_response(206 if match else 200)
        if match:
            first = int(match[1])
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if with_body:
            self.wfile.write(part)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Ranges)
    print(server.server_port, flush=True)
    server.serve_forever()
