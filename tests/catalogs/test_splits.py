from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogs.errors import InvalidQuery
from catalogs.places import SPLITS
from catalogs.splits import SHARES, Splits, official_list, split_hash

ENTRY = re.compile(r"ROIs(\d+)_([a-z]+)_s1/s1_(\d+)")


@pytest.fixture(scope="module")
def published(shared_data: Path) -> dict[str, list[str]]:
    """The official lists as they are published: split -> entries `ROIs1158_spring_s1/s1_1`."""
    lists: dict[str, list[str]] = json.loads((shared_data / "sen12mscr_splits.json").read_text())
    assert set(lists) == {"train", "val", "test"}
    return lists


def group_of(entry: str) -> str:
    match = ENTRY.fullmatch(entry)
    assert match, entry
    return "ROIs{}_{}_{}".format(*match.groups())


def path_of(entry: str) -> str:
    """A file of the ROI, as it lies in the data set."""
    folder, roi = entry.split("/")
    return f"{folder}/{roi}/{folder}_{roi.removeprefix('s1_')}_p30.tif"


def usual_loader(entries: list[str], paths: list[str]) -> set[str]:
    """Paths that the usual loader takes for a split: those in which an entry occurs somewhere."""
    return {path for path in paths if any(entry in path for entry in entries)}


def test_the_official_lists_are_the_published_ones(published: dict[str, list[str]]) -> None:
    expected = {group_of(entry): split for split, entries in published.items() for entry in entries}
    assert len(expected) == 175
    assert dict(official_list("sen12mscr")) == expected
    splits = Splits.official()
    assert {group: splits.of(group) for group in expected} == expected


def test_the_lists_have_the_sizes_that_are_published() -> None:
    assert Counter(official_list("sen12mscr").values()) == {"train": 155, "val": 10, "test": 10}
    assert Counter(official_list("sen12mscr-ts").values()) == {"train": 35, "val": 5, "test": 13}
    assert not official_list("sen12mscr").keys() & official_list("sen12mscr-ts").keys()


def test_the_usual_loader_leaks_and_ours_does_not(published: dict[str, list[str]]) -> None:
    paths = {entry: path_of(entry) for entries in published.values() for entry in entries}
    by_loader = {split: usual_loader(entries, list(paths.values())) for split, entries in published.items()}
    leaked = by_loader["train"] & {paths[entry] for entry in published["test"]}
    for roi in (106, 123, 140):
        assert paths[f"ROIs1158_spring_s1/s1_{roi}"] in leaked
    assert len(leaked) >= 5, "the loader's rule puts at least half of the test ROIs into training"

    splits = Splits.official()
    ours = {
        split: {path for entry, path in paths.items() if splits.of(group_of(entry)) == split} for split in published
    }
    for split, entries in published.items():
        assert ours[split] == {paths[entry] for entry in entries}
    assert not ours["train"] & ours["test"]
    assert not ours["train"] & ours["val"]
    assert not ours["val"] & ours["test"]


PREFIXES = ("ROIs1158_spring", "ROIs1868_summer", "ROIs1970_fall", "ROIs2017_winter", "ROIs1158_fall", "ROIs1868", "x")


@given(prefix=st.sampled_from(PREFIXES), roi=st.integers(0, 2000))
def test_a_group_is_in_a_list_by_its_whole_name_or_in_none(prefix: str, roi: int) -> None:
    group, splits = f"{prefix}_{roi}", Splits.official()
    listed = {**official_list("sen12mscr"), **official_list("sen12mscr-ts")}
    assert splits.of(group) == listed.get(group, "other")
    # What only contains a listed name, or is contained in one, is not listed by it.
    for near in (f"{group}0", f"{group}_p1", f"a{group}", f" {group}", group[:-1], group.upper()):
        assert splits.of(near) == listed.get(near, "other")


GROUPS = st.text("s1_0ROI", min_size=1, max_size=6)


@given(groups=st.dictionaries(GROUPS, st.sampled_from(SPLITS), min_size=1, max_size=12))
def test_no_group_is_in_two_splits_whatever_their_names(groups: dict[str, str]) -> None:
    splits = Splits("made", groups)
    members = {split: {group for group in groups if splits.of(group) == split} for split in SPLITS}
    assert sum(map(len, members.values())) == len(groups)
    assert {group: split for split, there in members.items() for group in there} == groups


def test_a_hash_decides_the_same_everywhere() -> None:
    splits = Splits.hashed()
    # Written down once: another machine, another version of Python or of ours must give the same.
    pinned = {
        "33TWL": "train", "29RKH": "train", "18NXL": "val", "32TNS": "test", "32633_120_b-24_2": "test",
        "32629_100_b-16_1": "val",
    }  # fmt: skip
    assert {group: splits.of(group) for group in pinned} == pinned
    drawn = Counter(splits.of(f"tile {number}") for number in range(5000))
    for split, share in SHARES:
        assert abs(drawn[split] / 5000 - share) < 0.02
    assert any(Splits.hashed(1).of(tile) != splits.of(tile) for tile in map(str, range(50)))


@pytest.mark.parametrize("name", ["splits.yaml", "splits.json"])
def test_a_file_of_ones_own(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = {"ROIs1158_spring_39": "test", "33TWL": "other", "ROIs1868_summer_100": "val"}
    path.write_text(
        json.dumps(content) if name.endswith("json") else "".join(f"{k}: {v}\n" for k, v in content.items())
    )
    splits = Splits.read(path)
    assert {group: splits.of(group) for group in content} == content
    assert splits.of("ROIs1158_spring_3") == "other"
    assert splits.name == str(path)


def test_a_file_may_say_what_all_others_are(tmp_path: Path) -> None:
    path = tmp_path / "splits.yaml"
    path.write_text("ROIs1158_spring_39: test\n'*': train\n")
    splits = Splits.read(path)
    assert [splits.of(group) for group in ("ROIs1158_spring_39", "ROIs1158_spring_390", "*")] == [
        "test",
        "train",
        "train",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no splits"),
        ("- a\n- b\n", "holds no splits"),
        ("just words", "holds no splits"),
        ("{}", "holds no splits"),
        ("a: [b", "neither YAML nor JSON"),
        ("a: train\nb: test\na: val\n", "'a' stands there twice"),
        ('{"a": "train", "a": "test"}', "'a' stands there twice"),
        ("a: training\n", "group 'a' has the split 'training': train, val, test, other are possible"),
        ("train: [a, b]\n", "'train'"),
        ("39: test\n", "39: 'test' is no group and its split"),
        ("a:\n", "'a': 'None' is no group and its split"),
        ("'*': rest\n", "the rest has the split 'rest'"),
        ("? [a]\n: train\n", "neither YAML nor JSON"),
        ("!!python/object/apply:os.system [ls]\n", "neither YAML nor JSON"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InvalidQuery) as raised:
        Splits.read(path)
    assert str(raised.value).startswith(str(path))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidQuery, match=r"none\.yaml: cannot be read: No such file"):
        Splits.read(tmp_path / "none.yaml")
    with pytest.raises(InvalidQuery, match="cannot be read: Is a directory"):
        Splits.read(tmp_path)
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InvalidQuery, match="neither YAML nor JSON"):
        Splits.read(tmp_path / "x.yaml")


def test_the_hash_of_a_split_is_that_of_its_sorted_pairs() -> None:
    pairs = [("b", "test"), ("a", "train"), ("b", "test")]
    assert split_hash(pairs) == hashlib.sha256(b'[["a", "train"], ["b", "test"]]').hexdigest()
    assert split_hash(iter(reversed(pairs))) == split_hash(pairs)
    assert split_hash([("b", "val"), ("a", "train")]) != split_hash(pairs)
