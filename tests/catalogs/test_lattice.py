from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from catalogs.apart import too_near
from catalogs.errors import InvalidItem
from catalogs.grid import Grid
from catalogs.lattice import CELL, Lattice
from catalogs.places import Window


def grid(x: float, y: float, rows: int, cols: int, pixel: float = 10.0, crs: str = "EPSG:32633") -> Grid:
    return Grid(crs, (pixel, 0.0, x, 0.0, -pixel, y), (rows, cols))


def test_chips_by_hand() -> None:
    # Pixel (0, 0) of this grid is pixel (-510000, 49998) from the origin of the zone; 49998 = 195 * 256 + 78.
    lattice = Lattice(grid(499_980, 5_100_000, 600, 700), 256)
    assert lattice.origin == (-510_000, 49_998)
    windows = list(lattice.windows())
    assert {window.col for window in windows} == {178, 434}
    assert {window.row for window in windows} == {510_000 % 256, 510_000 % 256 + 256}
    assert lattice.corner(windows[0]) == (499_980 + 1780, 5_100_000 - 10 * (510_000 % 256))
    assert (499_980 + 1780) % 2560 == 0, "edges of chips are multiples of a chip from the origin of the zone"


def blocks_of(lattice: Lattice) -> dict[tuple[float, float], str | None]:
    """Corner of each chip -> its block."""
    return {lattice.corner(window): lattice.block(window) for window in lattice.windows()}


WHOLE = {chip: blocks_of(Lattice(grid(399_960, 5_000_040, 7000, 7000), chip)) for chip in (128, 256)}
shifts = st.integers(0, 3000)


@settings(max_examples=60, deadline=None)
@given(
    left=shifts, top=shifts, rows=st.integers(256, 4000), cols=st.integers(256, 4000), chip=st.sampled_from([128, 256])
)
def test_a_crop_has_the_same_chips_and_blocks(left: int, top: int, rows: int, cols: int, chip: int) -> None:
    part = Lattice(grid(399_960 + 10 * left, 5_000_040 - 10 * top, rows, cols), chip)
    found = blocks_of(part)
    # What the crop shows of the tile has the same corners and blocks, and none of the whole chips in it is missing.
    x, y = part.grid.transform[2], part.grid.transform[5]
    inside = {
        corner: block
        for corner, block in WHOLE[chip].items()
        if x <= corner[0] <= x + 10 * (cols - chip) and y >= corner[1] >= y - 10 * (rows - chip)
    }
    shared = {corner: block for corner, block in found.items() if corner in WHOLE[chip]}
    assert shared == inside


@pytest.mark.parametrize("chip", [128, 256])
def test_pixels_of_two_blocks_are_more_than_a_chip_apart(chip: int) -> None:
    lattice = Lattice(grid(399_960, 5_000_040, 5000, 5000), chip)
    blocks: dict[str, set[tuple[int, int]]] = {}
    guard = 0
    for window in lattice.windows():
        name = lattice.block(window)
        guard += name is None
        if name is not None:
            blocks.setdefault(name, set()).add((window.row, window.col))
    assert len(blocks) >= 9
    assert guard > 0
    spans = {
        name: (np.min(list(at), axis=0), np.max(list(at), axis=0) + chip - 1) for name, at in blocks.items()
    }  # first and last pixel, rows and cols
    for (_, (first, last)), (_, (other_first, other_last)) in combinations(spans.items(), 2):
        apart = np.maximum(first - other_last, other_first - last).max()
        assert apart > CELL, "distance of the nearest pixels, on the axis on which they are farther apart"


def test_chips_of_both_sizes_are_in_the_same_blocks() -> None:
    large, small = (Lattice(grid(399_960, 5_000_040, 5000, 5000), chip) for chip in (256, 128))
    quarters = blocks_of(small)
    for window in large.windows():
        x, y = large.corner(window)
        assert quarters[x, y] == quarters[x + 1280, y - 1280] == large.block(window)


def test_neighbouring_tiles_of_a_zone_agree_on_the_ground_that_they_share() -> None:
    west, east = (Lattice(grid(x, 5_000_040, 10_980, 10_980), 256) for x in (399_960.0, 499_980.0))
    first, second = map(blocks_of, (west, east))
    shared = first.keys() & second.keys()
    assert len(shared) > 100
    assert all(first[corner] == second[corner] for corner in shared)


def test_blocks_of_other_zones_and_pixel_sizes_have_other_names() -> None:
    window = Window(256, 256, 256, 256)
    names = {
        Lattice(grid(0, 0, 600, 600, pixel, crs), 256).block(window)
        for pixel in (10.0, 20.0)
        for crs in ("EPSG:32633", "EPSG:32733", 'LOCAL_CS["a"]')
    }
    assert len(names) == 6
    assert "32633_10_b0_0" in names


def test_the_last_bit_of_a_header_does_not_move_the_lattice() -> None:
    for nudge in (-1e-7, 0.0, 1e-7):
        assert Lattice(grid(499_980 + nudge, 5_100_000, 600, 600, 120.0), 256).origin == (-42_500, 4167)


@pytest.mark.parametrize(
    "transform",
    [(10.0, 0.1, 0.0, 0.0, -10.0, 0.0), (10.0, 0.0, 0.0, 0.0, 10.0, 0.0), (-10.0, 0.0, 0.0, 0.0, -10.0, 0.0),
     (10.0, 0.0, 0.0, 0.0, -20.0, 0.0), (float("nan"), 0.0, 0.0, 0.0, -10.0, 0.0)],
)  # fmt: skip
def test_other_grids_have_no_lattice(transform: tuple[float, ...]) -> None:
    with pytest.raises(InvalidItem, match="not north up with square pixels"):
        Lattice(Grid("EPSG:32633", transform, (256, 256)), 256)


def test_outlines_across_the_antimeridian_are_two() -> None:
    lattice = Lattice(grid(814_000, 2_000_000, 1024, 1024, crs="EPSG:32660"), 256)
    kinds = {lattice.outline(window).geom_type for window in lattice.windows()}
    assert kinds == {"Polygon", "MultiPolygon"}


squares = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.sampled_from(["train", "val", "test", "other"])),
    max_size=14,
)


@given(squares=squares, margin=st.sampled_from([0.0, 0.5]))
def test_what_is_kept_is_apart_and_nothing_goes_in_vain(squares: list[tuple[int, int, str]], margin: float) -> None:
    outlines = [box(x, y, x + 3, y + 3) for x, y, _ in squares]
    splits = [split for _, _, split in squares]
    dropped = too_near(outlines, splits, margin)

    def meet(first: int, second: int) -> bool:
        # Squares of 3: less than 3 apart (with a margin 4.5) on both axes.
        (x, y, _), (u, v, _) = squares[first], squares[second]
        return max(abs(x - u), abs(y - v)) < 3 + 3 * margin

    rank = {"train": 0, "val": 1, "test": 2, "other": 2}
    for first, second in combinations(range(len(squares)), 2):
        if {first, second} & dropped or rank[splits[first]] == rank[splits[second]]:
            continue
        assert not meet(first, second)
    for number in dropped:
        assert any(meet(number, other) for other in range(len(squares)) if rank[splits[other]] > rank[splits[number]])
    assert not {splits[number] for number in dropped} & {"test", "other"}
