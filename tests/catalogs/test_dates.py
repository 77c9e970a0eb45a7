from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.dates import FIRST, LAST, parse_dates
from catalogs.errors import InvalidQuery

DAYS = st.dates(date(2015, 7, 1), date(2040, 1, 1))


@settings(deadline=None, max_examples=60)
@given(DAYS, DAYS)
def test_days_are_whole_and_crossed_ones_are_refused(first: date, last: date) -> None:
    if last < first:
        with pytest.raises(InvalidQuery, match="crossed"):
            parse_dates(f"{first}/{last}")
        return
    start, end = parse_dates(f"{first}/{last}")
    assert start == datetime.combine(first, time.min, UTC)
    # Inclusive to the last microsecond, and not one more.
    assert end + timedelta(microseconds=1) == datetime.combine(last + timedelta(days=1), time.min, UTC)


@settings(deadline=None, max_examples=60)
@given(DAYS)
def test_a_single_day_is_the_span_of_that_day(day: date) -> None:
    assert parse_dates(str(day)) == parse_dates(f"{day}/{day}")


def test_open_ends() -> None:
    assert parse_dates("../2023-08-31") == (FIRST, datetime(2023, 8, 31, 23, 59, 59, 999999, tzinfo=UTC))
    assert parse_dates("2023-08-01/..") == (datetime(2023, 8, 1, tzinfo=UTC), LAST)
    assert parse_dates("../..") == parse_dates("/") == (FIRST, LAST)


def test_times_and_zones_become_utc() -> None:
    start, end = parse_dates("2023-08-01T02:00:00+02:00/2023-08-01T12:30:00")
    assert start == datetime(2023, 8, 1, 0, tzinfo=UTC)
    assert end == datetime(2023, 8, 1, 12, 30, tzinfo=UTC)
    assert start.tzinfo == end.tzinfo == UTC


@pytest.mark.parametrize(
    "text", ["", "..", "yesterday", "2023-13-01", "2023-02-30", "2023-08-01/x", "1/2/3", "2023-08-01,2023-08-02"]
)
def test_what_is_no_date_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidQuery) as error:
        parse_dates(text)
    assert repr(text) in str(error.value)
    assert "\n" not in str(error.value)


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=30))
def test_any_text_is_a_span_or_a_clear_refusal(text: str) -> None:
    with contextlib.suppress(InvalidQuery):
        start, end = parse_dates(text)
        assert start <= end
