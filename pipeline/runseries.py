"""The time series of a run report: a strip of dates with cover before and after, and charts of NDVI and cover over time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from pipeline.plots import Axis, Series, chart
from pipeline.runentry import RunEntry, mean, percent
from pipeline.viewseries import why_no_ndvi

_DAY = 86400.0
_TICKS = 6
_HIGH = 60
"""Units of the tallest bar of the strip."""


@dataclass(frozen=True)
class DateAxis(Axis):
    """An axis of time: values are seconds since 1970, UTC."""

    def ticks(self) -> list[tuple[float, str]]:
        """Days or months with their names, at most about six.

        >>> day = 86400.0
        >>> [label for _, label in DateAxis("date", 19570 * day, 19590 * day).ticks()]
        ['08-03', '08-07', '08-11', '08-15', '08-19']
        """
        days = (self.high - self.low) / _DAY
        if days <= 150:
            step = max(1, math.ceil(days / _TICKS))
            first = math.floor(self.low / _DAY) + 1
            values = [number * _DAY for number in range(first, math.floor(self.high / _DAY) + 1) if number % step == 0]
            return [(value, f"{datetime.fromtimestamp(value, UTC):%m-%d}") for value in values]
        return self._months()

    def _months(self) -> list[tuple[float, str]]:
        start, end = (datetime.fromtimestamp(value, UTC) for value in (self.low, self.high))
        first, last = 12 * start.year + start.month, 12 * end.year + end.month - 1
        step = max(1, math.ceil((last - first + 1) / _TICKS))
        moments = [datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC) for number in range(first, last + 1, step)]
        return [(moment.timestamp(), f"{moment:%Y-%m}") for moment in moments]


def series_section(entries: Sequence[RunEntry]) -> str:
    """The section as HTML; empty where fewer than two dates are known."""
    dated = [entry for entry in entries if entry.time is not None]
    if len({entry.time for entry in dated}) < 2:
        return ""
    return (
        '<section id="series" aria-labelledby="series-title"><h2 id="series-title">Through time</h2>'
        f'{_strip(dated)}<div class="charts">{_ndvi(dated)}{_cover(dated)}</div></section>'
    )


def _strip(entries: Sequence[RunEntry]) -> str:
    cells = "".join(_cell(entry) for entry in entries)
    sign = '<svg class="sw" viewBox="0 0 11 11" aria-hidden="true"><rect class="{}" width="11" height="11"/></svg>'
    return (
        f'<div class="strip" role="group" aria-label="Dates" tabindex="0">{cells}</div>'
        f'<p class="note">{sign.format("before")}cloud and shadow before, as the mask has them, grown; {sign.format("after")}still cloudy in the product. '
        "A date opens its picture.</p>"
    )


def _cell(entry: RunEntry) -> str:
    assert entry.time is not None  # noqa: S101 - only dated ones come here
    date = f"{entry.time:%Y-%m-%d}"
    tile = f"<span>{escape(entry.tile)}</span>" if entry.tile else ""
    if entry.view is None:
        state = "not shown" if entry.look == "done" else entry.line.state
        return (
            f'<div class="absent st-{entry.look}"><b>{date}</b>{tile}<span class="state">{escape(state)}</span>'
            f"<span>no product</span></div>"
        )
    before, after = entry.view.cover_before, entry.view.cover_after
    words = f"{percent(before)} cloud and shadow before, {percent(after)} after"
    bars = (
        f'<svg viewBox="0 0 60 {_HIGH + 2}" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="ground" x="2" width="26" y="1" height="{_HIGH}"/><rect class="ground" x="32" width="26" y="1" height="{_HIGH}"/>'
        f"{_column(2, before, 'before')}{_column(32, after, 'after')}</svg>"
    )
    shown = (
        f'<b>{date}</b>{tile}{bars}<span class="words"><span>{_short(before)}</span><span>{_short(after)}</span></span>'
    )
    good = entry.look == "done"
    state, sign = ("", "") if good else (f", {entry.line.state}", f' class="odd st-{entry.look}"')
    return (
        f'<button type="button"{sign} data-open="{escape(entry.id)}" title="{escape(f"{entry.title}: {words}{state}")}" '
        f'aria-label="{escape(f"{entry.title}: {words}{state}. Open the picture")}">{shown}</button>'
    )


def _column(x: int, share: float | None, name: str) -> str:
    if not share:
        return ""
    height = max(share * _HIGH, 1.0)
    return f'<rect class="{name}" x="{x}" width="26" y="{_HIGH + 1 - height:.1f}" height="{height:.1f}"/>'


def _short(share: float | None) -> str:
    return percent(share) if share is None or share == 0 or share < 0.0005 else f"{100 * share:.0f} %"


def _ndvi(entries: Sequence[RunEntry]) -> str:
    """Mean NDVI through the gaps; a line of words where no product has the bands."""
    known = [(entry, entry.vegetation) for entry in entries if entry.vegetation is not None]
    if not known:
        return f'<p class="note">{_why_no_ndvi(entries)}</p>'
    whole = _daily((entry, means.whole) for entry, means in known)
    seen = _daily((entry, means.observed) for entry, means in known)
    made, clear = (
        dict(_daily(pairs))
        for pairs in (((entry, means.made) for entry, means in known), ((entry, means.seen) for entry, means in known))
    )
    titles = [
        f"{_day(at)}: {percent(made[at])} of the product made up, {percent(clear[at])} seen clear on the date"
        for at, _ in whole
    ]
    # A mark of twice the width at a date of which everything is made up.
    sizes = [1 + 3 * made[at] for at, _ in whole]
    values = [value for _, value in whole + seen if math.isfinite(value)]
    return chart(
        [
            # The first is drawn on top: its marks are small, and those of the other may be large.
            Series("only what was seen clear on the date", seen, 1, "both", titles=titles),
            Series("product as a whole", whole, 0, "both", titles=titles, sizes=sizes),
        ],
        _dates(entries),
        _ndvi_axis(values),
        title="Mean NDVI through the gaps",
        note="The larger the mark, the more of the product is made up. Of a cloudy date the pixels that were seen are other ground than those of a clear one: where the two lines part, look at the marks. "
        "Several tiles of one day are one point, their mean.",
    )


def _why_no_ndvi(entries: Sequence[RunEntry]) -> str:
    views = [entry.view for entry in entries if entry.view is not None]
    if any(view.out_of_reach for view in views):
        return "No mean NDVI: the bands are in Zarr stores of a bucket, which this page does not read."
    if any(why_no_ndvi(view) is None for view in views):
        return "No mean NDVI: the bands could not be read, or show no ground; see the scenes."
    return "No mean NDVI: no product holds both B04 and B08 in a form that its item explains."


def _cover(entries: Sequence[RunEntry]) -> str:
    shown = [(entry, entry.view) for entry in entries if entry.view is not None]
    lines = (
        ("cloud and shadow before", 1, _daily((entry, _percent(view.cover_before)) for entry, view in shown)),
        (
            "restored with other dates",
            2,
            _daily((entry, _percent(view.provenance.get("restored"))) for entry, view in shown),
        ),
        ("generated without", 4, _daily((entry, _percent(view.provenance.get("generated"))) for entry, view in shown)),
        ("blended rim", 3, _daily((entry, _percent(view.provenance.get("blended"))) for entry, view in shown)),
        ("still cloudy after", 0, _daily((entry, _percent(view.cover_after)) for entry, view in shown)),
    )
    return chart(
        [
            Series(name, points, style, "both", titles=[f"{_day(at)}: {name}, {value:.1f} %" for at, value in points])
            for name, style, points in lines
        ],
        _dates(entries),
        Axis("share of the pixels with data, %", 0.0, 100.0),
        title="Cover before and after, and how it was filled",
        note="What was cloudy before is restored, generated, blended, or still cloudy after.",
    )


def _dates(entries: Sequence[RunEntry]) -> DateAxis:
    times = [_noon(entry) for entry in entries]
    room = max((max(times) - min(times)) * 0.05, _DAY)
    years = sorted({entry.time.year for entry in entries if entry.time is not None})
    return DateAxis("date" if len(years) > 1 else f"date in {years[0]}", min(times) - room, max(times) + room)


def _ndvi_axis(values: Sequence[float]) -> Axis:
    """Tenths around the values, at least three of them: the steps between dates are smaller than the NDVI itself."""
    if not values:
        return Axis("mean NDVI", 0.0, 1.0)
    low, high = math.floor(10 * min(values) - 0.5), math.ceil(10 * max(values) + 0.5)
    low -= max(0, 3 - (high - low))
    return Axis("mean NDVI", low / 10, high / 10)


def _daily(pairs: Iterable[tuple[RunEntry, float | None]]) -> list[tuple[float, float]]:
    """A point for each day, oldest first: noon, and the mean of what is known of it; NaN where nothing is."""
    days: dict[float, list[float | None]] = {}
    for entry, value in pairs:
        days.setdefault(_noon(entry), []).append(value)
    means = {day: mean(values) for day, values in sorted(days.items())}
    return [(day, math.nan if value is None else value) for day, value in means.items()]


def _noon(entry: RunEntry) -> float:
    assert entry.time is not None  # noqa: S101 - only dated ones come here
    return entry.time.replace(hour=12, minute=0, second=0, microsecond=0).timestamp()


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
