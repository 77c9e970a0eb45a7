"""The supervised losses under the paper's names: reconstruction, perceptual, style, structural, gradient consistency.

Of the six terms (see `srgan.generator` for the paper) the adversarial one is in `srgan.adversarial`, perceptual and style are in
`srgan.perceptual`. Each is a module without parameters that returns an unweighted scalar, in float32. Every mean runs over known
values: `known` (B, 13, H, W) is 1 where the target is known and its band present, and what it leaves out never matters
(`srgan.known`). On real pairs the target under clouds is the other date, and the input itself elsewhere, as CARL does
(Meraner et al., ISPRS J. 166, 2020): that is the batch's business.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from srgan.generator import GeneratorOutput
from srgan.guidance import band_groups, smooth, sobel
from srgan.known import compare, in_float32, masked_mean
from srgan.perceptual import PerceptualLoss, SharedFeatures, StyleLoss
from srgan.ssim import ms_ssim
from srgan.vgg import Vgg16

SSIM_SHARE = 0.5
"""Weight of 1 - MS-SSIM inside the structural loss."""


class ReconstructionLoss(nn.Module):
    """`mean(abs(p - y) (1 + M))`: an error under cloud or in shadow counts twice."""

    @in_float32
    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor, known: Tensor) -> Tensor:
        """prediction, target, known (B, 13, H, W); mask (B, 1, H, W) grown cloud and shadow, 0..1 -> scalar."""
        sides = compare(prediction, target, known)
        return masked_mean((sides.prediction - sides.target).abs() * (1 + mask), sides.known)


class StructuralLoss(nn.Module):
    """L1 between the predicted structure map and the target's, and 0.5 (1 - MS-SSIM) between prediction and target."""

    @in_float32
    def forward(self, structure: Tensor, prediction: Tensor, target: Tensor, known: Tensor, present: Tensor) -> Tensor:
        """structure (B, 4, H, W) of `GeneratorOutput`; prediction, target, known (B, 13, H, W); present (B, 13) -> scalar.

        The target's structure is `smooth(band_groups(y))`; a group counts at a pixel where all its present bands are known. MS-SSIM
        is that of each band of each sample (`ms_ssim`), which weighs as its share of known pixels.
        """
        sides = compare(prediction, target, known)
        maps = masked_mean(
            (structure - smooth(band_groups(sides.target, present))).abs(), known_groups(sides.known, present)
        )
        unlike = 1 - ms_ssim(sides.prediction, sides.target, sides.known)
        return maps + SSIM_SHARE * masked_mean(unlike, sides.known.mean((2, 3)))


class GradientConsistencyLoss(nn.Module):
    """L1 between the predicted gradient maps and the target's, and between Sobel(p) and Sobel(y) of each band."""

    @in_float32
    def forward(self, gradient: Tensor, prediction: Tensor, target: Tensor, known: Tensor, present: Tensor) -> Tensor:
        """gradient (B, 8, H, W) of `GeneratorOutput`; prediction, target, known (B, 13, H, W); present (B, 13) -> scalar."""
        sides = compare(prediction, target, known)
        groups = known_groups(sides.known, present)
        maps = masked_mean((gradient - sobel(band_groups(sides.target, present))).abs(), torch.cat([groups, groups], 1))
        sharp = (sobel(sides.prediction) - sobel(sides.target)).abs()
        return maps + masked_mean(sharp, torch.cat([sides.known, sides.known], 1))


class SupervisedLosses(nn.Module):
    """All terms that need a target, unweighted. Without `vgg` there is neither a perceptual nor a style term.

    It holds no parameters and its `state_dict` is empty, VGG-16 included (`srgan.vgg`): it belongs to no optimiser and to no
    checkpoint.
    """

    def __init__(self, vgg: Vgg16 | None) -> None:
        super().__init__()
        self.reconstruction = ReconstructionLoss()
        self.structural = StructuralLoss()
        self.gradient_consistency = GradientConsistencyLoss()
        self.features = None if vgg is None else SharedFeatures(vgg)
        self.perceptual = PerceptualLoss()
        self.style = StyleLoss()

    def forward(
        self,
        output: GeneratorOutput,
        target: Tensor,
        mask: Tensor,
        known: Tensor,
        present: Tensor,
        triple: tuple[int, int, int] | None,
    ) -> dict[str, Tensor]:
        """Scalars by name: reconstruction, perceptual and style (with VGG-16 only), structural, gradient_consistency.

        `target` and `known` (B, 13, H, W), H and W at least 11; `mask` (B, 1, H, W) grown cloud and shadow; `present` (B, 13);
        `triple` the channel numbers that VGG-16 sees beside red, green and blue, or None. Where the generator has no branches
        (guidance "none") its maps are those of the first guess: their part is constant and pulls at nothing.
        """
        image = output.restored
        terms = {"reconstruction": self.reconstruction(image, target, mask, known)}
        if self.features is not None:
            layers = self.features(image, target, known, present, triple)
            terms |= {"perceptual": self.perceptual(layers), "style": self.style(layers)}
        terms["structural"] = self.structural(output.structure, image, target, known, present)
        terms["gradient_consistency"] = self.gradient_consistency(output.gradient, image, target, known, present)
        return terms


def known_groups(known: Tensor, present: Tensor) -> Tensor:
    """Where all present bands of a group are known, (B, 13, H, W) and (B, 13) -> (B, 4, H, W), 0 or 1; 0 for a group without a band."""
    return (band_groups(known, present) > 1 - 1e-3).to(known.dtype)
