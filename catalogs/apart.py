"""`too_near`: which chips must go so that no ground is both learnt from and tested on; `kept_apart` does so for pair tables.

Names alone do not tell: tiles overlap their neighbours by ten kilometres, zones by more, and SEN12MS-CR and
SEN12MS-CR-TS hold the same ROIs under different names and, twice, in different splits. So the outlines are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from catalogs.places import Reject

if TYPE_CHECKING:
    from catalogs.pairs import PairTable

_YIELDS = (("val", ("test", "other")), ("train", ("val", "test", "other")))
"""Split -> the splits to which its chips give way. Neither test nor other is learnt from, so they may meet."""


def too_near(outlines: Sequence[BaseGeometry], splits: Sequence[str], margin: float = 0.0) -> frozenset[int]:
    """Numbers of the chips of train that meet one of val, test or other, and of those of val that meet test or other.

    outlines: EPSG:4326. margin: share of a chip's width and height by which the other is grown on each side first.
    Postcondition: of the rest no two of different splits meet, but for test and other. Touching edges do not meet.
    """
    named = np.array(splits, dtype=object)
    shapes = np.array(outlines, dtype=object)
    dropped: set[int] = set()
    if len(set(splits)) < 2:
        return frozenset(dropped)
    tree = shapely.STRtree(shapes)
    grown = _grown(shapes, margin)
    for split, against in _YIELDS:
        others = [number for number in np.flatnonzero(np.isin(named, against)).tolist() if number not in dropped]
        if not others:
            continue
        pairs = tree.query(grown[others], predicate="intersects").T.tolist()
        mine = [(others[other], chip) for other, chip in pairs if named[chip] == split]
        dropped.update(chip for other, chip in mine if not shapely.touches(grown[other], shapes[chip]))
    return frozenset(dropped)


def kept_apart(tables: Sequence[PairTable]) -> tuple[list[PairTable], tuple[Reject, ...]]:
    """`tables`, to be used together, without rows for training whose ground is validated or tested on in any of them.

    A reject names each group that lost rows, and how many. What is left of a table may be empty.
    """
    splits = [split for table in tables for split in table.frame["split"]]
    outlines = [outline for table in tables for outline in table.frame.geometry]
    dropped = too_near(outlines, splits)
    kept, rejects, first = [], [], 0
    for table in tables:
        gone = np.array([first + row in dropped for row in range(len(table.frame))], dtype=bool)
        first += len(table.frame)
        kept.append(replace(table, frame=table.frame[~gone]) if gone.any() else table)
        for (group, split), count in table.frame[gone].groupby(["group", "split"]).size().items():
            reason = f"{count} of its rows for {split} lie on ground of another split: left out"
            rejects.append(Reject(f"{table.name}: {group}", reason))
    return kept, tuple(rejects)


def _grown(outlines: np.ndarray, margin: float) -> np.ndarray:
    """The boxes around `outlines`, grown; `outlines` as they are for no margin, and where they cross the antimeridian."""
    if not margin:
        return outlines
    west, south, east, north = shapely.bounds(outlines).T
    wide, high = margin * (east - west), margin * (north - south)
    # A chip in two parts at the antimeridian seems as wide as the Earth.
    whole = shapely.get_num_geometries(outlines) == 1
    return np.where(whole, shapely.box(west - wide, south - high, east + wide, north + high), outlines)
