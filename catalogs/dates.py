"""Spans of time as the command line writes them: `A/B`, a single day, an open end `..`."""

from __future__ import annotations

from datetime import UTC, datetime, time

from catalogs.errors import InvalidQuery

FIRST = datetime(2015, 6, 23, tzinfo=UTC)
"""Launch of Sentinel-2A: an open start."""
LAST = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
"""An open end."""


def parse_dates(text: str) -> tuple[datetime, datetime]:
    """Start and end (both inclusive, UTC) of `2023-08-01/2023-08-31`, `2023-08-10`, `../2023-08-31`, `2023-08-01/..`.

    A day without a time begins at 00:00 and ends at 23:59:59.999999. Postcondition: start <= end.
    Raises InvalidQuery for anything else, crossed dates included.

    >>> [str(moment) for moment in parse_dates("2023-08-10")]
    ['2023-08-10 00:00:00+00:00', '2023-08-10 23:59:59.999999+00:00']
    """
    first, slash, second = text.strip().partition("/")
    if not slash:
        second = first
    start = FIRST if slash and first.strip() in ("", "..") else _moment(first, text, time.min)
    end = LAST if slash and second.strip() in ("", "..") else _moment(second, text, time.max)
    if end < start:
        raise InvalidQuery(f"dates {text!r} are crossed: they end before they begin; write the earlier first")
    return start, end


def _moment(part: str, text: str, default: time) -> datetime:
    part = part.strip()
    try:
        moment = datetime.fromisoformat(part)
        if "T" not in part.upper() and ":" not in part:
            moment = datetime.combine(moment.date(), default)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidQuery(
            f"dates {text!r}: {part!r} is no date: write 2023-08-01/2023-08-31, one day, or .. for an open end"
        ) from None
