"""`Sink`: where finished stripes of pixels go, and the book-keeping that every sink shares."""

from __future__ import annotations

import errno
import shutil
import zlib
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.errors import WriteFailed
from pipeline.layers import Layer
from pipeline.progress import Progress, silent

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class Sink(Protocol):
    """Takes the layers of one product, stripe by stripe, and leaves complete, checked files or none at all."""

    folder: Path
    """Where the files are written."""

    def write(self, name: str, row: int, data: np.ndarray) -> None:
        """Append `data` (rows, width) to the layer `name`; `row` is the first of its rows.

        The stripes of one layer come in ascending order without gaps, from one thread at a time; they may have any height. Different
        layers may come from different threads.
        """
        ...

    def close(self, progress: Progress = silent) -> None:
        """Finish and check every file; `progress` is told of each ("encode"). Raises WriteFailed, and leaves no file, where a row is missing or a file is wrong."""
        ...

    def abort(self) -> None:
        """Remove everything that was written. May be called at any time, also twice."""
        ...


class RowLedger:
    """How far one layer has come, and the checksum of what was handed over.

    The checksum runs over the bytes in row order, so it does not depend on the height of the stripes: whoever reads the finished
    layer row by row gets the same number, or the file is not what was written.
    """

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.row = 0
        """Rows received so far."""
        self.crc = 0
        """CRC-32 of the little-endian bytes of these rows."""

    def accept(self, row: int, data: np.ndarray) -> memoryview:
        """Check that `data` (rows, width) is the next stripe, count it in, and return its bytes in row order."""
        rows, cols = self.layer.shape
        if data.dtype != np.dtype(self.layer.dtype):
            raise WriteFailed(f"layer {self.layer.name}: stripe of type {data.dtype}, expected {self.layer.dtype}")
        if data.ndim != 2 or data.shape[1] != cols:
            raise WriteFailed(f"layer {self.layer.name}: stripe of shape {data.shape}, expected (rows, {cols})")
        if row != self.row or row + data.shape[0] > rows:
            raise WriteFailed(
                f"layer {self.layer.name}: rows {row}..{row + data.shape[0]} do not follow {self.row} of {rows} rows"
            )
        stripe = as_bytes(data)
        self.crc = zlib.crc32(stripe, self.crc)
        self.row += data.shape[0]
        return stripe

    def assert_complete(self) -> None:
        """Raise WriteFailed where rows are missing."""
        rows = self.layer.shape[0]
        if self.row != rows:
            raise WriteFailed(f"layer {self.layer.name}: only {self.row} of {rows} rows were written")


def as_bytes(data: np.ndarray) -> memoryview:
    """The bytes of `data` in row order, little-endian; a view where that is how they lie in memory."""
    little = np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("<"))
    return memoryview(little.reshape(-1).view("u1").data)


def write_failed(error: Exception, path: Path, needed: int = 0, *, option: str = "--output") -> WriteFailed:
    """The WriteFailed that says in one line why `path` could not be written.

    `needed` is the number of bytes that were still to come: GDAL and others lose the error number, so a disk with less room than that
    counts as full. `option` names the folder on the command line.
    """
    number = error.errno if isinstance(error, OSError) else None
    folder = next((parent for parent in path.parents if parent.is_dir()), Path())
    if number in _FULL or (number is None and shutil.disk_usage(folder).free < needed):
        return WriteFailed(f"{path}: no space left on the disk: free some, or choose another {option}")
    if number in _DENIED:
        return WriteFailed(f"{path}: no permission to write: choose another {option}")
    reason = " ".join(str(error).split()) or type(error).__name__
    return WriteFailed(f"{path}: cannot be written: {reason}")
