"""A span of time in windows, and windows that look back."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.dates import FIRST, LAST, parse_dates
from flows.lookback import absolute_dates
from flows.windows import Window, split, step_days
from pipeline.errors import InvalidSettings

LATE = datetime(2035, 1, 1, tzinfo=UTC)
moments = st.datetimes(FIRST.replace(tzinfo=None), LATE.replace(tzinfo=None), timezones=st.just(UTC))
spans = st.tuples(moments, st.timedeltas(timedelta(0), timedelta(days=400))).map(
    lambda span: (span[0], span[0] + span[1])
)
steps = st.one_of(st.just("month"), st.integers(1, 1200).map(lambda days: f"{days}d"))


@settings(deadline=None, max_examples=40)
@given(spans, steps, st.floats(0, 1))
def test_every_moment_lies_in_exactly_one_window_oldest_first(
    span: tuple[datetime, datetime], step: str, share: float
) -> None:
    start, end = span
    windows = split(start, end, step)
    assert list(windows) == sorted(windows)
    assert (windows[0].start, windows[-1].end) == (start, end)
    for one, following in itertools.pairwise(windows):
        assert following.start - one.end == timedelta(microseconds=1)
    moment = start + (end - start) * share
    assert sum(window.start <= moment <= window.end for window in windows) == 1
    for window in windows:
        assert parse_dates(window.dates) == (window.start, window.end)


@settings(deadline=None, max_examples=40)
@given(spans)
def test_months_are_those_of_the_calendar(span: tuple[datetime, datetime]) -> None:
    for window in split(*span, "month"):
        assert (window.start.year, window.start.month) == (window.end.year, window.end.month)


@settings(deadline=None, max_examples=40)
@given(spans, st.integers(1, 1200))
def test_days_are_as_many_as_asked_for_but_in_the_last(span: tuple[datetime, datetime], days: int) -> None:
    windows = split(*span, str(days))
    for window in windows[:-1]:
        assert (window.end.date() - window.start.date()).days == days - 1
    assert (windows[-1].end.date() - windows[-1].start.date()).days <= days - 1


def test_examples() -> None:
    names = [window.dates for window in split(*parse_dates("2023-08-10/2023-10-02"), "month")]
    assert names == ["2023-08-10/2023-08-31", "2023-09-01/2023-09-30", "2023-10-01/2023-10-02"]
    names = [window.dates for window in split(*parse_dates("2023-08-01/2023-08-31"), "P10D")]
    assert names == ["2023-08-01/2023-08-10", "2023-08-11/2023-08-20", "2023-08-21/2023-08-30", "2023-08-31/2023-08-31"]
    assert len(split(*parse_dates("2023-08-01/2023-08-31"), "60")) == 1
    assert split(LAST, LAST, "month") == split(LAST, LAST, "9d") == (Window(LAST, LAST),)
    assert split(FIRST, FIRST, "month") == (Window(FIRST, FIRST),)


@pytest.mark.parametrize("step", ["0", "-3", "0d", "P0D", "week", "", "1.5", "9999999"])
def test_steps_that_are_none(step: str) -> None:
    with pytest.raises(InvalidSettings, match=r"^--step .*like 10d"):
        step_days(step)


def test_a_window_does_not_end_before_it_begins() -> None:
    with pytest.raises(InvalidSettings, match="ends before it begins"):
        Window(LAST, FIRST)


@settings(deadline=None, max_examples=40)
@given(moments, st.integers(1, 3660))
def test_windows_of_one_day_after_the_other_leave_no_gap(moment: datetime, days: int) -> None:
    first = parse_dates(absolute_dates(f"P{days}D", moment))
    following = parse_dates(absolute_dates(f"last {days} days", moment + timedelta(days=1)))
    assert first[0] <= moment <= first[1]
    assert following[0] <= first[1]
    assert (first[1] - first[0]).days == days


@pytest.mark.parametrize("text", ["P0D", "last 0 days", "P99999999999999999999D", "P600W"])
def test_look_back_of_nothing_or_of_ages(text: str) -> None:
    with pytest.raises(InvalidSettings, match="look back at least one day"):
        absolute_dates(text, LAST)


@pytest.mark.parametrize("text", ["2023-08-01/..", "2023-08-10", "P7", "last days of summer", "P1M"])
def test_what_is_no_look_back_is_left_as_it_is(text: str) -> None:
    assert absolute_dates(text, LAST) == text


def test_days_are_those_of_utc() -> None:
    late = datetime.fromisoformat("2023-08-10T23:30:00-04:00")
    assert absolute_dates("last week", late) == "2023-08-04/2023-08-11"
