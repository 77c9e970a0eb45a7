"""`BASELINES`: what anybody would do without a network, so that its figures have something to stand beside.

Every method sees the same `Problem`, knows nothing of the truth, and changes nothing outside the mask. The temporal ones take each masked
pixel from dates on which it is clear; a date of which that is never so adds nothing. Pixels that no date shows (`Problem.unseen`,
`Problem.open_share`) get the mean fill, so that all methods are scored on the same pixels.

Which of them see harmonised dates, that is brought to the scene's level by one line a band (`pipeline.harmonise`), is part of the
method: "nearest date", "mean of dates" and "linear in time" do, as the network's references are harmonised too. The two composites do not,
as those who make composites do not; "median composite, harmonised" is the median with that advantage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InvalidSettings
from pipeline.harmonise import fit_band
from srgan.spec import BANDS, TYPICAL_LAND

RADIUS = 5
"""Pixels around an unknown one that Telea's method looks at."""
_TELEA_UNIT = 1e6
# OpenCV divides the gradient's term by the gradient's own length, and rounds: up to 2 is added to every value, in whatever units the image
# has. That is little to 8 bits, and many times the signal to reflectance 0..1; in millionths of it, it is nothing.


@dataclass(frozen=True, eq=False)
class Problem:
    """What a method sees of a cloudy image and its other dates; H rows, W columns, C bands, T dates."""

    image: NDArray[np.float32]
    """(C, H, W) reflectance."""
    mask: NDArray[np.bool_]
    """(H, W) True = to be replaced: cloud and shadow, grown."""
    valid: NDArray[np.bool_]
    """(H, W) True = the image holds data in every band."""
    bands: tuple[str, ...]
    """ESA's names of the C bands."""
    references: NDArray[np.float32]
    """(T, C, H, W) reflectance as observed, not harmonised; T may be 0."""
    reference_valid: NDArray[np.bool_]
    """(T, H, W) True = clear on that date."""
    days: tuple[float, ...]
    """T signed distances in days; negative = before the image."""
    clouds: tuple[float, ...]
    """T shares of cloud, 0..1, of the whole dates."""
    lines: NDArray[np.float64] | None = None
    """(T, C, 2) gain and offset that harmonise, where they are known from more than these pixels; None: fitted here."""
    level: NDArray[np.float64] | None = None
    """(C,) mean of the clear pixels, where it is known from more than these; None: of these. NaN where there is none."""

    def __post_init__(self) -> None:
        dates, grid = len(self.days), self.image.shape[1:]
        wanted = {
            "image": (len(self.bands), *grid),
            "mask": grid,
            "valid": grid,
            "references": (dates, len(self.bands), *grid),
            "reference_valid": (dates, *grid),
        }
        found = {name: getattr(self, name).shape for name in wanted}
        if len(grid) != 2 or found != wanted or len(self.clouds) != dates or not self.bands:
            raise InvalidSettings(
                f"a problem of {len(self.bands)} bands, {dates} days and {len(self.clouds)} shares of cloud has arrays of the shapes "
                f"{found}: they must be (C, H, W), (H, W), (H, W), (T, C, H, W) and (T, H, W)"
            )
        for name, values in (("days", self.days), ("clouds", self.clouds)):
            if not np.isfinite(values).all():
                raise InvalidSettings(f"{name} {values} of a problem must be finite")

    @cached_property
    def clear(self) -> NDArray[np.bool_]:
        """(H, W) True = the image's own value counts: valid, not masked, a number in every band."""
        clear: NDArray[np.bool_] = self.valid & ~self.mask & np.isfinite(self.image).all(axis=0)
        return clear

    @cached_property
    def shown(self) -> NDArray[np.bool_]:
        """(T, H, W) True = clear on that date, a number in every band."""
        shown: NDArray[np.bool_] = self.reference_valid & np.isfinite(self.references).all(axis=1)
        return shown

    @property
    def unseen(self) -> NDArray[np.bool_]:
        """(H, W) True = masked, and clear on no date: the temporal methods leave it to the mean fill."""
        unseen: NDArray[np.bool_] = self.mask & ~self.shown.any(axis=0)
        return unseen

    @property
    def open_share(self) -> float:
        """Share of the masked pixels that are `unseen`, 0..1; 0 without masked pixels."""
        return float(self.unseen.sum() / max(int(self.mask.sum()), 1))

    @cached_property
    def known_mean(self) -> NDArray[np.float64] | None:
        """(C,) `level`, or the mean of the clear pixels; None where there is no clear pixel."""
        if self.level is not None:
            return self.level if np.isfinite(self.level).all() else None
        return self.image[:, self.clear].mean(axis=1, dtype=np.float64) if self.clear.any() else None

    @property
    def mean(self) -> NDArray[np.float64]:
        """(C,) `known_mean`; where there is none, the spectrum of typical land.

        A method that gave up on a chip wholly under cloud would be spared the hardest ones.
        """
        if self.known_mean is not None:
            return self.known_mean
        typical = dict(zip(BANDS, TYPICAL_LAND, strict=True))
        return np.array([typical[band] for band in self.bands])

    @cached_property
    def dates(self) -> NDArray[np.float32]:
        """(T, C, N) observed reflectance of the N masked pixels, in the order of `image[:, mask]`."""
        return self.references[:, :, self.mask]

    @cached_property
    def harmonised(self) -> NDArray[np.float32]:
        """(T, C, N) `dates` brought to the level of the image, band by band, by what is clear in both."""
        lines = self._fitted() if self.lines is None else self.lines
        with np.errstate(invalid="ignore"):  # what is not shown may hold anything
            return (self.dates * lines[:, :, :1] + lines[:, :, 1:]).astype(np.float32)

    def _fitted(self) -> NDArray[np.float64]:
        lines = np.tile([1.0, 0.0], (len(self.days), len(self.bands), 1))
        for date, shown in enumerate(self.shown):
            joint = shown & self.clear
            for band in range(len(self.bands)):
                fit = fit_band(self.references[date, band][joint], self.image[band][joint])
                lines[date, band] = fit.gain, fit.offset
        return lines


Baseline = Callable[[Problem], NDArray[np.float32] | None]


def identity(problem: Problem) -> NDArray[np.float32]:
    """The image as it came."""
    return problem.image.copy()


def mean_fill(problem: Problem) -> NDArray[np.float32]:
    """Each band's mean over the clear pixels; the spectrum of typical land without any."""
    return _filled(problem, np.broadcast_to(problem.mean[:, None], (len(problem.bands), int(problem.mask.sum()))))


def telea(problem: Problem) -> NDArray[np.float32] | None:
    """Inpainting band by band (Telea, "An image inpainting technique based on the fast marching method", J. Graphics Tools 9, 2004).

    OpenCV's, on float32, nothing quantised. Invalid pixels are as unknown as masked ones. Without any clear pixel it is the
    mean fill. Raises InvalidSettings where OpenCV is not installed.
    """
    if reason := unavailable().get("telea"):
        raise InvalidSettings(reason)
    if not problem.clear.any():
        return mean_fill(problem)
    import cv2

    unknown = (~problem.clear).astype(np.uint8)
    out = problem.image.copy()
    for channel, pixels in enumerate(problem.image):
        known = np.where(problem.clear, pixels, 0).astype(np.float32) * np.float32(_TELEA_UNIT)
        painted = cv2.inpaint(np.ascontiguousarray(known), unknown, RADIUS, cv2.INPAINT_TELEA)
        out[channel][problem.mask] = painted[problem.mask] / np.float32(_TELEA_UNIT)
    return out


def nearest_date(problem: Problem) -> NDArray[np.float32] | None:
    """Each pixel from the date nearest in time on which it is clear, harmonised. Of two as near: the less cloudy, then the first."""
    order = sorted(range(len(problem.days)), key=lambda date: (abs(problem.days[date]), problem.clouds[date], date))
    return _first(problem, problem.harmonised, order)


def mean_of_dates(problem: Problem) -> NDArray[np.float32] | None:
    """Each pixel's mean over the dates on which it is clear, harmonised, all with equal weight."""
    return _reduced(problem, problem.harmonised, np.nanmean)


def linear_in_time(problem: Problem) -> NDArray[np.float32] | None:
    """Each pixel on the line between the nearest date before and the nearest after on which it is clear, harmonised.

    Where only one side has one, that date's value. A date of the same moment counts as before.
    """
    sides = []
    for after in (False, True):
        dates = [date for date, days in enumerate(problem.days) if (days > 0) == after]
        order = sorted(dates, key=lambda date: (abs(problem.days[date]), problem.clouds[date], date))
        sides.append(_nearest(problem, order))
    (before, first), (later, second) = sides
    at_before, at_later = (
        np.array([abs(days) for days in problem.days] + [np.inf])[chosen] for chosen in (first, second)
    )
    both = (first >= 0) & (second >= 0)
    share = np.where(both, at_before, second >= 0) / np.where(both, at_before + at_later, 1)
    share = share.astype(np.float32)
    mixed = np.where(share < 1, before, 0) * (1 - share) + np.where(share > 0, later, 0) * share
    return _completed(problem, mixed.astype(np.float32), (first >= 0) | (second >= 0))


def least_cloudy(problem: Problem) -> NDArray[np.float32] | None:
    """The date with the least cloud, then the next where it is not clear, and so on; as observed. Of two as cloudy: the nearer."""
    order = sorted(range(len(problem.days)), key=lambda date: (problem.clouds[date], abs(problem.days[date]), date))
    return _first(problem, problem.dates, order)


def median_composite(problem: Problem) -> NDArray[np.float32] | None:
    """Each pixel's median over the dates on which it is clear, band by band, as observed; of an even number the mean of the middle two."""
    return _reduced(problem, problem.dates, np.nanmedian)


def median_harmonised(problem: Problem) -> NDArray[np.float32] | None:
    """`median_composite` of the harmonised dates."""
    return _reduced(problem, problem.harmonised, np.nanmedian)


BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        "identity": identity,
        "mean fill": mean_fill,
        "telea": telea,
        "nearest date": nearest_date,
        "mean of dates": mean_of_dates,
        "linear in time": linear_in_time,
        "least-cloudy composite": least_cloudy,
        "median composite": median_composite,
        "median composite, harmonised": median_harmonised,
    }
)
"""Name -> method. Each gives (C, H, W) reflectance, equal to the image outside the mask, or None where it has nothing to say: no date that shows
a masked pixel, no clear pixel. Where a temporal method would need the mean fill and there is none, it takes the mean of what it filled."""

TEMPORAL = tuple(name for name in BASELINES if name not in ("identity", "mean fill", "telea"))
"""Those that need another date."""


def unavailable() -> Mapping[str, str]:
    """Methods that cannot run here -> why, and what to do."""
    if find_spec("cv2") is None:
        return {"telea": "Telea's inpainting needs OpenCV: pip install 'declouder[evaluate]'"}
    return {}


def _filled(problem: Problem, values: NDArray[np.floating]) -> NDArray[np.float32]:
    """The image with `values` (C, N) in the masked pixels."""
    out = problem.image.copy()
    out[:, problem.mask] = values
    return out


def _completed(problem: Problem, values: NDArray[np.float32], found: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """The image with `values` (C, N) where `found` (N,), and the mean fill in the other masked pixels."""
    if not found.any() and found.size:
        return None
    if not found.all():
        mean = values[:, found].mean(axis=1, dtype=np.float64) if problem.known_mean is None else problem.known_mean
        values = np.where(found, values, mean[:, None].astype(np.float32))
    return _filled(problem, values)


def _nearest(
    problem: Problem, order: list[int], dates: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Values (C, N) from the first date in `order` that shows a pixel, and which that is (N,); 0 and -1 where none does."""
    dates = problem.harmonised if dates is None else dates
    values = np.zeros(dates.shape[1:], np.float32)
    chosen = np.full(dates.shape[2], -1, np.intp)
    for date in order:
        new = (chosen < 0) & problem.shown[date][problem.mask]
        values[:, new] = dates[date][:, new]
        chosen[new] = date
    return values, chosen


def _first(problem: Problem, dates: NDArray[np.float32], order: list[int]) -> NDArray[np.float32] | None:
    values, chosen = _nearest(problem, order, dates)
    return _completed(problem, values, chosen >= 0)


def _reduced(
    problem: Problem, dates: NDArray[np.float32], reduce: Callable[..., NDArray[np.floating]]
) -> NDArray[np.float32] | None:
    """Over the dates that show a pixel, by a function of numpy that skips NaN."""
    shown = problem.shown[:, problem.mask]
    found = np.asarray(shown.any(axis=0))
    values = np.zeros(dates.shape[1:], np.float32)
    if found.any():
        kept = np.where(shown[:, None], dates, np.float32(np.nan))[:, :, found]
        values[:, found] = reduce(kept, axis=0)
    return _completed(problem, values, found)
