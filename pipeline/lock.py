"""A lock on one product, so that two runs never write the same one."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import WriteFailed


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; it is freed when the process ends, however it ends.

    Raises WriteFailed where another process holds it, or where it cannot be written.
    """
    descriptor = _acquired(path)
    try:
        yield
    finally:
        # Removed while it is still held: whoever opened it meanwhile finds another file in its place and opens that.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquired(path: Path) -> int:
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
            os.close(descriptor)
            raise WriteFailed(
                f"{path.stem}: another run is working on it; wait for it, or choose another --output"
            ) from None
        except FileNotFoundError:
            pass
        os.close(descriptor)
