"""What holds of every generator, whatever its weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan.errors import InvalidSpec
from srgan.fill import drift
from srgan.generator import Generator, parameter_count
from srgan.spec import SIZES, ModelSpec
from tests.srgan.made import inputs, lively

torch.set_num_threads(1)
SMALLEST = ModelSpec(name="smallest", widths=(8, 8, 12, 12, 16, 16), depths=(1, 1, 1, 1, 1, 1))


@pytest.fixture(scope="module")
def generator() -> Generator:
    return lively(SMALLEST)


def equal(first, second) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(first, second, strict=True))


@pytest.mark.parametrize(("preset", "millions"), [("tiny", (1.0, 2.0)), ("small", (5.0, 7.0)), ("base", (35.0, 50.0))])
def test_sizes(preset, millions):
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in Generator(SIZES[preset]()).parameters())
    assert millions[0] * 1e6 < count < millions[1] * 1e6


@pytest.mark.parametrize("dates", [0, 1, 3])
def test_shapes_and_ranges(generator, dates):
    out = generator(**inputs(64, 128, dates, batch=2))
    assert out.restored.shape == (2, 13, 64, 128)
    assert out.opacity.shape == (2, 1, 64, 128)
    assert out.structure.shape == (2, 4, 64, 128)
    assert out.gradient.shape == (2, 8, 64, 128)
    assert all(part.dtype == torch.float32 and part.isfinite().all() for part in out)
    assert out.opacity.min() >= 0
    assert out.opacity.max() <= 1


@given(
    seed=st.integers(0, 2**16), dates=st.integers(1, 3), guidance=st.sampled_from(["none", "concat", "error_feedback"])
)
@settings(max_examples=6, deadline=None)
def test_references_that_are_not_valid_change_nothing(seed, dates, guidance):
    generator = lively(SMALLEST.model_copy(update={"guidance": guidance}), seed)
    without, having = inputs(seed=seed), inputs(dates=dates, seed=seed)
    having["reference_valid"].zero_()
    having["references"].fill_(float("nan"))
    having["days"].fill_(float("nan"))
    assert equal(generator(**without), generator(**having))


def test_values_under_a_reference_mask_never_matter(generator):
    first, second = inputs(dates=2), inputs(dates=2)
    for part in (first, second):
        part["reference_valid"][:, 0, :, :32] = 0
        part["reference_valid"][:, 1, :, :, :20] = 0
    second["references"][:, 0, :, :32] = float("nan")
    second["references"][:, 1, :, :, :20] = 99.0
    assert equal(generator(**first), generator(**second))


def test_a_reference_pixel_that_is_not_finite_counts_as_not_valid(generator):
    first, second = inputs(dates=1), inputs(dates=1)
    first["reference_valid"][:, 0, :, 5, 7] = 0
    second["references"][:, 0, 3, 5, 7] = float("nan")
    assert equal(generator(**first), generator(**second))


def test_a_valid_reference_does_matter(generator):
    first, second = inputs(dates=1), inputs(dates=1)
    second["references"] += 0.1
    assert not torch.equal(generator(**first).restored, generator(**second).restored)


def test_absent_bands_never_matter_and_stay_zero(generator):
    first, second = inputs(dates=1), inputs(dates=1)
    for part in (first, second):
        part["present"][:, [0, 10]] = 0
    second["cloudy"][:, [0, 10]] = float("nan")
    second["references"][:, :, [0, 10]] = float("inf")
    out = generator(**first)
    assert equal(out, generator(**second))
    assert (out.restored[:, [0, 10]] == 0).all()


def test_what_is_not_valid_never_matters_and_nan_never_leaves(generator):
    first, second, third = inputs(), inputs(), inputs()
    first["valid"][:, :, 10:30, 10:30] = 0
    second["valid"][:, :, 10:30, 10:30] = 0
    second["cloudy"][:, :, 10:30, 10:30] = float("nan")
    third["cloudy"][:, 4, 10:30, 10:30] = float("nan")
    out = generator(**first)
    assert equal(out, generator(**second))
    assert equal(out, generator(**third))
    assert out.restored.isfinite().all()


def test_untrained_it_is_the_first_guess():
    torch.manual_seed(0)
    generator, given_ = Generator(SMALLEST).eval(), inputs(dates=1)
    with torch.no_grad():
        out = generator(**given_).restored
    clear = given_["mask"][0, 0] == 0
    torch.testing.assert_close(out[0][:, clear], given_["cloudy"][0][:, clear], atol=1e-6, rtol=0)
    given = (given_[name] for name in ("references", "reference_valid", "cloudy"))
    moved = given_["references"] + drift(*given, (given_["mask"] == 0).float())
    # sigmoid(6) of the reference, the rest of the cloud: 0.25 % of 0.4
    torch.testing.assert_close(out[0][:, ~clear], moved[0, 0][:, ~clear], atol=2e-3, rtol=0)


@pytest.mark.parametrize("guidance", ["none", "concat", "error_feedback"])
def test_no_statistic_over_the_tile(guidance):
    """A bright object 448 pixels away changes no bit: with InstanceNorm, or a pooled mean, it would."""
    generator = lively(SMALLEST.model_copy(update={"guidance": guidance}))
    first, second = inputs(64, 640, dates=1), inputs(64, 640, dates=1)
    second["cloudy"][..., :64] = 1.5
    second["mask"][..., :64] = 1
    second["references"][..., :64] = 0.9
    one, other = generator(**first), generator(**second)
    assert not torch.equal(one.restored[..., :128], other.restored[..., :128])
    for mine, theirs in zip(one, other, strict=True):
        assert torch.equal(mine[..., 512:], theirs[..., 512:])


def test_a_shift_by_whole_cells_shifts_the_result(generator):
    given_ = inputs(64, 768)
    moved = {name: part[..., 64:] if part.dim() > 2 else part for name, part in given_.items()}
    assert torch.equal(generator(**given_).restored[..., 448:], generator(**moved).restored[..., 384:])


def test_threads_change_no_bit_and_batches_no_digital_number(generator):
    given_ = inputs(batch=2, dates=2)
    one = generator(**given_).restored
    try:
        torch.set_num_threads(2)
        two = generator(**given_).restored
    finally:
        torch.set_num_threads(1)
    assert torch.equal(one, two)
    for index in range(2):
        alone = generator(**{name: part[index : index + 1] for name, part in given_.items()}).restored
        torch.testing.assert_close(alone, one[index : index + 1], atol=2e-6, rtol=0)


def test_the_guidance_is_built_as_asked():
    counts = {
        kind: parameter_count(Generator(SMALLEST.model_copy(update={"guidance": kind})))
        for kind in ("none", "concat", "error_feedback")
    }
    assert counts["none"] < counts["concat"] < counts["error_feedback"]
    torch.manual_seed(0)
    feedback = Generator(SMALLEST).fusions[0]
    gate = torch.sigmoid(feedback.weigh(torch.randn(1, 8 + 8, 16, 16)))
    assert gate.mean() < 0.1


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("cloudy", (1, 12, 64, 64), "12 bands"),
        ("cloudy", (1, 13, 60, 64), "multiples of 64"),
        ("present", (1, 12), "present has shape"),
        ("mask", (1, 1, 64, 32), "mask has shape"),
        ("valid", (1, 13, 64, 64), "valid has shape"),
        ("references", (1, 2, 12, 64, 64), "references has shape"),
        ("reference_valid", (1, 1, 1, 64, 64), "reference_valid has shape"),
        ("days", (1, 3), "days has shape"),
    ],
)
def test_wrong_shapes_are_named(generator, name, shape, message):
    given_ = inputs(dates=2)
    given_[name] = torch.zeros(shape)
    with pytest.raises(InvalidSpec, match=message):
        generator(**given_)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": ("B02", "B03")}, "bands must be"),
        ({"widths": (8, 8)}, "as many of each"),
        ({"widths": (8, 8, 12, 12, 16, 15)}, "multiples of 4"),
        ({"mean": (0.1,)}, "1 means for 13 bands"),
        ({"guidance": "canny"}, "guidance"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_bad_spec_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ModelSpec.model_validate(SMALLEST.model_dump() | change)


def test_unknown_bands_are_named():
    with pytest.raises(InvalidSpec, match="does not know B99, nir"):
        SMALLEST.require_bands(["B02", "B99", "nir"])
