"""Whether a process that wrote something down is still there."""

from __future__ import annotations

import os
from pathlib import Path

LARGEST = 2**31 - 1
"""No process has a larger number."""


def started(pid: int | None = None) -> int:
    """When a process of this machine began (this one if None), in the system's own ticks since it started; 0 where that is not told.

    Unlike the time of day it does not jump, so a number and this name one process, and no later one that was given its number.
    """
    fields = _fields(os.getpid() if pid is None else pid)
    return int(fields[19]) if len(fields) > 19 else 0


def alive(pid: int, began: int = 0) -> bool:
    """Whether a process of this machine is there; began: what `started` said in it, 0 where that is not known. A number that no process has is not there.

    >>> alive(os.getpid()), alive(os.getpid(), started()), alive(os.getpid(), started() + 1)
    (True, True, False)
    >>> alive(0), alive(10**10)
    (False, False)
    """
    if not 0 < pid <= LARGEST:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    fields = _fields(pid)
    if fields[:1] == [b"Z"]:
        return False  # it has ended, and nobody has asked how
    return not began or started(pid) in (0, began)


def _fields(pid: int) -> list[bytes]:
    """What Linux tells of a process, from its state on; empty on another system."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return []
    # The name before may hold anything, brackets too.
    return text.rpartition(b")")[2].split()
