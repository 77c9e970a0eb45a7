"""The clock: a stage counts while somebody is at it, however many; the longest one is the limit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline import clock as clock_module
from pipeline.clock import Clock


@pytest.fixture
def now(monkeypatch):
    """Seconds, set by the test."""
    time = [0.0]
    monkeypatch.setattr(clock_module.time, "perf_counter", lambda: time[0])
    return time


def test_two_at_once_count_once_and_stages_overlap(now):
    clock = Clock()
    with clock.stage("network"):
        now[0] = 2
        with clock.stage("network"), clock.stage("write"):
            now[0] = 5
        now[0] = 6
    now[0] = 10
    with clock.stage("write"):
        now[0] = 11
    assert clock.seconds == {"network": 6, "write": 4}
    assert clock.limit == "network"
    assert clock.wall == 11


def test_no_stage_is_longer_than_the_whole_with_many_threads():
    clock = Clock()

    def work(_: int) -> None:
        for _ in range(200):
            with clock.stage("read"):
                pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert 0 <= clock.seconds["read"] <= clock.wall


def test_an_error_ends_a_stage_and_nothing_begun_has_no_limit(now):
    clock = Clock()
    assert clock.limit == ""

    def fail() -> None:
        with clock.stage("read"):
            now[0] = 3
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    now[0] = 9
    assert clock.seconds == {"read": 3}


def test_a_stage_is_told_once_when_it_is_to_be_told():
    told = []
    clock = Clock(lambda *what: told.append(what))
    for _ in range(2):
        with clock.stage("mask", told=True), clock.stage("read"):
            pass
    assert told == [("mask", 0, 1)]
