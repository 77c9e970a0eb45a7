"""`Case`: one cloudy image with its truth, as the methods are asked; `cases_of` makes those of a chip.

Real clouds: each pair of the table is a case, its clear date the target as it was observed, not harmonised (`pair`). Where another clear
date lies near, the same with one or two of these as references, the target held out (`pair+1 date`, `pair+dates`). Made clouds: a sky of each kind
over up to three clear dates of a chip (`synthetic`), and again with real other dates as references (`synthetic+dates`). One of the skies, drawn
as `srgan.sky.random_sky` draws them, stands for the chip in the protocol that the seed used (`seed`).

What the methods see is what a product's run would see: reflectance in whole DN, cut at 1, masks grown by the metres that the engine grows them.
Where truth is known is decided by the target's own mask, grown alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from catalogs.bands import BANDS
from pipeline.baselines import Problem
from pipeline.chips import ChipArrays
from pipeline.ground import THIN, ground_classes, opacity
from pipeline.growth import GROW, dilate, effective_radius
from pipeline.heldout import HeldOutPlace, LeftOut
from pipeline.images import LARGEST
from srgan.clouds import add_clouds, random_sky
from srgan.store import CLEAR, CLOUD, NODATA, SHADOW

PROTOCOLS = ("pair", "pair+1 date", "pair+dates", "synthetic", "synthetic+dates", "seed")
KINDS = {"haze": 0.25, "broken": 0.40, "overcast": 0.10, "cirrus": 0.25}
"""Kinds of sky, and how often `srgan.sky.random_sky` draws each."""
COVERS = ("thin", "to 30 %", "30-70 %", "over 70 %", "full")
"""Classes of cover: `thin` where the ground is still seen (`pipeline.ground.opacity` of the cloud below 0.3), else by the share of the grown mask."""
FULL = 0.95
"""Share of the grown mask from which next to nothing of the ground is left to go by."""
DATES = 2
"""References of a case at most, as in a run of the engine."""
WINDOW = 30
"""Days within which a reference lies, as in a run of the engine."""
CLEAR_DATE = 0.15
"""Share of cloud up to which a date serves as a reference, as in training; its cloudy pixels are not valid."""
SKY_DATES = 3
"""Clear dates of a chip that get made clouds, so that a long series does not lead."""
LEAST_PIXELS = 64
"""Masked pixels of known truth below which a case says nothing."""
LEAST_CLOUD = 0.015
"""Share of made cloud below which another sky is drawn: what the gate calls cloudy."""
_DRAWS = 16
_SEED_EDGE = 256


@dataclass(frozen=True, eq=False)
class Case:
    """One image to be restored; C bands, H rows, W columns."""

    id: str
    """Unique among the cases of an evaluation; can name a file."""
    chip: str
    """Id of the place."""
    group: str
    protocol: str
    """One of `PROTOCOLS`."""
    bands: tuple[str, ...]
    """ESA's names of the C bands."""
    sky: str
    """Kind of made sky, of `KINDS`; empty for real clouds."""
    cover: float
    """Share of the grown mask among the pixels with data, 0..1."""
    cover_class: str
    """One of `COVERS`."""
    problem: Problem
    target: NDArray[np.float32]
    """(C, H, W) reflectance of the truth as it was observed."""
    known: NDArray[np.bool_]
    """(H, W) True = the truth is known."""
    shadow: NDArray[np.bool_]
    """(H, W) True = shadow without cloud over it, not grown."""
    ground: NDArray[np.uint8]
    """(H, W) class of the truth's ground, codes of `pipeline.ground.GROUND`."""
    metres: float
    """Larger edge of a pixel."""
    row: str = ""
    """Id of the row of the pair table; empty for made clouds."""
    also: tuple[str, ...] = ()
    """Other protocols that this very case stands for."""

    @property
    def cloudy(self) -> NDArray[np.bool_]:
        """(H, W) masked, with data, of known truth."""
        cloudy: NDArray[np.bool_] = self.problem.mask & self.problem.valid & self.known
        return cloudy

    def of_bands(self, bands: Sequence[str], name: str = "") -> Case:
        """The same case of some of its bands, called `<id>.<name>`, as it is for all of them: what is seen where there are no others."""
        if tuple(bands) == self.bands:
            return self
        at = [self.bands.index(band) for band in bands]
        problem = self.problem
        part = replace(problem, image=problem.image[at], bands=tuple(bands), references=problem.references[:, at])
        called = f"{self.id}.{name}" if name else self.id
        return replace(self, id=called, bands=tuple(bands), problem=part, target=self.target[at])


def cases_of(place: HeldOutPlace, chip: ChipArrays) -> Iterator[Case | LeftOut]:
    """The cases of a chip in all of its bands, and its rows that make none, in a fixed order.

    The same chip makes the same cases, to the bit: skies are seeded by the names of chip, date and kind.
    """
    dates = _Dates(place, chip)
    yield from dates.pairs()
    yield from dates.skies()


class _Dates:
    """The dates of one chip, brought to reflectance and grown masks when they are asked for."""

    def __init__(self, place: HeldOutPlace, chip: ChipArrays) -> None:
        self.place, self.chip = place, chip
        self.channels = [index for index, name in enumerate(BANDS) if name in chip.bands]
        self.radius = effective_radius(GROW, (chip.metres, chip.metres))
        self._covered: dict[int, NDArray[np.bool_]] = {}
        real = (place.rows["role"] == "pair") & (place.rows["quality"] == "ok")
        self.real, self.ground = place.rows[real], place.rows[~real]
        # SEN12MS-CR does not say when its images were taken: a reference without a distance in time is none that the engine could have.
        self.dated = bool(place.rows["clear_date"].notna().all())

    def pairs(self) -> Iterator[Case | LeftOut]:
        """The cases under real clouds."""
        for _, row in self.real.iterrows():
            date, truth = self.at(row["cloudy_href"]), self.at(row["clear_href"])
            name, image, mask = str(row["id"]), self.image(date), self.covered(date)
            classes = self.chip.masks[date]
            alone = self.case(f"{name}.pair", "pair", date, truth, image, mask, classes == CLOUD, classes == SHADOW)
            alone = replace(alone, row=name)
            if (seen := int(alone.cloudy.sum())) < LEAST_PIXELS:
                yield LeftOut(name, f"its clear date shows {seen} pixels below its clouds, fewer than {LEAST_PIXELS}")
                continue
            yield alone
            others = self.others(date, {truth})
            if len(others) > 1:
                yield self.beside(alone, f"{name}.pair-1-date", "pair+1 date", date, others[:1])
            if others:
                both = self.beside(alone, f"{name}.pair-dates", "pair+dates", date, others)
                yield both if len(others) > 1 else replace(both, also=("pair+1 date",))

    def skies(self) -> Iterator[Case | LeftOut]:
        """The cases under made clouds."""
        hrefs = {*self.place.rows["clear_href"], *self.ground["cloudy_href"].dropna()}
        truths = sorted(self.at(href) for href in hrefs)
        spread = np.linspace(0, len(truths) - 1, min(SKY_DATES, len(truths)))
        chosen = [truths[index] for index in spread.round().astype(int).tolist()]
        used: set[int] = set()
        for date in chosen:
            first = date == chosen[0] and min(self.chip.masks.shape[1:]) >= _SEED_EDGE
            drawn = _number(f"{self.chip.id}/seed") / 2**63
            shares = np.cumsum(list(KINDS.values()))
            stands = list(KINDS)[int((drawn >= shares[:-1]).sum())] if first else ""
            for kind in KINDS:
                case = self.sky(date, kind)
                if case is None:
                    name = f"{self.chip.id}.d{date}.{kind}"
                    yield LeftOut(name, f"no cloud over {LEAST_PIXELS} pixels of clear ground in {_DRAWS} skies drawn")
                    continue
                used.add(date)
                yield replace(case, also=("seed",)) if kind == stands else case
                if others := self.others(date, set()):
                    yield self.beside(case, f"{case.id}-dates", "synthetic+dates", date, others)
        for _, row in self.ground.iterrows():
            own = {self.at(row[side]) for side in ("clear_href", "cloudy_href") if isinstance(row[side], str)}
            if own & used:
                continue
            beyond = f"{len(truths)} clear dates are there, made clouds are laid over {SKY_DATES} of a chip"
            bare = f"made clouds find no {LEAST_PIXELS} pixels of clear ground on it"
            yield LeftOut(str(row["id"]), bare if own & set(chosen) else beyond)

    def sky(self, date: int, kind: str) -> Case | None:
        """Clouds of one kind over a clear date; None where no sky drawn covers any of its ground."""
        valid = self.chip.masks[date] != NODATA
        truth = torch.from_numpy(self.chip.images[date].astype(np.float32) / 1e4)[None]
        for draw in range(_DRAWS):
            generator = torch.Generator().manual_seed(_number(f"{self.chip.id}/{date}/{kind}/{draw}"))
            sky = random_sky(generator, kind, self.chip.metres)
            made = add_clouds(truth, torch.from_numpy(valid)[None, None].float(), [sky], [generator])
            cloud, shadow = (part[0, 0].numpy() > 0 for part in (made.cloud, made.shadow))
            # What a sensor would store: whole DN, and the brightest cut as in every chip.
            values = np.rint(made.image[0].numpy()[self.channels] * np.float32(1e4)).clip(0, LARGEST)
            mask = self.grown(cloud | shadow) | self.covered(date)
            image = (values / np.float32(1e4)).astype(np.float32)
            name = f"{self.chip.id}.d{date}.{kind}"
            case = self.case(name, "synthetic", date, date, image, mask, cloud, shadow & ~cloud)
            if cloud[valid].mean() >= LEAST_CLOUD and int(case.cloudy.sum()) >= LEAST_PIXELS:
                return replace(case, sky=kind)
        return None

    def case(
        self,
        name: str,
        protocol: str,
        date: int,
        truth: int,
        image: NDArray[np.float32],
        mask: NDArray[np.bool_],
        cloud: NDArray[np.bool_],
        shadow: NDArray[np.bool_],
    ) -> Case:
        """A case without references; `cloud` and `shadow` (H, W) not grown."""
        valid = self.chip.masks[date] != NODATA
        known = (self.chip.masks[truth] == CLEAR) & ~self.covered(truth)
        target = self.image(truth)
        cover = float((mask & valid).sum() / max(int(valid.sum()), 1))
        seen_through = opacity(image, target, self.chip.bands, cloud & valid & known)
        none = np.zeros((0, *mask.shape), bool)
        problem = Problem(
            image, mask & valid, valid, self.chip.bands, np.zeros((0, *image.shape), np.float32), none, (), ()
        )
        return Case(
            id=name,
            chip=self.chip.id,
            group=self.place.group,
            protocol=protocol,
            bands=self.chip.bands,
            sky="",
            cover=cover,
            cover_class=cover_class(cover, seen_through),
            problem=problem,
            target=target,
            known=known,
            shadow=shadow & valid,
            ground=ground_classes(target, self.chip.bands, known),
            metres=self.chip.metres,
        )

    def beside(self, case: Case, name: str, protocol: str, date: int, others: Sequence[int]) -> Case:
        """The same case with other dates as references."""
        problem = case.problem
        references = np.stack([self.image(other) for other in others])
        clear = np.stack([(self.chip.masks[other] == CLEAR) & ~self.covered(other) for other in others])
        problem = replace(
            problem,
            references=references,
            reference_valid=clear,
            days=tuple(float(self.chip.days[other] - self.chip.days[date]) for other in others),
            clouds=tuple(self.chip.cloud[other] for other in others),
        )
        return replace(case, id=name, protocol=protocol, problem=problem, also=())

    def others(self, date: int, but: set[int]) -> list[int]:
        """Up to `DATES` clear dates within `WINDOW` days of `date`, the nearest first, of two as near the less cloudy."""
        if not self.dated:
            return []
        apart = {other: abs(days - self.chip.days[date]) for other, days in enumerate(self.chip.days)}
        cloud = self.chip.cloud
        fit = [other for other in apart if apart[other] <= WINDOW and cloud[other] <= CLEAR_DATE]
        near = sorted(set(fit) - but - {date}, key=lambda other: (apart[other], cloud[other], other))
        return near[:DATES]

    def image(self, date: int) -> NDArray[np.float32]:
        """(C, H, W) reflectance of the chip's bands."""
        stored: NDArray[np.uint16] = self.chip.images[date][self.channels]
        return stored.astype(np.float32) / np.float32(1e4)

    def covered(self, date: int) -> NDArray[np.bool_]:
        """(H, W) cloud and shadow of a date, grown."""
        if date not in self._covered:
            classes = self.chip.masks[date]
            self._covered[date] = self.grown((classes == CLOUD) | (classes == SHADOW))
        return self._covered[date]

    def grown(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask (H, W) grown as in the engine."""
        return dilate(mask, self.radius, (self.chip.metres, self.chip.metres))

    def at(self, href: str) -> int:
        """The date that was read at `href`."""
        return self.chip.hrefs.index(href)


def cover_class(cover: float, seen_through: float) -> str:
    """One of `COVERS` for a share of the grown mask and an opacity (NaN: not known).

    >>> cover_class(1.0, 0.2), cover_class(0.3, 0.9), cover_class(0.5, float("nan")), cover_class(0.95, 0.9)
    ('thin', 'to 30 %', '30-70 %', 'full')
    """
    if seen_through < THIN:
        return "thin"
    if cover >= FULL:
        return "full"
    return "to 30 %" if cover <= 0.3 else "30-70 %" if cover <= 0.7 else "over 70 %"


def _number(text: str) -> int:
    """A number of 63 bits that depends on nothing but `text`."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
