"""`read_arrays` and `write_arrays`: the arrays of an .npz file, read from several threads and written beside its place."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_turn = threading.Lock()
"""NumPy parses each header with Python's own parser, which in CPython 3.11 now and then fails (SystemError: AST constructor recursion depth
mismatch) where two threads parse at once."""


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Name -> array. Raises OSError, and ValueError, EOFError or zipfile.BadZipFile for a damaged file."""
    with _turn, path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays, uncompressed, beside `path` and move the file there. Raises OSError, and leaves nothing then.

    Not flushed, unlike `write_whole`: a block that a power cut costs is made again, and waiting for the disk at each costs more.
    """
    beside = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
