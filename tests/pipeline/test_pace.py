"""A plan's network is timed on tiles as a run sends them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch

from pipeline import pace
from pipeline.inference import TorchRestorer
from srgan.checkpoint import Checkpoint
from srgan.feed import Tile
from srgan.generator import Generator
from srgan.spec import ModelSpec
from srgan.tile import RawTile, TileInput

NAMES = ("B02", "B03", "B04")


class Seen(TorchRestorer):
    """Notes what it is sent, and does it on the CPU."""

    def __init__(self) -> None:
        spec = ModelSpec.tiny()
        torch.manual_seed(3)
        super().__init__(Checkpoint("made", spec, Generator(spec).eval(), "0" * 64, {}), NAMES)
        self.kinds: set[type] = set()
        self.answers: list[np.ndarray] = []

    def restore(self, tiles: Iterable[Tile]) -> Iterator[np.ndarray]:
        kept = []
        for answer in super().restore(kept.append(tile) or tile for tile in tiles):
            self.answers.append(answer)
            yield answer
        self.kinds |= set(map(type, kept))


@pytest.mark.parametrize("dates", [0, 2])
def test_a_gpu_is_timed_on_raw_tiles_and_a_cpu_on_reflectance(monkeypatch, dates):
    monkeypatch.setattr(pace, "_SPAN", 0.0)
    monkeypatch.setattr(pace, "_CUDA", 2)
    answers = []
    for device, kind in (("cpu", TileInput), ("cuda", RawTile)):
        restorer = Seen()
        monkeypatch.setattr(pace, "open_restorer", lambda *_, restorer=restorer: restorer)
        monkeypatch.setattr(pace, "pick_device", lambda name: name)
        found = pace.network_pace.__wrapped__("made", NAMES, dates, 64, device, 1)
        assert found.elsewhere == (device == "cuda")
        assert restorer.kinds == {kind}
        answers.append(restorer.answers[0])
    # Both are the same ground, but for roundings.
    np.testing.assert_allclose(*answers, atol=1e-3)
