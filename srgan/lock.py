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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise NotSaved(f"{folder}: cannot be written to ({error.strerror}): train in another folder") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise NotSaved(
            f"{folder}: another training is at work in it: wait for it, or train in another folder"
        ) from error
    finally:
        os.close(descriptor)
