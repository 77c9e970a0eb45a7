"""Stores and samples: what a batch promises, and that it depends on seed, step and number alone."""

from __future__ import annotations

import json
import os
import pickle
import resource
from dataclasses import replace

import numpy as np
import pytest
import torch

from srgan import dataset
from srgan.dataset import BAND_SETS, SampleMaker
from srgan.errors import InvalidStore
from srgan.loader import Loader, Steps
from srgan.revisits import harmonise
from srgan.settings import load_settings
from srgan.spec import BANDS
from srgan.store import ChipStore
from tests.srgan.made import write_store

torch.set_num_threads(1)
SETTINGS = load_settings(
    "tiny",
    {"real_batch": 1, "skies": {"haze": 0.4, "broken": 0.3, "overcast": 0.1, "cirrus": 0.2}, "whole_bands": False},
)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ChipStore:
    return ChipStore(write_store(tmp_path_factory.mktemp("store"), 96))


@pytest.fixture
def maker(store) -> SampleMaker:
    return SampleMaker(store.split("train"), SETTINGS, 7)


def same(first, second) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(first, second, strict=True))


def test_a_sample_depends_on_seed_step_and_number_alone(store, maker):
    other = SampleMaker(store.split("train"), SETTINGS, 7)
    other.batch(1, 2, 1)
    assert same(maker.batch(5, 2, 1), other.batch(5, 2, 1))
    # Two devices with two samples each see what one with four would see, but for which are real.
    assert same((part[2:] for part in maker.batch(5, 4, 0)), maker.batch(5, 2, 0, first=2))
    assert not same(maker.batch(5, 1, 0), maker.batch(6, 1, 0))
    assert not same(maker.batch(5, 1, 0), maker.batch(5, 1, 0, first=1))
    assert not same(maker.batch(5, 1, 0), SampleMaker(store.split("train"), SETTINGS, 8).batch(5, 1, 0))


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_processes_change_nothing(maker, workers):
    loader = Loader(Steps(maker, 1, 1, 0), 3, 9, torch.device("cpu"), workers)
    before = torch.get_rng_state()
    batches = list(loader)
    assert len(batches) == 6
    assert loader.waited > 0
    assert all(same(batch, maker.batch(step, 1, 1)) for step, batch in enumerate(batches, start=3))
    assert torch.equal(before, torch.get_rng_state())


def test_a_maker_can_be_sent_to_a_process_that_shares_no_memory(maker):
    sent = pickle.loads(pickle.dumps(maker))  # noqa: S301 - made here
    assert same(sent.batch(5, 2, 1), maker.batch(5, 2, 1))


def test_a_store_may_hold_more_chips_than_a_process_may_open_files(store):
    chips = [replace(chip, id=f"{chip.id}-{number}") for chip in store.chips for number in range(10)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 20, hard))
    try:
        assert len(SampleMaker(chips, SETTINGS, 0).clear) >= len(chips) == 50
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("real", [False, True])
def test_batches_hold_what_they_promise(maker, real):
    dates, bands, hidden = set(), set(), 0.0
    for step in range(24):
        batch = maker.batch(step, int(not real), int(real))
        assert batch.cloudy.shape == batch.target.shape == (1, 13, 64, 64)
        assert batch.references.shape == (1, 2, 13, 64, 64)
        assert all(part.isfinite().all() and part.dtype == torch.float32 for part in batch)
        assert ((batch.mask >= 0) & (batch.mask <= 1)).all()
        # Where nothing covers the ground, the input is the target.
        clear = (batch.mask == 0) & (batch.counts > 0)
        assert ((batch.cloudy - batch.target).abs() * clear).max() < (1e-6 if real else 0.05)
        hidden += float((batch.mask * batch.counts).sum())
        dates.add(int(batch.reference_valid.amax((2, 3, 4)).sum()))
        bands.add(tuple(batch.present[0].int().tolist()))
    assert hidden > 0
    assert dates >= ({0, 1} if real else {0, 1, 2})
    assert bands == {tuple(int(band in chosen) for band in BANDS) for _, chosen in BAND_SETS}


def test_unpaired_samples_compare_nothing_under_the_mask(store):
    maker = SampleMaker(store.split("train"), SETTINGS.model_copy(update={"paired": 0.0}), 0)
    for step in range(10):
        batch = maker.batch(step, 0, 1)
        assert float((batch.mask * batch.counts).sum()) == 0
        assert float(batch.counts.sum()) > 0
        assert torch.equal(batch.target, batch.cloudy)


def test_a_store_without_cloudy_dates_gives_synthetic_samples(store):
    chips = [chip for chip in store.chips if chip.kind == "single"]
    batch = SampleMaker(chips, SETTINGS, 0).batch(0, 1, 1)
    assert float((batch.mask * batch.counts)[1].sum()) > 0


def test_chips_that_are_too_small(store):
    with pytest.raises(InvalidStore, match=r"none of 3 chips has a clear date and 128 pixels of edge.*smaller `crop`"):
        SampleMaker(store.split("train"), SETTINGS.model_copy(update={"crop": 128}), 0)


def test_real_clouds_are_transplanted_where_the_pair_has_the_bands(store, monkeypatch):
    pasted = []
    real_paste = dataset.paste
    monkeypatch.setattr(dataset, "paste", lambda clouds, *rest: pasted.append(clouds) or real_paste(clouds, *rest))
    maker = SampleMaker(store.split("train"), SETTINGS.model_copy(update={"transplants": 1.0}), 0)
    for step in range(6):
        batch = maker.batch(step, 1, 0)
        assert all(part.isfinite().all() for part in batch)
    assert pasted
    # A pair of four bands has no cloud to give to the others.
    poor = [replace(chip, bands=("B02", "B03", "B04", "B08")) for chip in store.split("train") if chip.kind != "single"]
    rich = [chip for chip in store.split("train") if chip.kind == "single"]
    maker = SampleMaker([*rich, *poor], SETTINGS.model_copy(update={"transplants": 1.0}), 0)
    assert all(maker._real_cloud(rich[0].present, np.random.default_rng(seed)) is None for seed in range(8))
    assert any(maker._real_cloud(poor[0].present, np.random.default_rng(seed)) is not None for seed in range(8))


def test_whole_bands_are_kept_where_asked(store):
    maker = SampleMaker(store.split("train"), SETTINGS.model_copy(update={"whole_bands": True}), 0)
    assert all(maker.batch(step, 1, 0).present.all() for step in range(6))


def test_harmonising_brings_a_reference_to_the_scene():
    image = torch.rand(13, 32, 32, generator=torch.Generator().manual_seed(0))
    jointly = torch.ones(1, 32, 32, dtype=torch.bool)
    torch.testing.assert_close(harmonise(image * 0.9 + 0.05, image, jointly), image, atol=1e-5, rtol=0)
    assert torch.equal(harmonise(image, image + 1, ~jointly), image)


def test_a_folder_that_is_no_store(tmp_path, store):
    with pytest.raises(InvalidStore, match="is no chip store"):
        ChipStore(tmp_path)
    for content in ('{"chips": [{"id": 1}], "split_hash": ""}', "[]", '{"chips": 3}', "{", ""):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(InvalidStore, match="is no chip store"):
            ChipStore(tmp_path)
    with pytest.raises(InvalidStore, match="no chip of split 'nope'"):
        store.split("nope")


def altered_store(tmp_path, change) -> None:
    folder = write_store(tmp_path / "store", 64)
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest, manifest["chips"][0])
    (folder / "manifest.json").write_text(json.dumps(manifest))
    ChipStore(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _, chip: chip.update(id="../store/pair1"), "cannot name a folder in the store"),
        (lambda _, chip: chip.update(id="/pair1"), "cannot name a folder in the store"),
        (lambda _, chip: chip.update(id=".."), "cannot name a folder in the store"),
        (lambda _, chip: chip.update(id="pair1"), "pair1 is named twice"),
        (lambda _, chip: chip.update(group="pair3"), "group pair3 is in the splits train and val"),
        (lambda _, chip: chip.update(split="Train"), "split 'Train' is none of train, val"),
        (lambda _, chip: chip.update(cloud=[float("nan")]), "not within 0..1"),
        (lambda _, chip: chip.update(cloud=[7]), "not within 0..1"),
        (lambda _, chip: chip.update(days=[float("inf")]), "infinity"),
        (lambda manifest, _: manifest.update(version=3), "version 3, this program reads 2"),
        (lambda manifest, _: manifest.update(bands=list(BANDS[::-1])), "its bands are not B01"),
    ],
)
def test_a_manifest_that_lies_is_refused(tmp_path, change, said):
    with pytest.raises(InvalidStore, match=said) as caught:
        altered_store(tmp_path, change)
    assert "\n" not in str(caught.value)


def test_a_manifest_without_end_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text("[" * 200_000)
    with pytest.raises(InvalidStore, match="is no chip store"):
        ChipStore(tmp_path)


def damaged(tmp_path, array) -> ChipStore:
    folder = write_store(tmp_path / "store", 64)
    if isinstance(array, bytes):
        (folder / "single0" / "images.npy").write_bytes(array)
    else:
        np.save(folder / "single0" / "images.npy", array)
    return ChipStore(folder)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.full((1, 13, 64, 64), np.nan, np.float32), "holds float32"),
        (np.zeros((1, 4, 64, 64), np.uint16), r"holds uint16 \(1, 4, 64, 64\)"),
        (np.zeros((2, 13, 64, 64), np.uint16), r"not uint16 \(1, 13, rows, cols\)"),
        (b"\x93NUMPY\x01\x00", "cannot be read"),
        (b"", "cannot be read"),
        (np.zeros((1, 13, 32, 32), np.uint16), r"images.npy has \(32, 32\) rows and columns, masks.npy \(64, 64\)"),
    ],
)
def test_a_damaged_chip_is_named_before_anything_is_computed(tmp_path, array, said):
    store = damaged(tmp_path, array)
    with pytest.raises(InvalidStore, match=f"chip single0: .*{said}"):
        SampleMaker(store.split("train"), SETTINGS, 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_chip_is_told_in_one_line(tmp_path, workers):
    store = ChipStore(write_store(tmp_path / "store", 64))
    maker = SampleMaker([chip for chip in store.chips if chip.id == "single0"], SETTINGS, 0)
    (tmp_path / "store" / "single0" / "images.npy").write_bytes(b"")
    with pytest.raises(InvalidStore, match=r"^chip single0: .* cannot be read \(.*\): write the store again$"):
        list(Loader(Steps(maker, 1, 0, 0), 0, 1, torch.device("cpu"), workers))


def test_a_chip_whose_file_is_gone(tmp_path):
    folder = write_store(tmp_path / "store", 64)
    (folder / "single0" / "masks.npy").unlink()
    with pytest.raises(InvalidStore, match=r"chip single0: .*masks.npy cannot be read.*write the store again"):
        SampleMaker(ChipStore(folder).split("train"), SETTINGS, 0)


def test_kinds_and_counts_of_a_manifest_are_checked(tmp_path):
    folder = write_store(tmp_path / "store", 64)
    manifest = json.loads((folder / "manifest.json").read_text())
    for change in ({"kind": "triple"}, {"days": []}, {"cloud": [0.1, 0.2]}, {"bands": ["B99"]}):
        rows = [manifest["chips"][0] | change, *manifest["chips"][1:]]
        (folder / "manifest.json").write_text(json.dumps(manifest | {"chips": rows}))
        with pytest.raises(InvalidStore, match="is no chip store"):
            ChipStore(folder)
