"""`Lattice`: the chips of a grid, and the blocks of chips that belong to one split.

The lattice is anchored to the map, not to a file: pixels are counted from the origin of the CRS, a chip begins at a
multiple of its edge, and a block is a fixed square of ground. Another date, another crop, another area of interest and
the neighbouring tile of the same zone therefore give the same chips and the same blocks. Pieces of chips at the edges
of a file are left out.

    one period = 7 cells of 256 pixels:  | block: 6 cells | guard: 1 cell | block ...

The guard belongs to nobody, so pixels of two blocks are more than a cell, and more than a chip, apart. Cells do not
depend on the edge of the chips: tables of 128 and of 256 pixels are split alike.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

from shapely.geometry import MultiPolygon, Polygon

from catalogs.errors import InvalidItem
from catalogs.grid import Grid
from catalogs.places import Window

CELL = 256
"""Pixels."""
BLOCK = 6
"""Cells along the edge of a block."""
PERIOD = (BLOCK + 1) * CELL
"""Pixels from one block to the next."""


@dataclass(frozen=True)
class Lattice:
    """Chips on one grid; InvalidItem for a grid that is not north up with square pixels."""

    grid: Grid
    chip: int
    """Edge of a chip, pixels; divides `CELL`."""

    def __post_init__(self) -> None:
        a, b, _, d, e, _ = self.grid.transform
        if b or d or not a > 0 or not math.isclose(a, -e, rel_tol=1e-6):
            raise InvalidItem(f"its grid {self.grid.transform} is not north up with square pixels: warp it first")
        if CELL % self.chip:
            raise ValueError(f"a chip of {self.chip} pixels does not divide {CELL}")

    @property
    def origin(self) -> tuple[int, int]:
        """(row, col) of the grid's first pixel, counted from the origin of the CRS; rows count downwards."""
        a, _, c, _, e, f = self.grid.transform
        # Rounded before it is cut, so that grids that differ by the last bit of a header have one origin.
        return math.floor(round(f / e, 4) + 0.5), math.floor(round(c / a, 4) + 0.5)

    def windows(self) -> Iterator[Window]:
        """Whole chips, row by row, in pixels of the grid."""
        (first_row, first_col), (rows, cols) = self.origin, self.grid.shape
        for row in range(-first_row % self.chip, rows - self.chip + 1, self.chip):
            for col in range(-first_col % self.chip, cols - self.chip + 1, self.chip):
                yield Window(row, col, self.chip, self.chip)

    def corner(self, window: Window) -> tuple[float, float]:
        """Upper left corner (x, y) of a window, units of the CRS."""
        return self.grid.corners(window.row, window.col, (window.height, window.width))[0]

    def outline(self, window: Window) -> Polygon | MultiPolygon:
        """The window in EPSG:4326; raises InvalidItem where grid and CRS do not fit."""
        return self.grid.outline(window.row, window.col, (window.height, window.width))

    def block(self, window: Window) -> str | None:
        """Name of the block that holds the window, None in the guard: `32633_10_b-29_13` (CRS, pixel, row, column).

        Postcondition: two windows of one CRS and pixel size in different blocks are at least `CELL` pixels apart.
        """
        places = []
        for first, start, size in zip(
            self.origin, (window.row, window.col), (window.height, window.width), strict=True
        ):
            number, inside = divmod(first + start, PERIOD)
            if inside + size > BLOCK * CELL:
                return None
            places.append(number)
        return f"{self.crs_tag}_{self.grid.transform[0]:.10g}_b{places[0]}_{places[1]}"

    @property
    def crs_tag(self) -> str:
        """The CRS as a part of names: its EPSG code, else eight digits that stand for its WKT."""
        authority, _, code = self.grid.crs.partition(":")
        return code if authority == "EPSG" else hashlib.sha256(self.grid.crs.encode()).hexdigest()[:8]
