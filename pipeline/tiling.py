"""`TilePlan`: the network's windows on one grid over the whole scene, and which of them are needed.

Strategy. Tiles stand on one grid anchored at the scene's origin, never at a block, an area or a worker, so that a
tile is the same tile whoever computes it. Along an axis they start every `tile - overlap` pixels; the last one is
moved back so that it ends with the scene (more context than padding would give), or less than `grid` pixels behind it:
a network that pools sees the same pixels differently unless all its tiles start on multiples of its coarsest cell. A
tile that reaches beyond the scene is padded. A tile is needed when it holds a pixel that will be replaced; since *every* tile over such a pixel is then
needed, the blend weights of the needed tiles still sum to 1 there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import InvalidSettings


@dataclass(frozen=True)
class Axis:
    """Tile positions along one axis."""

    length: int
    """Pixels of the scene."""
    tile: int
    """Pixels of a tile."""
    overlap: int
    """Pixels that neighbours share, at least (the last pair may share more)."""
    grid: int = 1
    """Tiles start at multiples of this, the network's coarsest cell in pixels."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InvalidSettings(f"a scene of {self.length} pixels has no tiles")
        if self.tile < 1:
            raise InvalidSettings(f"tile size {self.tile} must be at least 1")
        if not 0 <= self.overlap <= self.tile // 2:
            raise InvalidSettings(f"overlap {self.overlap} must lie between 0 and half the tile size {self.tile}")
        if self.grid < 1 or (self.tile - self.overlap) % self.grid:
            fitting = self.tile - (self.tile - self.overlap) // max(self.grid, 1) * max(self.grid, 1)
            raise InvalidSettings(
                f"overlap {self.overlap} puts tiles of {self.tile} off the network's grid of {self.grid} pixels: "
                f"take {fitting}"
            )

    @property
    def starts(self) -> tuple[int, ...]:
        """First pixel of every tile, ascending; the tiles cover `range(length)`.

        >>> Axis(length=600, tile=256, overlap=64).starts
        (0, 192, 344)
        >>> Axis(length=600, tile=256, overlap=64, grid=32).starts
        (0, 192, 352)
        >>> Axis(length=100, tile=256, overlap=64).starts
        (0,)
        """
        if self.length <= self.tile:
            return (0,)
        last = -(-(self.length - self.tile) // self.grid) * self.grid
        return (*range(0, last, self.tile - self.overlap), last)

    def touching(self, window: slice) -> range:
        """Indices of the tiles that share a pixel with `window`."""
        starts = np.asarray(self.starts)
        hit = np.flatnonzero((starts < window.stop) & (starts + self.tile > window.start))
        return range(int(hit[0]), int(hit[-1]) + 1) if hit.size else range(0)


@dataclass(frozen=True, order=True)
class Tile:
    """One window of the network; ordering is the order in which results are added up."""

    row: int
    """First row, work grid."""
    col: int
    """First column, work grid."""
    size: int
    """Edge, pixels."""

    @property
    def rows(self) -> slice:
        """Rows of the work grid (may end behind a scene that is smaller than a tile)."""
        return slice(self.row, self.row + self.size)

    @property
    def cols(self) -> slice:
        """Columns of the work grid."""
        return slice(self.col, self.col + self.size)


@dataclass(frozen=True)
class TilePlan:
    """All tiles of a scene and which of them the network must see."""

    vertical: Axis
    horizontal: Axis
    needed: npt.NDArray[np.bool_]
    """bool (tile rows, tile cols), True = the network must run."""

    def __post_init__(self) -> None:
        expected = (len(self.vertical.starts), len(self.horizontal.starts))
        if self.needed.shape != expected:
            raise InvalidSettings(f"needed has shape {self.needed.shape}, the plan has {expected} tiles")
        if self.vertical.tile != self.horizontal.tile:
            raise InvalidSettings("tiles must be square")

    @property
    def size(self) -> int:
        """Edge of a tile, pixels."""
        return self.vertical.tile

    @property
    def total(self) -> int:
        """Number of tiles."""
        return int(self.needed.size)

    @property
    def count(self) -> int:
        """Number of tiles that the network must see."""
        return int(self.needed.sum())

    def touching(self, rows: slice, cols: slice) -> Iterator[Tile]:
        """Needed tiles that share a pixel with a window of the work grid, in ascending order."""
        row_starts, col_starts = self.vertical.starts, self.horizontal.starts
        for i in self.vertical.touching(rows):
            for j in self.horizontal.touching(cols):
                if self.needed[i, j]:
                    yield Tile(row_starts[i], col_starts[j], self.size)


def plan_tiles(target: npt.NDArray[np.bool_], tile: int, overlap: int, cell: int = 1, grid: int = 1) -> TilePlan:
    """Plan the tiles of a scene.

    target: bool (rows, cols) of the work grid, True = the pixel will be replaced.
    tile, overlap: pixels.
    cell: work pixels per pixel of the coarsest band; a coarse pixel is replaced as a whole, so every tile that
        touches its cell is needed too.
    grid: the network's coarsest cell, pixels.

    Raises InvalidSettings for an overlap beyond half a tile, or off the grid.
    """
    vertical, horizontal = (Axis(length, tile, overlap, grid) for length in target.shape)
    needed = np.zeros((len(vertical.starts), len(horizontal.starts)), dtype=np.bool_)
    for i, row in enumerate(vertical.starts):
        strip = np.logical_or.reduce(target[_cells(row, tile, cell, target.shape[0])], axis=0)
        for j, col in enumerate(horizontal.starts):
            needed[i, j] = strip[_cells(col, tile, cell, target.shape[1])].any()
    return TilePlan(vertical, horizontal, needed)


def _cells(start: int, size: int, cell: int, length: int) -> slice:
    """The window widened to whole cells."""
    return slice(start // cell * cell, min(-(-(start + size) // cell) * cell, length))
