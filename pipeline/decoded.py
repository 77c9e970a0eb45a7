"""`Decoded`: chunks of decoded pixels that several blocks look at, each decoded once and held as long as somebody will ask for it.

A block's tiles reach beyond it, and files are stored in chunks of their own, so that without it the rim of a block is decoded up to four
times. COGs give some 400 MB/s a core, JPEG 2000 twenty: there it is most of a scene's time. Who will ask is known before the start
(`expect`), so nothing is kept that nobody needs; beyond `room` nothing more is kept, and what is asked for again is decoded again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

_CHUNK = 512


class Chunk(NamedTuple):
    """One chunk of a file."""

    href: str
    band: int
    """Its number in the file, from 1."""
    row: int
    col: int
    """Which one, counted in chunks."""


@dataclass(frozen=True)
class Layout:
    """How a band is cut into chunks: whole blocks of its file, at least 512 pixels an edge where it has as many."""

    shape: tuple[int, int]
    """(rows, cols) of the band."""
    chunk: tuple[int, int]
    """(rows, cols) of a chunk; those at the end may be smaller."""
    dtype: str

    @classmethod
    def of(cls, shape: tuple[int, int], block: tuple[int, int], dtype: str) -> Layout:
        """The layout of a band of `shape` that its file stores in blocks of `block` pixels (rows, cols)."""
        rows, cols = (min(edge * -(-_CHUNK // edge), length) for edge, length in zip(block, shape, strict=True))
        return cls(shape, (rows, cols), dtype)

    def check(self, href: str, rows: slice, cols: slice) -> None:
        """Raise ValueError for a window outside the band."""
        height, width = self.shape
        if not (0 <= rows.start < rows.stop <= height and 0 <= cols.start < cols.stop <= width):
            raise ValueError(f"{href}: window rows {rows}, cols {cols} is not inside {height} x {width} pixels")

    def down(self, rows: slice) -> range:
        """Rows of chunks that a window touches."""
        return range(rows.start // self.chunk[0], -(-rows.stop // self.chunk[0]))

    def across(self, cols: slice) -> range:
        """Columns of chunks that a window touches."""
        return range(cols.start // self.chunk[1], -(-cols.stop // self.chunk[1]))

    def window(self, row: int, col: int) -> tuple[slice, slice]:
        """Pixels (rows, cols) of a chunk."""
        (height, width), (rows, cols) = self.shape, self.chunk
        down, across = slice(row * rows, min((row + 1) * rows, height)), slice(col * cols, min((col + 1) * cols, width))
        return down, across


class Decoded:
    """Decoded chunks, for threads of one process. Arrays handed out are shared and cannot be written to."""

    def __init__(self, room: int) -> None:
        """Keep at most about `room` bytes."""
        self._room = room
        self._lock = threading.Lock()
        self._chunks: dict[Chunk, Future[NDArray[Any]]] = {}
        self._uses: Counter[Chunk] = Counter()
        self._held = 0

    def wanted(self, chunk: Chunk) -> bool:
        """Whether `chunk` is still expected, is not there, and would be kept."""
        with self._lock:
            return chunk not in self._chunks and self._keeps(chunk)

    def expect(self, chunks: Iterable[Chunk]) -> None:
        """Say that somebody will ask for each of `chunks`."""
        with self._lock:
            self._uses.update(chunks)

    def done(self, chunks: Iterable[Chunk]) -> None:
        """Take back what was said with `expect`, whether or not they were asked for; what nobody else needs is forgotten."""
        with self._lock:
            for chunk in chunks:
                self._uses[chunk] -= 1
                if self._uses[chunk] <= 0:
                    del self._uses[chunk]
                    self._forget(chunk)

    def get(self, chunk: Chunk, decode: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The pixels of `chunk`, by `decode` where they are not there; others who ask meanwhile wait. Raises what `decode` raises."""
        with self._lock:
            found = self._chunks.get(chunk)
            keep = found is None and self._keeps(chunk)
            mine: Future[NDArray[Any]] = Future()
            if keep:
                self._chunks[chunk] = mine
        if found is not None:
            return found.result()
        try:
            pixels = decode()
        except BaseException as error:
            with self._lock:
                if self._chunks.get(chunk) is mine:
                    del self._chunks[chunk]
            mine.set_exception(error)
            raise
        pixels.flags.writeable = False
        with self._lock:
            if self._chunks.get(chunk) is mine:
                self._held += pixels.nbytes
            mine.set_result(pixels)
        return pixels

    def _keeps(self, chunk: Chunk) -> bool:
        return self._uses[chunk] > 0 and self._held < self._room

    def _forget(self, chunk: Chunk) -> None:
        gone = self._chunks.pop(chunk, None)
        if gone is not None and gone.done() and gone.exception() is None:
            self._held -= gone.result().nbytes
