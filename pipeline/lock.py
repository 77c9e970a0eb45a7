"""A lock on one product, so that two runs never write the same one."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import InUse, WriteFailed

_PATIENCE = 1.0
"""Seconds: whoever tidies up holds a lock for a moment, whoever makes a product for longer."""


@contextmanager
def locked(path: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """Hold the lock file `path`; it is freed when the process ends, however it ends.

    patience: seconds for which another one may hold it. Raises InUse where another process holds it, WriteFailed where it cannot be written.
    """
    descriptor = _acquired(path, patience)
    try:
        yield
    finally:
        # Removed while it is still held: whoever opened it meanwhile finds another file in its place and opens that.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquired(path: Path, patience: float) -> int:
    deadline = time.monotonic() + patience
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise WriteFailed(f"{path.parent}: not writable ({error.strerror}); choose another --output") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise InUse(path.stem) from None
            time.sleep(0.05)
        except FileNotFoundError:
            pass
        os.close(descriptor)
