"""Batches for the trainer: synthetic clouds over clear truth, and real cloudy dates.

A sample is a function of (seed, step, index) alone, so that a resumed run sees what an uninterrupted one would have seen, on as
many devices and with as many loading processes as there may be. Synthetic samples supervise. Real ones are compared with the nearest
clear date under their clouds and with themselves elsewhere (as CARL does: Meraner et al., ISPRS J. 166, 2020), or, unpaired, with
themselves alone; then only the discriminator judges what stands in the place of the clouds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from srgan.clouds import add_clouds, random_sky
from srgan.errors import InvalidStore
from srgan.revisits import Window, classes, grow, harmonise, made_reference, read, stored_reference
from srgan.settings import TrainSettings
from srgan.spec import BANDS
from srgan.store import CLEAR, CLOUD, NODATA, SHADOW, StoredChip
from srgan.transplant import RealCloud, estimate, paste

DATES = 2
"""References of a batch; a sample with fewer has the rest marked as not valid, which is the same as not having them."""

LEAST_CLOUD = 0.015
"""Share of cloud from which a date counts as cloudy."""

BAND_SETS: tuple[tuple[float, frozenset[str]], ...] = (
    (0.35, frozenset(BANDS)),
    (0.30, frozenset(BANDS) - {"B10"}),
    (0.22, frozenset({"B02", "B03", "B04", "B08"})),
    (0.13, frozenset({"B02", "B03", "B04"})),
)
"""Probability and bands of the sets that are drawn: L1C, L2A, the 10 m bands, RGB."""


class Batch(NamedTuple):
    """The generator's seven inputs, in its order, and what to compare with. (B, ...) each."""

    cloudy: Tensor
    present: Tensor
    mask: Tensor
    valid: Tensor
    references: Tensor
    reference_valid: Tensor
    days: Tensor
    target: Tensor
    """(B, 13, H, W) reflectance; finite everywhere."""
    counts: Tensor
    """(B, 1, H, W) 1 where the target is known."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Arguments of `Generator.forward`."""
        return tuple(self[:7])

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(*(part.to(device, non_blocking=True) for part in self))


class Pool(list[tuple[StoredChip, int]]):
    """Dates of chips to draw from. A group weighs as the square root of its dates: neither one ROI nor one series may lead."""

    def __init__(self, dates: Iterable[tuple[StoredChip, int]]) -> None:
        super().__init__(dates)
        counts = Counter(chip.group for chip, _ in self)
        weights = np.array([1 / np.sqrt(counts[chip.group]) for chip, _ in self])
        self.weights = weights / weights.sum() if len(weights) else weights

    def draw(self, rng: np.random.Generator) -> tuple[StoredChip, int]:
        """One of them."""
        return self[int(rng.choice(len(self), p=self.weights))]


class SampleMaker:
    """Draws samples from the chips of one split. Raises InvalidStore where no chip has a clear date or all are too small."""

    def __init__(self, chips: Sequence[StoredChip], settings: TrainSettings, seed: int) -> None:
        self.settings, self.seed, self.crop = settings, seed, settings.crop
        large = [chip for chip in chips if min(chip.shape) >= self.crop]
        self.clear = Pool([(chip, date) for chip in large for date in chip.clear_dates()])
        self.cloudy = Pool([(chip, at) for chip in large for at, share in enumerate(chip.cloud) if share > LEAST_CLOUD])
        if not self.clear:
            raise InvalidStore(
                f"none of {len(chips)} chips has a clear date and {self.crop} pixels of edge: "
                "set a smaller `crop`, or catalogue more pairs"
            )
        self._paired = Pool([(chip, date) for chip, date in self.cloudy if chip.others(date)])

    @property
    def revisited(self) -> bool:
        """Whether there are samples whose other dates are real ones, and not made up from the truth."""
        return any(chip.kind == "series" for chip, _ in self.clear)

    def batch(self, step: int, synthetic: int, real: int, first: int = 0) -> Batch:
        """The batch of a step: `synthetic` samples, then `real` ones (synthetic too where no date is cloudy).

        `first` is the number of the first sample among those of all devices.
        """
        numbers = range(first, first + synthetic + real)
        samples = [self.sample(step, number, real=number - first >= synthetic) for number in numbers]
        return Batch(*(torch.stack(parts) for parts in zip(*samples, strict=True)))

    def sample(self, step: int, number: int, *, real: bool) -> Batch:
        """One sample, without the leading axis."""
        rng = np.random.default_rng((self.seed, step, number))
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        sample = self._real(rng) if real and self.cloudy else self._synthetic(rng, noise)
        return _turn(self._drop_bands(_reference_dropout(sample, rng), rng), rng)

    def _synthetic(self, rng: np.random.Generator, noise: torch.Generator) -> Batch:
        chip, date = self.clear.draw(rng)
        window = self._window(chip, rng)
        gain = random_gain(rng)
        truth = (read(chip, date, window) * gain).clamp(0, 1.6)
        ground = classes(chip, date, window)
        valid = (ground != NODATA).float()

        def cloud_over(image: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
            return self._cloud_over(image, known, chip.present, rng, noise)

        clouded, mask = cloud_over(truth, valid)
        mask = torch.maximum(mask, (ground > CLEAR).float())
        references: list[tuple[Tensor, Tensor]] = []
        days: list[float] = []
        if chip.kind == "series":
            # Of the eight nearest, any: a reference of the same week is a gift that a user seldom has.
            others = sorted(
                set(range(len(chip.days))) - {date}, key=lambda other: abs(chip.days[other] - chip.days[date])
            )
            for other in rng.permutation(others[:8]).tolist()[:DATES]:
                image, usable = stored_reference(chip, other, window, truth / gain, (ground == CLEAR) & (mask == 0))
                references.append((image * gain, usable))
                days.append(float(chip.days[other] - chip.days[date]))
        else:
            for _ in range(DATES):
                made, usable = made_reference(truth, rng, noise, cloud_over)
                jointly = (usable > 0) & (mask == 0) & (ground == CLEAR)
                references.append((harmonise(made, truth, jointly), usable))
                days.append(float(rng.integers(-40, 41)))
        present = torch.from_numpy(chip.present)
        return _complete(clouded, present, mask, valid, references, days, truth, (ground == CLEAR).float())

    def _real(self, rng: np.random.Generator) -> Batch:
        paired = bool(self._paired) and rng.random() < self.settings.paired
        chip, date = (self._paired if paired else self.cloudy).draw(rng)
        window = self._window(chip, rng)
        image, sky = read(chip, date, window), classes(chip, date, window)
        mask = grow(((sky == CLOUD) | (sky == SHADOW)).float(), int(rng.integers(3, 13)))
        valid = (sky != NODATA).float()
        others = chip.others(date)
        references: list[tuple[Tensor, Tensor]] = []
        days: list[float] = []
        for other in others[int(paired) :][:DATES]:
            references.append(stored_reference(chip, other, window, image, (mask == 0) & (valid > 0)))
            days.append(float(chip.days[other] - chip.days[date]))
        target, counts = image, valid * (mask == 0)
        if paired:
            ground = classes(chip, others[0], window)
            jointly = (ground == CLEAR) & (mask == 0) & (valid > 0)
            truth = harmonise(read(chip, others[0], window), image, jointly).clamp(0, 1.6)
            target = torch.where(mask > 0, truth, image)
            counts = torch.where(mask > 0, (ground == CLEAR).float(), valid)
        return _complete(image, torch.from_numpy(chip.present), mask, valid, references, days, target, counts)

    def _cloud_over(
        self, image: Tensor, valid: Tensor, present: np.ndarray, rng: np.random.Generator, noise: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """A cloudy version of a clear image (13, H, W) with these bands, (13,), and its grown mask (1, H, W)."""
        real = self._real_cloud(present, rng) if rng.random() < self.settings.transplants else None
        if real is None:
            kinds = self.settings.skies.model_dump()
            shares = np.array(list(kinds.values()))
            kind = list(kinds)[int(rng.choice(len(kinds), p=shares / shares.sum()))]
            clouded = add_clouds(image[None], valid[None], [random_sky(noise, kind)], [noise])
        else:
            clouded = paste([real], image[None], valid[None])
        mask = torch.maximum(clouded.cloud, clouded.shadow)[0]
        return clouded.image[0], grow(mask, int(rng.integers(1, 9)))

    def _real_cloud(self, present: np.ndarray, rng: np.random.Generator) -> RealCloud | None:
        """The cloud of some pair; None where the pair lacks a band that is needed, or the window a cloud."""
        if not self._paired:
            return None
        chip, date = self._paired.draw(rng)
        window = self._window(chip, rng)
        cloud = (classes(chip, date, window) == CLOUD).float()
        if (present > chip.present).any() or not bool(cloud.any()):
            return None
        return estimate(read(chip, date, window), read(chip, chip.others(date)[0], window), cloud)

    def _window(self, chip: StoredChip, rng: np.random.Generator) -> Window:
        row, col = (int(rng.integers(0, side - self.crop + 1)) for side in chip.shape)
        return slice(row, row + self.crop), slice(col, col + self.crop)

    def _drop_bands(self, sample: Batch, rng: np.random.Generator) -> Batch:
        """Draw one of the band sets."""
        bands = BAND_SETS[int(rng.choice(len(BAND_SETS), p=[share for share, _ in BAND_SETS]))][1]
        if self.settings.whole_bands:
            return sample
        return sample._replace(present=sample.present * torch.tensor([float(band in bands) for band in BANDS]))


def random_gain(rng: np.random.Generator) -> Tensor:
    """Factor of each band, (13, 1, 1): other soils, plants and seasons than the few that the chips show."""
    common, by_band = rng.normal(0, 0.15), rng.normal(0, 0.06, 13)
    return torch.from_numpy(np.exp(np.clip(common + by_band, -0.6, 0.6)).astype(np.float32))[:, None, None]


def _complete(
    cloudy: Tensor,
    present: Tensor,
    mask: Tensor,
    valid: Tensor,
    references: Sequence[tuple[Tensor, Tensor]],
    days: Sequence[float],
    target: Tensor,
    counts: Tensor,
) -> Batch:
    """Fill up to DATES references with ones that are not valid."""
    missing = DATES - len(references)
    stack = torch.stack([*[image for image, _ in references], *[torch.zeros_like(cloudy)] * missing])
    usable = torch.stack([*[ok for _, ok in references], *[torch.zeros_like(mask)] * missing])
    when = torch.tensor([*days, *[0.0] * missing])
    return Batch(cloudy, present, mask * valid, valid, stack, usable, when, target, counts * valid)


def _reference_dropout(sample: Batch, rng: np.random.Generator) -> Batch:
    """Keep 0, 1 or 2 references."""
    kept = int(rng.choice(DATES + 1, p=(0.4, 0.3, 0.3)))
    usable = sample.reference_valid.clone()
    usable[kept:] = 0
    return sample._replace(reference_valid=usable)


def _turn(sample: Batch, rng: np.random.Generator) -> Batch:
    """One of the eight symmetries of the square."""
    quarter, mirror = int(rng.integers(4)), bool(rng.integers(2))

    def turn(part: Tensor) -> Tensor:
        if part.dim() < 3:
            return part
        turned = torch.rot90(part, quarter, (-2, -1))
        return turned.flip(-1) if mirror else turned

    return Batch(*(turn(part).contiguous() for part in sample))
