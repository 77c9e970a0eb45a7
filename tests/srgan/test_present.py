"""Bands that are not there are left out of the arithmetic: what is computed for the others does not move by a bit."""

from __future__ import annotations

import pytest
import torch

from srgan.errors import InvalidSpec
from srgan.present import chosen, taken, widened, worth_leaving_out
from srgan.spec import BANDS, ModelSpec
from srgan.uncertainty import mean_around
from tests.srgan.made import lively

SPEC = ModelSpec(name="smallest", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1), margin=16)
SETS = {
    "four": ("B02", "B03", "B04", "B08"), "no red": ("B02", "B03", "B08", "B11"), "none visible": ("B01", "B05", "B8A", "B09", "B12"),
    "seven": ("B02", "B03", "B04", "B05", "B08", "B11", "B12"), "L2A": tuple(name for name in BANDS if name != "B10"), "all": BANDS,
}  # fmt: skip


def inputs(channels: tuple[int, ...], dates: int, rows: int, cols: int, batch: int = 2) -> list[torch.Tensor]:
    """A generator's arguments, every absent band 0."""
    random = torch.Generator().manual_seed(5)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=random)

    present = torch.zeros(batch, 13)
    present[:, list(channels)] = 1
    cloudy = rand(batch, 13, rows, cols) * present[:, :, None, None]
    cloudy[0, channels[0], 3, 5] = torch.nan
    references = rand(batch, dates, 13, rows, cols) * present[:, None, :, None, None]
    return [
        cloudy, present, (rand(batch, 1, rows, cols) < 0.4).float(), (rand(batch, 1, rows, cols) < 0.95).float(), references,
        (rand(batch, dates, 1, rows, cols) < 0.7).float(), torch.tensor([[-5.0, 2.0, 9.0][:dates]] * batch),
    ]  # fmt: skip


@pytest.mark.parametrize("names", SETS.values(), ids=SETS)
@pytest.mark.parametrize(("dates", "rows", "cols"), [(0, 64, 64), (1, 64, 192), (3, 256, 64)])
def test_no_bit_depends_on_whether_absent_bands_are_computed(names, dates, rows, cols):
    generator = lively(SPEC).eval()
    channels = SPEC.require_bands(names)
    assert worth_leaving_out(channels, 13) == (None if names == BANDS else channels)
    full = inputs(channels, dates, rows, cols)
    few = [full[0][:, list(channels)], *full[1:4], full[4][:, :, list(channels)], *full[5:]]
    with torch.inference_mode():
        expected, found = generator(*full), generator(*few, channels=channels)
    assert torch.equal(found.restored, expected.restored[:, list(channels)])
    for name in ("opacity", "structure", "gradient", "uncertainty"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert found.restored.std() > 0.01


def test_other_numbers_of_bands_are_refused():
    generator = lively(SPEC).eval()
    full = inputs((1, 2, 3, 7), 1, 64, 64)
    with pytest.raises(InvalidSpec, match="input of 13 bands, 64x64 pixels: 4 bands"):
        generator(*full, channels=(1, 2, 3, 7))
    few = [full[0][:, [1, 2, 3, 7]], *full[1:]]
    with pytest.raises(InvalidSpec, match="references has shape"):
        generator(*few, channels=(1, 2, 3, 7))


def test_channels_go_where_their_numbers_say():
    image = torch.arange(3.0)[None, :, None, None] + 1
    wide = widened(torch.cat([image, image[:, :1] + 9], 1), (8, 2, 3), 13)
    assert wide[0, :, 0, 0].tolist() == [0, 0, 2, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0, 10]
    assert chosen(wide, (8, 2))[0, :, 0, 0].tolist() == [1, 2]
    assert taken(image, (8, 2, 3), slice(1, 4))[0, :, 0, 0].tolist() == [0, 2, 3]
    assert chosen(image, None) is widened(image, None, 13) is image


@pytest.mark.parametrize("shape", [(1, 4, 64, 128), (2, 3, 5, 3)])
def test_adding_up_whole_images_is_what_torch_averages(shape):
    image = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    expected = torch.nn.functional.avg_pool2d(image, 9, 1, 4, count_include_pad=False)
    with torch.inference_mode():
        assert torch.equal(mean_around(image, 4), expected)
    assert torch.equal(mean_around(image, 4), expected)
