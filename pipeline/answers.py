"""`answer`: what a checkpoint makes of a case, composed as the engine composes a product.

The references are harmonised as the engine does it (`pipeline.harmonise`), and the network's result is mixed into the input's whole DN by the engine's own alpha (`pipeline.alpha`, `pipeline.composite`): what is not masked is the input, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.alpha import cloud_alpha, feather_pixels
from pipeline.cases import Case
from pipeline.composite import compose_band
from pipeline.harmonise import harmonisation
from pipeline.settings import DecloudSettings
from srgan.checkpoint import Checkpoint

_SCALE = 1e-4
"""Reflectance of one DN."""


@dataclass(frozen=True, eq=False)
class Answer:
    """A checkpoint's answer to a case of C bands; H rows, W columns."""

    restored: NDArray[np.float32]
    """(C, H, W) reflectance as a product would hold it; NaN where the network gave no number and a product would keep the cloud."""
    guess: NDArray[np.float32]
    """(C, H, W) the same of the first guess alone, without a learned weight (`srgan.fill`)."""
    network: NDArray[np.float32]
    """(C, H, W) reflectance as the network gave it."""
    opacity: NDArray[np.float32]
    """(H, W) share of the network's result that does not come from the input, 0..1."""
    structure: NDArray[np.float32]
    """(4, H, W) smoothed band groups, reflectance."""
    uncertainty: NDArray[np.float32]
    """(4, H, W) expected absolute error of `network` in the band groups, reflectance."""


def harmonised(case: Case) -> NDArray[np.float32]:
    """The references of a case (T, C, H, W), brought to its level by what is clear in both, 0 where they are not valid."""
    problem = case.problem
    references = np.zeros_like(problem.references)
    share = float(problem.clear.sum() / max(int(problem.valid.sum()), 1))
    for date, clear in enumerate(problem.reference_valid):
        joint = clear & problem.clear
        bring = harmonisation(
            problem.references[date][:, joint], problem.image[:, joint], clear=share, days=problem.days[date]
        )
        references[date][:, clear] = bring(problem.references[date][:, clear])
    return references


def answer(checkpoint: Checkpoint, case: Case, references: NDArray[np.float32]) -> Answer:
    """Run a checkpoint on a case, on the device on which its generator is.

    references: those of `harmonised`. Of more than it takes, it gets the nearest. Raises srgan.errors.InvalidSpec for a band that it does not know.
    """
    generator, channels = checkpoint.generator, list(checkpoint.spec.require_bands(case.bands))
    device = next(generator.parameters()).device
    if device.type == "cuda":
        # fp32 means fp32, as in the engine.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    inputs = [part.to(device) for part in _inputs(checkpoint, channels, case, references)]
    rows, cols = case.known.shape
    # inference_mode belongs to the thread: it has to be entered here.
    with torch.inference_mode():
        draft = generator.draft(*inputs)
        output = generator.finish(draft)
        parts = (
            output.restored[:, channels], draft.guess[:, channels], output.opacity, output.structure, output.uncertainty
        )  # fmt: skip
        found = [part[0, :, :rows, :cols].float().cpu().numpy() for part in parts]
    network, guess, opacity, structure, uncertainty = found
    alpha = _alpha(case)
    return Answer(
        restored=_composed(case, network, alpha),
        guess=_composed(case, guess, alpha),
        network=network,
        opacity=opacity[0],
        structure=structure,
        uncertainty=uncertainty,
    )


def _feather(metres: float) -> int:
    """Pixels over which the result fades in, where a pixel has so many metres, as in a run of the engine."""
    settings = DecloudSettings()
    return feather_pixels(settings.feather, settings.grow, (metres, metres))


def _alpha(case: Case) -> NDArray[np.float32]:
    """(H, W) how much of a pixel is replaced."""
    problem = case.problem
    return cloud_alpha(problem.mask, problem.valid & ~problem.mask, _feather(case.metres))


def _composed(case: Case, network: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C, H, W) reflectance of a product."""
    out = np.empty_like(case.problem.image)
    for channel, pixels in enumerate(case.problem.image):
        source = np.rint(pixels / np.float32(_SCALE)).astype(np.uint16)
        values, refused = compose_band(source, network[channel], alpha, _SCALE, 0.0, None)
        out[channel] = values.astype(np.float32) / np.float32(1e4)
        out[channel][refused] = np.nan
    return out


def _inputs(
    checkpoint: Checkpoint, channels: list[int], case: Case, references: NDArray[np.float32]
) -> tuple[torch.Tensor, ...]:
    """The generator's seven arguments, absent bands zero and flagged, sides filled up to its multiple by mirroring."""
    problem, width = case.problem, len(checkpoint.spec.bands)
    dates = min(len(problem.days), checkpoint.spec.max_references)
    cloudy = np.zeros((width, *case.known.shape), np.float32)
    cloudy[channels] = np.where(problem.valid, problem.image, 0)
    others = np.zeros((dates, width, *case.known.shape), np.float32)
    others[:, channels] = references[:dates]
    present = np.zeros(width, np.float32)
    present[channels] = 1
    maps = (cloudy, problem.mask[None], problem.valid[None], others, problem.reference_valid[:dates, None])
    cloudy_, mask, valid, dated, usable = (_filled_up(part, checkpoint.spec.multiple) for part in maps)
    days = np.array(problem.days[:dates], np.float32)
    arrays = (cloudy_, present, mask, valid, dated, usable, days)
    return tuple(torch.from_numpy(np.ascontiguousarray(part, np.float32))[None] for part in arrays)


def _filled_up(array: NDArray, multiple: int) -> NDArray:
    """The last two axes mirrored up to a multiple."""
    more = [(0, 0)] * (array.ndim - 2) + [(0, -side % multiple) for side in array.shape[-2:]]
    # numpy mirrors nothing that is empty.
    shape = [length + after for length, (_, after) in zip(array.shape, more, strict=True)]
    return np.pad(array, more, mode="symmetric") if array.size else np.zeros(shape, array.dtype)
