"""Look-back windows: `P7D` or `last 7 days`, counted from a moment. A schedule says them once and means other days each time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from pipeline.errors import InvalidSettings

_SPAN = re.compile(r"P(?P<iso>\d+)(?P<letter>[DW])|last\s+(?:(?P<count>\d+)\s+)?(?P<unit>day|week)s?", re.IGNORECASE)
_DAYS = {"D": 1, "W": 7}
_LONGEST = 3660
"""Days; a longer span is a slip, and Sentinel-2 is hardly older."""


def absolute_dates(text: str, moment: datetime) -> str:
    """`text` with a look-back window replaced by its days; every other text as it is.

    moment: when it is looked back from, with a time zone; days are those of UTC. The window reaches from the day that many days before
    to the day of `moment`, both included, so that windows of one day after the other leave no gap.
    Raises InvalidSettings for a window of no day at all, or of more than ten years.

    >>> absolute_dates("P7D", datetime(2023, 8, 10, 6, tzinfo=UTC))
    '2023-08-03/2023-08-10'
    >>> absolute_dates("last 2 weeks", datetime(2023, 8, 20, tzinfo=UTC))
    '2023-08-06/2023-08-20'
    >>> absolute_dates("2023-08-01/..", datetime(2023, 8, 20, tzinfo=UTC))
    '2023-08-01/..'
    """
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        return text
    # Not more digits than a number of days can have: what follows would take its time over thousands of them.
    digits = match["iso"] or match["count"] or "1"
    days = int(digits[:9]) * _DAYS[(match["letter"] or match["unit"][0]).upper()]
    if not 0 < days <= _LONGEST:
        raise InvalidSettings(
            f"--dates {text[:40]}: look back at least one day and at most {_LONGEST}: P7D, or last 7 days"
        )
    last = moment.astimezone(UTC).date()
    return f"{last - timedelta(days=days)}/{last}"
