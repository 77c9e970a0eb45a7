"""The C library's allocator: what it should do with memory that was freed."""

from __future__ import annotations

import contextlib
import ctypes


def give_back() -> None:
    """Give memory that was freed back to the system; nothing where the C library is not glibc.

    It keeps what it thinks will be asked for again, a hundred megabytes and more after the last block of a scene.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
