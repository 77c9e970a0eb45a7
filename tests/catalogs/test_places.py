from __future__ import annotations

import os
import random
import re
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.shutil import copy
from rasterio.warp import transform_bounds
from shapely.geometry import box

from catalogs.errors import InvalidQuery
from catalogs.places import DatedImage, Found, Place, Window, find_places
from catalogs.sen12mscr import parse_name
from catalogs.splits import Splits
from tests.catalogs.trees import make_pair, make_patch, pair_path


def reasons(found: Found, root: Path) -> dict[str, str]:
    """Path below the root -> reason."""
    named = {str(Path(reject.path).relative_to(root)): reject.reason for reject in found.rejects}
    assert len(named) == len(found.rejects), "one reject a path"
    assert not any("\n" in reason for reason in named.values())
    return named


def ids(found: Found) -> list[str]:
    return [place.id for place in found.places]


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Found:
    return find_places(str(shared_data / "SEN12MSCR"), "sen12mscr")


def test_the_real_tree_has_thirty_pairs(real: Found, shared_data: Path) -> None:
    assert len(real.places) == 30
    assert real.rejects == ()
    assert ids(real) == sorted(ids(real))
    assert {place.group for place in real.places} >= {"ROIs1158_spring_39", "ROIs2017_winter_112"}
    # All public ROIs happen to be in the official list for training.
    assert {place.split for place in real.places} == {"train"}
    for place in real.places:
        clear, cloudy = place.images
        assert (clear.side, cloudy.side, clear.date, place.window) == ("clear", "cloudy", None, None)
        keys = [parse_name(Path(href).name) for href in (clear.href, cloudy.href)]
        assert [key and key[1] for key in keys] == ["s2", "s2_cloudy"]
        assert len({key and key[0] for key in keys}) == 1
        assert Path(clear.href).is_file()
    files = {str(path) for path in (shared_data / "SEN12MSCR").rglob("*_s2*.tif")}
    assert {image.href for place in real.places for image in place.images} == files


def test_sentinel_1_is_kept_where_there_is_some(real: Found) -> None:
    with_radar = {place.id: {image.s1_href for image in place.images} for place in real.places}
    (href,) = with_radar.pop("ROIs2017_winter_112_p797")
    assert href is not None
    assert href.endswith("ROIs2017_winter_s1/s1_112/ROIs2017_winter_s1_112_p797.tif")
    assert set.union(*with_radar.values()) == {None}


def test_outlines_are_those_of_the_files(real: Found) -> None:
    for place in real.places[::5]:
        with rasterio.open(place.images[0].href) as file:
            assert place.crs == file.crs.to_string()
            expected = box(*transform_bounds(file.crs, "EPSG:4326", *file.bounds))
        # The box of a square that is turned against the meridian is a little larger than the square.
        assert expected.buffer(1e-6).contains(place.geometry)
        assert place.geometry.area > 0.9 * expected.area


def test_the_order_of_the_file_system_does_not_matter(
    real: Found, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listdir, shuffle = os.listdir, random.Random(3).shuffle  # noqa: S311

    def shuffled(path: str) -> list[str]:
        names = listdir(path)
        shuffle(names)
        return names

    monkeypatch.setattr(os, "listdir", shuffled)
    assert find_places(str(shared_data / "SEN12MSCR"), "sen12mscr") == real


def test_splits_of_ones_own(shared_data: Path) -> None:
    splits = Splits("mine", {"ROIs1158_spring_39": "test", "ROIs1868_summer_10": "val"}, rest="train")
    found = find_places(str(shared_data / "SEN12MSCR"), "sen12mscr", splits=splits)
    assert {place.group for place in found.places if place.split == "test"} == {"ROIs1158_spring_39"}
    assert {place.split for place in found.places} == {"train", "test"}, "summer_100 .. 102 are not summer_10"


def test_a_group_in_no_list_is_other(tmp_path: Path) -> None:
    make_pair(tmp_path, 1, roi=2)
    make_pair(tmp_path, 1, roi=106)
    found = find_places(str(tmp_path), "sen12mscr")
    assert {place.group: place.split for place in found.places} == {
        "ROIs1158_spring_2": "other",
        "ROIs1158_spring_106": "test",
    }


def test_four_bad_files_are_four_rejects_and_the_rest_is_found(tmp_path: Path) -> None:
    for patch in range(5):
        make_pair(tmp_path, patch)
    truncated = pair_path(tmp_path, "s2", 0)
    truncated.write_bytes(truncated.read_bytes()[:100])
    pair_path(tmp_path, "s2", 1).unlink()
    make_patch(pair_path(tmp_path, "s2_cloudy", 2), count=12)
    make_patch(tmp_path / "notes.tif")

    found = find_places(str(tmp_path), "sen12mscr")
    assert ids(found) == ["ROIs1158_spring_1_p3", "ROIs1158_spring_1_p4"]
    told = reasons(found, tmp_path)
    assert len(told) == 4
    assert "header cannot be read" in told["ROIs1158_spring_s2/s2_1/ROIs1158_spring_s2_1_p0.tif"]
    assert (
        told["ROIs1158_spring_s2_cloudy/s2_cloudy_1/ROIs1158_spring_s2_cloudy_1_p1.tif"] == "no s2 file of this patch"
    )
    assert "has 12 bands, a Sentinel-2 patch has 13" in str(told)
    assert told["notes.tif"].startswith("its name is none of SEN12MS-CR")


Spoil = Callable[[Path], object]


@pytest.mark.parametrize(
    ("side", "spoil", "said"),
    [
        ("s2", lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
        ("s2", lambda path: path.write_text("not an image"), "header cannot be read"),
        ("s2_cloudy", lambda path: make_patch(path, count=1), "has 1 band, a Sentinel-2 patch has 13"),
        ("s2_cloudy", lambda path: make_patch(path, shape=(256, 255)), "is 256 x 255 pixels"),
        ("s2", lambda path: make_patch(path, dtype="float32"), "holds float32, a Sentinel-2 patch holds uint16"),
        ("s2", lambda path: make_patch(path, crs=None), "has no CRS"),
        ("s2", lambda path: make_patch(path, origin=(0.0, 0.0), pixel=0.0), "is not georeferenced"),
        ("s2", lambda path: make_patch(path, driver="PNG", count=3, compress=None, sparse_ok=None), "cannot be read"),
        ("s2_cloudy", lambda path: make_patch(path, origin=(500_010.0, 5_100_000.0)), "lies on another grid than"),
        ("s2_cloudy", lambda path: make_patch(path, crs="EPSG:32632"), "lies on another grid than"),
        ("s2", lambda path: (path.unlink(), path.symlink_to(path.name)), "leads nowhere: Too many levels"),
        ("s2", lambda path: (path.unlink(), path.symlink_to("gone.tif")), "leads nowhere: No such file"),
        ("s2", lambda path: (path.unlink(), os.mkfifo(path)), "is no file"),
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_each_kind_of_bad_file(tmp_path: Path, side: str, spoil: Spoil, said: str) -> None:
    make_pair(tmp_path, 7)
    bad = make_pair(tmp_path, 8)[side]
    spoil(bad)
    found = find_places(str(tmp_path), "sen12mscr")
    assert ids(found) == ["ROIs1158_spring_1_p7"]
    told = reasons(found, tmp_path)
    assert said in told[str(bad.relative_to(tmp_path))]
    # A file that is no longer there leaves its partner alone; any other takes it along without a word.
    assert len(told) == (2 if "leads nowhere" in said or "is no file" in said else 1)


def test_a_virtual_file_is_not_followed(tmp_path: Path) -> None:
    good = make_pair(tmp_path, 7)
    copy(str(good["s2"]), str(tmp_path / "x.vrt"), driver="VRT")
    bad = make_pair(tmp_path, 8)["s2"]
    bad.write_bytes((tmp_path / "x.vrt").read_bytes())
    with rasterio.open(bad) as file:
        assert (file.driver, file.count) == ("VRT", 13), "rasterio itself would read it"
    assert ids(find_places(str(tmp_path), "sen12mscr")) == ["ROIs1158_spring_1_p7"]


@pytest.mark.parametrize(
    "name",
    [
        "notes.tif",
        "ROIs1158_spring_s2_1_p407_copy.tif",
        "copy_ROIs1158_spring_s2_1_p407.tif",
        "ROIs1158_spring_s2_1_p407.tiff",
        "ROIs1158_spring_s2_1_p407.TIF",
        "ROIs1158_spring_s2_01_p407.tif",
        "ROIs1158_spring_s3_1_p407.tif",
        "ROIs1158_spring_s2_1_p407 .tif",
        "ROIs2018_spring_s2_1_p407.tif",
        "ROIs1158_spring_s2_١_p407.tif",  # noqa: RUF001
        "ROIs1158_spring_s2_1_p407.tif\n.tif",
        "s2_ROIs2017_146_ImgNo_3_2018-02-10_patch_0.tif",
    ],
)
def test_foreign_files_are_rejected_by_their_whole_name(tmp_path: Path, name: str) -> None:
    make_pair(tmp_path, 7)
    make_patch(tmp_path / "ROIs1158_spring_s2" / "s2_1" / name)
    found = find_places(str(tmp_path), "sen12mscr")
    assert ids(found) == ["ROIs1158_spring_1_p7"]
    assert [Path(reject.path).name for reject in found.rejects] == [name]
    assert found.rejects[0].reason.startswith("its name is none of SEN12MS-CR: ROIs<seed>")


def test_what_is_no_raster_or_hidden_is_ignored(tmp_path: Path) -> None:
    files = make_pair(tmp_path, 7)
    for name in (
        "README",
        "README.md",
        "a.json",
        "x.tif.aux.xml",
        ".hidden.tif",
        "._ROIs1158_spring_s2_1_p7.tif",
        "a.zip",
    ):
        (files["s2"].parent / name).write_text("x")
    make_patch(tmp_path / ".cache" / "ROIs1158_spring_s2_1_p9.tif")
    (tmp_path / "broken.md").symlink_to("gone")
    found = find_places(str(tmp_path), "sen12mscr")
    assert ids(found) == ["ROIs1158_spring_1_p7"]
    assert found.rejects == ()


def test_links_that_lead_round_end(tmp_path: Path) -> None:
    make_pair(tmp_path / "tree", 7)
    (tmp_path / "tree" / "up").symlink_to(tmp_path)
    (tmp_path / "tree" / "self").symlink_to("self")
    (tmp_path / "tree" / "gone").symlink_to("nowhere")
    found = find_places(str(tmp_path / "tree"), "sen12mscr")
    assert ids(found) == ["ROIs1158_spring_1_p7"]
    told = reasons(found, tmp_path / "tree")
    assert told == {
        "gone": "leads nowhere: No such file or directory",
        "self": "leads nowhere: Too many levels of symbolic links",
        "up/tree": f"leads to a folder that is read already: {tmp_path / 'tree'}",
    }


def test_a_tree_made_of_links_is_read(tmp_path: Path) -> None:
    make_pair(tmp_path / "disk1", 7, ("s2",))
    make_pair(tmp_path / "disk2", 7, ("s2_cloudy",))
    (tmp_path / "tree").mkdir()
    for disk in ("disk1", "disk2"):
        (tmp_path / "tree" / disk).symlink_to(tmp_path / disk)
    assert ids(find_places(str(tmp_path / "tree"), "sen12mscr")) == ["ROIs1158_spring_1_p7"]


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder that everybody may enter, and from its first use on a user to whom permissions apply."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        if os.geteuid() != os.getuid():
            os.seteuid(os.getuid())


def test_a_folder_that_may_not_be_read(as_nobody: Path) -> None:
    make_pair(as_nobody, 7)
    make_pair(as_nobody, 8, roi=3)
    locked = pair_path(as_nobody, "s2", 8, roi=3).parent
    locked.chmod(0o000)
    if os.geteuid() == 0:
        os.seteuid(65534)
    found = find_places(str(as_nobody), "sen12mscr")
    if os.getuid() == 0:
        os.seteuid(0)
    locked.chmod(0o755)
    assert ids(found) == ["ROIs1158_spring_1_p7"]
    told = reasons(found, as_nobody)
    assert told["ROIs1158_spring_s2/s2_3"] == "folder cannot be read: Permission denied"
    assert len(told) == 2, "and the partner is alone"


def test_a_second_file_of_one_name(tmp_path: Path) -> None:
    first = make_pair(tmp_path / "a", 7)
    second = make_pair(tmp_path / "b", 7)
    found = find_places(str(tmp_path), "sen12mscr")
    assert [image.href for image in found.places[0].images] == [str(first["s2"]), str(first["s2_cloudy"])]
    assert {reject.path for reject in found.rejects} == {str(path) for path in second.values()}
    assert all("a second file of this name" in reject.reason for reject in found.rejects)


def test_radar_is_no_reason_to_lose_a_pair(tmp_path: Path) -> None:
    make_pair(tmp_path, 1, ("s1", "s2", "s2_cloudy"))
    make_pair(tmp_path, 2)
    make_patch(pair_path(tmp_path, "s1", 2), count=3)
    make_pair(tmp_path, 3)
    make_patch(pair_path(tmp_path, "s1", 3), pixel=20.0)
    make_patch(pair_path(tmp_path, "s1", 4))
    found = find_places(str(tmp_path), "sen12mscr")
    radar = {place.id: place.images[1].s1_href for place in found.places}
    assert radar == {
        "ROIs1158_spring_1_p1": str(pair_path(tmp_path, "s1", 1)),
        "ROIs1158_spring_1_p2": None,
        "ROIs1158_spring_1_p3": None,
    }
    told = sorted(reasons(found, tmp_path).values())
    assert told == [
        "has 3 bands, a Sentinel-1 patch has 2: the pair is kept without it",
        "lies on another grid than ROIs1158_spring_s2_1_p3.tif: the pair is kept without it",
        "no s2 and no s2_cloudy file of this patch",
    ]


def test_seasons_and_seeds_are_different_places(tmp_path: Path) -> None:
    make_patch(pair_path(tmp_path, "s2", 1, 1, "1158", "spring"))
    make_patch(pair_path(tmp_path, "s2_cloudy", 1, 1, "1970", "fall"))
    make_patch(pair_path(tmp_path, "s2_cloudy", 11, 1, "1158", "spring"))
    make_patch(pair_path(tmp_path, "s2_cloudy", 1, 11, "1158", "spring"))
    with pytest.raises(InvalidQuery, match=r"nothing found of layout sen12mscr \(4 rejected; .*no s2_cloudy file"):
        find_places(str(tmp_path), "sen12mscr")


def test_roots_in_which_nothing_can_be_found(tmp_path: Path) -> None:
    with pytest.raises(InvalidQuery, match=r"nowhere: no such folder"):
        find_places(str(tmp_path / "nowhere"), "sen12mscr")
    with pytest.raises(InvalidQuery, match=r"nothing found of layout sen12mscr \(0 rejected\)"):
        find_places(str(tmp_path), "sen12mscr")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidQuery, match="no such folder"):
        find_places(str(tmp_path / "file"), "sen12mscr")
    with pytest.raises(InvalidQuery, match="no such folder"):
        find_places("x" * 5000, "sen12mscr")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layout": "landsat"}, "layout 'landsat' is none of sen12mscr, sen12mscr-ts, stac"),
        ({"chip": 100}, "a chip of 100 pixels: 128 or 256"),
        ({"chip": 128}, "patches of sen12mscr are chips of 256"),
        ({"by": "block"}, "split by ROI"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidQuery, match=re.escape(said)):
        find_places(str(tmp_path), **{"layout": "sen12mscr", **options})  # type: ignore[arg-type]


def test_progress_is_told(tmp_path: Path) -> None:
    for patch in range(3):
        make_pair(tmp_path, patch)
    told: list[tuple[str, int, int]] = []
    find_places(str(tmp_path), "sen12mscr", progress=lambda *step: told.append(step))
    assert told == [("headers", number, 3) for number in (1, 2, 3)]


names = st.tuples(
    st.sampled_from(["1158", "1868", "1970", "2017"]),
    st.sampled_from(["spring", "summer", "fall", "winter"]),
    st.sampled_from(["s1", "s2", "s2_cloudy"]),
    st.integers(0, 300),
    st.integers(0, 9999),
)


@given(parts=names, junk=st.text(min_size=1, max_size=4))
def test_a_name_means_one_thing_or_nothing(parts: tuple[str, str, str, int, int], junk: str) -> None:
    seed, season, side, roi, patch = parts
    name = f"ROIs{seed}_{season}_{side}_{roi}_p{patch}.tif"
    assert parse_name(name) == ((seed, season, roi, patch), side)
    assert parse_name(name + junk) is None
    assert parse_name(junk + name) is None


def test_places_and_windows_cannot_be_wrong() -> None:
    image = DatedImage("/a.tif", datetime(2023, 8, 10, tzinfo=UTC))
    area = box(0, 0, 1, 1)
    with pytest.raises(InvalidQuery, match="split 'acceptance' is none of"):
        Place("a", "a", "acceptance", "stac", (image,), None, "EPSG:4326", area)
    with pytest.raises(InvalidQuery, match="without an image"):
        Place("a", "a", "train", "stac", (), None, "EPSG:4326", area)
    with pytest.raises(InvalidQuery, match="no time zone"):
        DatedImage("/a.tif", datetime(2023, 8, 10))  # noqa: DTZ001
    with pytest.raises(InvalidQuery, match="row and col must be 0 or more"):
        Window(-1, 0, 256, 256)
    with pytest.raises(InvalidQuery, match="height and width 1 or more"):
        Window(0, 0, 0, 256)
