"""Which dates can become references: the one rule behind the search, the run key and the ranking."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from catalogs.item import BandAsset, SceneItem
from pipeline.candidates import days_between, may_serve

WHEN = datetime(2023, 8, 10, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def item(name: str, when: datetime = WHEN, tile: str | None = "33TWL") -> SceneItem:
    return SceneItem(name, when, {"B04": BandAsset("B04", "B04", f"{name}.tif", 1)}, tile=tile)


@pytest.mark.parametrize(
    ("other", "serves"),
    [
        (item("b", WHEN + timedelta(days=30)), True),
        (item("b", WHEN - timedelta(days=30)), True),
        (item("b", WHEN + timedelta(days=30) + HOUR), False),
        (item("b", WHEN - timedelta(days=30) - HOUR), False),
        (item("b", WHEN + HOUR, tile=None), True),
        (item("b", WHEN + HOUR, tile="33TXL"), False),
        (item("a", WHEN + HOUR), False),
        (item("b", WHEN), False),
    ],
)
def test_another_date_of_the_same_tile_within_the_window(other: SceneItem, serves: bool) -> None:
    assert may_serve(item("a"), other, 30) is serves
    assert may_serve(other, item("a"), 30) is serves


def test_days_are_signed() -> None:
    assert days_between(item("a"), item("b", WHEN - timedelta(hours=36))) == -1.5
