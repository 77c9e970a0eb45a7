"""Writing files so that each is either the old one or the new one, whatever happens in between."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def write_atomic(path: Path, blob: bytes) -> None:
    """Write `blob` to `path` by way of a file beside it. Raises OSError, and then `path` is what it was."""
    write_together({path: blob})


def write_together(blobs: Mapping[Path, bytes]) -> None:
    """Write files that belong together: none is replaced before all are on the disk.

    Raises OSError, as with a full disk, and then all of them are what they were.
    """
    parts = {path: path.with_name(f".{path.name}.part") for path in blobs}
    try:
        for path, blob in blobs.items():
            with parts[path].open("wb") as target:
                target.write(blob)
                target.flush()
                os.fsync(target.fileno())
        for path, part in parts.items():
            part.replace(path)
    except BaseException:
        for part in parts.values():
            with suppress(OSError):
                part.unlink(missing_ok=True)
        raise
