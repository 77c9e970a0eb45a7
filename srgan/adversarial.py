"""The adversarial loss: how the discriminator tells real from restored, and how the generator answers."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from srgan.errors import InvalidSpec
from srgan.known import in_float32


class AdversarialLoss(nn.Module):
    """Least squares (Mao et al., "Least Squares Generative Adversarial Networks", ICCV 2017, equation 9) or hinge.

    The hinge is that of Lim and Ye, "Geometric GAN", 2017. Scores are those of `srgan.discriminator`, any shape, unbounded.
    """

    def __init__(self, kind: Literal["lsgan", "hinge"] = "lsgan") -> None:
        super().__init__()
        if kind not in ("lsgan", "hinge"):
            raise InvalidSpec(f"adversarial loss {kind!r}: lsgan or hinge")
        self.kind = kind

    @in_float32
    def generator(self, scores: Tensor) -> Tensor:
        """Of the scores of restored tiles: `mean((s - 1)^2) / 2`, or `-mean(s)`."""
        return (scores - 1).square().mean() / 2 if self.kind == "lsgan" else -scores.mean()

    @in_float32
    def discriminator(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        """`(mean((r - 1)^2) + mean(f^2)) / 2`, or `mean(max(0, 1 - r)) + mean(max(0, 1 + f))`."""
        if self.kind == "lsgan":
            return ((real_scores - 1).square().mean() + fake_scores.square().mean()) / 2
        return F.relu(1 - real_scores).mean() + F.relu(1 + fake_scores).mean()
