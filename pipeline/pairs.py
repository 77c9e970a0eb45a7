"""`build_pairs`: the places that `catalogs` found become a pair table: each image is measured once, each pair judged.

SEN12MS-CR says which side is clear, and is measured to see whether that holds. Elsewhere the dates decide: each one with
cloud is paired with the nearest clear date, and a clear date that serves no pair is ground for synthetic clouds. Places
are measured one by one, a few side by side, so memory holds a few chips whatever the catalogue's size; the table is the
same in whatever order they end.
"""

from __future__ import annotations

import importlib.util
import re
import threading
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from catalogs.errors import CatalogError
from catalogs.pairs import PairTable
from catalogs.places import DatedImage, Found, Place, Reject
from pipeline.ahead import in_order
from pipeline.errors import InvalidSettings, PipelineError
from pipeline.gate import Comparison, GateLimits, Side, clear_fault, compare, judge, measurable, measure
from pipeline.images import ChipImage, ImageReader
from pipeline.progress import Progress, silent

MAX_DAYS = 30
"""Days between the sides of a pair, where dates are known."""
WORKERS = 2
MASKS = ("auto", "scl", "s2cloudless", "csmask")
_URL_QUERY = re.compile(r"(\w+://[^\s?]+)\?\S*")
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Measured:
    """One date of a place that could be read."""

    source: DatedImage
    image: ChipImage
    side: Side


@dataclass
class _Result:
    """What became of one place."""

    rows: list[Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


def build_pairs(
    found: Found,
    *,
    progress: Progress = silent,
    max_days: int = MAX_DAYS,
    limits: GateLimits | None = None,
    mask: str = "auto",
    workers: int = WORKERS,
) -> tuple[PairTable, tuple[Reject, ...]]:
    """The pair table of `found`, and the rejects: those of `found` and what could not be read or paired, ordered by path.

    max_days: most days between the sides of a pair, where dates are known. mask: who finds the clouds of STAC items, one of
    `MASKS`. workers: places that are measured side by side. progress: stage `places`.

    Postcondition: a place is in a row of the table or in a reject; neither depends on `workers`. Nothing that one image
    holds stops the others. Raises InvalidSettings for options that cannot be, and without s2cloudless.
    """
    if max_days < 0 or workers < 1:
        raise InvalidSettings(f"max_days {max_days} must be 0 or more, workers {workers} 1 or more")
    if mask not in MASKS:
        raise InvalidSettings(f"mask {mask!r} is none of {', '.join(MASKS)}: chips are masked again when they are read")
    if found.layout != "stac" and importlib.util.find_spec("s2cloudless") is None:
        raise InvalidSettings(
            f"clouds of {found.layout} are found by s2cloudless, which is not installed: pip install 'declouder[s2cloudless]'"
        )
    chosen = limits or GateLimits()
    local = threading.local()
    readers: list[ImageReader] = []

    def work(place: Place) -> _Result:
        if not hasattr(local, "reader"):
            local.reader = ImageReader()
            readers.append(local.reader)
        return _pairs_of(place, local.reader, max_days, chosen, mask)

    rows: list[Row] = []
    rejects = list(found.rejects)
    try:
        with closing(in_order(work, found.places, workers)) as results:
            for number, result in enumerate(results, 1):
                rows += result.rows
                rejects += result.rejects
                progress("places", number, len(found.places))
    finally:
        for reader in readers:
            reader.close()
    table = PairTable.from_rows(rows, layout=found.layout, root=found.root)
    return table, tuple(sorted(set(rejects), key=lambda reject: (reject.path, reject.reason)))


def _pairs_of(place: Place, reader: ImageReader, max_days: int, limits: GateLimits, mask: str) -> _Result:
    result = _Result()
    dates: list[_Measured] = []
    for source in place.images:
        try:
            image = reader.read(source.href, place.layout, place.window, mask)
        except (PipelineError, CatalogError) as error:
            reason = str(error).removeprefix(f"{source.href}: ")
            # A signature is a secret, and rejects are written to a file.
            result.rejects.append(Reject(source.href, _URL_QUERY.sub(r"\1", reason)))
            continue
        side = measure(image, limits)
        if side.nodata == 1:
            result.rejects.append(Reject(source.href, f"has no data at {place.id}"))
            continue
        dates.append(_Measured(source, image, side))
    if place.layout == "sen12mscr":
        _given_pair(place, dates, limits, result)
    else:
        _dated_pairs(place, dates, max_days, limits, result)
    return result


def _given_pair(place: Place, dates: list[_Measured], limits: GateLimits, result: _Result) -> None:
    """The one pair of a SEN12MS-CR patch; none where a side could not be read."""
    sides = {date.source.side: date for date in dates}
    if set(sides) >= {"clear", "cloudy"}:
        clear, cloudy = sides["clear"], sides["cloudy"]
        both = compare(clear.image, cloudy.image)
        verdict = judge(clear.side, cloudy.side, both, limits)
        result.rows.append(_row(place, place.id, clear, verdict, limits, cloudy, both))


def _dated_pairs(place: Place, dates: list[_Measured], max_days: int, limits: GateLimits, result: _Result) -> None:
    """Each cloudy date with the nearest clear one; clear dates that serve none, by themselves."""
    dates = sorted(dates, key=lambda date: (_moment(date), date.source.href))
    names = _names([_moment(date) for date in dates])
    faults = {id(date): clear_fault(date.side, limits, limits.clear_date) for date in dates}
    ground = [date for date in dates if faults[id(date)] is None and _covered(date) <= limits.clear_date]
    serving: set[int] = set()
    for name, cloudy in zip(names, dates, strict=True):
        near = [date for date in ground if date is not cloudy and _days(date, cloudy) <= max_days]
        if cloudy.side.cloud < limits.least_cloud or not near:
            continue
        clear = min(near, key=lambda date: (_days(date, cloudy), _moment(date)))
        both = compare(clear.image, cloudy.image)
        verdict = judge(clear.side, cloudy.side, both, limits)
        result.rows.append(_row(place, f"{place.id}_{name}", clear, verdict, limits, cloudy, both))
        if verdict[0] == "ok":
            serving.add(id(clear))
        if verdict[0] == "ok" or _covered(cloudy) > limits.clear_date:
            serving.add(id(cloudy))
    for name, date in zip(names, dates, strict=True):
        if id(date) in serving:
            continue
        if _covered(date) <= limits.clear_date:
            verdict = faults[id(date)] or ("ok", "")
            result.rows.append(_row(place, f"{place.id}_{name}_clear", date, verdict, limits))
        else:
            what = f"{_covered(date):.0%} cloud and shadow, and no clear date within {max_days} days"
            result.rejects.append(Reject(date.source.href, f"{what} at {place.id}"))


def _row(
    place: Place,
    name: str,
    clear: _Measured,
    verdict: tuple[str, str],
    limits: GateLimits,
    cloudy: _Measured | None = None,
    both: Comparison | None = None,
) -> Row:
    window = place.window
    row: Row = {
        "id": name,
        "place": place.id,
        "group": place.group,
        "split": place.split,
        "role": "clear" if cloudy is None else "pair",
        "quality": verdict[0],
        "reason": verdict[1],
        "layout": place.layout,
        "clear_href": clear.source.href,
        "s1_href": clear.source.s1_href,
        "crs": place.crs,
        "clear_date": clear.source.date,
        "mask": clear.image.mask,
        "clear_fraction": clear.side.cloud,
        "snow_clear": clear.side.snow,
        "cirrus_clear": clear.side.cirrus,
        "geometry": place.geometry,
    }
    if window is not None:
        row |= {"row": window.row, "col": window.col, "height": window.height, "width": window.width}
    if cloudy is not None and both is not None:
        shift = measurable(both.shift, limits)
        row |= {
            "cloudy_href": cloudy.source.href,
            "s1_href": cloudy.source.s1_href or clear.source.s1_href,
            "cloudy_date": cloudy.source.date,
            "mask": f"{cloudy.image.mask} + comparison" if both.refined else cloudy.image.mask,
            "cloudy_fraction": both.cloud,
            "snow_cloudy": cloudy.side.snow,
            "joint_difference": both.difference,
            "shift": None if shift is None else shift.length,
        }
    return row


def _names(moments: list[datetime]) -> list[str]:
    """A name for each moment: its day, and its time where two have one day; a number where even that is the same."""
    days = Counter(f"{moment:%Y%m%d}" for moment in moments)
    names = [f"{moment:%Y%m%d}" if days[f"{moment:%Y%m%d}"] == 1 else f"{moment:%Y%m%dT%H%M%S}" for moment in moments]
    return [name if names.count(name) == 1 else f"{name}-{names[:at].count(name) + 1}" for at, name in enumerate(names)]


def _moment(date: _Measured) -> datetime:
    if date.source.date is None:
        raise InvalidSettings(f"{date.source.href}: its date is not known, so it cannot be paired with another date")
    return date.source.date


def _covered(date: _Measured) -> float:
    return date.side.cloud + date.side.shadow


def _days(one: _Measured, other: _Measured) -> float:
    return abs((_moment(one) - _moment(other)).total_seconds()) / 86400
