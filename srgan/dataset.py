"""Batches for the trainer: synthetic clouds over clear truth, and real cloudy dates beside clear ones.

A batch is a function of (seed, step) alone, so that a resumed run sees what an uninterrupted one would have seen. References are
other dates where a chip has them. Where it has one date only they are made from it: spectrally and locally changed, shifted
by a pixel, with clouds of their own, so that the network learns to use a reference but not to copy it blindly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from srgan.clouds import add_clouds, fractal_noise, random_sky
from srgan.spec import BANDS
from srgan.store import CLEAR, CLOUD, NODATA, SHADOW, StoredChip

DATES = 2
"""References of a batch; a sample with fewer has the rest marked as not valid, which is the same as not having them."""

BAND_SETS: tuple[tuple[float, frozenset[str]], ...] = (
    (0.35, frozenset(BANDS)),
    (0.30, frozenset(BANDS) - {"B10"}),
    (0.22, frozenset({"B02", "B03", "B04", "B08"})),
    (0.13, frozenset({"B02", "B03", "B04"})),
)
"""Probability and bands of the sets that are drawn: L1C, L2A, the 10 m bands, RGB."""


class Batch(NamedTuple):
    """The generator's seven inputs, in its order, and what to compare with."""

    cloudy: Tensor
    present: Tensor
    mask: Tensor
    valid: Tensor
    references: Tensor
    reference_valid: Tensor
    days: Tensor
    target: Tensor
    """(B, 13, H, W) reflectance."""
    counts: Tensor
    """(B, 1, H, W) 1 where the target is known."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Arguments of `Generator.forward`."""
        return tuple(self[:7])


class SampleMaker:
    """Draws training samples from chips."""

    def __init__(self, chips: Sequence[StoredChip], crop: int, seed: int, real_share: float = 0.4) -> None:
        self.crop, self.seed, self.real_share = crop, seed, real_share
        self.clear = [(chip, date) for chip in chips for date in chip.clear_dates()]
        self.cloudy = [
            (chip, date)
            for chip in chips
            for date, share in enumerate(chip.cloud)
            if share > 0.015 and set(chip.clear_dates()) - {date}
        ]
        # A group weighs as the square root of its chips: neither one ROI nor one date of a series may lead.
        self._weights = {id(pool): _group_weights(pool) for pool in (self.clear, self.cloudy)}

    def batch(self, step: int, size: int) -> Batch:
        """The batch of this step."""
        samples = [self.sample(step, index) for index in range(size)]
        return Batch(*(torch.stack(parts) for parts in zip(*samples, strict=True)))

    def sample(self, step: int, index: int) -> Batch:
        """One sample, without the leading axis."""
        rng = np.random.default_rng((self.seed, step, index))
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        real = bool(self.cloudy) and rng.random() < self.real_share
        sample = self._real(rng) if real else self._synthetic(rng, noise)
        return _turn(_drop_bands(_reference_dropout(sample, rng), rng), rng)

    def _synthetic(self, rng: np.random.Generator, noise: torch.Generator) -> Batch:
        chip, date = self._draw(self.clear, rng)
        window = self._window(chip, rng)
        gain = random_gain(rng)
        truth = (read(chip, date, window) * gain).clamp(0, 1.6)
        classes = torch.from_numpy(np.array(chip.masks[(date, *window)]))[None]
        valid = (classes != NODATA).float()
        clouded, mask = random_clouds(truth, valid, rng, noise)
        mask = torch.maximum(mask, (classes > CLEAR).float())
        nearest = sorted(range(len(chip.days)), key=lambda other: abs(chip.days[other] - chip.days[date]))
        others = rng.permutation([other for other in nearest if other != date][:8]).tolist()
        references, usable, days = [], [], []
        if chip.kind == "series":
            for other in others[:DATES]:
                ok = (
                    F.max_pool2d(
                        (torch.from_numpy(np.array(chip.masks[(other, *window)]))[None] != CLEAR).float(), 5, 1, 2
                    )
                    == 0
                )
                image = read(chip, other, window) * gain
                references.append(harmonise(image, clouded, ok & (mask == 0)))
                usable.append(ok.float())
                days.append(float(chip.days[other] - chip.days[date]))
        else:
            for _ in range(DATES):
                image, ok = made_reference(truth, rng, noise)
                references.append(image)
                usable.append(ok)
                days.append(float(rng.integers(-40, 41)))
        present = torch.from_numpy(chip.present)
        counts = (classes == CLEAR).float()
        return _with_references(clouded, present, mask, valid, references, usable, days, truth, counts)

    def _real(self, rng: np.random.Generator) -> Batch:
        chip, date = self._draw(self.cloudy, rng)
        window = self._window(chip, rng)
        clear = sorted(set(chip.clear_dates()) - {date}, key=lambda other: abs(chip.days[other] - chip.days[date]))
        image, target = read(chip, date, window), read(chip, clear[0], window)
        classes = torch.from_numpy(np.array(chip.masks[(date, *window)]))[None]
        ground = torch.from_numpy(np.array(chip.masks[(clear[0], *window)]))[None]
        mask = grow(((classes == CLOUD) | (classes == SHADOW)).float(), int(rng.integers(3, 13)))
        valid = (classes != NODATA).float()
        references, usable, days = [], [], []
        for other in clear[1 : 1 + DATES]:
            ok = torch.from_numpy(np.array(chip.masks[(other, *window)]))[None] == CLEAR
            references.append(harmonise(read(chip, other, window), image, ok & (mask == 0)))
            usable.append(ok.float())
            days.append(float(chip.days[other] - chip.days[date]))
        target = harmonise(target, image, (ground == CLEAR) & (mask == 0) & (valid > 0)).clamp(0, 1.6)
        # Clear pixels are compared with the input: the dates differ.
        counts = torch.where(mask > 0, (ground == CLEAR).float(), valid)
        target = torch.where(mask > 0, target, image)
        return _with_references(
            image, torch.from_numpy(chip.present), mask, valid, references, usable, days, target, counts
        )

    def _draw(self, pool: list[tuple[StoredChip, int]], rng: np.random.Generator) -> tuple[StoredChip, int]:
        return pool[int(rng.choice(len(pool), p=self._weights[id(pool)]))]

    def _window(self, chip: StoredChip, rng: np.random.Generator) -> tuple[slice, slice]:
        rows, cols = chip.masks.shape[1:]
        row, col = (int(rng.integers(0, side - self.crop + 1)) for side in (rows, cols))
        return slice(row, row + self.crop), slice(col, col + self.crop)


def read(chip: StoredChip, date: int, window: tuple[slice, slice]) -> Tensor:
    """Reflectance (13, rows, cols) of a window."""
    return torch.from_numpy(chip.images[(date, slice(None), *window)].astype(np.float32) / 1e4)


def random_gain(rng: np.random.Generator) -> Tensor:
    """Factor of each band, (13, 1, 1): other soils, plants and seasons than the few that the chips show."""
    common, by_band = rng.normal(0, 0.15), rng.normal(0, 0.06, 13)
    return torch.from_numpy(np.exp(np.clip(common + by_band, -0.6, 0.6)).astype(np.float32))[:, None, None]


def random_clouds(
    truth: Tensor, valid: Tensor, rng: np.random.Generator, noise: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A cloudy version of a clear image (13, H, W) and its grown mask (1, H, W)."""
    clouded = add_clouds(truth[None], valid[None], [random_sky(noise)], [noise])
    return clouded.image[0], grow(torch.maximum(clouded.cloud, clouded.shadow)[0], int(rng.integers(1, 9)))


def made_reference(truth: Tensor, rng: np.random.Generator, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """Another date, made up from the truth (13, H, W), and where it is usable (1, H, W)."""
    rows, cols = truth.shape[1:]
    field = fractal_noise(3, rows, cols, noise, octaves=4)[:, 0]
    # Spectral change by band, a smooth change of vegetation (NIR up, red down, or the reverse), and the rest by pixel.
    gain = 1 + torch.from_numpy(rng.normal(0, 0.03, (13, 1, 1)).astype(np.float32))
    green = torch.tensor([0, 0, 0.3, -1, 0, 0.7, 1, 1, 1, 1, 0, -0.7, -1])[:, None, None]
    strength = float(rng.uniform(0, 0.12))
    changed = truth * gain * (1 + strength * field[:1] * green + 0.03 * field[1:2])
    changed = changed + torch.from_numpy(rng.normal(0, 0.004, (13, 1, 1)).astype(np.float32))
    # A field is ploughed, a road is built: what lies elsewhere in the tile shows up here.
    moved = torch.roll(changed, tuple(int(rng.integers(16, 64)) for _ in range(2)), (1, 2))
    changed = torch.where(field[2:] > float(rng.uniform(1.2, 2.5)), moved, changed)
    changed = torch.roll(changed, tuple(int(rng.integers(-1, 2)) for _ in range(2)), (1, 2)).clamp(0, 1.6)
    if rng.random() < 0.5:
        return changed, torch.ones(1, rows, cols)
    changed, mask = random_clouds(changed, torch.ones(1, rows, cols), rng, noise)
    return changed, (mask == 0).float()


def harmonise(image: Tensor, like: Tensor, jointly: Tensor) -> Tensor:
    """`image` (13, H, W) with the mean and, within bounds, the contrast of `like` on the pixels `jointly` (1, H, W) clear."""
    chosen = jointly.expand_as(image)
    if int(jointly.sum()) < 256:
        return image
    mine, theirs = image[chosen].view(13, -1), like[chosen].view(13, -1)
    gain = (theirs.std(1) / mine.std(1).clamp_min(1e-4)).clamp(0.7, 1.4)[:, None, None]
    return (image - mine.mean(1)[:, None, None]) * gain + theirs.mean(1)[:, None, None]


def grow(mask: Tensor, radius: int) -> Tensor:
    """A mask (1, H, W) grown by `radius` pixels."""
    return F.max_pool2d(mask, 2 * radius + 1, 1, radius)


def _with_references(
    cloudy: Tensor,
    present: Tensor,
    mask: Tensor,
    valid: Tensor,
    references: list[Tensor],
    usable: list[Tensor],
    days: list[float],
    target: Tensor,
    counts: Tensor,
) -> Batch:
    """Fill up to DATES references with ones that are not valid."""
    missing = DATES - len(references)
    stack = torch.stack([*references, *[torch.zeros_like(cloudy)] * missing])
    ok = torch.stack([*usable, *[torch.zeros_like(mask)] * missing])
    return Batch(
        cloudy, present, mask * valid, valid, stack, ok, torch.tensor([*days, *[0.0] * missing]), target, counts * valid
    )


def _reference_dropout(sample: Batch, rng: np.random.Generator) -> Batch:
    """Keep 0, 1 or 2 references."""
    kept = int(rng.choice(DATES + 1, p=(0.4, 0.3, 0.3)))
    usable = sample.reference_valid.clone()
    usable[kept:] = 0
    return sample._replace(reference_valid=usable)


def _drop_bands(sample: Batch, rng: np.random.Generator) -> Batch:
    """Draw one of the band sets."""
    bands = BAND_SETS[int(rng.choice(len(BAND_SETS), p=[share for share, _ in BAND_SETS]))][1]
    present = sample.present * torch.tensor([float(band in bands) for band in BANDS])
    return sample._replace(present=present)


def _turn(sample: Batch, rng: np.random.Generator) -> Batch:
    """One of the eight symmetries of the square."""
    quarter, mirror = int(rng.integers(4)), bool(rng.integers(2))

    def turn(part: Tensor) -> Tensor:
        if part.dim() < 3:
            return part
        turned = torch.rot90(part, quarter, (-2, -1))
        return turned.flip(-1) if mirror else turned

    return Batch(*(turn(part).contiguous() for part in sample))


def _group_weights(pool: list[tuple[StoredChip, int]]) -> np.ndarray:
    groups = [chip.group for chip, _ in pool]
    weights = np.array([1 / np.sqrt(groups.count(group)) for group in groups])
    return weights / weights.sum() if len(pool) else weights
