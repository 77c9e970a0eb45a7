"""A process that has everything imported, and forks one child for each append that is to be killed.

Reads lines `stop cube product...` and answers `pid`, then `status events commit`: the child's exit status (negative: killed by that
signal), how many events on the file system it saw, and which of them was the last before the commit. With `stop` above 0 the child kills
itself with SIGKILL right before that event, wherever zarr's threads and ours happen to be then; with -1 right before the commit, with -2
right before the first event after it, and so on.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import rasterio  # noqa: F401 (imported once, before the children)
import xarray  # noqa: F401
import zarr  # noqa: F401

from pipeline.cube import append_products

EVENTS = frozenset({"open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "ctypes.dlsym"})


def child(stop: int, cube: Path, products: list[Path], report: int) -> None:
    count, seen = itertools.count(1), [0, 0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS:
            seen[0] = next(count)
            if event == "ctypes.dlsym" and "renameat2" in arguments:
                seen[1] = seen[0]
            after = seen[0] - seen[1] if seen[1] else -1
            if seen[0] == stop or (stop < 0 and after == -stop - 1):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    append_products(cube, products)
    os.write(report, f"{seen[0]} {seen[1]}".encode())
    os._exit(0)


def main() -> None:
    for line in sys.stdin:
        stop, cube, *products = line.split()
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            child(int(stop), Path(cube), [Path(product) for product in products], write)
        os.close(write)
        print(pid, flush=True)
        with os.fdopen(read) as answer:
            events = answer.read() or "0 0"
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), events, flush=True)


if __name__ == "__main__":
    main()
