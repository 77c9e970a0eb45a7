"""The loop: it learns, it resumes bit for bit, it does not swallow what is not finite."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file

from srgan.checkpoint import load_checkpoint
from srgan.dataset import BAND_SETS, Batch, SampleMaker, harmonise
from srgan.errors import InvalidCheckpoint, InvalidSpec
from srgan.margin import edge_influence, made_inputs, measure_margin
from srgan.score import bootstrap, cases, first_guess_alone, mean_fill, score, table, train_mean
from srgan.spec import BANDS, ModelSpec
from srgan.store import ChipStore
from srgan.trainer import NotFinite, Run, TrainSettings, rate_at, train
from tests.srgan.made import lively, write_store

torch.set_num_threads(1)
SETTINGS = TrainSettings(preset="tiny", steps=4, batch=1, crop=64, warmup=1, validate_every=2, validation_samples=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ChipStore:
    return ChipStore(write_store(tmp_path_factory.mktemp("store")))


def weights(run: Run) -> dict[str, torch.Tensor]:
    return run.generator.state_dict() | {f"average.{name}": value for name, value in run.average.state_dict().items()}


def test_resuming_gives_the_same_bits(tmp_path, store):
    whole = train(store, tmp_path / "whole", SETTINGS)
    train(store, tmp_path / "parts", SETTINGS, until=3)
    parts = train(store, tmp_path / "parts", SETTINGS)
    assert whole.step == parts.step == 4
    mine, theirs = weights(whole), weights(parts)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    mine, theirs = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    card = load_checkpoint(tmp_path / "whole" / "best.safetensors").card
    assert card["training"]["split_hash"] == "made"
    assert card["training"]["settings"]["preset"] == "tiny"
    with pytest.raises(InvalidCheckpoint, match="other settings"):
        train(store, tmp_path / "whole", SETTINGS.model_copy(update={"rate": 1e-3}))


def test_a_broken_state_is_named(tmp_path, store):
    (tmp_path / "last.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InvalidCheckpoint, match="no training state"):
        train(store, tmp_path, SETTINGS)


def test_it_learns_one_chip(store):
    run = Run(TrainSettings(preset="tiny", steps=12, batch=1, crop=64, warmup=1, rate=2e-3))
    batch = SampleMaker(store.split("train")[:1], 64, 0, real_share=0).batch(3, 1)
    losses = []
    for _ in range(12):
        terms = run.update(batch)
        assert terms is not None
        losses.append(terms["total"])
        run.step += 1
    assert losses[-1] < 0.85 * losses[0]


def test_what_is_not_finite_changes_nothing_and_stops_the_third_time(tmp_path, store, monkeypatch):
    run = Run(SETTINGS)
    batch = SampleMaker(store.split("train"), 64, 0).batch(0, 1)
    before = {name: value.clone() for name, value in weights(run).items()}
    assert run.update(broken(batch)) is None
    assert all(torch.equal(before[name], value) for name, value in weights(run).items())

    real = SampleMaker.batch
    monkeypatch.setattr(SampleMaker, "batch", lambda *arguments: broken(real(*arguments)))
    with pytest.raises(NotFinite, match="three times in a row"):
        train(store, tmp_path, SETTINGS.model_copy(update={"validate_every": 100}))
    assert (tmp_path / "not_finite.safetensors").is_file()


def broken(batch: Batch) -> Batch:
    return batch._replace(target=batch.target * math.nan)


def test_only_the_fine_levels_learn_where_asked(store):
    run = Run(SETTINGS.model_copy(update={"fine_levels": 2}))
    before = {name: value.clone() for name, value in weights(run).items()}
    for step in range(2):  # the first step moves the heads alone, which start at zero
        assert run.update(SampleMaker(store.split("train"), 64, 0).batch(step, 1)) is not None
        run.step += 1
    moved = {
        ".".join(name.split(".")[:2]) for name, value in weights(run).items() if not torch.equal(value, before[name])
    }
    assert {"correction.weight", "encoder.0", "encoder.1", "decoder.0"} <= moved
    assert (
        not {f"{part}.{level}" for part in ("encoder", "decoder", "ups", "downs", "fusions") for level in (2, 3, 4, 5)}
        & moved
    )


def test_the_first_guess_alone_keeps_the_learned_spectrum():
    generator = lively(ModelSpec(name="smallest", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1)))
    with torch.no_grad():
        generator.default += 0.07
        blank = first_guess_alone(generator)
        empty = made_inputs(0, 64)
        covered = (*empty[:2], torch.ones_like(empty[2]), *empty[3:])
        torch.testing.assert_close(
            blank(*covered).restored[0, :, 32, 32], generator.default[:, 0, 0], atol=5e-3, rtol=0
        )


def test_the_rate_rises_and_falls():
    settings = TrainSettings(steps=100, warmup=10, rate=1.0)
    rates = [rate_at(step, settings) for step in range(100)]
    assert rates[0] < rates[5] < rates[9]
    assert rates[10] > rates[50] > rates[99] > 0


def test_a_batch_depends_on_seed_and_step_alone(store):
    chips = store.split("train")
    first, second = SampleMaker(chips, 64, 7), SampleMaker(chips, 64, 7)
    second.batch(1, 2)
    for mine, theirs in zip(first.batch(5, 2), second.batch(5, 2), strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(first.batch(5, 1).cloudy, first.batch(6, 1).cloudy)
    assert not torch.equal(first.batch(5, 1).cloudy, SampleMaker(chips, 64, 8).batch(5, 1).cloudy)


def test_batches_hold_what_they_promise(store):
    maker = SampleMaker(store.split("train"), 64, 0)
    seen_dates, seen_bands = set(), set()
    for step in range(30):
        batch = maker.batch(step, 1)
        assert batch.cloudy.shape == batch.target.shape == (1, 13, 64, 64)
        assert batch.references.shape == (1, 2, 13, 64, 64)
        assert all(part.isfinite().all() for part in batch)
        assert ((batch.mask >= 0) & (batch.mask <= 1)).all()
        # Where nothing covers the ground, the input is the target.
        clear = (batch.mask == 0) & (batch.counts > 0)
        assert ((batch.cloudy - batch.target).abs() * clear).max() < 0.05
        seen_dates.add(int(batch.reference_valid.amax((2, 3, 4)).sum()))
        seen_bands.add(tuple(batch.present[0].int().tolist()))
    assert seen_dates == {0, 1, 2}
    assert seen_bands == {tuple(int(band in bands) for band in BANDS) for _, bands in BAND_SETS}


def test_harmonising_brings_a_reference_to_the_scene():
    image = torch.rand(13, 32, 32, generator=torch.Generator().manual_seed(0))
    jointly = torch.ones(1, 32, 32, dtype=torch.bool)
    torch.testing.assert_close(harmonise(image * 0.9 + 0.05, image, jointly), image, atol=1e-5, rtol=0)
    assert torch.equal(harmonise(image, image + 1, ~jointly), image)


def test_a_folder_that_is_no_store(tmp_path, store):
    with pytest.raises(InvalidSpec, match="is no chip store"):
        ChipStore(tmp_path)
    (tmp_path / "manifest.json").write_text('{"chips": [{"id": 1}], "split_hash": ""}')
    with pytest.raises(InvalidSpec, match="is no chip store"):
        ChipStore(tmp_path)
    with pytest.raises(InvalidSpec, match="no chip of split 'nope'"):
        store.split("nope")


def test_the_score_table(store):
    generator = lively(ModelSpec(name="smallest", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1)))
    rows = score(generator, store, "test")
    assert {row["kind"] for row in rows} >= {"haze", "half", "full", "half +ref", "pair", "pair +ref"}
    assert len(table(rows).splitlines()) == len(rows) + 1
    assert all(
        row["identity"]["rmse_90"][0] <= row["identity"]["rmse"] <= row["identity"]["rmse_90"][1] for row in rows
    )
    case = next(iter(cases(store.split("test"), BANDS)))
    image, mask = case.inputs[0][0], case.inputs[2][0, 0]
    filled = mean_fill(case, train_mean(store.split("train")))
    torch.testing.assert_close(filled[:, mask > 0][:, 0], image[:, mask == 0].mean(1))
    assert torch.equal(filled[:, mask == 0], image[:, mask == 0])


def test_the_interval_holds_the_mean():
    low, high = bootstrap(torch.linspace(0, 1, 21).numpy())
    assert low < 0.5 < high
    assert bootstrap(torch.ones(4).numpy()) == (1.0, 1.0)


def test_the_margin_is_where_the_edge_is_no_longer_felt():
    generator = lively(ModelSpec(name="smallest", widths=(8, 8, 8, 8), depths=(1, 1, 1, 1)))
    profile = edge_influence(generator, 128, 2, made_inputs)
    margin = measure_margin(generator, 128, 2)
    assert margin % 8 == 0  # four levels: a cell of the coarsest has eight pixels
    assert profile[0] > 1e-4
    assert (profile[margin:] < 1e-4).all()
    assert margin == 64 or profile[max(margin - 8, 0) :].max() >= 1e-4
