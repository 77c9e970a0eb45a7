"""`Window` and `split`: a span of time in pieces, each of them run by itself, oldest first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, time, timedelta

from pipeline.errors import InvalidSettings

_TICK = timedelta(microseconds=1)
"""Between the end of a window and the start of the next; times of scenes are not finer."""
_DAYS = re.compile(r"(?:(\d{1,6})\s*(?:d|days?)?|P(\d{1,6})D)", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Window:
    """A span of time."""

    start: datetime
    """First moment, UTC."""
    end: datetime
    """Last moment, UTC, inclusive."""

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise InvalidSettings(f"window {self.start} / {self.end} ends before it begins")

    @property
    def dates(self) -> str:
        """As `catalogs.dates` reads it back: days where it begins and ends with a day, else moments.

        >>> Window(datetime(2023, 8, 1, tzinfo=UTC), datetime(2023, 8, 31, 23, 59, 59, 999999, tzinfo=UTC)).dates
        '2023-08-01/2023-08-31'
        """
        if self.start.time() == time.min and self.end.time() == time.max:
            return f"{self.start:%Y-%m-%d}/{self.end:%Y-%m-%d}"
        return f"{self.start.isoformat()}/{self.end.isoformat()}"


def step_days(step: str) -> int | None:
    """Days in `10`, `10d` or `P10D`; None for `month`. Raises InvalidSettings for anything else.

    >>> step_days("10d"), step_days("month")
    (10, None)
    """
    if step.strip().lower() in ("month", "months"):
        return None
    match = _DAYS.fullmatch(step.strip())
    days = int(match[1] or match[2]) if match else 0
    if days < 1:
        raise InvalidSettings(f"--step {step}: give `month`, or a number of days of at least 1, like 10d")
    return days


def split(start: datetime, end: datetime, step: str) -> tuple[Window, ...]:
    """The windows of a span of time, oldest first.

    Every moment from `start` to `end` (UTC, both included) lies in exactly one of them, none reaches beyond; calendar months for
    `month`, else so many days each, counted from the day of `start`; the last one is cut at `end`.
    """
    days = step_days(step)
    windows = []
    first = start
    while first <= end:
        following = _next_month(first) if days is None else _midnight(first, days)
        last = end if following is None else min(following - _TICK, end)
        windows.append(Window(first, last))
        if following is None:
            break
        first = following
    return tuple(windows)


def _next_month(moment: datetime) -> datetime | None:
    """Its first moment; None behind the end of the calendar."""
    if (moment.year, moment.month) == (MAXYEAR, 12):
        return None
    return datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=UTC)


def _midnight(moment: datetime, days: int) -> datetime | None:
    """So many days after the day of `moment`; None behind the end of the calendar."""
    try:
        return datetime(moment.year, moment.month, moment.day, tzinfo=UTC) + timedelta(days=days)
    except OverflowError:
        return None
