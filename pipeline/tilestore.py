"""`TileStore`: a tile that lies across blocks is run once, by whichever block comes first, and handed to the others.

Without it the network would see a tile once for each block that it touches: half as often again at blocks of 1024 pixels,
four times at blocks of 256. Shared results lie on disk beside the staged blocks (a megabyte each, soon read again), so
they cost no memory and survive a kill.

Blocks run side by side ask in the order of `Tile`, and wait for a tile that another block is running. The smallest tile
that is still missing is always the next one of the block that runs it, so they cannot wait for each other in a circle.
"""

from __future__ import annotations

import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import WriteFailed
from pipeline.npz import read_arrays, write_arrays
from pipeline.tiling import Tile

Run = Callable[[Sequence[Tile]], Iterator[npt.NDArray[np.float32]]]
"""Runs the network over tiles, lazily and in their order: (C, tile, tile) reflectance each."""


class TileStore:
    """Results of the tiles of one scene, for blocks in threads of one process."""

    def __init__(self, folder: Path, uses: Counter[Tile], check: Callable[[Path], None] = lambda _: None) -> None:
        """Keep shared results in `folder`.

        uses: for each tile the number of blocks that will ask for it; a tile with one use is never stored. check: as of `Staging`.
        """
        self._folder, self._check = folder, check
        self._uses = uses.copy()
        self._shared = {tile for tile, count in uses.items() if count > 1}
        self._running: dict[Tile, threading.Event] = {}
        self._lock = threading.Lock()

    def results(self, tiles: Sequence[Tile], run: Run) -> Generator[npt.NDArray[np.float32], None, None]:
        """The result of each of `tiles`, in their order; those that nobody has run or is running go through `run`.

        Raises what `run` and `check` raise, and WriteFailed where a shared result cannot be stored.
        """
        mine = self._claim(tiles)
        fresh = run([tile for tile in tiles if tile in mine])
        try:
            for tile in tiles:
                result = next(fresh) if tile in mine else self._borrowed(tile, run)
                if tile in mine and tile in self._shared:
                    self._save(tile, result)
                    self._finished(tile)
                    mine.discard(tile)
                yield result
                self._used(tile)
        finally:
            # Given up half-way: whoever waits for the rest finds nothing stored and runs it.
            for tile in mine & self._shared:
                self._finished(tile)

    def _claim(self, tiles: Sequence[Tile]) -> set[Tile]:
        with self._lock:
            mine = set()
            for tile in tiles:
                if tile in self._shared:
                    if tile in self._running or self._path(tile).exists():
                        continue
                    self._running[tile] = threading.Event()
                mine.add(tile)
            return mine

    def _borrowed(self, tile: Tile, run: Run) -> npt.NDArray[np.float32]:
        with self._lock:
            running = self._running.get(tile)
        if running is not None:
            running.wait()
        stored = self._load(tile)
        return next(run([tile])) if stored is None else stored

    def _finished(self, tile: Tile) -> None:
        with self._lock:
            event = self._running.pop(tile, None)
        if event is not None:
            event.set()

    def _used(self, tile: Tile) -> None:
        with self._lock:
            self._uses[tile] -= 1
            last = tile in self._shared and self._uses[tile] <= 0
        if last:
            self._path(tile).unlink(missing_ok=True)

    def _path(self, tile: Tile) -> Path:
        return self._folder / f"{tile.row}_{tile.col}.npz"

    def _save(self, tile: Tile, result: npt.NDArray[np.float32]) -> None:
        path = self._path(tile)
        self._check(path)
        try:
            write_arrays(path, {"result": result})
        except OSError as error:
            raise WriteFailed(
                f"{path}: tile not written ({error.strerror or error}); free space and run again"
            ) from error

    def _load(self, tile: Tile) -> npt.NDArray[np.float32] | None:
        try:
            stored: npt.NDArray[np.float32] = read_arrays(self._path(tile))["result"]
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None
        return stored if stored.dtype == np.float32 and stored.shape[1:] == (tile.size, tile.size) else None
