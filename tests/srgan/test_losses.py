"""The supervised terms: by hand, against scipy, by their gradients; each learns alone; what is not known never matters."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from srgan.adversarial import AdversarialLoss
from srgan.discriminator import Discriminator
from srgan.generator import Generator, GeneratorOutput
from srgan.guidance import band_groups, smooth, sobel
from srgan.known import masked_mean
from srgan.losses import (
    GradientConsistencyLoss,
    ReconstructionLoss,
    StructuralLoss,
    SupervisedLosses,
    known_groups,
)
from srgan.spec import BANDS, GROUPS, ModelSpec
from srgan.ssim import ms_ssim
from srgan.vgg import Vgg16, load_vgg
from tests.srgan.real import real_pair, stub_weights, vgg_file

torch.set_num_threads(1)
RNG = np.random.default_rng(0)
EDGE = 32
"""Of the chip that a term alone is learned on, pixels."""
SMALLEST = {"name": "smallest", "widths": (8, 8, 12, 12), "depths": (1, 1, 1, 1)}


def random(*shape: int) -> Tensor:
    return torch.tensor(RNG.random(shape))


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.float64)


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def output(restored: Tensor, truth: Tensor, present: Tensor) -> GeneratorOutput:
    """As of a generator whose maps are those of `truth`."""
    groups = band_groups(truth, present)
    return GeneratorOutput(
        restored, torch.ones_like(restored[:, :1]), smooth(groups), sobel(groups), torch.ones_like(groups)
    )


@pytest.fixture(scope="module")
def losses() -> SupervisedLosses:
    return SupervisedLosses(Vgg16(stub_weights()))


def test_reconstruction_counts_cloud_twice():
    prediction, target, mask = random(1, 13, 8, 8), random(1, 13, 8, 8), (random(1, 1, 8, 8) > 0.5).double()
    known = (random(1, 13, 8, 8) > 0.3).double()
    error = np.abs(prediction.numpy() - target.numpy()) * (1 + mask.numpy())
    expected = error[known.numpy() > 0].mean()
    assert ReconstructionLoss()(prediction, target, mask, known).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_consistency_is_scipys_sobel():
    prediction, target = random(2, 13, 12, 16), random(2, 13, 12, 16)
    predicted = random(2, 8, 12, 16) - 0.5
    everywhere, present = ones(2, 13, 12, 16), ones(2, 13)

    def maps(plane: np.ndarray) -> list[np.ndarray]:
        return [ndimage.sobel(plane, axis=axis, mode="nearest") / 8 for axis in (1, 0)]

    sharp, edges = [], []
    for sample in range(2):
        for band in range(13):
            pairs = zip(maps(prediction[sample, band].numpy()), maps(target[sample, band].numpy()), strict=True)
            sharp += [np.abs(mine - theirs) for mine, theirs in pairs]
        for number, members in enumerate(GROUPS.values()):
            group = np.mean([target[sample, BANDS.index(band)].numpy() for band in members], axis=0)
            for half, theirs in enumerate(maps(group)):
                edges.append(np.abs(predicted[sample, 4 * half + number].numpy() - theirs))
    ours = GradientConsistencyLoss()(predicted, prediction, target, everywhere, present)
    assert ours.item() == pytest.approx(np.mean(sharp) + np.mean(edges), rel=1e-12)


def test_structural_is_the_maps_distance_and_half_of_what_ms_ssim_lacks():
    prediction, target, structure = random(2, 13, 24, 24), random(2, 13, 24, 24), random(2, 4, 24, 24)
    everywhere, present = ones(2, 13, 24, 24), ones(2, 13)
    groups = torch.stack(
        [target[:, [BANDS.index(band) for band in members]].mean(1) for members in GROUPS.values()], dim=1
    )
    expected = (structure - smooth(groups)).abs().mean() + 0.5 * (1 - ms_ssim(prediction, target, everywhere).mean())
    ours = StructuralLoss()(structure, prediction, target, everywhere, present)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-12)
    assert 0.5 * (1 - ms_ssim(prediction, target, everywhere).mean()) > 0.2


def test_a_perfect_prediction_costs_nothing(losses):
    truth, present, everywhere = random(1, 13, 32, 32), ones(1, 13), ones(1, 13, 32, 32)
    perfect = losses(output(truth, truth, present), truth, everywhere[:, :1], everywhere, present, (7, 8, 11))
    assert list(perfect) == ["reconstruction", "perceptual", "style", "structural", "gradient_consistency"]
    for name, term in perfect.items():
        assert term.item() == pytest.approx(0, abs=1e-12), name
    off = losses(output(0.5 * truth, 0.5 * truth, present), truth, everywhere[:, :1], everywhere, present, (7, 8, 11))
    for name, term in off.items():
        assert term.item() > 1e-4, name


def test_without_vgg_there_are_three_terms():
    truth, present, everywhere = random(1, 13, 16, 16), ones(1, 13), ones(1, 13, 16, 16)
    terms = SupervisedLosses(None)(output(truth, truth, present), truth, everywhere[:, :1], everywhere, present, None)
    assert list(terms) == ["reconstruction", "structural", "gradient_consistency"]


@pytest.mark.parametrize("junk", [7.0, -5.0, math.nan, math.inf])
def test_what_is_not_known_does_not_matter(losses, junk):
    """Half of the ground, one band of a group, one pixel of one band and one whole sample."""
    truth, guess, mask = 0.3 * random(3, 13, 32, 32), 0.3 * random(3, 13, 32, 32), ones(3, 1, 32, 32)
    present = ones(3, 13)
    present[0, [3, 11]] = 0
    known = ones(3, 13, 32, 32)
    known[0, :, :, 16:] = 0
    known[1, 5, 20, 20] = 0
    known[2] = 0
    known = known * present[:, :, None, None]
    maps = output(guess, guess, present)
    values = []
    for other in (truth, torch.where(known > 0, truth, junk)):
        covered = torch.where(known.amax(1, keepdim=True) > 0, mask, junk)
        restored = guess.clone().requires_grad_()
        terms = losses(maps._replace(restored=restored), other, covered, known, present, (4, 5, 7))
        values.append({name: term.item() for name, term in terms.items()})
        for name, term in terms.items():
            (slope,) = torch.autograd.grad(term, restored, retain_graph=True)
            assert (slope[known == 0] == 0).all(), name  # an unknown pixel is not pulled at
            assert slope.isfinite().all(), name
            assert (slope[1, 1] != 0).any(), name
    assert values[0] == values[1]
    assert all(value > 0 for value in values[0].values())


def test_where_nothing_is_known_every_term_is_zero_and_pulls_at_nothing(losses):
    truth, present, none = random(1, 13, 16, 16), ones(1, 13), zeros(1, 13, 16, 16)
    guess = random(1, 13, 16, 16).requires_grad_()
    terms = losses(output(guess, guess, present), truth * math.nan, none[:, :1], none, present, (4, 5, 7))
    torch.stack(list(terms.values())).sum().backward()
    assert all(term.item() == 0 for term in terms.values())
    assert guess.grad is not None
    assert (guess.grad == 0).all()


def test_what_is_known_but_not_finite_is_not_swallowed(losses):
    truth, present, everywhere = random(1, 13, 16, 16), ones(1, 13), ones(1, 13, 16, 16)
    broken = truth.clone()
    broken[0, 3, 8, 8] = math.nan
    for restored, target in ((broken, truth), (truth, broken)):
        for name, term in losses(
            output(restored, truth, present), target, everywhere[:, :1], everywhere, present, None
        ).items():
            assert term.isnan(), name


def test_a_group_counts_where_all_its_present_bands_are_known():
    present, known = ones(1, 13), ones(1, 13, 2, 2)
    present[0, [1, 10, 11, 12]] = 0  # one of VIS, both of SWIR
    known[0, 4, 0, 0] = 0  # one of red edge
    known = known * present[:, :, None, None]
    groups = known_groups(known, present)[0]
    assert groups[0].tolist() == [[1, 1], [1, 1]]
    assert groups[1].tolist() == [[0, 1], [1, 1]]
    assert groups[2].tolist() == [[1, 1], [1, 1]]
    assert groups[3].tolist() == [[0, 0], [0, 0]]


def test_mean_without_weight_is_zero_and_small_weights_are_no_less_a_mean():
    assert masked_mean(random(1, 2, 4, 4), zeros(1, 1, 4, 4)).item() == 0
    assert masked_mean(torch.full((1, 1, 2, 2), 3.0), torch.full((1, 1, 2, 2), 0.01)).item() == pytest.approx(3)


def test_the_terms_are_the_same_under_autocast_and_come_in_float32():
    truth, guess = random(1, 13, 32, 32).float(), random(1, 13, 32, 32).float()
    everywhere, present = ones(1, 13, 32, 32).float(), ones(1, 13).float()
    terms = SupervisedLosses(Vgg16({name: value.float() for name, value in stub_weights().items()}))
    arguments = (output(guess, truth, present), truth, everywhere[:, :1], everywhere, present, (4, 5, 7))
    plain = terms(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        cast = terms(*arguments)
    assert all(term.dtype == torch.float32 for term in cast.values())
    assert plain == cast
    half = GeneratorOutput(*(part.bfloat16() for part in arguments[0]))
    assert all(term.dtype == torch.float32 for term in terms(half, *arguments[1:]).values())


def test_no_loss_has_parameters_or_state(losses):
    assert list(losses.parameters()) == []
    assert losses.state_dict() == {}
    assert not losses.train().features.vgg.training


@pytest.mark.parametrize("term", ["reconstruction", "structural", "gradient_consistency"])
def test_gradients(term):
    everywhere, present = ones(1, 13, 12, 12), ones(1, 13)
    everywhere[..., 9:] = 0
    truth, mask = random(1, 13, 12, 12), random(1, 1, 12, 12)

    def scalar(restored: Tensor, structure: Tensor, gradient: Tensor) -> Tensor:
        # Where nothing is known the prediction stands in for the target: there it is a constant.
        restored = torch.where(everywhere > 0, restored, 0.2)
        out = GeneratorOutput(restored, mask, structure, gradient, torch.ones_like(structure))
        value: Tensor = SupervisedLosses(None)(out, truth, mask, everywhere, present, None)[term]
        return value

    free = [random(1, channels, 12, 12).requires_grad_() for channels in (13, 4, 8)]
    assert torch.autograd.gradcheck(scalar, free, fast_mode=True)


def one_chip(shared_data: Path, guidance: str = "error_feedback") -> tuple[Generator, dict[str, Tensor], Tensor]:
    """A tiny network, its inputs for one real chip half under haze, and the chip."""
    clear = real_pair(shared_data, EDGE)[1].float()
    torch.manual_seed(0)
    everywhere = torch.ones(1, 1, EDGE, EDGE)
    mask = torch.zeros(1, 1, EDGE, EDGE)
    mask[..., : EDGE // 2] = 1
    given = {
        "cloudy": torch.where(mask > 0, 0.2 + 0.6 * clear, clear),
        "present": torch.ones(1, 13),
        "mask": mask,
        "valid": everywhere,
        "references": torch.zeros(1, 0, 13, EDGE, EDGE),
        "reference_valid": torch.zeros(1, 0, 1, EDGE, EDGE),
        "days": torch.zeros(1, 0),
    }
    return Generator(ModelSpec(guidance=guidance, **SMALLEST)), given, clear


def course(module: nn.Module, rate: float, steps: int, loss_of: Callable[[], Tensor]) -> list[float]:
    """Train `module` by a loss alone; its value at each step."""
    optimiser, values = torch.optim.Adam(module.parameters(), rate), []
    for _ in range(steps):
        loss = loss_of()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    return values


@pytest.mark.parametrize(
    ("term", "guidance", "rate", "steps"),
    [
        ("reconstruction", "error_feedback", 3e-3, 10),
        ("perceptual", "error_feedback", 1e-3, 40),
        ("style", "error_feedback", 1e-3, 32),
        ("structural", "error_feedback", 3e-3, 10),
        ("structural", "none", 3e-3, 10),
        ("gradient_consistency", "error_feedback", 2e-3, 48),  # the maps are small, the first steps of Adam are not
        ("gradient_consistency", "none", 3e-3, 40),
    ],
)
def test_each_term_alone_lowers_itself(shared_data, term, guidance, rate, steps):
    terms = SupervisedLosses(load_vgg(vgg_file(shared_data)) if term in ("perceptual", "style") else None)
    generator, given, clear = one_chip(shared_data, guidance)
    known = torch.ones_like(clear)

    def loss() -> Tensor:
        value: Tensor = terms(generator(**given), clear, given["mask"], known, given["present"], None)[term]
        return value

    values = course(generator, rate, steps, loss)
    assert values[-1] < 0.88 * values[0]


@pytest.mark.parametrize(("trained", "left"), [(False, 0.92), (True, 0.6)])
def test_the_adversarial_term_alone_lowers_itself(shared_data, trained, left):
    """Against a discriminator as it was made, or one that has learned to tell the chip from what comes."""
    generator, given, clear = one_chip(shared_data)
    present, judge, adversary = given["present"], Discriminator(width=8), AdversarialLoss()
    if trained:
        fake = generator(**given).restored.detach()
        told = course(judge, 2e-3, 30, lambda: adversary.discriminator(judge(clear, present), judge(fake, present)))
        assert told[-1] < 0.6 * told[0]
    judge.eval().requires_grad_(requires_grad=False)
    values = course(generator, 3e-3, 36, lambda: adversary.generator(judge(generator(**given).restored, present)))
    assert values[-1] < left * values[0]
