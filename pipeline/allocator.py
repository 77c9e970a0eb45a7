"""The C library's allocator: what it should do with memory that was freed. Nothing where it is not glibc's."""

from __future__ import annotations

import contextlib
import ctypes

_LARGE, _SPARE = 32 * 2**20, 256 * 2**20
"""Bytes of an array that is given back at once, and of what may be kept for the next ones."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_between_tiles() -> None:
    """Keep what a network's layers have freed for the next layer: else every one of them waits for fresh pages, a twentieth of a tile's time.

    Dask starts its workers so that they give memory back at each layer, which doubles a tile's time.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _SPARE)


def give_back() -> None:
    """Give memory that was freed back to the system.

    The allocator keeps what it thinks will be asked for again, a hundred megabytes and more after the last block of a scene.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
