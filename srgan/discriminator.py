"""The discriminator: PatchGAN, which judges every 70x70 pixels by themselves.

Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017, section 3.2 and appendix
6.1.2; spectral norm (Miyato et al., ICLR 2018) in the place of BatchNorm, so that no score depends on the rest of the tile or batch.
It sees the bands and their Sobel magnitude, and not the generator's input: real cloudy images have no aligned target.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from srgan.guidance import sobel
from srgan.known import in_float32

TYPICAL, SPREAD = 0.15, 0.15
"""Reflectance taken away, and that which makes one unit, at the input."""
STEEP = 0.05
"""Reflectance per pixel that makes one unit of the Sobel magnitude."""
FLAT = 1e-8
"""Added below the root: its slope at 0 is infinite."""


class SpectralConvolution(nn.Conv2d):
    """Convolution whose weight is taken in float32, whatever the autocast.

    The power iteration works in place on its vectors: in half precision it would spoil them, or fail.
    """

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, h, w)."""
        with torch.autocast(image.device.type, enabled=False):
            weight = self.weight
        return F.conv2d(image, weight, self.bias, self.stride, self.padding)


class Discriminator(nn.Module):
    """Scores of overlapping 70x70 patches, (B, 13, H, W) -> (B, 1, h, w) with h = H / 8 - 2 for H a multiple of 8.

    70 holds for the image, Sobel included: the bands enter through windows of 4x4, the Sobel magnitude, which has looked one pixel
    further already, through their middle 2x2. In training mode each pass moves the power iteration's vectors on, by one step; they
    are part of the `state_dict`, which therefore restores it exactly.
    """

    def __init__(self, bands: int = 13, width: int = 64) -> None:
        super().__init__()
        self.read_bands = convolution(bands, width, 4, 2, 1)
        self.read_edges = convolution(bands, width, 2, 2, 0)
        self.layers = nn.ModuleList(
            [
                convolution(width, 2 * width, 4, 2, 1),
                convolution(2 * width, 4 * width, 4, 2, 1),
                convolution(4 * width, 8 * width, 4, 1, 1),
            ]
        )
        self.judge = convolution(8 * width, 1, 4, 1, 1)

    def forward(self, image: Tensor, present: Tensor) -> Tensor:
        """Judge (B, 13, H, W) reflectance with `present` (B, 13): scores (B, 1, h, w) in float32, about 1 for real.

        Absent bands are zero, whatever they hold. Works under autocast; the edges and the scores stay in float32.
        """
        bands, edges = self._see(image, present)
        features = F.leaky_relu(self.read_bands(bands) + self.read_edges(edges), 0.2)
        for layer in self.layers:
            features = F.leaky_relu(layer(features), 0.2)
        return self._score(features)

    @in_float32
    def _see(self, image: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """The bands about their typical value and the size of their Sobel gradient, 0 where absent: twice (B, 13, H, W)."""
        here = present[:, :, None, None] > 0
        image = torch.where(here, image, 0.0)
        along, down = sobel(image).chunk(2, dim=1)
        edges = (along.square() + down.square() + FLAT).sqrt()
        return torch.where(here, (image - TYPICAL) / SPREAD, 0.0), torch.where(here, edges / STEEP, 0.0)

    @in_float32
    def _score(self, features: Tensor) -> Tensor:
        scores: Tensor = self.judge(features)
        return scores


def convolution(channels: int, out: int, edge: int, stride: int, padding: int) -> nn.Module:
    """Convolution under spectral norm."""
    return spectral_norm(SpectralConvolution(channels, out, edge, stride, padding))
