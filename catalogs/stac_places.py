"""Places from STAC items: chips of a tile, each with all dates that have the same pixels.

Items of one MGRS tile, processing level and pixel size belong together. Their grid is that of their files, whatever
the items claim; an item on another grid than most of its tile is a reject. An image's href is that of its item, so an
item must be a document of its own.

Splits: by tile, or by the blocks of `catalogs.lattice`. Neighbouring tiles overlap by ten kilometres, and zones by
more, so whatever the split, a chip for training (or validation) that overlaps one of another split, or lies within
half a chip of it, is left out and counted with the guard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import numpy as np

from catalogs.apart import too_near
from catalogs.bands import BANDS
from catalogs.documents import read_json, session
from catalogs.errors import CatalogError, InvalidItem
from catalogs.files import open_sources
from catalogs.geotiff import read_header
from catalogs.grid import Grid, crs_name
from catalogs.hrefs import absolute, is_remote
from catalogs.item import SceneItem
from catalogs.lattice import Lattice
from catalogs.newest import newest
from catalogs.patch import headers_only
from catalogs.places import DatedImage, Found, Place, Progress, Reject, Window, ordered
from catalogs.query import Query
from catalogs.search import search
from catalogs.sources import signed
from catalogs.splits import Splits

NEAR = 0.5
"""Share of a chip's edge that must lie between chips of different splits, at the least."""
Key = tuple[str, str, float]
"""MGRS tile, processing level (empty where it is not known), pixel size."""


def find_stac(
    root: str, splits: Splits, *, chip: int, by: Literal["tile", "block"], query: Query | None, progress: Progress
) -> Found:
    """The chips of the items that `root` holds: a folder of items, or whatever `catalogs.search.search` takes.

    Raises what `search` raises.
    """
    query = query or Query()
    items, rejects = _items(root, query)
    tiles: dict[Key, list[tuple[SceneItem, Grid]]] = {}
    for item, grid in _with_grids(items, progress):
        if isinstance(grid, Reject):
            rejects.append(grid)
        elif item.tile is None:
            rejects.append(Reject(item.origin, "names no MGRS tile, to which its chips could belong"))
        else:
            tiles.setdefault((item.tile, item.level or "", round(grid.transform[0], 9)), []).append((item, grid))
    places: list[Place] = []
    guard = 0
    for key, dated in sorted(tiles.items()):
        common = max((grid for _, grid in dated), key=lambda grid: sum(grid.same_as(other) for _, other in dated))
        rejects += [
            Reject(item.origin, f"lies on another grid than most dates of {key[0]}")
            for item, grid in dated
            if not grid.same_as(common)
        ]
        try:
            lattice = Lattice(common, chip)
            images = [item for item, grid in dated if grid.same_as(common)]
            made = [_chip(key, lattice, window, images, splits, by) for window in _windows(lattice, query)]
        except InvalidItem as error:
            rejects += [Reject(item.origin, str(error)) for item, grid in dated if grid.same_as(common)]
            continue
        guard += made.count(None)
        places += [place for place in made if place is not None]
    near = too_near([place.geometry for place in places], [place.split for place in places], NEAR)
    kept = [place for number, place in enumerate(places) if number not in near]
    where = root if is_remote(root) or not Path(root).exists() else absolute(root)
    return ordered([*kept, *rejects], where, "stac", guard + len(places) - len(kept))


def _items(root: str, query: Query) -> tuple[list[SceneItem], list[Reject]]:
    """The items, each as it is read from its own href, and what is none."""
    path = absolute(root)
    if not is_remote(path) and Path(path).is_dir() and not _is_catalogue(Path(path)):
        found, rejects = _loose(Path(path))
        return newest(item for item in found if query.matches(item)), rejects
    result = search(query, root)
    rejects = [Reject(problem.href, problem.reason) for problem in result.problems]
    shared = Counter(item.origin for item in result)
    items = []
    for item in result:
        try:
            if shared[item.origin] > 1:
                raise InvalidItem(f"{item.id} stands in one document with others: write each item to a file of its own")
            items.append(item if is_remote(item.origin) else open_sources([item.origin])[0])
        except CatalogError as error:
            rejects.append(_reject(item.origin, error))
    return items, rejects


def _is_catalogue(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("catalog.json", "collection.json"))


def _loose(folder: Path) -> tuple[list[SceneItem], list[Reject]]:
    """The items in a folder and below it, without a catalogue that leads to them. Other JSON is none of our business."""
    items: list[SceneItem] = []
    rejects: list[Reject] = []
    with session() as io:
        for path in sorted(folder.rglob("*.json")):
            if any(part.startswith(".") for part in path.relative_to(folder).parts):
                continue
            try:
                if read_json(str(path), io).get("type") == "Feature":
                    items += open_sources([str(path)])
            except CatalogError as error:
                rejects.append(_reject(str(path), error))
    return items, rejects


def _with_grids(items: Sequence[SceneItem], progress: Progress) -> Iterator[tuple[SceneItem, Grid | Reject]]:
    """Each item with the grid of its files. One after the other: GDAL holds Python's lock while it opens a file."""
    for number, item in enumerate(items, 1):
        progress("headers", number, len(items))
        try:
            yield item, _grid(item)
        except CatalogError as error:
            yield item, _reject(item.origin, error)


def _grid(item: SceneItem) -> Grid:
    """The finest grid among the bands of an item, from their files; all must cover the same ground.

    Of remote bands one of each native pixel size is looked at: a header takes several requests.
    """
    from rasterio.crs import CRS

    remote = {
        BANDS[name].gsd: asset.href for name, asset in reversed(list(item.bands.items())) if is_remote(asset.href)
    }
    local = [asset.href for asset in item.bands.values() if not is_remote(asset.href)]
    grids: dict[str, Grid] = {}
    for href in dict.fromkeys([*local, *remote.values()]):
        opened = signed(href)
        try:
            # Beside a local file a sidecar may hold its grid; nobody asks a server for one.
            with headers_only() if is_remote(href) else nullcontext():
                header = read_header(opened)
        except InvalidItem as error:
            # A signature is a secret, and rejects are written to a file.
            raise InvalidItem(str(error).replace(opened, href.partition("?")[0])) from None
        grids[href] = Grid(crs_name(CRS.from_wkt(header.crs)), header.transform, header.shape)
    finest = min(grids.values(), key=lambda grid: abs(grid.transform[0]))
    for href, grid in grids.items():
        pixel = abs(grid.transform[0])
        apart = np.abs(np.subtract(grid.corners(), finest.corners())).max()
        if grid.crs != finest.crs or apart > pixel:
            raise InvalidItem(f"{href.partition('?')[0]}: covers other ground than the finest band of {item.id}")
    return finest


def _windows(lattice: Lattice, query: Query) -> Iterator[Window]:
    """The chips of a lattice that touch the area asked for."""
    for window in lattice.windows():
        if query.aoi is None or query.aoi.geometry.intersects(lattice.outline(window)):
            yield window


def _chip(
    key: Key,
    lattice: Lattice,
    window: Window,
    items: Sequence[SceneItem],
    splits: Splits,
    by: Literal["tile", "block"],
) -> Place | None:
    """The place at `window`; None in the guard. A tile that the splits name is one group, blocks or not."""
    tile, level, pixel = key
    group = tile if by == "tile" or tile in splits.groups else lattice.block(window)
    if group is None:
        return None
    x, y = lattice.corner(window)
    dated = sorted(items, key=lambda item: (item.datetime, item.id))
    return Place(
        id="_".join(part for part in (tile, level, *(f"{number:.10g}" for number in (pixel, x, y))) if part),
        group=group,
        split=splits.of(group),
        layout="stac",
        images=tuple(DatedImage(item.origin, item.datetime) for item in dated),
        window=window,
        crs=lattice.grid.crs,
        geometry=lattice.outline(window),
    )


def _reject(href: str, error: CatalogError) -> Reject:
    return Reject(href, str(error).removeprefix(f"{href}: "))
