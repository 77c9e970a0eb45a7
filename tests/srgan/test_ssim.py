"""SSIM against scikit-image and torchmetrics, MS-SSIM against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch.nn.functional import avg_pool2d
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as torchmetrics_ms_ssim
from torchmetrics.functional.image import structural_similarity_index_measure

from srgan.errors import InvalidSpec
from srgan.ssim import ms_ssim, scale_count, ssim_map, ssim_parts

torch.set_num_threads(1)
BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the paper."""


def pair(bands: int, rows: int, cols: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A rough image and a darker, noisier one of it, double."""
    source = torch.Generator().manual_seed(seed)
    first = torch.rand(2, bands, rows, cols, generator=source, dtype=torch.float64)
    other = torch.rand(2, bands, rows, cols, generator=source, dtype=torch.float64)
    return first, 0.6 * first + 0.3 * other


def test_ssim_is_scikit_images():
    first, second = (image[0, 0].numpy() for image in pair(1, 40, 32))
    _, expected = structural_similarity(
        first, second, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, full=True
    )
    ours = ssim_map(torch.tensor(first)[None, None], torch.tensor(second)[None, None])[0, 0]
    np.testing.assert_allclose(ours.numpy(), expected[5:-5, 5:-5], atol=1e-10)


def test_ssim_is_torchmetrics():
    first, second = pair(3, 48, 40)
    _, whole = structural_similarity_index_measure(
        second, first, data_range=1.0, reduction="none", return_full_image=True
    )
    torch.testing.assert_close(ssim_map(first, second), whole[..., 5:-5, 5:-5], atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("rows", "cols", "scales"),
    [(256, 256, 5), (180, 203, 5), (128, 128, 4), (64, 64, 3), (22, 30, 2), (21, 21, 1)],
)
def test_ms_ssim_is_torchmetrics_but_for_mirrored_edges(rows, cols, scales):
    """Where a tile has room for fewer scales, the first so many exponents are used, divided by their sum.

    torchmetrics lays the windows of the coarsest scale over mirrored edges too: its mean of that scale is taken out, and
    that of the windows that fit is put in its place.
    """
    first, second = (image.flatten(0, 1)[:, None] for image in pair(2, rows, cols))
    assert scale_count(rows, cols) == scales
    betas = tuple(beta / sum(BETAS[:scales]) for beta in BETAS[:scales])
    theirs = (
        structural_similarity_index_measure(second, first, data_range=1.0, reduction="none")
        if scales == 1
        else torchmetrics_ms_ssim(second, first, data_range=1.0, betas=betas, reduction="none")
    )
    coarse = 1 << (scales - 1)
    mirrored, whole = structural_similarity_index_measure(
        avg_pool2d(second, coarse),
        avg_pool2d(first, coarse),
        data_range=1.0,
        reduction="none",
        return_full_image=True,
    )
    expected = theirs * (whole[..., 5:-5, 5:-5].mean((1, 2, 3)) / mirrored) ** betas[-1]
    ours = ms_ssim(first, second, torch.ones_like(first))[:, 0]
    assert ours.max() < 0.95
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)
    if scales > 2:  # else mirrored windows are most of them
        torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0)


def test_ms_ssim_looks_at_known_windows_only():
    first, second = pair(2, 64, 64)
    known = torch.ones_like(first)
    known[:, 0, :, 32:] = 0
    known[1, 1] = 0
    ours = ms_ssim(first, second, known)
    assert ours[1, 1] == 1  # nothing known: nothing unlike
    assert ours[0, 1] == ms_ssim(first, second, torch.ones_like(first))[0, 1]
    # By hand for the half: three scales, windows whose centre is in the left half.
    expected, mine, theirs = 1.0, first[:1, :1], second[:1, :1]
    for scale in range(3):
        half = 32 >> scale
        values = ssim_parts(mine, theirs)[0 if scale == 2 else 1]
        expected *= values[..., : half - 5].mean().item() ** (BETAS[scale] / sum(BETAS[:3]))
        mine, theirs = (avg_pool2d(image, 2) for image in (mine, theirs))
    assert ours[0, 0].item() == pytest.approx(expected, rel=1e-9)


def test_an_image_and_its_negative_give_a_finite_gradient():
    first, _ = pair(1, 64, 64)
    second = (1 - first).requires_grad_()
    value = ms_ssim(first, second, torch.ones_like(first))
    value.sum().backward()
    assert (value > 0).all()
    assert second.grad is not None
    assert second.grad.isfinite().all()


def test_a_tile_below_the_window_is_refused():
    with pytest.raises(InvalidSpec, match="10x40 pixels: its window needs 11x11"):
        ssim_map(torch.zeros(1, 1, 10, 40), torch.zeros(1, 1, 10, 40))
