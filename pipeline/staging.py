"""Staging: finished blocks of a scene on disk, so that a killed run loses only the blocks in flight.

One `.npz` file a block, uncompressed (its zip entries carry a CRC), written beside its name and moved there whole. The
folder belongs to one run key: another input, parameter or checkpoint never sees these blocks.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.block import BlockResult
from pipeline.errors import WriteFailed
from pipeline.npz import read_arrays, write_arrays

_blocks = logging.getLogger("declouder.blocks")
_blocks.propagate = False
"""Told of every block that is done, for whoever listens to it: outside our packages' loggers, as it comes from threads that know of no run,
and apart from the root's, whose console would say it a second time."""


def _unchecked(path: Path) -> None:
    """Nothing can have changed."""


@dataclass(frozen=True)
class Staging:
    """The blocks of one scene under one run key."""

    folder: Path
    check: Callable[[Path], None] = _unchecked
    """Asked before each file is written; raises where what the block was made from is not what the run key says: it is then not kept."""

    def path(self, rows: slice, cols: slice) -> Path:
        """File of the block that owns this window of the work grid."""
        return self.folder / f"{rows.start}_{rows.stop}_{cols.start}_{cols.stop}.npz"

    def save(self, result: BlockResult) -> None:
        """Write a block. Raises WriteFailed when the disk is full or not writable, and what `check` raises."""
        target = self.path(result.rows, result.cols)
        self.check(target)
        known = {} if result.confidence is None else {"confidence": result.confidence}
        try:
            write_arrays(target, {"provenance": result.provenance, **known, **result.bands})
        except OSError as error:
            raise WriteFailed(
                f"{target}: block not written ({error.strerror or error}); free space and run again"
            ) from error
        _blocks.info("block staged", extra={"product": self.folder.parent.name, "block": target.stem})

    def load(self, rows: slice, cols: slice) -> BlockResult | None:
        """The block, or None where it is not there or was damaged (it is then computed again)."""
        path = self.path(rows, cols)
        try:
            arrays = read_arrays(path)
        except FileNotFoundError:
            return None
        except (zipfile.BadZipFile, ValueError, EOFError, OSError):
            path.unlink(missing_ok=True)
            return None
        provenance = arrays.pop("provenance", None)
        confidence = arrays.pop("confidence", None)
        return None if provenance is None else BlockResult(rows, cols, arrays, provenance, confidence)
