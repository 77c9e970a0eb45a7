"""Noise fields: the spline that they claim to be, the same from every window, bent and turned as asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from srgan.noise import Flow, NoiseField, fractal_noise

torch.set_num_threads(1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_window_is_the_sum_of_cubic_splines():
    levels, persistence, top, left, rows, cols = 4, 0.6, -37, 1003, 30, 41
    field = NoiseField.draw(seeded(), levels, persistence)
    basis = BSpline.basis_element([-2, -1, 0, 1, 2], extrapolate=False)
    total, power = np.zeros((rows, cols)), 0.0

    def weights(start: int, count: int, cell: int) -> tuple[np.ndarray, np.ndarray]:
        nodes = np.arange(start // cell - 3, (start + count) // cell + 4)
        places = np.arange(start, start + count)[:, None] / cell
        return nodes % 128, np.nan_to_num(basis(places - nodes))

    for octave in range(levels):
        cell = 2 ** (levels - octave)
        down, by_row = weights(top, rows, cell)
        right, by_col = weights(left, cols, cell)
        total += persistence**octave * by_row @ field.tables[octave, 0].numpy()[np.ix_(down, right)] @ by_col.T
        power += persistence ** (2 * octave)
    ours = field.window(top, left, rows, cols)[0].numpy()
    scale = (ours * total).sum() / (total**2).sum()
    np.testing.assert_allclose(ours, scale * total, atol=1e-5)
    assert scale == pytest.approx(1 / (0.4794 * np.sqrt(power)), rel=1e-3)


@pytest.mark.parametrize("billows", [99, 1])
def test_windows_of_one_place_agree_and_are_standardised(billows):
    field = NoiseField.draw(seeded(1), 5, channels=2, billows=billows)
    whole = field.window(-50, 700, 400, 420)
    torch.testing.assert_close(field.window(-20, 800, 60, 50), whole[:, 30:90, 100:150], atol=1e-5, rtol=0)
    assert whole.std((1, 2)).tolist() == pytest.approx([1, 1], abs=0.25)
    assert whole.mean((1, 2)).abs().max() < 0.4


def test_billows_have_creases_below_and_round_tops():
    plain, folded = (NoiseField.draw(seeded(2), 5, octaves=1, billows=b).window(0, 0, 400, 400)[0] for b in (99, 0))
    skew = [float(((field - field.mean()) ** 3).mean() / field.std() ** 3) for field in (plain, folded)]
    assert abs(skew[0]) < 0.4
    assert skew[1] > 0.5


def test_fine_octaves_can_be_left_out():
    field = NoiseField.draw(seeded(3), 6)
    rough, smooth = (field.window(0, 0, 128, 128, finest)[0] for finest in (0, 16))
    assert smooth.diff(dim=0, n=2).abs().mean() < 0.2 * rough.diff(dim=0, n=2).abs().mean()
    assert np.corrcoef(rough.flatten(), smooth.flatten())[0, 1] > 0.9


def test_a_flow_turns_stretches_and_agrees_between_windows():
    field, bend = NoiseField.draw(seeded(4), 4), NoiseField.draw(seeded(5), 4, channels=2)
    flow = Flow(0.0, 6.0, 1.3, bend, 3.0)
    view = flow.view(field, -90, 40, 160, 160)
    torch.testing.assert_close(flow.view(field, -70, 50, 40, 40), view[20:60, 10:50], atol=1e-4, rtol=0)
    assert view.diff(dim=1).std() < 0.45 * view.diff(dim=0).std()  # fibres along the columns' axis
    upright = Flow(np.pi / 2, 6.0, 1.3, bend, 3.0).view(field, -90, 40, 160, 160)
    assert upright.diff(dim=0).std() < 0.45 * upright.diff(dim=1).std()
    straight = Flow(0.0, 1.0, 1.0, bend, 0.0).view(field, 3, 4, 20, 20)
    torch.testing.assert_close(straight, field.window(3, 4, 20, 20)[0], atol=1e-5, rtol=0)


def test_fractal_noise_is_standardised():
    noise = fractal_noise(3, 64, 80, seeded())
    assert noise.shape == (3, 1, 64, 80)
    torch.testing.assert_close(noise.std((1, 2, 3)), torch.ones(3))
