"""What is on the disk for good, and what happens all at once: flushing, one lock, two folders that change places."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

_HERE = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE
_UNABLE = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})


def exchange(one: Path, other: Path) -> bool:
    """Let two entries of one disk change names in a single step; False where the system cannot, and nothing was done.

    Linux can, on its local file systems (ext4, xfs, btrfs, tmpfs); network file systems and other systems mostly cannot. Raises OSError.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNABLE:
        return False
    raise OSError(number, os.strerror(number), str(other))


def flush(path: Path) -> None:
    """Bring a file's content, or a folder's list of names, to the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot flush a folder by itself, and do it with its files.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(handle)


def flush_tree(folder: Path) -> None:
    """`flush` all folders below and with `folder`, and those files that have no second name: a linked one was flushed under its first."""
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if path.stat().st_nlink == 1:
                flush(path)
        flush(Path(root))


def link(source: Path, target: Path) -> None:
    """A second name for the file `source`; a copy where the disk has no such thing. Raises OSError."""
    try:
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EMLINK, errno.EXDEV, *_UNABLE}:
            raise
        shutil.copyfile(source, target)


def remove_tree(folder: Path) -> None:
    """Remove a folder that may not be there. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


@contextlib.contextmanager
def turn(path: Path, patience: float | None = None) -> Iterator[None]:
    """Wait until nobody else holds the lock file `path`, and hold it; the system frees it when the process ends, however it ends.

    patience: seconds to wait at most, without end if None: a process that is stopped holds its lock. Raises TimeoutError.
    """
    with path.open("a") as file:
        if patience is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            _lock_within(file.fileno(), patience)
        yield


def _lock_within(descriptor: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError from None
            time.sleep(0.05)
        else:
            return
