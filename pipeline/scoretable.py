"""`ScoreTable`: scores of many images, gathered into the rows of a report.

A row is the mean over images of finite scores, with an interval over groups (`srgan.bootstrap`), and beside it the pooled scores, in which every
pixel counts alike. Of an image only its scores are kept, of all images together their sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pipeline.ruler import ANY, Measures, Part
from srgan.bootstrap import interval
from srgan.metrics import SCORES, Moments, Scores

BY_COVER = ("all", "cloudy")
"""Regions that are told apart by class of cover and kind of sky."""
BY_BAND = ("all", "cloudy")
"""Regions of which every band is told by itself."""
_RMSE = SCORES.index("rmse")


class Key(NamedTuple):
    """What tells one row from another."""

    protocol: str
    bands: str
    """Name of the band set."""
    cover: str
    """Class of cover, or `ANY`."""
    sky: str
    """Kind of made sky, or `ANY`: over real clouds, and over all kinds of made ones."""
    ground: str
    """Class of ground, or `ANY`."""
    region: str
    method: str


@dataclass(frozen=True)
class Scored:
    """One prediction of one case, measured."""

    image: str
    """Id of the case, the same for all methods and band sets."""
    protocols: tuple[str, ...]
    """All that the case stands for."""
    band_set: str
    bands: tuple[str, ...]
    method: str
    group: str
    cover: str
    """Class of cover."""
    sky: str
    parts: Mapping[Part, Measures]

    def keys(self, part: Part) -> Iterator[Key]:
        """The rows that a part counts in."""
        for protocol in self.protocols:
            yield Key(protocol, self.band_set, ANY, ANY, part.ground, part.region, self.method)
            if part.ground == ANY and part.region in BY_COVER:
                yield Key(protocol, self.band_set, self.cover, ANY, ANY, part.region, self.method)
                if self.sky:
                    yield Key(protocol, self.band_set, ANY, self.sky, ANY, part.region, self.method)


@dataclass
class _Row:
    """What is known of one row so far."""

    scores: list[tuple[float, ...]] = field(default_factory=list)
    """Of each image, in the order of `SCORES`."""
    groups: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    """Ids."""
    not_finite: int = 0
    pooled: Moments = field(default_factory=Moments)


class ScoreTable:
    """Rows by key, in the order in which the first image of each came. Feed it in a fixed order: sums of floats depend on it."""

    def __init__(self, subject: str) -> None:
        """subject: the method that all others are held against."""
        self._subject = subject
        self._rows: dict[Key, _Row] = {}
        self._bands: dict[tuple[str, str, str, str, str], list[tuple[float, ...]]] = {}

    def add(self, scored: Scored) -> None:
        """Count one prediction in all rows that it belongs to."""
        for part, measures in scored.parts.items():
            values = astuple(measures.whole.scores)
            for key in scored.keys(part):
                row = self._rows.setdefault(key, _Row())
                row.scores.append(values)
                row.groups.append(scored.group)
                row.images.append(scored.image)
                row.not_finite += measures.whole.not_finite > 0
                row.pooled += measures.whole
            if part.ground == ANY and part.region in BY_BAND:
                for band, moments in zip(scored.bands, measures.bands, strict=True):
                    for protocol in scored.protocols:
                        place = (protocol, scored.band_set, part.region, scored.method, band)
                        self._bands.setdefault(place, []).append(astuple(moments.scores))

    def rows(self) -> list[dict[str, Any]]:
        """The rows of report.json.

        images: predictions that count in the row; groups: of how many groups; not_finite: those with values that are no numbers, which are left
        out of their scores; identical: those without any error, whose PSNR is infinite; undefined: those of which a score has no value. The mean
        of a score is over the images in which it is finite. against, in rows of other methods: the subject's means over the same images (some methods have
        nothing to say of some), by how much lower its RMSE is, with an interval, and the share of images on which it is; None where no image is shared.
        """
        made = []
        for key, row in self._rows.items():
            table = np.array(row.scores)
            ends = [interval(column, row.groups) for column in table.T]
            made.append(
                {
                    **key._asdict(),
                    "images": len(table),
                    "groups": len(set(row.groups)),
                    "not_finite": row.not_finite,
                    "identical": int((table[:, _RMSE] == 0).sum()),
                    "undefined": int(np.isnan(table).any(axis=1).sum()),
                    "mean": dict(zip(SCORES, _means(table), strict=True)),
                    "low": dict(zip(SCORES, (number(low) for low, _ in ends), strict=True)),
                    "high": dict(zip(SCORES, (number(high) for _, high in ends), strict=True)),
                    "pooled": scores_document(row.pooled.scores),
                    "against": None if key.method == self._subject else self._against(key, row),
                }
            )
        return made

    def _against(self, key: Key, row: _Row) -> dict[str, Any] | None:
        own = self._rows.get(key._replace(method=self._subject))
        at = {image: number for number, image in enumerate(own.images)} if own else {}
        shared = [number for number, image in enumerate(row.images) if image in at]
        if own is None or not shared:
            return None
        ours = np.array([own.scores[at[row.images[number]]] for number in shared])
        gains = np.array([row.scores[number][_RMSE] for number in shared]) - ours[:, _RMSE]
        low, high = interval(gains, [row.groups[number] for number in shared])
        finite = gains[np.isfinite(gains)]
        return {
            "method": self._subject,
            "images": len(shared),
            "mean": dict(zip(SCORES, _means(ours), strict=True)),
            "gain": float(finite.mean()) if finite.size else None,
            "low": number(low),
            "high": number(high),
            "better": float((finite > 0).mean()) if finite.size else None,
        }

    def per_band(self) -> list[dict[str, Any]]:
        """The mean over images of each band's scores."""
        made = []
        for (protocol, bands, region, method, band), values in self._bands.items():
            means = dict(zip(SCORES, _means(np.array(values)), strict=True))
            shown = {name: means[name] for name in ("rmse", "mae", "psnr", "ssim_valid")}
            made.append(
                {"protocol": protocol, "bands": bands, "region": region, "method": method, "band": band} | shown
            )
        return made


def scores_document(scores: Scores) -> dict[str, float | None]:
    """Scores by name, as JSON has them."""
    return {name: number(value) for name, value in zip(SCORES, astuple(scores), strict=True)}


def number(value: float) -> float | None:
    """A value as JSON has it: None where it is not finite."""
    return float(value) if math.isfinite(value) else None


def _means(table: np.ndarray) -> Sequence[float | None]:
    """Mean of the finite values of each column (images, scores); None without any."""
    means = []
    for column in table.T:
        finite = column[np.isfinite(column)]
        means.append(float(finite.mean()) if finite.size else None)
    return means
