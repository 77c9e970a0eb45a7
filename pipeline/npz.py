"""`read_arrays`: the arrays of an .npz file, read from several threads."""

from __future__ import annotations

import threading
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
