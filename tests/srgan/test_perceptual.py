"""The perceptual and the style loss against a direct computation in numpy with the real VGG-16."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from srgan.errors import InvalidSpec
from srgan.perceptual import RGB, PerceptualLoss, SharedFeatures, StyleLoss, gram
from srgan.spec import BANDS
from srgan.vgg import Vgg16, load_vgg
from tests.srgan.real import real_pair, stub_weights, vgg_file

torch.set_num_threads(1)
TRIPLE = (BANDS.index("B11"), BANDS.index("B8A"), BANDS.index("B05"))


def random(*shape: int, seed: int = 0) -> Tensor:
    """Reflectance that nothing clips."""
    return 0.01 + 0.28 * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.float64)


def both(vgg: Vgg16, *arguments: object) -> tuple[float, float]:
    layers = SharedFeatures(vgg)(*arguments)
    return PerceptualLoss()(layers).item(), StyleLoss()(layers).item()


@pytest.fixture(scope="module")
def real(shared_data) -> Vgg16:
    return load_vgg(vgg_file(shared_data))


@pytest.fixture(scope="module")
def stub() -> Vgg16:
    return Vgg16(stub_weights())


def direct(vgg: Vgg16, prediction: Tensor, target: Tensor, triples: list[tuple[int, ...]]) -> tuple[float, float]:
    """Both terms as the table of the design reads, sample by sample and triple by triple, in numpy."""
    perceptual, style = [], []
    for sample in range(len(prediction)):
        for triple in triples:
            sides = []
            for image in (prediction, target):
                seen = np.clip(image[sample, list(triple)].numpy() / 0.3, 0, 1)
                with torch.no_grad():
                    sides.append([part[0].double().numpy() for part in vgg(torch.from_numpy(seen)[None].to(vgg.mean))])
            far = alike = 0.0
            for mine, theirs in zip(*sides, strict=True):
                far += np.abs(mine - theirs).mean()
                channels, rows, cols = mine.shape
                grams = [np.einsum("ihw,jhw->ij", part, part) / (channels * rows * cols) for part in (mine, theirs)]
                alike += np.abs(grams[0] - grams[1]).mean()
            perceptual.append(far)
            style.append(alike)
    return float(np.mean(perceptual)), float(np.mean(style))


@pytest.mark.parametrize("triple", [None, TRIPLE])
def test_both_terms_on_a_real_pair(shared_data, real, triple):
    cloudy, clear = real_pair(shared_data)
    prediction, target = torch.cat([cloudy, 1.1 * clear]).float(), torch.cat([clear, clear]).float()
    known, present = torch.ones_like(target), torch.ones(2, 13)
    ours = both(real, prediction, target, known, present, triple)
    expected = direct(real, prediction, target, [(3, 2, 1)] if triple is None else [(3, 2, 1), triple])
    assert RGB == (3, 2, 1)
    assert expected[0] > 0.1
    assert ours == pytest.approx(expected, rel=2e-4)


def test_gram_by_hand():
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [0.0, 1.0]]]])
    whole = gram(features, torch.ones(1, 1, 2, 2))[0]
    assert (whole * 8).tolist() == [[30.0, 6.0], [6.0, 2.0]]
    left = gram(features, torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]]))[0]
    assert (left * 4).tolist() == [[10.0, 0.0], [0.0, 0.0]]
    assert (gram(features, torch.zeros(1, 1, 2, 2)) == 0).all()


def test_a_sample_without_a_band_does_not_count_for_that_triple(stub):
    prediction, target, present = random(3, 13, 16, 16), random(3, 13, 16, 16, seed=1), ones(3, 13)
    present[0, TRIPLE[0]] = 0
    present[1, RGB[0]] = 0
    present[2, [RGB[2], TRIPLE[1]]] = 0
    known = ones(3, 13, 16, 16) * present[:, :, None, None]
    layers = SharedFeatures(stub)(prediction, target, known, present, TRIPLE)
    assert [len(part.prediction) for part in layers] == [2, 2, 2]
    full = ones(1, 13, 16, 16)
    alone = [
        direct(stub, prediction[:1], target[:1], [RGB]),
        direct(stub, prediction[1:2], target[1:2], [TRIPLE]),
    ]
    assert both(stub, prediction, target, known, present, TRIPLE) == pytest.approx(np.mean(alone, axis=0), rel=1e-12)
    assert both(stub, prediction[2:], target[2:], full, present[2:], TRIPLE) == (0, 0)


def test_unknown_ground_is_not_averaged_in(stub):
    """Errors in the known half only: the mean over a tile twice as large, half of it unknown, is that of its windows."""
    prediction, target = random(1, 13, 32, 64), random(1, 13, 32, 64, seed=1)
    known = ones(1, 13, 32, 64)
    known[..., 32:] = 0
    present = ones(1, 13)
    layers = SharedFeatures(stub)(prediction, target, known, present, None)
    half = [part.prediction[..., : part.prediction.shape[-1] // 2] for part in layers]
    wanted = [part.target[..., : part.target.shape[-1] // 2] for part in layers]
    far = sum((mine - theirs).abs().mean() for mine, theirs in zip(half, wanted, strict=True))
    alike = sum(
        (gram(mine, ones(1, 1, *mine.shape[2:])) - gram(theirs, ones(1, 1, *mine.shape[2:]))).abs().mean()
        for mine, theirs in zip(half, wanted, strict=True)
    )
    assert PerceptualLoss()(layers).item() == pytest.approx(far.item(), rel=1e-12)
    assert StyleLoss()(layers).item() == pytest.approx(alike.item(), rel=1e-12)


def test_a_pixel_is_known_where_all_three_bands_are(stub):
    known = ones(1, 13, 8, 8)
    known[0, RGB[0], 0, 0] = known[0, RGB[2], 7, 7] = known[0, 7, :, :4] = 0
    layers = SharedFeatures(stub)(random(1, 13, 8, 8), random(1, 13, 8, 8, seed=1), known, ones(1, 13), None)
    fine, middle, coarse = (part.known[0, 0] for part in layers)
    assert (fine == 0).nonzero().tolist() == [[0, 0], [7, 7]]
    assert middle[0, 0] == middle[3, 3] == 0.75
    assert coarse.tolist() == [[15 / 16, 1], [1, 15 / 16]]


def test_samples_weigh_as_their_known_share(stub):
    prediction, target, known, present = (
        *(random(2, 13, 16, 16, seed=s) for s in (0, 1)),
        ones(2, 13, 16, 16),
        ones(2, 13),
    )
    known[1, :, 4:] = 0
    apart = [
        both(stub, prediction[part], target[part], known[part], present[part], None)
        for part in (slice(0, 1), slice(1, 2))
    ]
    expected = [(first + 0.25 * second) / 1.25 for first, second in zip(*apart, strict=True)]
    assert both(stub, prediction, target, known, present, None) == pytest.approx(expected, rel=1e-12)


def test_the_target_is_not_trained(stub):
    target = random(1, 13, 16, 16).requires_grad_()
    layers = SharedFeatures(stub)(random(1, 13, 16, 16, seed=1), target, ones(1, 13, 16, 16), ones(1, 13), None)
    assert not any(part.target.requires_grad for part in layers)


@pytest.mark.parametrize("triple", [(1, 2), (1, 1, 2), (0, 5, 13), (-1, 2, 3)])
def test_a_triple_that_is_none(stub, triple):
    image = random(1, 13, 16, 16)
    with pytest.raises(InvalidSpec, match=r"three different channel numbers of 0\.\.12"):
        SharedFeatures(stub)(image, image, ones(1, 13, 16, 16), ones(1, 13), triple)


@pytest.mark.parametrize("loss", [PerceptualLoss(), StyleLoss()])
def test_gradients(stub, loss):
    target, known, present = random(2, 13, 8, 8, seed=1), ones(2, 13, 8, 8), ones(2, 13)
    present[1, TRIPLE[1]] = 0

    def scalar(prediction: Tensor) -> Tensor:
        value: Tensor = loss(SharedFeatures(stub)(prediction, target, known, present, TRIPLE))
        return value

    assert torch.autograd.gradcheck(scalar, [random(2, 13, 8, 8).requires_grad_()], fast_mode=True)
