"""The quality gate: what is measured of an image and of two dates of one place, and the verdict on the pair.

Names say nothing here. A pair is good where its clear side is clear ground (no cloud, no haze, no snow), its cloudy side
has cloud, and both show the same ground: on the same pixels, without a change that is larger than a season's.

With the clear date beside it more of the cloudy one can be told than a detector knows: thin cloud is whiter than the
ground was, and a shadow is darker than it in the near and the shortwave infrared alike (`compare`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from catalogs.bands import BANDS
from pipeline.errors import InvalidSettings
from pipeline.images import ChipImage
from pipeline.registration import Displacement, displacement
from srgan.store import CLEAR, CLOUD, NODATA, SHADOW

_RISE, _WHITE, _RISE_SWIR = 0.03, 0.7, 0.01  # reflectance; share of the rise in red; reflectance
_FALL, _FALL_BY = 0.7, 0.04  # share of the clear date's reflectance; reflectance
_NEAR = (
    1500.0  # metres from a cloud within which a shadow's piece must begin: cloud base below 1.5 km, sun at 45 degrees
)
_LEAST_CLEAR = 0.05  # share of a chip that tells the difference of two dates


@dataclass(frozen=True)
class GateLimits:
    """Where the gate draws its lines. Each field says what its value rests on; all are shares of 0..1 unless it says otherwise."""

    least_cloud: float = 0.015
    """Share of cloud from which a side is cloudy: 1000 pixels of 256 x 256, enough to learn from. s2cloudless takes 0.1 % of farmland
    for cloud, but up to 3 % of a town with white roofs: such a pair may pass without any."""
    clear_cloud: float = 0.10
    """Most cloud on a side that its data set calls clear. The pixels are masked, so it costs truth, not quality."""
    clear_date: float = 0.05
    """Most cloud and shadow on a date that is to serve as the clear one, where there is a choice of dates."""
    nodata: float = 0.0
    """Most pixels without data: any would be learned as a hole in the ground."""
    cirrus: float = 0.012
    """B10 reflectance from which a pixel is under cirrus: the lower threshold of Sen2Cor's cirrus test. Dry clear air stays below 0.008."""
    cirrus_share: float = 0.10
    """Most pixels under cirrus on the clear side: as for `clear_cloud`."""
    haze_l1c: float = 0.12
    """Most haze-optimised transform, B02 - 0.5 B04 (Zhang et al. 2002), median of the clear pixels, reflectance, at the top of the
    atmosphere. Clear ground has 0.05..0.10, of which 0.06 is the air's own; cloud 0.2 and more. Thin cirrus stays below: B10 sees that."""
    haze_l2a: float = 0.05
    """The same at the surface, where clear land has 0.00..0.03 and town 0.04. So white haze is seen that lifts the visible bands by
    about 0.06. Lighter haze (it adds 0.015 on a day that eyes call milky), and haze over water (0.04 by itself), are not."""
    snow_clear: float = 0.10
    """Most snow among the cloud-free pixels of the clear side: it is the truth, and its snow is not what lies below the cloud."""
    snow_cloudy: float = 0.33
    """The same on the cloudy side, where snow only disturbs the comparison. Melting patches pass, a snow cover does not."""
    shift: float = 1.5
    """Most displacement, pixels. Sentinel-2 dates lie within 1.2 pixels (95 %) before the geometric refinement of 2021, 0.3 since."""
    significance: float = 6.0
    """Least height of the correlation's peak, standard deviations: below it the shift counts as not measurable (`pipeline.registration`)."""
    changed: float = 0.04
    """Mean absolute difference of jointly clear ground, reflectance, from which it may have changed. A season's growth makes 0.01..0.05."""
    changed_share: float = 0.5
    """The same as a share of the mean reflectance; both must be passed, so that neither dark water nor bright sand alone decides."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0):
                raise InvalidSettings(f"limit {field.name} is {value}: it must be a number of 0 or more")


@dataclass(frozen=True)
class Side:
    """What is measured of one image."""

    nodata: float
    """Share of the chip."""
    cloud: float
    """Share of the pixels with data."""
    shadow: float
    """Share of the pixels with data."""
    snow: float | None
    """Share of the cloud-free pixels: NDSI > 0.4 with NIR > 0.11 and green > 0.1 (MODIS SNOWMAP), else by SCL; None without either."""
    cirrus: float | None
    """Median of B10, reflectance; None without B10."""
    cirrus_share: float | None
    """Share of the pixels with data whose B10 passes the limit; None without B10."""
    haze: float | None
    """Haze-optimised transform, median of the clear pixels, reflectance; None where no pixel is clear, or without B02 and B04."""
    surface: bool
    """Whether the reflectance is that of the surface (L2A)."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """What two dates of one place tell of each other."""

    classes: NDArray[np.uint8]
    """(rows, cols) of the cloudy side: 0 no data, 1 clear, 2 cloud, 3 shadow, with what the clear date shows."""
    cloud: float
    """Share of cloud on the cloudy side, of the pixels with data."""
    difference: float | None
    """Mean absolute difference over ground that is clear on both sides and snow on neither, reflectance; None where there is too little."""
    share: float | None
    """The same as a share of the mean reflectance."""
    shift: Displacement | None
    """Of the cloudy side against the clear one; None where too little is jointly clear."""
    refined: bool
    """Whether `classes` hold what the comparison shows: that takes B02, B04, B08 and B11 on both sides."""


def measure(image: ChipImage, limits: GateLimits) -> Side:
    """The measurements of one image."""
    valid = image.classes != NODATA
    ground = (image.classes == CLEAR) | (image.classes == SHADOW)
    clear = image.classes == CLEAR
    count = max(int(valid.sum()), 1)
    snow = snow_of(image)
    b10 = image.reflectance("B10")[valid] if image.has("B10") and valid.any() else None
    hazy = image.has("B02", "B04") and bool(clear.any())
    return Side(
        nodata=float(1 - valid.mean()),
        cloud=float((image.classes == CLOUD).sum() / count),
        shadow=float((image.classes == SHADOW).sum() / count),
        snow=None if snow is None or ground.mean() < _LEAST_CLEAR else float(snow[ground].mean()),
        cirrus=None if b10 is None else float(np.median(b10)),
        cirrus_share=None if b10 is None else float((b10 > limits.cirrus).mean()),
        haze=float(np.median((image.reflectance("B02") - 0.5 * image.reflectance("B04"))[clear])) if hazy else None,
        surface=image.level == "L2A",
    )


def snow_of(image: ChipImage) -> NDArray[np.bool_] | None:
    """Snow, bool (rows, cols); None where neither B03, B08 and B11 nor a scene classification are there."""
    if not image.has("B03", "B08", "B11"):
        return image.scl_snow
    green, nir, swir = (image.reflectance(name) for name in ("B03", "B08", "B11"))
    return np.asarray((green - swir > 0.4 * (green + swir)) & (nir > 0.11) & (green > 0.1))


def compare(clear: ChipImage, cloudy: ChipImage) -> Comparison:
    """What the two dates tell of each other; of the bands, those that both have."""
    shared = tuple(name for name in BANDS if name in clear.bands and name in cloudy.bands)
    index = [tuple(BANDS).index(name) for name in shared]
    before, after = (image.values[index].astype(np.float32) / np.float32(1e4) for image in (clear, cloudy))
    classes = cloudy.classes.copy()
    white = snow_of(clear)
    # Where the clear date has snow, its melting looks like shadow and fresh cloud like nothing.
    ground = clear.classes == CLEAR if white is None else (clear.classes == CLEAR) & ~white
    refined = {"B02", "B04", "B08", "B11"} <= set(shared)
    if refined:
        change = {name: after[shared.index(name)] - before[shared.index(name)] for name in ("B02", "B04", "B11")}
        classes[_thin_cloud(change, ground & (classes == CLEAR)) & ground & (classes != NODATA)] = CLOUD
        pairs = [(before[shared.index(name)], after[shared.index(name)]) for name in ("B08", "B11")]
        classes[_shadow(pairs, classes, cloudy.metres) & ground] = SHADOW
    joint = (clear.classes == CLEAR) & (classes == CLEAR)
    bare = ground & joint
    if (snow := snow_of(cloudy)) is not None:
        bare &= ~snow
    difference = share = None
    if shared and bare.mean() >= _LEAST_CLEAR:
        difference = float(np.abs(after - before)[:, bare].mean())
        share = difference / max(float((after + before)[:, bare].mean()) / 2, 1e-4)
    textured = [shared.index(name) for name in ("B03", "B04", "B08") if name in shared] or [0]
    shift = displacement(list(before[textured]), list(after[textured]), joint) if shared else None
    valid = max(int((classes != NODATA).sum()), 1)
    return Comparison(classes, float((classes == CLOUD).sum() / valid), difference, share, shift, refined)


def _thin_cloud(change: dict[str, NDArray[np.float32]], jointly: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whiter than the ground was: blue rises as red does (bare soil raises red), and shortwave infrared too (snow lowers it).

    The common difference, of sun and air, is taken off first, where enough is clear in both to know it.
    """
    known = jointly.mean() >= _LEAST_CLEAR
    blue, red, swir = (
        ndimage.uniform_filter(values, 3) - (np.float32(np.median(values[jointly])) if known else np.float32(0))
        for values in (change["B02"], change["B04"], change["B11"])
    )
    cloud = (blue > _RISE) & (blue > _WHITE * red) & (swir > _RISE_SWIR)
    return np.asarray(ndimage.binary_opening(cloud, iterations=2))


def _shadow(
    pairs: list[tuple[NDArray[np.float32], NDArray[np.float32]]], classes: NDArray[np.uint8], metres: float
) -> NDArray[np.bool_]:
    """Ground that became darker in every band of `pairs`, in pieces that begin near a cloud.

    Whole pieces, because the shadow of a high cloud, or of one outside the chip, reaches far. Where a chip has no cloud
    nothing is shadow: what is darker there has changed.
    """
    cloud = classes == CLOUD
    if not cloud.any():
        return np.zeros(cloud.shape, bool)
    dark = classes == CLEAR
    for before, after in pairs:
        dark &= (after < _FALL * before) & (before - after > _FALL_BY)
    dark = ndimage.binary_opening(dark, iterations=2)
    near = ndimage.distance_transform_edt(~cloud) * metres < _NEAR
    return np.asarray(ndimage.binary_propagation(dark & near, mask=dark))


def clear_fault(side: Side, limits: GateLimits, most_cloud: float) -> tuple[str, str] | None:
    """(quality, reason) of an image that is no clear ground; None for one that is. `most_cloud`: share of cloud allowed."""
    if side.nodata > limits.nodata:
        return "nodata", f"{side.nodata:.1%} of the clear side has no data"
    if side.cloud > most_cloud:
        return "clear_side_cloudy", f"{side.cloud:.1%} of the clear side is cloud"
    if side.cirrus_share is not None and side.cirrus_share > limits.cirrus_share:
        return (
            "clear_side_hazy",
            f"{side.cirrus_share:.0%} of the clear side is under cirrus, B10 above {limits.cirrus:g}",
        )
    haze = limits.haze_l2a if side.surface else limits.haze_l1c
    # Snow lifts the measure without any haze; it has a verdict of its own.
    snowy = side.snow is not None and side.snow > limits.snow_clear
    if side.haze is not None and side.haze > haze and not snowy:
        return (
            "clear_side_hazy",
            f"the clear side is hazy: B02 - 0.5 B04 has a median of {side.haze:.3f}, above {haze:g}",
        )
    if snowy:
        return "snow", f"{side.snow:.0%} of the clear side is snow"
    return None


def judge(clear: Side, cloudy: Side, both: Comparison, limits: GateLimits) -> tuple[str, str]:
    """(quality, reason) of a pair; the first fault counts, those of the clear side before those of both."""
    if fault := clear_fault(clear, limits, limits.clear_cloud):
        if fault[0] == "snow" and cloudy.snow is not None and cloudy.snow > limits.snow_cloudy:
            return "snow", f"snow on both sides: {clear.snow:.0%} of the clear one, {cloudy.snow:.0%} of the cloudy one"
        return fault
    if cloudy.nodata > limits.nodata:
        return "nodata", f"{cloudy.nodata:.1%} of the cloudy side has no data"
    if cloudy.snow is not None and cloudy.snow > limits.snow_cloudy:
        return (
            "snow",
            f"{cloudy.snow:.0%} of the cloudy side's ground is snow, {clear.snow or 0:.0%} of the clear side's",
        )
    if (shift := measurable(both.shift, limits)) is not None and shift.length > limits.shift:
        return (
            "misregistered",
            f"the sides are displaced by {shift.length:.1f} pixels ({shift.rows:+.1f} rows, {shift.cols:+.1f} cols)",
        )
    if (both.difference or 0) > limits.changed and (both.share or 0) > limits.changed_share:
        return (
            "changed",
            f"jointly clear ground differs by {both.difference:.3f} in reflectance, {both.share:.0%} of its mean",
        )
    if both.cloud < limits.least_cloud:
        return "no_cloud", f"{both.cloud:.1%} of the cloudy side is cloud"
    return "ok", ""


def measurable(shift: Displacement | None, limits: GateLimits) -> Displacement | None:
    """`shift` where its peak stands out of the noise, else None."""
    return shift if shift is not None and shift.significance >= limits.significance else None
