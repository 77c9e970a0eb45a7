"""A real S3 server (moto's) as a program of its own, for GDAL holds Python's lock while it reads: prints its port."""

from __future__ import annotations

import threading

from moto.server import ThreadedMotoServer

if __name__ == "__main__":
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    threading.Event().wait()
