"""A lock on the folder of a training, so that two never write the same state."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from srgan.errors import NotSaved

NAME = ".training.lock"


@contextmanager
def alone(folder: Path, *, leads: bool = True) -> Iterator[None]:
    """Make `folder` and hold its lock, which is freed when the process ends, however it ends; nothing where another process `leads`.

    Raises NotSaved where another training holds it, or where the folder cannot be written to.
    """
    if not leads:
        yield
        return
    file = folder / NAME
    descriptor = _held(file)
    try:
        yield
    finally:
        # Removed while it is still held: whoever opened it meanwhile finds another file in its place, or none, and tries again.
        file.unlink(missing_ok=True)
        os.close(descriptor)


def _held(file: Path) -> int:
    folder = file.parent
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise NotSaved(f"{folder}: cannot be written to ({error.strerror}): train in another folder") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise NotSaved(
                f"{folder}: another training is at work in it: wait for it, or train in another folder"
            ) from error
        except FileNotFoundError:
            pass
        os.close(descriptor)
