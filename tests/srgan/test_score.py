"""The score table, and the margin that a checkpoint records."""

from __future__ import annotations

import pytest
import torch

from srgan.margin import edge_influence, made_inputs, measure_margin
from srgan.score import bootstrap, cases, first_guess_alone, mean_fill, score, table, train_mean
from srgan.spec import BANDS, ModelSpec
from srgan.store import ChipStore
from tests.srgan.made import lively, write_store

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ChipStore:
    return ChipStore(write_store(tmp_path_factory.mktemp("store")))


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


def test_the_score_table(store):
    generator = lively(ModelSpec(name="smallest", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1)))
    rows = score(generator, store, "test")
    assert {row["kind"] for row in rows} >= {"haze", "half", "full", "half +ref", "pair", "pair +ref"}
    assert len(table(rows).splitlines()) == len(rows) + 1
    assert all(
        row["identity"]["rmse_90"][0] <= row["identity"]["rmse"] <= row["identity"]["rmse_90"][1] for row in rows
    )
    case = next(case for case in cases(store.split("test"), BANDS) if (case.inputs[2] == 0).any())
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
    cell = generator.spec.multiple // 2
    assert margin % cell == 0
    assert profile[0] > 1e-4
    assert (profile[margin:] < 1e-4).all()
    assert margin == 64 or profile[max(margin - cell, 0) :].max() >= 1e-4
