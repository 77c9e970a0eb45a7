"""The chip store: what `srgan` reads from it, what is kept, and that no failure takes away what was there."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from catalogs.pairs import PairTable
from catalogs.splits import Splits, split_hash
from pipeline import chipstore
from pipeline.chipstore import STAGING, main, write_store
from pipeline.errors import InvalidScene, InvalidSettings, WriteFailed
from pipeline.lock import locked
from pipeline.pairs import build_pairs
from srgan.store import ChipStore
from tests.pipeline.made_chips import clouded, found, land, place, simple_detector, write_patch

__all__ = ["simple_detector"]
pytestmark = pytest.mark.usefixtures("simple_detector")
EDGE = 48


def write_pair(folder: Path, name: str, seed: int, rows: int = 12) -> dict[str, str]:
    return {
        "clear": write_patch(folder / f"{name}_clear.tif", land(seed, EDGE)),
        "cloudy": write_patch(folder / f"{name}_cloudy.tif", clouded(land(seed + 40, EDGE), slice(0, rows))),
    }


@pytest.fixture
def table(tmp_path) -> PairTable:
    """A pair for training, one for validation, one without cloud, one whose clear side is cloudy."""
    folder = tmp_path / "data"
    bad = write_pair(folder, "d", 7)
    write_patch(Path(bad["clear"]), clouded(land(7, EDGE), slice(0, 30)))
    places = [
        place("ROIs1158_spring_1_p1", write_pair(folder, "a", 1), "sen12mscr"),
        place("ROIs1158_spring_2_p1", write_pair(folder, "b", 3), "sen12mscr", split="val"),
        place("ROIs1158_spring_1_p2", write_pair(folder, "c", 5, rows=0), "sen12mscr"),
        place("ROIs1158_spring_1_p3", bad, "sen12mscr"),
    ]
    return build_pairs(found(*places))[0]


@pytest.fixture
def series(tmp_path) -> PairTable:
    folder = tmp_path / "data"
    dated = {
        "2018-01-05": write_patch(folder / "1.tif", clouded(land(21, EDGE), slice(0, 20))),
        "2018-01-10": write_patch(folder / "2.tif", land(22, EDGE)),
    }
    return build_pairs(found(place("ROIs2017_146_patch_0", dated)))[0]


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def spied(monkeypatch) -> list[str]:
    read: list[str] = []
    real = chipstore.read_chip

    def spy(rows, *rest, **named):
        read.append(rows["place"].iloc[0])
        return real(rows, *rest, **named)

    monkeypatch.setattr(chipstore, "read_chip", spy)
    return read


def test_what_is_written_is_what_srgan_reads(tmp_path, table, series):
    store = tmp_path / "store"
    seen: list[tuple[str, int, int]] = []
    manifest = write_store([table, series], store, progress=lambda *step: seen.append(step))
    chips = {chip.id: chip for chip in ChipStore(store).chips}
    assert list(chips) == [
        "ROIs1158_spring_1_p1",
        "ROIs1158_spring_1_p2",
        "ROIs1158_spring_2_p1",
        "ROIs2017_146_patch_0",
    ]
    pair = chips["ROIs1158_spring_1_p1"]
    assert (pair.kind, pair.split, pair.group, pair.days) == ("pair", "train", "ROIs1158_spring_1", (0, 0))
    np.testing.assert_array_equal(pair.images, np.stack([land(1, EDGE), clouded(land(41, EDGE), slice(0, 12))]))
    assert (pair.masks[1, :12] == 2).all()
    assert pair.cloud[0] == 0
    assert chips["ROIs1158_spring_1_p2"].kind == "series"
    assert chips["ROIs1158_spring_2_p1"].split == "val"
    dated = chips["ROIs2017_146_patch_0"]
    assert (dated.kind, dated.days, dated.split) == ("series", (0, 5), "train")
    np.testing.assert_array_equal(dated.images[1], land(22, EDGE))

    stored = json.loads((store / "manifest.json").read_text())
    assert stored == manifest
    assert stored["version"] == 2
    groups = [("ROIs1158_spring_1", "train"), ("ROIs1158_spring_2", "val"), ("ROIs2017_146", "train")]
    assert stored["split_hash"] == split_hash(groups)
    assert len(stored["pairs"]) == 64
    assert seen == [("chips", number, 4) for number in range(1, 5)]
    assert not (store / STAGING).exists()
    assert not (store / ".lock").exists()


def test_a_split_without_chips_is_told_before_one_is_made(tmp_path, table):
    with pytest.raises(InvalidSettings, match=r"no usable chip of split 'test', only of train, val: .*--splits"):
        write_store(table, tmp_path / "store", needed=("train", "test"))
    assert not (tmp_path / "store").exists()


def test_a_second_call_reads_and_writes_no_chip(tmp_path, table, monkeypatch):
    store = tmp_path / "store"
    first = write_store(table, store)
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*.npy")}
    read = spied(monkeypatch)
    table.write(tmp_path / "pairs.parquet")
    assert write_store(PairTable.read(tmp_path / "pairs.parquet"), store) == first
    assert read == []
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*.npy")} == before


def test_only_what_changed_is_made_again(tmp_path, table, monkeypatch):
    store = tmp_path / "store"
    write_store(table, store)
    changed = tmp_path / "data/b_cloudy.tif"
    write_patch(changed, clouded(land(43, EDGE), slice(0, 13)))
    os.utime(changed, ns=(1, 1))
    (store / "ROIs1158_spring_1_p2/masks.npy").unlink()
    read = spied(monkeypatch)
    write_store(table, store)
    assert sorted(read) == ["ROIs1158_spring_1_p2", "ROIs1158_spring_2_p1"]
    assert (np.load(store / "ROIs1158_spring_2_p1/masks.npy")[1, :13] == 2).all()


def test_other_splits_change_the_manifest_alone(tmp_path, table, monkeypatch):
    store = tmp_path / "store"
    first = write_store(table, store)
    read = spied(monkeypatch)
    second = write_store(table, store, splits=Splits("mine", {"ROIs1158_spring_1": "test"}, rest="other"))
    assert read == []
    assert {chip["split"] for chip in second["chips"]} == {"test", "other"}
    assert (first["split_hash"], first["pairs"]) != (second["split_hash"], second["pairs"])
    assert first["split_hash"] != second["split_hash"]


def test_chips_that_left_the_table_leave_the_store(tmp_path, table):
    store = tmp_path / "store"
    write_store(table, store)
    (store / "notes.txt").write_text("mine")
    fewer = replace(table, frame=table.frame[table.frame["group"] == "ROIs1158_spring_2"])
    write_store(fewer, store)
    assert sorted(path.name for path in store.iterdir()) == ["ROIs1158_spring_2_p1", "manifest.json", "notes.txt"]


@pytest.mark.parametrize("room", [20_000, 200])
def test_a_full_disk_leaves_the_store_as_it_was(tmp_path, table, room):
    store = tmp_path / "store"
    write_store(replace(table, frame=table.frame[table.frame["group"] == "ROIs1158_spring_2"]), store)
    before = contents(store)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limit[1]))
    try:
        with pytest.raises(WriteFailed):
            write_store(table, store, workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    kept = {name: digest for name, digest in contents(store).items() if not name.startswith(STAGING)}
    assert kept == before
    [chip] = ChipStore(store).chips
    assert chip.images.shape == (2, 13, EDGE, EDGE)
    write_store(table, store)
    assert len(ChipStore(store).chips) == 3


def test_a_disk_that_fills_up_at_the_manifest_leaves_the_store_as_it_was(tmp_path, table, monkeypatch):
    store = tmp_path / "store"
    write_store(table, store)
    before = contents(store)
    monkeypatch.setattr(chipstore.json, "dumps", lambda *_, **__: "x" * 100_000)
    monkeypatch.setattr(chipstore, "_about", lambda *_: {"kind": "pair", "days": [0, 0], "bands": [], "cloud": [0, 0]})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))
    try:
        with pytest.raises(WriteFailed, match="no space left on the disk"):
            write_store(table, store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert {name: digest for name, digest in contents(store).items() if not name.startswith(STAGING)} == before


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, table, monkeypatch):
    store = tmp_path / "store"

    def stop(*step: object) -> None:
        if step == ("chips", 2, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(table, store, progress=stop, workers=1)
    assert not (store / "manifest.json").exists()
    staged = {path.name for path in (store / STAGING).iterdir()}
    assert len(staged) >= 2
    read = spied(monkeypatch)
    write_store(table, store)
    assert set(read).isdisjoint(staged)
    fresh = tmp_path / "fresh"
    write_store(table, fresh)
    assert contents(store) == contents(fresh)


def test_a_file_that_moved_stops_the_run_and_keeps_the_store(tmp_path, table):
    store = tmp_path / "store"
    write_store(table, store)
    before = contents(store)
    (tmp_path / "data/a_clear.tif").unlink()
    with pytest.raises(InvalidScene, match=r"a_clear\.tif: moved or deleted since pair table was made"):
        write_store(table, store)
    assert {name: digest for name, digest in contents(store).items() if not name.startswith(STAGING)} == before


def test_a_group_in_two_splits_is_named(tmp_path, table, series):
    other = replace(series, frame=series.frame.assign(group="ROIs1158_spring_1", split="test"), name="ts.parquet")
    with pytest.raises(
        InvalidSettings,
        match=r"group ROIs1158_spring_1 is train in pair table and test in ts\.parquet: give one splits file",
    ):
        write_store([table, other], tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_one_ground_in_two_splits_is_left_out_of_training(tmp_path, table, series):
    ground = table.frame.geometry.iloc[0]
    other = replace(series, frame=series.frame.assign(split="test").set_geometry([ground] * len(series.frame)))
    manifest = write_store([table, other], tmp_path / "store")
    assert "ROIs1158_spring_1_p1" not in {chip["id"] for chip in manifest["chips"]}
    [[what, reason]] = manifest["left_out"]
    assert "ROIs1158_spring_1" in what
    assert "lie on ground of another split" in reason


def test_tables_that_cannot_become_a_store(tmp_path, table):
    with pytest.raises(
        InvalidSettings, match="place ROIs1158_spring_1_p1 is in pair table and in pair table: leave one out"
    ):
        write_store([table, table], tmp_path / "store")
    useless = replace(table, frame=table.frame[table.frame["quality"] == "clear_side_cloudy"])
    with pytest.raises(InvalidSettings, match="no usable chip"):
        write_store(useless, tmp_path / "store")
    outside = replace(table, frame=table.frame.assign(place=[f"../{name}" for name in table.frame["place"]]))
    with pytest.raises(InvalidSettings, match=r"place '\.\./ROIs1158_spring_1_p1' cannot name a folder"):
        write_store(outside, tmp_path / "store")


@pytest.mark.parametrize("text", ["no json", "[]", '{"chips": 3}', '{"chips": [{"id": 3}]}'])
def test_a_folder_of_something_else_is_not_touched(tmp_path, table, text):
    (tmp_path / "manifest.json").write_text(text)
    before = contents(tmp_path)
    with pytest.raises(InvalidSettings, match=r"manifest\.json: is no manifest of a chip store"):
        write_store(table, tmp_path)
    assert contents(tmp_path) == before


def test_a_folder_that_is_no_chip_is_not_replaced(tmp_path, table):
    mine = tmp_path / "store/ROIs1158_spring_1_p1"
    mine.mkdir(parents=True)
    (mine / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(InvalidSettings, match="is no chip: choose another folder"):
        write_store(table, tmp_path / "store")
    assert (mine / "photo.jpg").read_bytes() == b"mine"


def test_two_runs_do_not_write_one_store(tmp_path, table):
    with locked(tmp_path / ".lock"), pytest.raises(WriteFailed, match="another run is working on it"):
        write_store(table, tmp_path)


def test_the_command_line(tmp_path, table, series, caplog):
    table.write(tmp_path / "a.parquet")
    series.write(tmp_path / "b.parquet")
    (tmp_path / "splits.yaml").write_text('ROIs2017_146: test\n"*": train\n')
    paths = [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    store = tmp_path / "store"
    assert main([*paths, "--store", str(store), "--splits", str(tmp_path / "splits.yaml")]) == 0
    assert [chip.id for chip in ChipStore(store).split("test")] == ["ROIs2017_146_patch_0"]
    assert main([str(tmp_path / "gone.parquet"), "--store", str(store)]) == 1
    assert "no such pair table" in caplog.text
    assert len(ChipStore(store).chips) == 4
