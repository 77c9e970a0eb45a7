"""The margin that a checkpoint records."""

from __future__ import annotations

import torch

from srgan.margin import edge_influence, made_inputs, measure_margin
from srgan.spec import ModelSpec
from tests.srgan.made import lively

torch.set_num_threads(1)


def test_the_margin_is_where_the_edge_is_no_longer_felt():
    generator = lively(ModelSpec(name="smallest", widths=(8, 8, 8, 8), depths=(1, 1, 1, 1)))
    profile = edge_influence(generator, 128, 2, made_inputs)
    margin = measure_margin(generator, 128, 2)
    cell = generator.spec.multiple // 2
    assert margin % cell == 0
    assert profile[0] > 1e-4
    assert (profile[margin:] < 1e-4).all()
    assert margin == 64 or profile[max(margin - cell, 0) :].max() >= 1e-4
