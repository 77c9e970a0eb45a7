from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogs.errors import InvalidQuery
from catalogs.places import Found, find_places
from catalogs.sen12mscr_ts import SEASONS, contradiction, parse_name
from catalogs.splits import Splits, official_list
from tests.catalogs.trees import make_patch, series_path

DAYS = ("2018-01-06", "2018-02-10", "2018-07-05")


def make_series(root: Path, patch: int, days: tuple[str, ...] = DAYS, roi: int = 73, seed: str = "1868") -> list[Path]:
    return [make_patch(series_path(root, number, day, patch, roi, seed)) for number, day in enumerate(days)]


def find(root: Path, **options: object) -> Found:
    return find_places(str(root), "sen12mscr-ts", **options)  # type: ignore[arg-type]


def test_the_real_tree(shared_data: Path) -> None:
    root = shared_data / "SEN12MSCRTS"
    found = find(root)
    assert found.rejects == ()
    dates = {place.id: [image.date for image in place.images] for place in found.places}
    names = sorted(path.name for path in root.rglob("*.tif"))
    patches = {name.rpartition("_")[2] for name in names}
    assert set(dates) == {f"ROIs2017_146_patch_{patch.removesuffix('.tif')}" for patch in patches}
    assert len(dates) == 28
    # Thirty dates, each named in its file: the ninth underscore-separated field from the start.
    series = sorted(
        datetime.fromisoformat(name.split("_")[5]).replace(tzinfo=UTC) for name in names if "_patch_0." in name
    )
    assert dates["ROIs2017_146_patch_0"] == series
    assert len(series) == 30
    assert sum(map(len, dates.values())) == len(names)
    assert {(place.group, place.split, place.window, place.crs) for place in found.places} == {
        ("ROIs2017_146", "train", None, "EPSG:4326")
    }
    assert {image.side for place in found.places for image in place.images} == {None}


def test_radar_of_a_date_is_found_by_its_number(tmp_path: Path) -> None:
    make_series(tmp_path, 4)
    radar = make_patch(series_path(tmp_path, 1, "2018-02-08", 4, sensor="s1"))
    make_patch(series_path(tmp_path, 7, "2018-02-08", 4, sensor="s1"))
    bad = make_patch(series_path(tmp_path, 2, "2018-07-04", 4, sensor="s1"), count=1)
    lonely = make_patch(series_path(tmp_path, 2, "2018-07-04", 5, sensor="s1"))
    found = find(tmp_path)
    assert [image.s1_href for image in found.places[0].images] == [None, str(radar), None]
    assert {reject.path: reject.reason for reject in found.rejects} == {
        str(bad): "has 1 band, a Sentinel-1 patch has 2",
        str(lonely): "no Sentinel-2 file of this patch",
    }


def test_a_bad_date_is_a_date_less(tmp_path: Path) -> None:
    good, empty, shifted = make_series(tmp_path, 4, ("2018-01-06", "2018-01-11", "2018-01-16"))
    more = make_series(tmp_path, 5, DAYS[:1])
    make_patch(series_path(tmp_path, 3, "2018-01-21", 4))
    empty.write_bytes(b"")
    make_patch(shifted, origin=(500_010.0, 5_100_000.0))
    foreign = make_patch(tmp_path / "s2_ROIs1868_73_ImgNo_1_2018-02-30_patch_4.tif")
    more[0].write_bytes(b"gone")
    found = find(tmp_path)
    assert [(place.id, len(place.images)) for place in found.places] == [("ROIs1868_73_patch_4", 2)]
    assert found.places[0].images[0].href == str(good)
    told = {reject.path: reject.reason for reject in found.rejects}
    assert set(told) == {str(path) for path in (empty, shifted, foreign, more[0])}
    assert told[str(empty)] == "is empty (0 bytes): download it again"
    assert told[str(shifted)] == "lies on another grid than most dates of this patch"
    assert told[str(foreign)].startswith("its name is none of SEN12MS-CR-TS")


def test_two_images_of_one_date_or_number(tmp_path: Path) -> None:
    make_series(tmp_path, 4)
    same_date = make_patch(series_path(tmp_path, 9, DAYS[1], 4))
    same_number = make_patch(series_path(tmp_path, 2, "2018-07-06", 4))
    found = find(tmp_path)
    assert len(found.places[0].images) == 3
    assert {reject.path for reject in found.rejects} == {str(same_date), str(same_number)}


def test_the_two_official_splits_contradict_each_other_in_two_rois() -> None:
    here, there = official_list("sen12mscr-ts"), official_list("sen12mscr")
    expected = {
        f"ROIs{seed}_{roi}"
        for seed, season in SEASONS.items()
        for roi in range(200)
        if (split := here.get(f"ROIs{seed}_{roi}"))
        and (other := there.get(f"ROIs{seed}_{season}_{roi}"))
        and split != other
    }
    assert expected == {"ROIs1868_100", "ROIs2017_130"}
    assert {group for group in here if contradiction(group)} == expected


def test_a_roi_on_which_the_official_splits_disagree_is_left_out(tmp_path: Path) -> None:
    for roi in (100, 73, 10):
        make_series(tmp_path, 4, roi=roi)
    make_series(tmp_path, 5, roi=100)
    found = find(tmp_path)
    assert {place.group: place.split for place in found.places} == {"ROIs1868_73": "test", "ROIs1868_10": "other"}
    (reject,) = found.rejects
    assert reject.path == str(tmp_path / "ROIs1868" / "100" / "S2")
    assert reject.reason.startswith("ROIs1868_100 is test in SEN12MS-CR-TS and train in SEN12MS-CR: left out")

    # Whoever names it knows better.
    own = find(tmp_path, splits=Splits("mine", {"ROIs1868_100": "train"}))
    assert {place.group: place.split for place in own.places}["ROIs1868_100"] == "train"
    assert own.rejects == ()


def test_pairs_are_no_series(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidQuery, match=r"nothing found of layout sen12mscr-ts \(61 rejected; .*its name is none of"
    ):
        find(shared_data / "SEN12MSCR")
    with pytest.raises(InvalidQuery, match=r"nothing found of layout sen12mscr-ts \(0 rejected\)"):
        find(tmp_path)


@given(
    seed=st.sampled_from(sorted(SEASONS)),
    roi=st.integers(0, 200),
    patch=st.integers(0, 700),
    number=st.integers(0, 29),
    day=st.integers(0, 364),
    junk=st.text(min_size=1, max_size=3),
)
def test_a_name_means_one_thing_or_nothing(seed: str, roi: int, patch: int, number: int, day: int, junk: str) -> None:
    date = datetime(2018, 1, 1, tzinfo=UTC) + timedelta(days=day)
    name = f"s2_ROIs{seed}_{roi}_ImgNo_{number}_{date:%Y-%m-%d}_patch_{patch}.tif"
    assert parse_name(name) == ((seed, roi, patch), "s2", number, date)
    assert parse_name(name + junk) is None
    assert parse_name(junk + name) is None
