"""SEN12MS-CR trees: a place a patch, its clear and its cloudy side, paired by what their names say.

`ROIs1158_spring_s2/s2_1/ROIs1158_spring_s2_1_p407.tif` and the like, mediaTUM 1554803. The whole name must fit; files
belong together where (seed, season, roi, patch) are equal, wherever in the tree they lie.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from catalogs.errors import InvalidItem
from catalogs.grid import Grid
from catalogs.patch import OPTICAL, RADAR, headers_only, read_patch
from catalogs.places import DatedImage, Found, Place, Progress, Reject, ordered
from catalogs.splits import Splits
from catalogs.tree import rasters_in

_NAME = re.compile(
    r"ROIs(1158|1868|1970|2017)_(spring|summer|fall|winter)_(s1|s2_cloudy|s2)_(0|[1-9][0-9]*)_p(0|[1-9][0-9]*)\.tif"
)
_SIDES = {"s2": "clear", "s2_cloudy": "cloudy"}
Key = tuple[str, str, int, int]
"""Seed, season, ROI, patch."""


def parse_name(name: str) -> tuple[Key, str] | None:
    """((seed, season, roi, patch), `s1` | `s2` | `s2_cloudy`) of a file name; None where the whole name does not fit.

    >>> parse_name("ROIs1158_spring_s2_cloudy_1_p407.tif")
    (('1158', 'spring', 1, 407), 's2_cloudy')
    >>> parse_name("ROIs1158_spring_s2_1_p407_copy.tif")
    """
    match = _NAME.fullmatch(name)
    if not match:
        return None
    seed, season, side, roi, patch = match.groups()
    return (seed, season, int(roi), int(patch)), side


def find_pairs(root: str, splits: Splits, progress: Progress) -> Found:
    """The patches below `root` that have both sides. Raises InvalidQuery for a root that is no readable folder.

    One bad file is one reject, and its partner goes with it without a word; a patch without its Sentinel-1 file, or
    with a bad one, is kept.
    """
    files, rejects = rasters_in(root)
    sides: dict[Key, dict[str, Path]] = {}
    for path in files:
        parsed = parse_name(path.name)
        if parsed is None:
            rejects.append(
                Reject(
                    str(path),
                    "its name is none of SEN12MS-CR: ROIs<seed>_<season>_<s1|s2|s2_cloudy>_<roi>_p<patch>.tif",
                )
            )
            continue
        key, side = parsed
        first = sides.setdefault(key, {}).setdefault(side, path)
        if first != path:
            rejects.append(Reject(str(path), f"a second file of this name; read is {first}"))
    entries: list[Place | Reject] = []
    with headers_only():
        for number, (key, paths) in enumerate(sorted(sides.items()), 1):
            progress("headers", number, len(sides))
            entries.extend(_place(key, paths, splits))
    return ordered([*entries, *rejects], root, "sen12mscr")


def _place(key: Key, paths: Mapping[str, Path], splits: Splits) -> Iterator[Place | Reject]:
    """The place of one patch where it can be one, and a reject for each file that is wrong."""
    missing = [side for side in _SIDES if side not in paths]
    if missing:
        yield Reject(str(min(paths.values())), f"no {' and no '.join(missing)} file of this patch")
        return
    grids: dict[str, Grid] = {}
    for side, path in sorted(paths.items()):
        try:
            grids[side] = read_patch(path, RADAR if side == "s1" else OPTICAL)
        except InvalidItem as error:
            kept = ": the pair is kept without it" if side == "s1" else ""
            yield Reject(str(path), f"{error}{kept}")
    if not grids.keys() >= _SIDES.keys():
        return
    if not grids["s2_cloudy"].same_as(grids["s2"]):
        yield Reject(str(paths["s2_cloudy"]), f"lies on another grid than {paths['s2'].name}")
        return
    if "s1" in grids and not grids["s1"].same_as(grids["s2"]):
        yield Reject(str(paths["s1"]), f"lies on another grid than {paths['s2'].name}: the pair is kept without it")
        del grids["s1"]
    try:
        outline = grids["s2"].outline()
    except InvalidItem as error:
        yield Reject(str(paths["s2"]), str(error))
        return
    seed, season, roi, patch = key
    group = f"ROIs{seed}_{season}_{roi}"
    radar = str(paths["s1"]) if "s1" in grids else None
    yield Place(
        id=f"{group}_p{patch}",
        group=group,
        split=splits.of(group),
        layout="sen12mscr",
        images=tuple(DatedImage(str(paths[side]), None, name, radar) for side, name in _SIDES.items()),  # type: ignore[arg-type]
        window=None,
        crs=grids["s2"].crs,
        geometry=outline,
    )
