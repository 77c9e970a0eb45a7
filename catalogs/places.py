"""`find_places`: the ground that training chips come from: one place, the same pixels on one or more dates. No pixels are read.

A root is a SEN12MS-CR tree, a SEN12MS-CR-TS tree, or anything that holds STAC items; each layout has a module of its
own. What does not fit comes back as a `Reject` with its reason and stops nothing. The result depends on the files and
their names only, never on the order in which a file system lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, get_args

from shapely.geometry import MultiPolygon, Polygon

from catalogs.errors import InvalidQuery

if TYPE_CHECKING:
    from catalogs.query import Query
    from catalogs.splits import Splits

Layout = Literal["sen12mscr", "sen12mscr-ts", "stac"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
SPLITS = ("train", "val", "test", "other")
"""`other`: in no list; neither trained on nor scored unless it is asked for."""
CHIPS = (128, 256)
"""Edges of a chip, pixels."""
Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


@dataclass(frozen=True)
class Window:
    """A part of a file, pixels of the finest grid of its image."""

    row: int
    """First row, from 0."""
    col: int
    """First column, from 0."""
    height: int
    width: int

    def __post_init__(self) -> None:
        if min(self.row, self.col) < 0 or min(self.height, self.width) < 1:
            raise InvalidQuery(f"window {self}: row and col must be 0 or more, height and width 1 or more")


@dataclass(frozen=True)
class DatedImage:
    """One date of a place."""

    href: str
    """Absolute path or URL: a raster of 13 bands (SEN12MS-CR, -TS), or a STAC item."""
    date: datetime | None
    """UTC; None where it is not known (SEN12MS-CR)."""
    side: Literal["clear", "cloudy"] | None = None
    """What the data set says of it, which need not be so; None where it says nothing."""
    s1_href: str | None = None
    """Sentinel-1 of the same ground and about the same time: two bands, VV and VH, dB."""

    def __post_init__(self) -> None:
        if self.date is not None and self.date.tzinfo is None:
            raise InvalidQuery(f"{self.href}: date {self.date} has no time zone")


@dataclass(frozen=True)
class Place:
    """The ground of one chip: the same pixels on one or more dates."""

    id: str
    """Unique among the places of a root; can name a folder."""
    group: str
    """What belongs to one split whole: a ROI (`ROIs1158_spring_39`, `ROIs2017_146`), a tile (`33TWL`), a block of chips."""
    split: str
    """One of `SPLITS`."""
    layout: Layout
    images: tuple[DatedImage, ...]
    """At least one; by date, in SEN12MS-CR the clear side first."""
    window: Window | None
    """None: the whole file."""
    crs: str
    """`EPSG:32633`, or WKT where there is no code."""
    geometry: Polygon | MultiPolygon
    """Outline of the chip in EPSG:4326, in two parts where it crosses the antimeridian."""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise InvalidQuery(f"{self.id}: split {self.split!r} is none of {', '.join(SPLITS)}")
        if not self.images:
            raise InvalidQuery(f"{self.id}: a place without an image")


@dataclass(frozen=True)
class Reject:
    """Something that was left out."""

    path: str
    """Path or URL of the file, folder or item."""
    reason: str
    """One line."""


@dataclass(frozen=True)
class Found:
    """What a root holds."""

    places: tuple[Place, ...]
    """Ordered by id."""
    rejects: tuple[Reject, ...]
    """Ordered by path."""
    guard: int = 0
    """Chips left out because they lie between, or overlap, chips of different splits (STAC only)."""
    root: str = ""
    """The root as an absolute path or URL."""
    layout: Layout = "sen12mscr"


def find_places(
    root: str,
    layout: Layout,
    *,
    splits: Splits | None = None,
    chip: int = 256,
    by: Literal["tile", "block"] = "tile",
    query: Query | None = None,
    progress: Progress | None = None,
) -> Found:
    """The places below `root`.

    splits: who belongs to which split; None: the official lists, for `stac` a hash of the tile or block.
    chip: edge of a chip in pixels, 256 or 128; only `stac` can have 128, patches of the other two are chips as they are.
    by: for `stac`, what belongs to one split: a whole MGRS tile, or blocks of chips with chips left out between them.
    query: for `stac`, which items of the catalogue (area, dates, tile, level).

    Raises InvalidQuery for a root that is missing, of another layout or without any place, and for options that do not
    fit; for `stac` what `catalogs.search.search` raises as well.
    """
    from catalogs.hrefs import absolute
    from catalogs.splits import Splits

    if layout not in LAYOUTS:
        raise InvalidQuery(f"layout {layout!r} is none of {', '.join(LAYOUTS)}")
    if chip not in CHIPS:
        raise InvalidQuery(f"a chip of {chip} pixels: {' or '.join(map(str, CHIPS))} are possible")
    chosen = splits or (Splits.hashed() if layout == "stac" else Splits.official())
    tell = progress or _silent
    if layout == "stac":
        from catalogs.stac_places import find_stac

        found = find_stac(root, chosen, chip=chip, by=by, query=query, progress=tell)
    else:
        if chip != 256:
            raise InvalidQuery(f"a chip of {chip} pixels: patches of {layout} are chips of 256; --chip goes with stac")
        if by != "tile" or query is not None:
            raise InvalidQuery(f"{layout} is split by ROI and read whole: blocks, areas and dates go with stac")
        from catalogs.sen12mscr import find_pairs
        from catalogs.sen12mscr_ts import find_series

        found = (find_pairs if layout == "sen12mscr" else find_series)(absolute(root), chosen, tell)
    if not found.places:
        reasons = "".join(f"; {reject.path}: {reject.reason}" for reject in found.rejects[:1])
        raise InvalidQuery(f"{root}: nothing found of layout {layout} ({len(found.rejects)} rejected{reasons})")
    return found


def ordered(entries: Iterable[Place | Reject], root: str, layout: Layout, guard: int = 0) -> Found:
    """`Found` of all entries, in the order that every layout promises."""
    entries = tuple(entries)
    rejects = {entry for entry in entries if isinstance(entry, Reject)}
    return Found(
        tuple(sorted((entry for entry in entries if isinstance(entry, Place)), key=lambda place: place.id)),
        tuple(sorted(rejects, key=lambda reject: (reject.path, reject.reason))),
        guard,
        root,
        layout,
    )


def _silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
