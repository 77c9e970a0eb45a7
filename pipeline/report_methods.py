"""`Methods`: who is compared with whom in a report, in one order and one look; and how its figures are written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

MISSING = "-"
"""Stands where there is no value."""
IDENTICAL = "identical"
"""Stands for the PSNR of two images without any difference, which is infinite."""
REGIONS = {
    "all": "all pixels",
    "cloudy": "cloudy pixels",
    "clear_input": "clear pixels, against the input",
    "clear_target": "clear pixels, against the truth",
    "shadow": "shadow pixels",
}
"""What the regions are called in the page."""
FIRST_GUESS = "first guess"
"""Method: what the first checkpoint starts from, without its learned correction."""
SEED_PROTOCOL = "seed"
ANCHORS = {"psnr": 30.14, "ssim": 0.809, "cc": 0.799, "rmse": 0.064}
"""Published scores of a student's reproduction of the method: means over 14 RGB images of 256 x 256, by a protocol whose truth
may hold clouds; what the protocol `seed` stands beside. Which variant of SSIM is not known."""
ANCHORS_POOLED = {"psnr": 17.8}
"""The same pooled over its pixels, as far as it is known."""


@dataclass(frozen=True)
class Metric:
    """One column of figures."""

    key: str
    name: str
    unit: str
    digits: int
    """Behind the point."""
    better: Literal["low", "high"]

    def text(self, scores: Mapping[str, float | None]) -> str:
        """The value of this metric among `scores`.

        >>> [METRICS[1].text(s) for s in ({"psnr": 27.128, "rmse": 0.04}, {"psnr": None, "rmse": 0.0}, {"psnr": None})]
        ['27.13', 'identical', '-']
        """
        value = scores.get(self.key)
        if value is None or math.isnan(value):
            return IDENTICAL if self.key == "psnr" and scores.get("rmse") == 0 else MISSING
        return f"{value:.{self.digits}f}" if math.isfinite(value) else IDENTICAL


METRICS = (
    Metric("rmse", "RMSE", "reflectance", 4, "low"),
    Metric("psnr", "PSNR", "dB", 2, "high"),
    Metric("mae", "MAE", "reflectance", 4, "low"),
    Metric("sam", "SAM", "degrees", 2, "low"),
    Metric("cc", "CC", "", 3, "high"),
    Metric("ssim_same", "SSIM same", "", 3, "high"),
    Metric("ssim_valid", "SSIM valid", "", 3, "high"),
)
"""In the order of the page's columns."""


@dataclass(frozen=True)
class Methods:
    """The methods of a report."""

    subject: str
    """The checkpoint that the report is about."""
    compared: tuple[str, ...]
    """Other checkpoints."""
    baselines: tuple[str, ...]
    """What needs no network, the first guess among them."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """The methods that have scores in `document`, in the order in which they come there."""
        found: dict[str, None] = {}
        for row in document["rows"]:
            found[row["method"]] = None
        for image in document["images"]:
            found.update(dict.fromkeys(image["scores"]))
        others = {entry["name"] for entry in document["compared"]}
        names = (document["checkpoint"]["name"], "model")
        subject = next((name for name in names if name in found), names[0])
        return cls(
            subject=subject,
            compared=tuple(name for name in found if name in others and name != subject),
            baselines=tuple(name for name in found if name not in others and name != subject),
        )

    @property
    def order(self) -> tuple[str, ...]:
        """All of them, the subject first."""
        return (self.subject, *self.compared, *self.baselines)

    def comparable(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Those of `rows` that are means over as many images as the subject's, or as most where it has none.

        A method that has nothing to say of some images (a mean fill without a clear pixel) is scored on the others, and those are the easy ones.
        """
        counts = {row["method"]: row.get("images", 1) for row in rows}
        wanted = counts.get(self.subject, max(counts.values(), default=0))
        return [row for row in rows if row.get("images", 1) >= wanted]

    def best_baselines(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Baselines by their mean RMSE in `rows`, best first; those without one are left out, and those of fewer images."""
        baselines = [row for row in self.comparable(rows) if row["method"] in self.baselines]
        scores = {row["method"]: row["mean"].get("rmse") for row in baselines}
        ranked = [(value, name) for name, value in scores.items() if value is not None]
        return [name for _, name in sorted(ranked)]


def overall(document: Mapping[str, Any], protocol: str, bands: str, region: str) -> list[Mapping[str, Any]]:
    """The rows of one protocol, band set and region over every cover, sky and ground."""
    return [
        row
        for row in document["rows"]
        if (row["protocol"], row["bands"], row["region"]) == (protocol, bands, region)
        and all(row[name] in ("any", "") for name in ("cover", "sky", "ground"))
    ]


def bands_name(bands: str) -> str:
    """A band set as a reader says it.

    >>> bands_name("13"), bands_name("RGB")
    ('13 bands', 'RGB')
    """
    return f"{bands} bands" if bands.isdigit() else bands


def settings_of(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs of protocol and band set that were scored, in the order of the rows."""
    return list(dict.fromkeys((row["protocol"], row["bands"]) for row in document["rows"]))
