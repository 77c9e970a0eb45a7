"""The network seam: results in order, the same for any number of workers, channels where they belong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.errors import DeviceFailed, InvalidSettings
from pipeline.inference import Identity, TileInput, TorchRestorer, open_restorer, pick_device
from pipeline.settings import Resources
from srgan.checkpoint import Checkpoint
from srgan.feed import Feed
from srgan.generator import Generator
from srgan.lane import Lane
from srgan.spec import BANDS, ModelSpec

NAMES = ("B02", "B03", "B04", "B08")
SIZE = 64


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(3)
    spec = ModelSpec(name="made", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1))
    generator = Generator(spec)
    # A new generator starts as a plain fill: shake every weight, so that a wrong channel shows.
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return Checkpoint("made", spec, generator.eval(), "0" * 64, {})


def tiles(count: int, dates: int = 1) -> list[TileInput]:
    rng = np.random.default_rng(7)
    return [
        TileInput(
            cloudy=rng.random((4, SIZE, SIZE), np.float32) * 0.4,
            mask=(rng.random((SIZE, SIZE)) < 0.3).astype(np.float32),
            valid=rng.random((SIZE, SIZE)) < 0.95,
            references=rng.random((dates, 4, SIZE, SIZE), np.float32) * 0.4,
            reference_valid=rng.random((dates, SIZE, SIZE)) < 0.8,
            days=tuple(float(3 * i - 5) for i in range(dates)),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("dates", [0, 2])
def test_the_number_of_workers_moves_no_bit(checkpoint, dates):
    results = []
    for workers in (1, 2, 3):
        restorer = TorchRestorer(checkpoint, NAMES, workers=workers)
        results.append(list(restorer.restore(iter(tiles(5, dates)))))
        restorer.close()
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))
    # Four bands, and behind them what error to expect of visible and near infrared.
    assert results[0][0].shape == (6, SIZE, SIZE)
    assert not np.array_equal(results[0][0], results[0][1])


def test_channels_absent_bands_and_dates_reach_the_generator(checkpoint):
    tile = tiles(1, 2)[0]
    cloudy = torch.zeros(1, 13, SIZE, SIZE)
    references = torch.zeros(1, 2, 13, SIZE, SIZE)
    present = torch.zeros(1, 13)
    for i, name in enumerate(NAMES):
        at = BANDS.index(name)
        cloudy[0, at] = torch.from_numpy(tile.cloudy[i])
        references[0, :, at] = torch.from_numpy(tile.references[:, i])
        present[0, at] = 1
    with torch.inference_mode():
        out = checkpoint.generator(
            cloudy, present, torch.from_numpy(tile.mask)[None, None], torch.from_numpy(tile.valid)[None, None].float(),
            references, torch.from_numpy(tile.reference_valid)[None, :, None].float(), torch.tensor([tile.days]),
        )  # fmt: skip
    expected = torch.cat([out.restored[0, [BANDS.index(name) for name in NAMES]], out.uncertainty[0, [0, 2]]])
    restorer = TorchRestorer(checkpoint, NAMES, workers=2)
    assert restorer.groups == ("VIS", "NIR")
    (found,) = restorer.restore([tile])
    restorer.close()
    assert np.allclose(found, expected.numpy(), atol=1e-5)
    errors = found[4:]
    assert (errors > 0).all()
    assert errors.std() > 0
    assert not np.allclose(errors[0], errors[1])


def test_bands_of_no_group_come_without_an_expected_error(checkpoint):
    restorer = TorchRestorer(checkpoint, ("B01", "B09"))
    tile = tiles(1)[0]
    (found,) = restorer.restore([replace(tile, cloudy=tile.cloudy[:2], references=tile.references[:, :2])])
    restorer.close()
    assert restorer.groups == Identity.groups == ()
    assert found.shape == (2, SIZE, SIZE)


def test_the_process_keeps_its_number_of_threads(checkpoint):
    before = torch.get_num_threads()
    restorer = TorchRestorer(checkpoint, NAMES, workers=2)
    list(restorer.restore(tiles(2)))
    restorer.close()
    assert torch.get_num_threads() == before


def test_identity_and_devices(monkeypatch):
    tile = tiles(1)[0]
    assert np.array_equal(next(Identity().restore([tile])), tile.cloudy)
    assert open_restorer("identity", NAMES).name == "identity"
    assert pick_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    with pytest.raises(InvalidSettings, match="--device cuda:1: this machine's torch sees no CUDA device"):
        pick_device("cuda:1")


@pytest.mark.parametrize(
    ("count", "name", "said"),
    [
        (1, "cuda:9", r"--device cuda:9: there is no cuda:9; this machine's torch sees cuda:0 only"),
        (2, "cuda:1,cuda:2", r"--device cuda:1,cuda:2: there is no cuda:2; .* sees cuda:0 to cuda:1"),
    ],
)
def test_gpus_that_are_not_there(monkeypatch, count, name, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(InvalidSettings, match=said):
        pick_device(name)
    assert pick_device("auto") == "cuda"
    assert pick_device("cuda:0") == "cuda:0"
    assert pick_device("cuda") == "cuda"


@pytest.mark.parametrize("device", ["cuda:0,cpu", "cuda,cuda:1", "cuda:1,cuda:1", "cuda:", "cuda:0,", "gpu", "cuda:01"])
def test_what_names_no_devices(device):
    with pytest.raises(InvalidSettings, match=f"--device '{device}': use auto, cpu, cuda, cuda:N or several GPUs"):
        Resources(device=device)


def test_several_gpus_and_a_cluster_are_one_too_many():
    assert Resources(device="cuda:0,cuda:1").device == "cuda:0,cuda:1"
    with pytest.raises(InvalidSettings, match=r"--device cuda:0,cuda:1 with --dask: a worker uses one GPU"):
        Resources(device="cuda:0,cuda:1", dask="local:2")


def test_devices_with_weights_of_their_own_give_the_same_bits(checkpoint):
    expected = TorchRestorer(checkpoint, NAMES)
    found = TorchRestorer(checkpoint, NAMES, "cpu,cpu")
    given = tiles(5)
    for a, b in zip(expected.restore(given), found.restore(given), strict=True):
        assert np.array_equal(a, b)
    for restorer in (expected, found):
        restorer.close()


def test_absent_bands_are_not_computed_where_that_moves_no_bit(checkpoint):
    """Tiles of three bands go with all thirteen, those of four alone: either way the answer is the generator's to all thirteen."""
    for names in (NAMES, NAMES[:3]):
        (tile,) = tiles(1)
        tile = replace(tile, cloudy=tile.cloudy[: len(names)], references=tile.references[:, : len(names)])
        at = [BANDS.index(name) for name in names]
        cloudy, references, present = (
            torch.zeros(1, 13, SIZE, SIZE),
            torch.zeros(1, 1, 13, SIZE, SIZE),
            torch.zeros(1, 13),
        )
        cloudy[0, at], references[0, :, at], present[0, at] = (
            torch.from_numpy(tile.cloudy),
            torch.from_numpy(tile.references),
            1,
        )
        with torch.inference_mode():
            out = checkpoint.generator(
                cloudy, present, torch.from_numpy(tile.mask)[None, None], torch.from_numpy(tile.valid)[None, None].float(),
                references, torch.from_numpy(tile.reference_valid)[None, :, None].float(), torch.tensor([tile.days]),
            )  # fmt: skip
        restorer = TorchRestorer(checkpoint, names)
        (found,) = restorer.restore([tile])
        restorer.close()
        assert np.array_equal(found[: len(names)], out.restored[0, at].numpy())


def test_the_batch_of_a_gpu_is_measured_with_its_first_tile(checkpoint, monkeypatch):
    """On the CPU's lanes, which are told that they have memory of their own."""
    seen: list[int] = []

    def weigh(self: Lane, feed: Feed, given: list) -> int:  # noqa: ARG001
        seen.append(feed.batch)
        return 10**6

    for room, batch in ((10**7, 8), (10**9, 16), (10**5, 1)):
        monkeypatch.setattr(Lane, "weight", weigh)
        monkeypatch.setattr(Lane, "room", lambda _, room=room: room)
        restorer = TorchRestorer(checkpoint, NAMES)
        restorer._cuda, restorer._sized = True, False
        expected = list(restorer.restore(tiles(3)))
        assert restorer._batch.now == batch
        assert len(list(restorer.restore(tiles(2)))) == 2
        restorer.close()
        assert len(expected) == 3
    assert seen == [1, 1, 1]


def test_no_room_for_a_single_tile_names_the_way_out(checkpoint, monkeypatch):
    def weigh(self: Lane, feed: Feed, given: list) -> int:  # noqa: ARG001
        raise torch.OutOfMemoryError("made up")

    monkeypatch.setattr(Lane, "weight", weigh)
    restorer = TorchRestorer(checkpoint, NAMES)
    restorer._cuda, restorer._sized = True, False
    with pytest.raises(
        DeviceFailed, match=r"out of memory with 1 tile of 64 pixels a pass; .* a smaller --tile, or --device cpu"
    ):
        list(restorer.restore(tiles(3)))
    restorer.close()
