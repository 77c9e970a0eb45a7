"""The rows of a split: all of them are either taken or told, and nothing that must not be is both learnt from and tested on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from catalogs.pairs import PairTable
from catalogs.splits import Splits, split_hash
from pipeline.errors import InvalidSettings
from pipeline.heldout import HeldOut
from tests.pipeline.made_cases import made_series, made_table, with_split


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> PairTable:
    return made_table(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> PairTable:
    return made_series(tmp_path_factory.mktemp("series"))


def test_every_row_of_the_split_is_taken_or_told(table: PairTable) -> None:
    for split in ("train", "val", "test", "all"):
        held = HeldOut.of([table], split)
        wanted = table.frame if split == "all" else table.frame[table.frame["split"] == split]
        taken = [name for place in held.places for name in place.rows["id"]]
        assert sorted([*taken, *(entry.id for entry in held.left_out)]) == sorted(wanted["id"])
        assert held.rows == len(wanted)
        assert all(set(place.rows["place"]) == {place.id} for place in held.places)
    told = {entry.id: entry.reason for entry in HeldOut.of([table], "test").left_out}
    assert list(told) == ["ROIs1158_spring_1_p3"]
    assert told["ROIs1158_spring_1_p3"].startswith("clear_side_cloudy: ")


def test_pairs_without_cloud_are_ground(table: PairTable) -> None:
    qualities = {place.id: set(place.rows["quality"]) for place in HeldOut.of([table], "test").places}
    assert qualities["ROIs1158_spring_1_p2"] == {"no_cloud"}


def test_a_limit_takes_of_each_group_in_turn(table: PairTable) -> None:
    held = HeldOut.of([table], "test", limit=2)
    assert Counter(place.group for place in held.places) == {"ROIs1158_spring_1": 1, "ROIs1158_spring_2": 1}
    assert [entry.reason for entry in held.left_out if "limit" in entry.reason] == ["beyond the limit of 2 chips"]
    assert held.rows == len(held.left_out) + sum(len(place.rows) for place in held.places)


def test_splits_may_be_given_anew(table: PairTable) -> None:
    splits = Splits("given", {"ROIs1158_spring_4": "test"}, rest="train")
    held = HeldOut.of([table], "test", splits)
    assert [place.id for place in held.places] == ["ROIs1158_spring_4_p1"]
    assert held.split_hash == split_hash((group, splits.of(group)) for group in table.frame["group"])
    assert HeldOut.of([table], "test").split_hash == table.split_hash


def test_ground_that_is_tested_on_elsewhere_does_not_validate(table: PairTable, series: PairTable) -> None:
    """The series lies on the ground of a pair of val; as a part of test it takes that pair away from val."""
    outline = table.frame.set_index("id").geometry["ROIs1158_spring_3_p1"]
    over = replace(series, frame=series.frame.assign(geometry=[outline] * len(series.frame)))
    with pytest.raises(InvalidSettings, match=r"none of the 1 rows .* 'val' .*lies on ground of another split 1"):
        HeldOut.of([table, over], "val")
    assert len(HeldOut.of([table, over], "test").places) == 4
    assert len(HeldOut.of([table, over], "all").places) == 6


def test_an_empty_split_is_told_with_those_there_are(table: PairTable) -> None:
    with pytest.raises(InvalidSettings, match=r"no row in the split 'other'; there are: train 1, val 1, test 4"):
        HeldOut.of([table], "other")
    with pytest.raises(InvalidSettings, match="no pair table: no row in the split 'test'; there are: no row at all"):
        HeldOut.of([], "test")
    snowy = replace(table, frame=table.frame.assign(quality="snow", reason="white"))
    with pytest.raises(InvalidSettings, match=r"none of the 4 rows of the split 'test' can be used: snow 4"):
        HeldOut.of([snowy], "test")


def test_what_cannot_be_asked_for(table: PairTable, series: PairTable) -> None:
    with pytest.raises(InvalidSettings, match="--split tests: train, val, test, other or all are possible"):
        HeldOut.of([table], "tests")
    with pytest.raises(InvalidSettings, match="--limit 0: at least 1 chip"):
        HeldOut.of([table], "test", limit=0)
    with pytest.raises(InvalidSettings, match=r"is in .* and in .*: leave one out"):
        HeldOut.of([table, table], "test")
    elsewhere = with_split(series, "val")
    with pytest.raises(InvalidSettings, match=r"group ROIs2017_146 is test in .* and val in"):
        HeldOut.of([series, elsewhere], "test")
    frame = table.frame.assign(place=[f"../{name}" for name in table.frame["place"]])
    with pytest.raises(InvalidSettings, match="cannot name a file"):
        HeldOut.of([replace(table, frame=frame)], "test")
