"""SEN12MS-CR-TS trees: a place a patch of a ROI, with all its dates of 2018.

`ROIs2017/146/S2/14/s2_ROIs2017_146_ImgNo_14_2018-06-25_patch_110.tif` and the like: ROI, number, date and patch are in
the name, which must fit whole. Sentinel-1 of a date is the file with the same ROI, number and patch; its own date is
some days away.

SEN12MS-CR holds most of the same ROIs, and the two official splits contradict each other in 1868/100 (train there, test
here) and 2017/130 (val there, train here). A model trained on both would have seen what it is tested on, so with
`Splits.official()` such a ROI is left out here, as a reject. Splits of one's own that name both are taken as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from catalogs.errors import InvalidItem
from catalogs.grid import Grid
from catalogs.patch import OPTICAL, RADAR, headers_only, read_patch
from catalogs.places import DatedImage, Found, Place, Progress, Reject, ordered
from catalogs.splits import Splits, official_list
from catalogs.tree import rasters_in

_NUMBER = "(0|[1-9][0-9]*)"
_NAME = re.compile(
    rf"(s1|s2)_ROIs(1158|1868|1970|2017)_{_NUMBER}_ImgNo_{_NUMBER}_([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})_patch_{_NUMBER}\.tif"
)
SEASONS = {"1158": "spring", "1868": "summer", "1970": "fall", "2017": "winter"}
"""Seed of a ROI -> its season in SEN12MS-CR."""
Key = tuple[str, int, int]
"""Seed, ROI, patch."""
_Dated = dict[int, tuple[datetime, Path]]
"""Number of the image -> its date and file."""


def parse_name(name: str) -> tuple[Key, str, int, datetime] | None:
    """((seed, roi, patch), `s1` | `s2`, number, date) of a file name; None where the whole name does not fit.

    >>> parse_name("s2_ROIs2017_146_ImgNo_3_2018-02-10_patch_0.tif")[:3]
    (('2017', 146, 0), 's2', 3)
    >>> parse_name("s2_ROIs2017_146_ImgNo_3_2018-02-31_patch_0.tif")
    """
    match = _NAME.fullmatch(name)
    if not match:
        return None
    sensor, seed, roi, number, day, patch = match.groups()
    try:
        date = datetime.fromisoformat(day).replace(tzinfo=UTC)
    except ValueError:
        return None
    return (seed, int(roi), int(patch)), sensor, int(number), date


def contradiction(group: str) -> str | None:
    """How the official splits of the two data sets contradict each other about the ROI `ROIs1868_100`; None if not.

    >>> contradiction("ROIs1868_100"), contradiction("ROIs2017_146")
    ('test in SEN12MS-CR-TS and train in SEN12MS-CR', None)
    """
    seed, _, roi = group.removeprefix("ROIs").partition("_")
    here = official_list("sen12mscr-ts").get(group)
    there = official_list("sen12mscr").get(f"ROIs{seed}_{SEASONS.get(seed)}_{roi}")
    if here is None or there is None or here == there:
        return None
    return f"{here} in SEN12MS-CR-TS and {there} in SEN12MS-CR"


def find_series(root: str, splits: Splits, progress: Progress) -> Found:
    """The patches below `root`, each with its dates. Raises InvalidQuery for a root that is no readable folder.

    A bad file is one reject and one date less; a patch stays as long as a date of it does.
    """
    files, rejects = rasters_in(root)
    series: dict[Key, dict[str, _Dated]] = {}
    for path in files:
        parsed = parse_name(path.name)
        if parsed is None:
            rejects.append(
                Reject(
                    str(path),
                    "its name is none of SEN12MS-CR-TS: <s1|s2>_ROIs<seed>_<roi>_ImgNo_<n>_<yyyy-mm-dd>_patch_<n>.tif",
                )
            )
            continue
        key, sensor, number, date = parsed
        dated = series.setdefault(key, {"s1": {}, "s2": {}})[sensor]
        twin = next(
            (known for at, (day, known) in dated.items() if at == number or (day == date and sensor == "s2")), None
        )
        if twin is not None:
            rejects.append(Reject(str(path), f"a second image of this patch and date or number; read is {twin}"))
            continue
        dated[number] = (date, path)
    entries: list[Place | Reject] = []
    dropped: dict[str, list[Path]] = {}
    with headers_only():
        for done, (key, sensors) in enumerate(sorted(series.items()), 1):
            progress("headers", done, len(series))
            group = f"ROIs{key[0]}_{key[1]}"
            if splits.name == "official" and contradiction(group):
                dropped.setdefault(group, []).extend(
                    path for _, path in [*sensors["s2"].values(), *sensors["s1"].values()]
                )
                continue
            entries.extend(_place(key, group, sensors, splits))
    for group, paths in dropped.items():
        folder = os.path.commonpath([path.parent for path in paths])
        reason = f"{group} is {contradiction(group)}: left out; to use it, name its split in a file (--splits FILE)"
        rejects.append(Reject(folder, reason))
    return ordered([*entries, *rejects], root, "sen12mscr-ts")


def _place(key: Key, group: str, sensors: Mapping[str, _Dated], splits: Splits) -> Iterator[Place | Reject]:
    """The place of one patch where a date of it can be read, and a reject for each file that is wrong."""
    if not sensors["s2"]:
        yield Reject(str(min(path for _, path in sensors["s1"].values())), "no Sentinel-2 file of this patch")
        return
    grids: dict[str, dict[int, Grid]] = {"s1": {}, "s2": {}}
    for sensor, kind in (("s2", OPTICAL), ("s1", RADAR)):
        for number, (_, path) in sorted(sensors[sensor].items()):
            try:
                grids[sensor][number] = read_patch(path, kind)
            except InvalidItem as error:
                yield Reject(str(path), str(error))
    if not grids["s2"]:
        return
    reference = _commonest(grids["s2"])
    for sensor, found in grids.items():
        for number in [number for number, grid in found.items() if not grid.same_as(reference)]:
            del found[number]
            yield Reject(str(sensors[sensor][number][1]), "lies on another grid than most dates of this patch")
    try:
        outline = reference.outline()
    except InvalidItem as error:
        yield Reject(str(min(path for _, path in sensors["s2"].values())), str(error))
        return
    dates = sorted((sensors["s2"][number][0], number) for number in grids["s2"])
    yield Place(
        id=f"{group}_patch_{key[2]}",
        group=group,
        split=splits.of(group),
        layout="sen12mscr-ts",
        images=tuple(
            DatedImage(
                str(sensors["s2"][number][1]),
                date,
                None,
                str(sensors["s1"][number][1]) if number in grids["s1"] else None,
            )
            for date, number in dates
        ),
        window=None,
        crs=reference.crs,
        geometry=outline,
    )


def _commonest(grids: Mapping[int, Grid]) -> Grid:
    """The grid that most dates have; of several the one of the earliest image."""
    candidates = [grids[number] for number in sorted(grids)]
    return max(candidates, key=lambda grid: sum(grid.same_as(other) for other in candidates))
