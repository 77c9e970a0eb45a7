"""`decloud pairs`: real trees and catalogues, bad files in them, and what is said of wrong arguments."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pipeline.pairs
from catalogs.pairs import PairTable, read_rejects
from flows import interrupts
from tests.catalogs.trees import make_patch
from tests.flows.conftest import Decloud

TREE = "ROIs1158_spring_{side}/{side}_39/ROIs1158_spring_{side}_39_p{patch}.tif"


@pytest.fixture
def three_pairs(shared_data: Path, tmp_path: Path) -> Path:
    """A tree of three real pairs."""
    pytest.importorskip("s2cloudless")
    root = tmp_path / "tree"
    for side in ("s2", "s2_cloudy"):
        for patch in (100, 500, 838):
            name = TREE.format(side=side, patch=patch)
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(shared_data / "SEN12MSCR" / name, root / name)
    return root


@pytest.fixture
def scenes(shared_data: Path) -> Path:
    """Five dates of one tile."""
    return shared_data / "stac" / "earth-search"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    interrupts.forget()


VERDICTS = {
    "ROIs1158_spring_26_p100": "snow",
    "ROIs1868_summer_135_p472": "no_cloud",
    "ROIs1970_fall_136_p308": "clear_side_cloudy",
    "ROIs1970_fall_136_p500": "ok",
    "ROIs2017_winter_112_p797": "changed",
}
"""A real pair for each verdict; those of all thirty are looked at in tests/pipeline/test_gate.py."""


@pytest.mark.slow
def test_real_pairs_of_every_verdict_are_counted(shared_data: Path, tmp_path: Path, decloud: Decloud) -> None:
    pytest.importorskip("s2cloudless")
    for source in (shared_data / "SEN12MSCR").rglob("*.tif"):
        if source.stem.replace("_s2_cloudy_", "_").replace("_s2_", "_") in VERDICTS:
            copy = tmp_path / source.relative_to(shared_data)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    output = tmp_path / "pairs.parquet"
    ended = decloud("pairs", tmp_path / "SEN12MSCR", "--layout", "sen12mscr", "--output", output, "--json", "--quiet")
    assert ended.status == 0
    told = ended.document
    assert (told["rows"], told["rejects"], told["layout"]) == (5, [], "sen12mscr")
    table = PairTable.read(output)
    assert told["split_hash"] == table.split_hash
    assert dict(zip(table.frame["id"], table.frame["quality"], strict=True)) == VERDICTS
    counted = Counter[str]()
    for row in told["counts"]:
        counted.update(row["quality"])
    assert counted == dict.fromkeys(VERDICTS.values(), 1)


def test_four_bad_files_are_four_rejects_and_no_crash(three_pairs: Path, tmp_path: Path, decloud: Decloud) -> None:
    def file(side: str, patch: int) -> Path:
        return three_pairs / TREE.format(side=side, patch=patch)

    for side in ("s2", "s2_cloudy"):
        for patch in (1, 2, 3):
            shutil.copyfile(file(side, 100), file(side, patch))
    truncated, lonely, thin = file("s2", 1), file("s2_cloudy", 2), file("s2", 3)
    os.truncate(truncated, truncated.stat().st_size // 2)
    file("s2", 2).unlink()
    make_patch(thin, count=12)
    foreign = three_pairs / "ROIs1158_spring_s2" / "s2_39" / "ROIs1158_spring_s2_39_p100_copy.tif"
    shutil.copyfile(file("s2", 100), foreign)

    output = tmp_path / "pairs.parquet"
    ended = decloud("pairs", three_pairs, "--layout", "sen12mscr", "--output", output)
    assert ended.status == 0
    rejects = {reject.path: reject.reason for reject in read_rejects(output)}
    assert set(rejects) == {str(path) for path in (truncated, lonely, thin, foreign)}
    assert "download it again" in rejects[str(truncated)]
    assert rejects[str(lonely)] == "no s2 file of this patch"
    assert "has 12 bands" in rejects[str(thin)]
    assert "its name is none of SEN12MS-CR" in rejects[str(foreign)]
    for path, reason in rejects.items():
        assert f"rejected {path}: {reason}" in ended.out

    table = PairTable.read(output)
    assert list(table.frame["id"]) == [f"ROIs1158_spring_39_p{patch}" for patch in (100, 500, 838)]
    assert len(table.usable("train", "pair")) == 3
    assert re.search(r"^ *split +role +ok", ended.out, re.MULTILINE)
    assert re.search(r"^ *train +pair +3\s*$", ended.out, re.MULTILINE)
    last = ended.out.splitlines()[-1]
    assert last == f"{output}: 3 rows, 3 of them good; 4 rejected; split {table.split_hash[:12]}"
    assert "[1/2] files: 3 places, 4 rejected" in ended.err
    assert "[2/2] pixels: 3 rows" in ended.err


def test_a_catalogue_of_scenes(scenes: Path, tmp_path: Path, decloud: Decloud) -> None:
    output = tmp_path / "new" / "pairs.parquet"
    (tmp_path / "mine.yaml").write_text("33TWL: val\n")
    ended = decloud(
        "pairs", scenes, "--layout", "stac", "--output", output, "--splits", tmp_path / "mine.yaml", "--json", "--quiet",
        "--dates", "2023-08-13/2023-08-20", "--aoi", "15.3,45.3,15.4,45.4", "--max-days", "4",
    )  # fmt: skip
    assert ended.status == 0
    assert ended.err == ""
    told = ended.document
    table = PairTable.read(output)
    assert told["table"] == str(output)
    assert told["rejects_file"] == str(tmp_path / "new" / "pairs.rejects.csv")
    assert len(read_rejects(output)) == len(told["rejects"])
    assert set(table.frame["split"]) == {"val"}
    assert set(table.frame["group"]) == {"33TWL"}
    assert set(table.frame["height"]) == {256}
    pairs = table.frame[table.frame["role"] == "pair"]
    assert len(pairs) > 0
    assert ((pairs["cloudy_date"] - pairs["clear_date"]).abs().dt.days < 4).all()
    assert pairs["cloudy_date"].min().day >= 13


def test_blocks_of_chips(scenes: Path, tmp_path: Path, decloud: Decloud) -> None:
    output = tmp_path / "pairs.parquet"
    options = (
        "--layout",
        "stac",
        "--chip",
        "128",
        "--split-by",
        "block",
        "--aoi",
        "15.3,45.3,15.4,45.4",
        "--dates",
        "2023-08-13",
        "--quiet",
    )
    assert decloud("pairs", scenes, *options, "--output", output).status == 0
    table = PairTable.read(output)
    assert set(table.frame["group"]) == {"32633_120_b-24_2"}
    assert set(table.frame["width"]) == {128}
    again = tmp_path / "again.parquet"
    decloud("pairs", scenes, *options, "--output", again)
    assert again.read_bytes() == output.read_bytes()
    # The tiles' split is another: the table is another too.
    assert decloud("pairs", scenes, *options, "--split-by", "tile", "--output", again).status == 0
    assert PairTable.read(again).split_hash != table.split_hash


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--layout", "landsat"], "--layout"),
        ([], "Missing option '--layout'"),
        (["--layout", "sen12mscr", "--chip", "128"], "patches of sen12mscr are chips of 256"),
        (["--layout", "stac", "--chip", "100"], "a chip of 100 pixels: 128 or 256"),
        (["--layout", "sen12mscr", "--split-by", "block"], "split by ROI"),
        (["--layout", "sen12mscr", "--aoi", "1,2,3,4"], "--aoi and --dates go with --layout stac"),
        (["--layout", "stac", "--dates", "someday"], "dates 'someday'"),
        (["--layout", "stac", "--max-days", "-1"], "--max-days"),
        (["--layout", "sen12mscr", "--splits", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["--layout", "sen12mscr"], "empty: nothing found of layout sen12mscr (0 rejected)"),
        (["--layout", "sen12mscr-ts"], "empty: nothing found of layout sen12mscr-ts"),
        (["--layout", "stac"], "empty: nothing found of layout stac"),
    ],
)
def test_wrong_arguments_are_one_line_and_status_2(
    arguments: list[str], said: str, tmp_path: Path, decloud: Decloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    ended = decloud("pairs", "empty", *arguments, "--output", "pairs.parquet", "--quiet")
    assert ended.status == 2
    assert said in ended.error
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_outputs_that_cannot_be(tmp_path: Path, decloud: Decloud) -> None:
    (tmp_path / "file").write_text("x")
    for output, said in ((tmp_path, "is a folder: name a file in it"), (tmp_path / "file" / "a.parquet", "is a file")):
        ended = decloud("pairs", "nowhere", "--layout", "stac", "--output", output)
        assert ended.status == 2
        assert said in ended.error
    ended = decloud("pairs", tmp_path / "nowhere", "--layout", "sen12mscr", "--output", tmp_path / "a.parquet")
    assert ended.status == 2
    assert "nowhere: no such folder" in ended.error


def test_a_tree_of_which_nothing_can_be_used(tmp_path: Path, decloud: Decloud) -> None:
    pytest.importorskip("s2cloudless")
    for side in ("s2", "s2_cloudy"):
        make_patch(tmp_path / "tree" / TREE.format(side=side, patch=1))
    output = tmp_path / "pairs.parquet"
    ended = decloud("pairs", tmp_path / "tree", "--layout", "sen12mscr", "--output", output, "--quiet")
    assert ended.status == 2
    assert "not written: not one place could be used" in ended.error
    assert ended.out.count("rejected ") == 2
    assert not output.exists()


def test_ctrl_c_leaves_the_table_that_was_there(
    scenes: Path, tmp_path: Path, decloud: Decloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "pairs.parquet"
    output.write_text("an earlier table")

    real, once = pipeline.pairs.measure, iter([True])

    def pressed(*arguments: Any) -> Any:
        # A second ctrl-C would end this very process.
        if next(once, False):
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr("pipeline.pairs.measure", pressed)
    ended = decloud("pairs", scenes, "--layout", "stac", "--output", output, "--quiet")
    assert ended.status == 130
    assert ended.err.splitlines()[-1].startswith(f"interrupted: {output} is as it was before")
    assert "Traceback" not in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.parquet"]
    assert output.read_text() == "an earlier table"
