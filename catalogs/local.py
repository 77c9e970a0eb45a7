"""Files of this machine that are read: not without end, and not beyond what the machine can hold.

A pipe or a device named `item.json` would be waited for, or read, for ever; a raster of a kilobyte can claim any size.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from catalogs.errors import InvalidItem

LARGEST = 256 << 20
"""Bytes of a document at most. Items have some ten thousand, metadata of a granule half a million."""

_MOST_PIXELS = 2**34
"""Of a band, 131072 x 131072: twelve MGRS tiles by twelve."""
_HELD = 4
"""Bytes a pixel that whole scenes are held with at most, as masks; the pixels themselves are read in blocks."""


def require_regular(path: str | os.PathLike[str]) -> None:
    """Raise InvalidItem where `path` is there and is a pipe, a socket or a device; links are followed."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - Path.stat is slower, and this is asked of each band
    except (OSError, ValueError):
        return  # whoever opens it says what is wrong
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InvalidItem(f"{os.fspath(path)}: is a pipe, a socket or a device, not a file: copy its content to a file")


def read_whole(path: str | os.PathLike[str]) -> bytes:
    """The content of a document. Raises OSError where it cannot be read, InvalidItem where it is no file or far too large for one."""
    require_regular(path)
    with Path(path).open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise InvalidItem(f"{os.fspath(path)}: has more than {LARGEST >> 20} MiB: is it a document?")
    return content


def too_many_pixels(shape: tuple[int, int]) -> str | None:
    """What to say of a raster of (rows, cols) that this machine cannot work on, by its memory; None where it can."""
    rows, cols = shape
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most = min(_MOST_PIXELS, memory // _HELD)
    if rows * cols <= most:
        return None
    return f"claims {rows} x {cols} pixels, more than this machine has memory for: cut it into tiles"
