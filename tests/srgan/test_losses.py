"""The supervised terms: by hand, against scipy, by their gradients; what is not known never matters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from srgan.adversarial import AdversarialLoss
from srgan.errors import InvalidSpec
from srgan.generator import GeneratorOutput
from srgan.guidance import band_groups, smooth, sobel
from srgan.known import masked_mean
from srgan.losses import (
    GradientConsistencyLoss,
    ReconstructionLoss,
    StructuralLoss,
    SupervisedLosses,
    known_groups,
)
from srgan.spec import BANDS, GROUPS
from srgan.ssim import ms_ssim

torch.set_num_threads(1)
RNG = np.random.default_rng(0)


def random(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(RNG.random(shape), dtype=dtype)
