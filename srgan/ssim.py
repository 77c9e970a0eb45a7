"""Structural similarity, of one scale and of several, for values of a range of 1 (reflectance).

Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", IEEE TIP 13, 2004;
Wang, Simoncelli, Bovik, "Multi-scale structural similarity for image quality assessment", Asilomar 2003. Gaussian window of 11x11
pixels, sigma 1.5; windows that do not fit in the tile are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan.errors import InvalidSpec

WINDOW, SIGMA = 11, 1.5
BORDER = WINDOW // 2
"""Pixels by which a map of SSIM is smaller than its images, on each side."""

C1, C2 = 0.01**2, 0.03**2
"""The constants for a range of 1."""

BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponent of each scale, fine to coarse (Wang et al. 2003, section 3.2)."""

LEAST = 0.01
"""A scale counts at least this much: a fractional power of what is negative is none, and its slope at 0 is infinite."""


def ssim_map(first: Tensor, second: Tensor) -> Tensor:
    """SSIM of each window that fits, (B, C, H, W) -> (B, C, H - 10, W - 10), -1..1."""
    return ssim_parts(first, second)[0]


def ssim_parts(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM and its contrast-structure part alone, of each window that fits: (B, C, H, W) -> twice (B, C, H - 10, W - 10).

    Raises InvalidSpec where no window fits.
    """
    channels, rows, cols = first.shape[-3:]
    if min(rows, cols) < WINDOW:
        raise InvalidSpec(f"SSIM of a tile of {rows}x{cols} pixels: its window needs {WINDOW}x{WINDOW}")
    distance = torch.arange(WINDOW, dtype=first.dtype, device=first.device) - BORDER
    line = torch.exp(-(distance**2) / (2 * SIGMA**2))
    row = (line / line.sum()).view(1, 1, 1, WINDOW).expand(channels, 1, 1, WINDOW)

    def blur(values: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(values, row, groups=channels), row.transpose(2, 3), groups=channels)

    mean_1, mean_2 = blur(first), blur(second)
    variance_1 = blur(first * first) - mean_1**2
    variance_2 = blur(second * second) - mean_2**2
    covariance = blur(first * second) - mean_1 * mean_2
    luminance = (2 * mean_1 * mean_2 + C1) / (mean_1**2 + mean_2**2 + C1)
    contrast = (2 * covariance + C2) / (variance_1 + variance_2 + C2)
    return luminance * contrast, contrast


def scale_count(rows: int, cols: int) -> int:
    """Number of scales for a tile: as many of the five as leave room for one window at the coarsest.

    >>> [scale_count(edge, edge) for edge in (256, 176, 128, 64, 32, 11)]
    [5, 5, 4, 3, 2, 1]
    """
    count = 1
    while count < len(BETAS) and min(rows, cols) >> count >= WINDOW:
        count += 1
    return count


def ms_ssim(first: Tensor, second: Tensor, known: Tensor) -> Tensor:
    """Multi-scale SSIM of each band of each sample, (B, C, H, W) -> (B, C), 0..1.

    The mean of a scale runs over the windows whose centre is known (`known` (B, C, H, W), 0..1, halved with the images); where none
    is, the scale counts as 1. Smaller tiles have fewer scales (`scale_count`): the first so many exponents, divided by their sum.
    """
    betas = BETAS[: scale_count(*first.shape[-2:])]
    product = first.new_ones(first.shape[:2])
    for scale, beta in enumerate(betas, start=1):
        similarity, contrast = ssim_parts(first, second)
        weight = known[..., BORDER:-BORDER, BORDER:-BORDER]
        total = weight.sum((2, 3))
        values = similarity if scale == len(betas) else contrast
        mean = (values * weight).sum((2, 3)) / torch.where(total > 0, total, 1.0)
        product = product * torch.where(total > 0, mean, 1.0).clamp_min(LEAST) ** (beta / sum(betas))
        if scale < len(betas):
            first, second, known = (F.avg_pool2d(image, 2) for image in (first, second, known))
    return product
