"""The expected error: trained by likelihood, calibrated by hand's formula, without a trace in the image."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import optimize

from srgan.calibration import POWERS, STRENGTHS, _error, _set_strength, calibrate, fit_scale, main
from srgan.checkpoint import load_checkpoint, save_checkpoint
from srgan.dataset import SampleMaker
from srgan.generator import Generator
from srgan.settings import load_settings
from srgan.spec import BANDS, GROUPS, ModelSpec
from srgan.store import ChipStore
from srgan.uncertainty import FIRST, LEAST, MOST, WIDEST, group_error, likelihood
from tests.srgan.made import write_store

SMALLEST = ModelSpec(name="smallest", widths=(8, 8, 8, 8), depths=(1, 1, 1, 1))


def inputs(size: int = 64, dates: int = 1) -> dict[str, torch.Tensor]:
    noise = torch.Generator().manual_seed(3)
    mask = torch.zeros(1, 1, size, size)
    mask[..., 16:48, 16:48] = 1
    return {
        "cloudy": torch.rand(1, 13, size, size, generator=noise),
        "present": torch.ones(1, 13),
        "mask": mask,
        "valid": torch.ones(1, 1, size, size),
        "references": torch.rand(1, dates, 13, size, size, generator=noise),
        "reference_valid": torch.ones(1, dates, 1, size, size),
        "days": torch.ones(1, dates),
    }


def test_positive_bounded_and_a_start_before_training():
    torch.manual_seed(0)
    generator = Generator(SMALLEST).eval()
    with torch.no_grad():
        out = generator(**inputs())
        assert out.uncertainty.shape == (1, len(GROUPS), 64, 64)
        torch.testing.assert_close(out.uncertainty, torch.full_like(out.uncertainty, FIRST))
        generator.uncertainty.write.bias.fill_(1e3)
        most = generator(**inputs()).uncertainty
        assert (most == MOST).all()
        generator.uncertainty.write.bias.fill_(-1e3)
        least = generator(**inputs()).uncertainty
        torch.testing.assert_close(least, torch.full_like(least, FIRST * math.exp(-WIDEST)))
        assert (least > LEAST).all()


def test_no_gradient_reaches_the_image():
    torch.manual_seed(0)
    generator = Generator(SMALLEST)
    with torch.no_grad():
        generator.uncertainty.write.weight.normal_(0, 0.1)
    given = inputs()
    out = generator(**given)
    known = torch.ones(1, 13, 64, 64)
    likelihood(
        out.uncertainty, out.restored, torch.rand(1, 13, 64, 64), given["mask"], known, given["present"]
    ).backward()
    touched = {
        name.split(".")[0] for name, part in generator.named_parameters() if part.grad is not None and part.grad.any()
    }
    assert touched == {"uncertainty"}


def test_likelihood_against_scipy_and_the_minimum_at_the_mean_error():
    torch.manual_seed(1)
    error = torch.distributions.Exponential(1 / 0.03).sample((1, 1, 40, 40))
    prediction, target = torch.zeros(1, 13, 40, 40), error.expand(1, 13, 40, 40)
    known, present, mask = torch.ones(1, 13, 40, 40), torch.ones(1, 13), torch.ones(1, 1, 40, 40)

    def at(scale: float) -> float:
        b = torch.full((1, len(GROUPS), 40, 40), scale)
        return float(likelihood(b, prediction, target, mask, known, present))

    best = optimize.minimize_scalar(at, bounds=(0.001, 0.3), method="bounded").x
    assert best == pytest.approx(float(error.mean()), rel=1e-3)
    expected = float((error.double() / 0.05).mean() + math.log(0.05 / FIRST))
    assert at(0.05) == pytest.approx(expected, rel=1e-5)


def test_errors_of_a_group_count_its_present_bands_and_known_replaced_pixels():
    prediction, target = torch.zeros(1, 13, 8, 8), torch.zeros(1, 13, 8, 8)
    target[:, BANDS.index("B02")] = 0.3
    target[:, BANDS.index("B12")] = 0.1
    present, known, mask = torch.ones(1, 13), torch.ones(1, 13, 8, 8), torch.ones(1, 1, 8, 8)
    present[:, BANDS.index("B11")] = 0
    present[:, [BANDS.index(name) for name in GROUPS["red edge"]]] = 0
    known[..., 0] = 0
    mask[..., 1] = 0
    error, counts = group_error(prediction, target, mask, known, present)
    assert error[0, 0, 3, 3] == pytest.approx(0.1)
    assert error[0, 3, 3, 3] == pytest.approx(0.1)
    assert (counts[:, :, :, :2] == 0).all()
    assert (counts[:, 1] == 0).all()
    assert (counts[:, [0, 2, 3], :, 2:] == 1).all()


@pytest.mark.parametrize(("shift", "power"), [(math.log(0.02), 1.0), (math.log(0.05), 0.5), (math.log(0.01), 0.0)])
def test_calibration_finds_what_was_planted(shift, power):
    torch.manual_seed(2)
    said = torch.randn(40_000)
    error = torch.distributions.Exponential(torch.exp(-(shift + power * said))).sample()
    found = fit_scale(said, error)
    assert found == (pytest.approx(shift, abs=0.05), pytest.approx(power, abs=0.051))
    assert found[1] in POWERS


@pytest.fixture(scope="module")
def maker(tmp_path_factory):
    store = ChipStore(write_store(tmp_path_factory.mktemp("calibration")))
    changes = {
        "model": "tiny",
        "widths": [8, 8, 8, 8],
        "depths": [1, 1, 1, 1],
        "crop": 64,
        "losses.perceptual": 0,
        "losses.style": 0,
    }
    return SampleMaker(store.split("val"), load_settings("tiny", changes), 5)


def test_a_correction_that_harms_is_switched_off(maker):
    """Heads that add a constant to every band: the guess alone is better, in every kind of pixel that occurs."""
    torch.manual_seed(0)
    generator = Generator(SMALLEST).eval()
    with torch.no_grad():
        generator.correction.bias[:13] = 3.0
    calibrate(generator, maker, 6)
    assert (generator.strength == 0).all()
    assert torch.isfinite(generator.uncertainty.calibration).all()


def test_no_kind_of_sample_comes_out_worse_than_the_guess_and_dates_count_where_real_ones_were_seen(maker):
    """Heads that do something else at every pixel; asked both with samples of made-up dates and with what counts as a series."""
    for revisited in (False, True):
        torch.manual_seed(3)
        generator = Generator(SMALLEST).eval()
        with torch.no_grad():
            generator.correction.weight.normal_(0, 0.3)
        drafts = [(index % 2 == 1, *made) for index in range(6) if (made := drafted(generator, maker, index))]
        _set_strength(generator, drafts, dated=revisited)
        assert revisited or (generator.strength[1] == 0).all()
        found = mean_errors(generator, drafts)
        generator.strength.zero_()
        assert all(mine <= guess for mine, guess in zip(found, mean_errors(generator, drafts), strict=True))
    assert maker.revisited is any(chip.kind == "series" for chip, _ in maker.clear)


@torch.no_grad()
def drafted(generator, maker, index):
    batch = maker.batch(index, 0, 1) if index % 2 else maker.batch(index, 1, 0)
    return (batch, generator.draft(*batch.inputs)) if bool((batch.mask * batch.counts > 0).any()) else None


def mean_errors(generator, drafts):
    """Of real samples and of synthetic ones."""
    found = [
        [_error(generator, batch, draft) for real, batch, draft in drafts if real is kind] for kind in (True, False)
    ]
    return [sum(part) / len(part) for part in found if part]


def test_a_correction_that_helps_stays(maker):
    """Drafts whose correction is just what the guess lacks."""
    torch.manual_seed(0)
    generator = Generator(SMALLEST).eval()
    drafts = []
    for index in range(6):
        if made := drafted(generator, maker, index):
            batch, draft = made
            helpful = draft._replace(correction=batch.target - draft.guess, opacity=torch.ones_like(draft.opacity))
            drafts.append((index % 2 == 1, batch, helpful))
    generator.strength.zero_()
    guess = mean_errors(generator, drafts)
    _set_strength(generator, drafts, dated=True)
    assert all(mine < 0.1 * before for mine, before in zip(mean_errors(generator, drafts), guess, strict=True))
    _set_strength(generator, drafts, dated=False)
    assert (generator.strength[1] == 0).all()
    assert (generator.strength[0] > 0).any()


def test_calibration_repeats(maker):
    torch.manual_seed(0)
    first, second = Generator(SMALLEST).eval(), Generator(SMALLEST).eval()
    for generator in (first, second):
        with torch.no_grad():
            for part in generator.parameters():
                part.zero_()
        calibrate(generator, maker, 6)
    assert torch.equal(first.strength, second.strength)
    assert torch.equal(first.uncertainty.calibration, second.uncertainty.calibration)
    assert {float(value) for value in first.strength.flatten()} <= set(STRENGTHS)


def test_the_command_calibrates_a_finished_checkpoint(tmp_path, capsys):
    torch.manual_seed(0)
    store, before, after = (
        write_store(tmp_path / "store"),
        tmp_path / "before.safetensors",
        tmp_path / "after.safetensors",
    )
    generator = Generator(SMALLEST)
    with torch.no_grad():
        generator.correction.bias[:13] = 3.0
    save_checkpoint(before, generator, {"description": "kept"})
    options = ["--store", str(store), "--output", str(after), "--crop", "64", "--samples", "6"]
    assert main([str(before), *options]) == 0
    found = load_checkpoint(after)
    assert (found.generator.strength == 0).all()
    assert found.card["description"] == "kept"
    assert set(found.card["calibration"]["strength of the correction"].values()) == {0.0}
    assert set(found.card["calibration"]["expected error, shift"]) == set(GROUPS)
    assert main([str(tmp_path / "none.safetensors"), *options]) == 2
    assert "no such file" in capsys.readouterr().err


def test_the_command_draws_samples_as_the_checkpoint_was_trained(tmp_path, capsys):
    torch.manual_seed(0)
    store, before, after = (
        write_store(tmp_path / "store"),
        tmp_path / "before.safetensors",
        tmp_path / "after.safetensors",
    )
    options = [str(before), "--store", str(store), "--output", str(after), "--crop", "64", "--samples", "6"]
    found = []
    for skies in ({"haze": 1, "broken": 0, "cirrus": 0}, {"haze": 0, "broken": 0, "overcast": 1, "cirrus": 0}):
        own = load_settings("tiny", {"skies": skies, "transplants": 0}).model_dump(mode="json")
        save_checkpoint(before, Generator(SMALLEST), {"training": {"settings": own}})
        assert main(options) == 0
        found.append(load_checkpoint(after).card["calibration"]["expected error, shift"])
    assert found[0] != found[1]
    save_checkpoint(before, Generator(SMALLEST), {"training": {"settings": {"skies": 3}}})
    assert main(options) == 2
    assert capsys.readouterr().err.startswith("error: ")
