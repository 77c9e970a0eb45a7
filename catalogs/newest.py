"""`newest`: of several processings of one acquisition, the newest.

ESA reprocesses scenes, and providers keep the old ones. Two items are the same acquisition where tile, level and
datatake (or, where that is not stated, the time to the second) are equal and the smaller footprint lies at least half
in the other: a tile that was downlinked in two parts has two items of one datatake, and both are needed. Where a
catalogue also holds products of ours, the observation they were made from comes before them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from catalogs.item import SceneItem

_SEQUENCE = re.compile(r"_(\d+)_L(?:1C|2A)$")
_GENERATED = re.compile(r"_(\d{8}T\d{6})(?:\.SAFE)?$")


def newest(items: Iterable[SceneItem]) -> list[SceneItem]:
    """`items` without the older processings: observations before products of ours, newest baseline first, then sequence number, generation time, id."""
    groups: dict[object, list[SceneItem]] = {}
    for item in items:
        groups.setdefault(_acquisition(item), []).append(item)
    kept: list[SceneItem] = []
    for group in groups.values():
        chosen: list[SceneItem] = []
        for item in sorted(group, key=_age, reverse=True):
            if not any(_overlap(item, other) for other in chosen):
                chosen.append(item)
        kept.extend(chosen)
    return kept


def _acquisition(item: SceneItem) -> tuple[str, ...]:
    properties = item.stac.get("properties", {})
    if item.tile is None:
        return (item.origin, item.id)
    # The datatake's id ends in the processing baseline.
    datatake = str(properties.get("s2:datatake_id") or "").rpartition("_N")[0]
    return (item.tile, item.level or "", datatake or item.datetime.strftime("%Y%m%dT%H%M%S"))


def _age(item: SceneItem) -> tuple[bool, str, int, str, str, str]:
    properties = item.stac.get("properties", {})
    sequence = str(properties.get("s2:sequence") or properties.get("sentinel:sequence") or "")
    if not sequence.isdecimal():
        match = _SEQUENCE.search(item.id)
        sequence = match[1] if match else "0"
    generated = str(properties.get("s2:generation_time") or "")
    if not generated:
        match = _GENERATED.search(str(properties.get("s2:product_uri") or item.id))
        generated = match[1] if match else ""
    generated = re.sub(r"\D", "", generated)[:14]
    observed = "declouder:source" not in properties
    return (observed, item.baseline or "", int(sequence), generated, str(properties.get("created") or ""), item.id)


def _overlap(first: SceneItem, second: SceneItem) -> bool:
    if first.geometry is None or second.geometry is None:
        return True
    smaller = min(first.geometry.area, second.geometry.area)
    return bool(smaller == 0 or first.geometry.intersection(second.geometry).area >= 0.5 * smaller)
