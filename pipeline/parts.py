"""Files that are written beside their place and moved there whole, and what is left of those whose process was killed meanwhile.

    .<name>.<machine>-<process>-<thread>.part

The name says who writes: a process that is gone will not move it any more, and whoever tidies up removes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import threading
import time
from pathlib import Path

from pipeline.processes import alive

_PART = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})-(?P<process>[0-9]{1,10})-[0-9]+\.part", re.DOTALL)
_OLD = 86400.0
"""Seconds after which nobody writes at a small file any more, on whatever machine."""


def part_of(path: Path) -> Path:
    """Where this thread writes what is to become `path`."""
    return path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{threading.get_ident()}.part")


def write_whole(path: Path, content: bytes, beside: Path | None = None) -> None:
    """Write a file beside its place and move it there once it is on the disk. Raises OSError, and leaves nothing then.

    beside: where nobody else writes meanwhile, as under a lock; what a process was killed over is then written over by the next.
    """
    part = part_of(path) if beside is None else beside
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remove_parts(folder: Path) -> None:
    """Remove the parts in `folder`, not below it, whose writer is gone. What cannot be removed stays."""
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            match = _PART.fullmatch(entry.name)
            if match is None:
                continue
            with contextlib.suppress(OSError):
                own = match["machine"] == _machine()
                gone = not alive(int(match["process"])) if own else time.time() - entry.stat().st_mtime > _OLD
                if gone:
                    Path(entry.path).unlink()


def _machine() -> str:
    """Where the number of a process means something: containers may have their host's name, and numbers of their own."""
    space = ""
    with contextlib.suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]
