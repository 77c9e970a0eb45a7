"""The discriminator: what it sees, what it keeps, and the adversarial loss by hand."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import ndimage
from torch import Tensor

from srgan.adversarial import AdversarialLoss
from srgan.discriminator import Discriminator
from srgan.errors import InvalidSpec

torch.set_num_threads(1)
FIELD = 70


def made(width: int = 8, seed: int = 0) -> Discriminator:
    torch.manual_seed(seed)
    return Discriminator(width=width)


def image(rows: int = 96, cols: int = 96, seed: int = 0, samples: int = 1) -> Tensor:
    return 0.4 * torch.rand(samples, 13, rows, cols, generator=torch.Generator().manual_seed(seed))


def test_the_receptive_field_is_70_pixels_in_every_band():
    judge = made().double().eval()
    scene = image(160, 192).double().requires_grad_()
    scores = judge(scene, torch.ones(1, 13))
    assert scores.shape == (1, 1, 18, 22)
    (slope,) = torch.autograd.grad(scores[0, 0, 9, 11], scene)
    for band in range(13):
        rows, cols = ((slope[0, band] != 0).any(axis).nonzero().flatten() for axis in (1, 0))
        assert rows[-1] - rows[0] + 1 == cols[-1] - cols[0] + 1 == FIELD
        assert len(rows) == len(cols) == FIELD


def test_a_patch_is_judged_by_itself():
    """A bright object further away than the field, or in another sample, changes no bit of a score."""
    judge = made().eval()
    scene = image(160, 192, samples=2)
    other = scene.clone()
    other[0, :, :, 120:] = 1.5
    other[1] = 0.9
    with torch.no_grad():
        before, after = (judge(given, torch.ones(2, 13)) for given in (scene, other))
    near = [col for col in range(22) if 8 * col + FIELD <= 120]
    assert torch.equal(before[0, :, :, near], after[0, :, :, near])
    assert not torch.equal(before[0], after[0])


def test_it_sees_the_bands_and_scipys_sobel_magnitude():
    scene, present = image(32, 40).double(), torch.ones(1, 13)
    present[0, 4] = 0
    scene[0, 4] = math.nan
    bands, edges = made()._see(scene, present)
    assert (bands[0, 4] == 0).all()
    assert (edges[0, 4] == 0).all()
    for band in (0, 12):
        plane = scene[0, band].numpy()
        size = sum((ndimage.sobel(plane, axis=axis, mode="nearest") / 8) ** 2 for axis in (0, 1)) ** 0.5
        torch.testing.assert_close(edges[0, band] * 0.05, torch.from_numpy(size), atol=1e-4, rtol=0)
        torch.testing.assert_close(bands[0, band] * 0.15 + 0.15, scene[0, band])


def test_what_stands_in_absent_bands_never_matters():
    judge, present = made().eval(), torch.ones(2, 13)
    present[0, [0, 10]] = 0
    scene = image(samples=2)
    junk = scene.clone()
    junk[0, 0], junk[0, 10] = math.nan, 1e6
    assert torch.equal(judge(scene, present), judge(junk, present))
    assert not torch.equal(judge(scene, present), judge(scene, torch.ones(2, 13)))


def test_every_layer_is_held_to_a_norm_of_one():
    judge = made()
    for _ in range(50):
        judge(image(), torch.ones(1, 13))
    judge.eval()
    layers = [part for part in judge.modules() if isinstance(part, torch.nn.Conv2d)]
    assert len(layers) == 6
    for layer in layers:
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert norm.item() == pytest.approx(1, abs=0.02)


def test_its_state_comes_back_exactly(tmp_path):
    judge = made()
    optimiser = torch.optim.Adam(judge.parameters(), 1e-3)

    def learn(one: Discriminator, how: torch.optim.Optimizer) -> Tensor:
        loss = one(image(), torch.ones(1, 13)).square().mean()
        how.zero_grad()
        loss.backward()
        how.step()
        return loss.detach()

    learn(judge, optimiser)
    save_file(judge.state_dict(), tmp_path / "state.safetensors")
    moments = copy.deepcopy(optimiser.state_dict())
    straight = [learn(judge, optimiser) for _ in range(3)]

    again = made(seed=1)
    again.load_state_dict(load_file(tmp_path / "state.safetensors"))
    optimiser = torch.optim.Adam(again.parameters(), 1e-3)
    optimiser.load_state_dict(moments)
    resumed = [learn(again, optimiser) for _ in range(3)]
    assert straight == resumed
    mine, theirs = judge.state_dict(), again.state_dict()
    assert sum(name.endswith(("._u", "._v")) for name in mine) == 12
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_it_is_the_same_every_time():
    first, second = (made()(image(), torch.ones(1, 13)) for _ in range(2))
    assert torch.equal(first, second)


def test_scores_are_float32_under_autocast():
    judge = made(16)
    twin = copy.deepcopy(judge)
    scene, present = image(), torch.ones(1, 13)
    plain = judge(scene, present)
    with torch.autocast("cpu", torch.bfloat16):
        cast = twin(scene, present)
        assert twin(scene.bfloat16(), present).dtype == torch.float32
    assert cast.dtype == torch.float32
    assert not torch.equal(plain, cast)
    torch.testing.assert_close(plain, cast, atol=0.02, rtol=0)
    cast.mean().backward()
    assert all(part.grad is not None and part.grad.dtype == torch.float32 for part in twin.parameters())
    # The power iteration has seen nothing of it.
    first, second = made(16), made(16)
    first(scene, present)
    with torch.autocast("cpu", torch.bfloat16):
        second(scene, present)
    assert all(torch.equal(*pair) for pair in zip(first.buffers(), second.buffers(), strict=True))


def test_its_gradients():
    judge = made(2).double().eval()
    free = image(32, 32).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda scene: judge(scene, torch.ones(1, 13)), [free], fast_mode=True)


def test_least_squares_by_hand():
    loss = AdversarialLoss()
    real, fake = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, -1.0]])
    assert loss.generator(fake).item() == (0.25 + 4.0) / 2 / 2
    assert loss.discriminator(real, fake).item() == ((0.0 + 1.0) / 2 + (0.25 + 1.0) / 2) / 2
    assert loss.discriminator(torch.ones(3), torch.zeros(5)).item() == 0
    assert loss.generator(torch.ones(4)).item() == 0


def test_hinge_by_hand():
    loss = AdversarialLoss("hinge")
    real, fake = torch.tensor([[2.0, 0.5]]), torch.tensor([[0.5, -3.0]])
    assert loss.generator(fake).item() == 1.25
    assert loss.discriminator(real, fake).item() == 0.25 + 0.75
    assert loss.discriminator(torch.ones(3), -torch.ones(5)).item() == 0


def test_another_kind_is_refused():
    with pytest.raises(InvalidSpec, match="'wgan': lsgan or hinge"):
        AdversarialLoss("wgan")


@pytest.mark.parametrize("kind", ["lsgan", "hinge"])
def test_gradients_of_the_loss(kind):
    loss = AdversarialLoss(kind)
    real, fake = (torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(loss.generator, [fake])
    assert torch.autograd.gradcheck(loss.discriminator, [real, fake])
