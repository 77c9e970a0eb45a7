"""`choose` and `arrange`: which products a cube is to hold, and in which steps. No pixels.

    a product of a scene that the cube lacks                    a step, in its place on the time axis; on an area's grid its day's step
    a later product of a scene that the cube holds              takes the place of the earlier one
    an earlier product of such a scene                          passed over
    the same product                                            nothing; if its files changed since, it is read again

So the result depends on the set of products only, not on the order in which they came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from odc.geo.geobox import GeoBox

from pipeline.cube_record import MemberRecord, StepRecord
from pipeline.errors import InvalidScene

_SECONDS_PER_DEGREE = 240  # the sun takes a day round the earth


@dataclass(frozen=True)
class CubePlan:
    """The steps that a cube is to have."""

    steps: tuple[StepRecord, ...]
    """In the order of the time axis; as they are in the cube where they are kept, without `files` where they are to be written."""
    kept: Mapping[int, int]
    """Index of a step -> its index in the cube as it is."""

    def unchanged(self, former: Sequence[StepRecord]) -> bool:
        """True where the cube holds all of it already."""
        return len(former) == len(self.steps) == len(self.kept)

    def reorders(self, former: Sequence[StepRecord]) -> bool:
        """True where a step that is there moves or is written anew: data that were opened before would not fit any more."""
        return any(self.kept.get(index) != index for index in range(len(former)))


def choose(
    former: Sequence[StepRecord], given: Sequence[MemberRecord]
) -> tuple[tuple[MemberRecord, ...], dict[str, str]]:
    """The products that a cube with the steps `former` is to hold once it was given `given`, and those passed over -> why."""
    scenes = {member.source: member for step in former for member in step.members}
    passed_over = {}
    for member in given:
        there = scenes.get(member.source)
        if there is None or _follows(member, there):
            if there is not None and there in given:
                passed_over[there.product] = f"followed by {member.product}"
            scenes[member.source] = member
        elif there.product != member.product:
            passed_over[member.product] = f"a later product of {member.source} is there: {there.product}"
    return tuple(scenes.values()), passed_over


def _follows(member: MemberRecord, there: MemberRecord) -> bool:
    if member.product == there.product:
        return member.digest != there.digest
    return (member.created, member.product) > (there.created, there.product)


def arrange(former: Sequence[StepRecord], members: Sequence[MemberRecord], fine: GeoBox | None) -> CubePlan:
    """The steps of `members`, and which of them the cube with the steps `former` holds already.

    fine: the area's finest grid where the scenes of a day are merged. Raises InvalidScene where a day's scenes do not go together.
    """
    grouped: dict[str, list[MemberRecord]] = {}
    longitude = 0.0 if fine is None else _longitude(fine)
    for member in sorted(members, key=lambda entry: (entry.source, entry.product)):
        key = member.source if fine is None else solar_day(member.time, longitude)
        grouped.setdefault(key, []).append(member)
    planned = sorted(
        (StepRecord(members=tuple(group), day="" if fine is None else key) for key, group in grouped.items()),
        key=lambda step: step.order,
    )
    known = {_identity(step): index for index, step in enumerate(former)}
    steps, kept = [], {}
    for index, step in enumerate(planned):
        _check(step)
        old = known.get(_identity(step))
        if old is not None:
            kept[index] = old
        steps.append(step if old is None else former[old])
    return CubePlan(tuple(steps), kept)


def identity(member: MemberRecord) -> tuple[str, str]:
    """What tells one product from another: its folder may move, its pixels change only with its checksums."""
    return member.product, member.digest


def _identity(step: StepRecord) -> tuple[tuple[str, str], ...]:
    return tuple(identity(member) for member in step.members)


def _check(step: StepRecord) -> None:
    encodings = {(member.scale, member.offset) for member in step.members}
    if len(encodings) > 1:
        named = ", ".join(f"{member.product}: {member.scale:g} and {member.offset:g}" for member in step.members)
        raise InvalidScene(f"{step.day}: scenes of different scale and offset cannot be merged ({named})")


def solar_day(time: datetime, longitude: float) -> str:
    """Date by the sun at `longitude` (degrees east), `2023-08-10`: an overpass near midnight UTC is not cut in two.

    >>> from datetime import UTC
    >>> solar_day(datetime(2023, 8, 9, 23, 58, tzinfo=UTC), 151.0)
    '2023-08-10'
    """
    return (time + timedelta(seconds=longitude * _SECONDS_PER_DEGREE)).date().isoformat()


def _longitude(fine: GeoBox) -> float:
    from pyproj import Transformer

    box = fine.boundingbox
    centre = (box.left + box.right) / 2, (box.bottom + box.top) / 2
    return float(Transformer.from_crs(str(fine.crs), "EPSG:4326", always_xy=True).transform(*centre)[0])


def folder_of(member: MemberRecord, cube: Path) -> Path:
    """Where a product was when it came into the cube."""
    return (cube.absolute().parent / member.folder).resolve()
