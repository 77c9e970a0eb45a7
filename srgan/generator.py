"""The generator of SRG-GAN: a U-Net guided by a structure and a gradient branch, on top of a first guess.

After Yang, Wang, Chen, Liu, Zou, Shi, "Structural Representation-Guided GAN for Remote Sensing Image Cloud Removal", IEEE GRSL 22,
2025, DOI 10.1109/LGRS.2024.3516078. The branches and error feedback are described in `srgan.guidance`. Ours: any set of bands,
any number of references, the first guess (`srgan.fill`) and the opacity,

    restored = (1 - a) * cloudy + a * h,    h = clamp(guess + s * correction, 0, 1.6)

While it is trained, the clamp's gradient is that of the identity. The strength s, 0 to 1, is not learned but measured on validation
samples (`srgan.calibration`), apart for pixels with and without another date, and darker and brighter than the guess: where the
correction does not help, s is 0 and the result is the guess. The error to expect is estimated by `srgan.uncertainty`.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from srgan.errors import InvalidSpec
from srgan.fill import first_guess
from srgan.guidance import FINE_LEVELS, Branch, band_groups, fusion, smooth, sobel
from srgan.layers import Block, ChannelNorm, Down, Pointwise, Up, channels_last, enlarge, zeroed
from srgan.precision import exactly
from srgan.present import Channels, chosen, widened
from srgan.reference_stem import ReferenceStem
from srgan.spec import GROUPS, ModelSpec
from srgan.strength import LEVELS, level_above, strength_at
from srgan.uncertainty import Seen, Uncertainty

MAX_REFLECTANCE = 1.6
"""Upper bound of h: brighter than any ground, sun glint included."""

STEEP = 0.02
"""Reflectance per pixel that makes one unit of the gradient branch's map: with 1, the first steps of Adam overshoot tenfold."""


FURTHEST = 0.5
"""Reflectance by which the network may move the guess on its own: a head without a bound made a handful of inputs all that was learned from."""

SHOWS = 0.15
"""Reflectance beyond which a difference from the guess tells of cloud and no more of the ground: it counts for no more than that."""


class GeneratorOutput(NamedTuple):
    """What the generator says of a tile, float32."""

    restored: Tensor
    """(B, 13, H, W) reflectance; finite everywhere; 0 in absent bands."""
    opacity: Tensor
    """(B, 1, H, W) share of the result that does not come from the input, 0..1."""
    structure: Tensor
    """(B, 4, H, W) predicted edge-preserving smoothing of the band groups, reflectance."""
    gradient: Tensor
    """(B, 8, H, W) predicted Sobel maps of the band groups, reflectance per pixel: four along x, four along y."""
    uncertainty: Tensor
    """(B, 4, H, W) absolute error to expect of `restored` in the band groups where it is replaced in full, reflectance, > 0."""


class Draft(NamedTuple):
    """What the generator has before strength and calibration come in, float32."""

    image: Tensor
    """(B, 13, H, W) the input, 0 where it is not known."""
    guess: Tensor
    """(B, 13, H, W) first guess."""
    correction: Tensor
    """(B, 13, H, W) what the network would add to it."""
    opacity: Tensor
    structure: Tensor
    gradient: Tensor
    doubt: Tensor
    """(B, 4, H, W) what the uncertainty's head says, not calibrated."""
    support: Tensor
    """(B, 1, H, W) 1 where another date is valid, else 0."""
    above: Tensor
    """(B, 1, H, W) by how much the input is brighter than the guess around the pixel, reflectance of the visible bands."""
    bands: Tensor
    """(B, 13, 1, 1) 1 where a band is present."""


class Generator(nn.Module):
    """Cloudy tile, masks and references in, cloud-free tile out. Build it from a `ModelSpec`."""

    mean: Tensor
    strength: Tensor
    """(2, 3) 0..1, of the correction: without and with another date (rows), where the input is darker than the guess, brighter, and opaque
    cloud (columns; in between by interpolation)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        widths, bands = spec.widths, len(spec.bands)
        self.register_buffer("mean", torch.tensor(spec.mean)[:, None, None], persistent=False)

        self.stem = nn.Conv2d(2 * bands + 3, widths[0], 3, padding=1)
        self.stem_present = nn.Linear(bands, widths[0])
        self.reference_stem = ReferenceStem(bands, widths[1])
        self.encoder = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth)))
            for width, depth in zip(widths, spec.depths, strict=True)
        )
        self.downs = nn.ModuleList(Down(fine, coarse) for fine, coarse in itertools.pairwise(widths))
        self.ups = nn.ModuleList(Up(coarse, fine) for fine, coarse in itertools.pairwise(widths))
        self.decoder = nn.ModuleList(Block(width) for width in widths[:-1])
        if spec.guidance != "none":
            branch_widths = tuple(max(8, width // 2) for width in widths)
            self.gradient_branch = Branch(widths[:FINE_LEVELS], branch_widths[:FINE_LEVELS], 2 * len(GROUPS))
            self.structure_branch = Branch(widths[FINE_LEVELS:], branch_widths[FINE_LEVELS:], len(GROUPS))
            self.fusions = nn.ModuleList(
                fusion(spec.guidance, width, branch) for width, branch in zip(widths, branch_widths, strict=True)
            )
        self.norm = ChannelNorm(widths[0])
        self.correction = zeroed(Pointwise(widths[0], 2 * bands))
        self.opacity = zeroed(Pointwise(widths[0], 1))
        self.uncertainty = Uncertainty(widths[0])
        self.register_buffer("strength", torch.ones(2, len(LEVELS)))

    def forward(
        self,
        cloudy: Tensor,
        present: Tensor,
        mask: Tensor,
        valid: Tensor,
        references: Tensor,
        reference_valid: Tensor,
        days: Tensor,
        *,
        channels: Channels = None,
    ) -> GeneratorOutput:
        """Restore a batch of tiles.

        cloudy (B, 13, H, W) reflectance; present (B, 13) 1 where the band exists, else 0; mask (B, 1, H, W) probability of
        cloud or shadow, 0..1; valid (B, 1, H, W) 1 where the input holds data; references (B, T, 13, H, W) reflectance,
        harmonised to `cloudy`; reference_valid (B, T, 1, H, W) 1 where the reference holds clear data; days (B, T) signed
        distance. T is 0 to `spec.max_references`. H and W are multiples of `spec.multiple` (64). Values under valid == 0, reference_valid == 0
        or present == 0 never matter, not even NaN; a pixel that is not finite in a present band counts as not valid.

        channels: where given, numbers of the C bands that are there; `cloudy` (B, C, H, W), `references` (B, T, C, H, W) and the result's
        `restored` then hold these only, `present` is 1 in these, and nothing is computed for the others.

        Under autocast the trunk follows it; the first guess, the maps' ground and the heads stay in the input's precision.
        Raises InvalidSpec for other shapes and for more references.
        """
        draft = self.draft(cloudy, present, mask, valid, references, reference_valid, days, channels=channels)
        return self.finish(draft)

    def draft(
        self,
        cloudy: Tensor,
        present: Tensor,
        mask: Tensor,
        valid: Tensor,
        references: Tensor,
        reference_valid: Tensor,
        days: Tensor,
        *,
        channels: Channels = None,
    ) -> Draft:
        """Everything that takes time; arguments as for `forward`."""
        self._check(cloudy, present, mask, valid, references, reference_valid, days, channels)
        there = chosen(present, channels)
        bands = there[:, :, None, None]
        known = ((valid > 0) & torch.isfinite(torch.where(bands > 0, cloudy, 0.0)).all(1, keepdim=True)).to(
            cloudy.dtype
        )
        image = torch.where((known * bands) > 0, cloudy, 0.0)
        mask = torch.where(known > 0, mask, 1.0)
        usable = (reference_valid > 0) & torch.isfinite(torch.where(bands[:, None] > 0, references, 0.0)).all(
            2, keepdim=True
        )
        references = torch.where(usable & (bands[:, None] > 0), references, 0.0)
        usable, days = usable.to(cloudy.dtype), torch.nan_to_num(days)

        clear = known * (1 - 2 * mask).clamp(0, 1)
        with exactly(cloudy.device.type):
            guess, support = first_guess(image, clear, references, usable, days, self._mean(channels) * bands, channels)
            groups = band_groups(guess, there, channels)
            structure, gradient = smooth(groups), sobel(groups)

        encoded = self._encode(image, guess, mask, known, support, present, references, usable, days, channels)
        branches: list[Tensor] = []
        if self.spec.guidance != "none":
            coarse, structure_map = self.structure_branch(encoded[FINE_LEVELS:])
            fine, gradient_map = self.gradient_branch(encoded[:FINE_LEVELS])
            branches = fine + coarse
            structure = structure + self.spec.scale * enlarge(structure_map, 2**FINE_LEVELS)
            gradient = gradient + STEEP * gradient_map
        decoded = self.norm(self._decode(encoded, branches)).to(image.dtype)

        with exactly(cloudy.device.type):
            offset, keep = self.correction(decoded).chunk(2, dim=1)
            opacity = torch.sigmoid(self.opacity(decoded) + 12 * (mask - 0.5))
            # Through thin cloud the ground is still seen, in some bands better than in others: `keep` lets each band use it.
            shown = SHOWS * torch.tanh((image - guess) / SHOWS)
            moved = FURTHEST * torch.tanh(chosen(self.spec.scale / FURTHEST * offset, channels))
            correction = moved + chosen(torch.tanh(keep), channels) * shown
            above = level_above(image, guess, known, channels)
            seen = Seen(image, guess, clear, mask, references, usable, there, channels)
            doubt = self.uncertainty(decoded.detach(), seen)
        return Draft(image, guess, correction, opacity, structure, gradient, doubt, support, above, bands)

    def finish(self, draft: Draft) -> GeneratorOutput:
        """The result, by the strength and the calibration that the generator has now."""
        free = draft.guess + strength_at(self.strength, draft.above, draft.support) * draft.correction
        fill = free.clamp(0.0, MAX_REFLECTANCE)
        if self.training:
            # Beyond the bounds a clamp has no slope: a network that a large step threw there would never come back.
            fill = free + (fill - free).detach()
        restored = ((1 - draft.opacity) * draft.image + draft.opacity * fill) * draft.bands
        uncertainty = self.uncertainty.calibrated(draft.doubt)
        return GeneratorOutput(restored, draft.opacity, draft.structure, draft.gradient, uncertainty)

    def _encode(
        self,
        image: Tensor,
        guess: Tensor,
        mask: Tensor,
        known: Tensor,
        support: Tensor,
        present: Tensor,
        references: Tensor,
        usable: Tensor,
        days: Tensor,
        channels: Channels,
    ) -> list[Tensor]:
        """Features of each level, fine to coarse."""
        bands, mean, count = chosen(present, channels)[:, :, None, None], self._mean(channels), len(self.spec.bands)
        seen = widened((image - mean) / self.spec.scale * bands * known, channels, count)
        filled = widened((guess - mean) / self.spec.scale * bands, channels, count)
        features = self.stem(channels_last(torch.cat([seen, filled, mask, known, support], 1)))
        features = features + self.stem_present(present)[:, :, None, None]
        encoded = [self.encoder[0](features)]
        other = (references - mean) / self.spec.scale * bands[:, None] * usable
        for level, down in enumerate(self.downs, start=1):
            features = down(encoded[-1])
            if level == 1:
                features = features + self.reference_stem(other, usable, days, features, channels)
            encoded.append(self.encoder[level](features))
        return encoded

    def _decode(self, encoded: list[Tensor], branches: list[Tensor]) -> Tensor:
        """Coarse to fine, with skips and the branches' feedback: features (B, widths[0], H, W)."""
        decoded = encoded[-1]
        if branches:
            decoded = self.fusions[-1](decoded, branches[-1])
        for level in reversed(range(self.spec.levels - 1)):
            decoded = self.decoder[level](self.ups[level](decoded) + encoded[level])
            if branches:
                decoded = self.fusions[level](decoded, branches[level])
        return decoded

    def _mean(self, channels: Channels) -> Tensor:
        return chosen(self.mean[None], channels)[0]

    def _check(
        self,
        cloudy: Tensor,
        present: Tensor,
        mask: Tensor,
        valid: Tensor,
        references: Tensor,
        reference_valid: Tensor,
        days: Tensor,
        channels: Channels,
    ) -> None:
        bands, step = len(self.spec.bands) if channels is None else len(channels), self.spec.multiple
        batch, held, rows, cols = cloudy.shape
        dates = references.shape[1]
        if held != bands or rows % step or cols % step or min(rows, cols) < step:
            raise InvalidSpec(
                f"input of {held} bands, {rows}x{cols} pixels: {bands} bands and sides that are multiples of {step} are needed"
            )
        if dates > self.spec.max_references:
            raise InvalidSpec(f"{dates} references: model {self.spec.name!r} takes at most {self.spec.max_references}")
        expected = (
            ("present", present, (batch, len(self.spec.bands))),
            ("mask", mask, (batch, 1, rows, cols)),
            ("valid", valid, (batch, 1, rows, cols)),
            ("references", references, (batch, dates, bands, rows, cols)),
            ("reference_valid", reference_valid, (batch, dates, 1, rows, cols)),
            ("days", days, (batch, dates)),
        )
        for name, tensor, shape in expected:
            if tuple(tensor.shape) != shape:
                raise InvalidSpec(
                    f"{name} has shape {tuple(tensor.shape)}, {shape} is needed beside the input {tuple(cloudy.shape)}"
                )


def parameter_count(generator: Generator) -> int:
    """Number of learned values."""
    return sum(parameter.numel() for parameter in generator.parameters())
