"""Real clouds, taken off one image and put over another.

A pair of dates gives both sides of

    rho_cloudy = light + T^2 rho / (1 - R rho).

What is lost (R and T by band) follows from the optical thickness, and that from the visible bands, in which cloud absorbs nothing: with T = 1 - R
and light = R the equation has one unknown and the solution R = (rho_cloudy - rho) / (1 - 2 rho + rho rho_cloudy). The median of B02, B03 and
B04, smoothed and bounded, gives tau = 2 R / ((1 - g)(1 - R)), and `srgan.optics` gives R and T of every band, absorption included. The cloud's
own light is then what is left over: colour, slopes towards the sun, air and water vapour above it, all as they were. Where the cloud is thin, what is
left over holds the difference of the two dates' ground as well, so there it is smoothed.

A shadow is left behind: on the ground of another date it cannot be told from a change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan import optics
from srgan.clouds import BRIGHTEST, THIN, Clouded
from srgan.errors import InvalidSpec

FEATHER = 4
"""Pixels beyond the mask in which a cloud fades out."""

ICE = 0.01
"""Reflectance that a cloud of ice adds to B10, at least."""

_VISIBLE = slice(1, 4)
_CIRRUS_BAND = 10
_GREEN = 2


@dataclass(frozen=True)
class RealCloud:
    """A cloud without the ground below it."""

    light: Tensor
    """(13, H, W) reflectance of the cloud alone, 0..1.6."""
    reflected: Tensor
    """(13, H, W) R: share of the ground's light that is sent back down, 0..1."""
    passed: Tensor
    """(13, H, W) T^2: share of the ground's light that arrives, 0..1."""
    cloud: Tensor
    """(1, H, W) 1 where there is cloud, its faded edge included, else 0."""


def estimate(cloudy: Tensor, clear: Tensor, cloud: Tensor) -> RealCloud:
    """The cloud of a pair.

    cloudy, clear (13, H, W) reflectance on one grid; cloud (1, H, W) 1 where `cloudy` is cloudy, else 0. The clear date is brought to the level of
    the other by the median difference of each band where neither is under cloud. Raises InvalidSpec where shapes differ or no pixel is
    cloudy.
    """
    bands = len(optics.TABLE)
    if (
        cloudy.dim() != 3
        or len(cloudy) != bands
        or clear.shape != cloudy.shape
        or cloud.shape != (1, *cloudy.shape[1:])
    ):
        raise InvalidSpec(
            f"cloudy {tuple(cloudy.shape)}, clear {tuple(clear.shape)} and cloud {tuple(cloud.shape)} must be "
            "(13, H, W), (13, H, W) and (1, H, W)"
        )
    inside = cloud[0] > 0
    if not inside.any():
        raise InvalidSpec("no pixel of the pair is cloudy: there is nothing to transplant")
    grown = F.max_pool2d(cloud, 2 * FEATHER + 1, 1, FEATHER)
    around = grown[0] == 0
    ground = clear
    if int(around.sum()) >= 64:
        level = (cloudy - clear)[:, around].median(1).values
        ground = (clear + level[:, None, None]).clamp_min(0)
    fade = _box(cloud, FEATHER).clamp(0, 0.5) * 2 * grown
    ice = float((cloudy - ground)[_CIRRUS_BAND, inside].median()) > ICE
    phase: optics.Phase = "ice" if ice else "water"
    tau = _thickness(cloudy, ground, optics.ASYMMETRY[phase]) * fade[0]
    reflected, passed = torch.empty_like(cloudy), torch.empty_like(cloudy)
    for band in range(bands):
        once, through = optics.two_stream(tau, optics.ASYMMETRY[phase], optics.coalbedo(band, phase))
        reflected[band], passed[band] = once, through * through
    left = (cloudy - optics.over(ground, reflected, passed, 0.0)).clamp(0, BRIGHTEST)
    # No more light than this much optical thickness can send: what is beyond is ground that has changed.
    left = torch.minimum(left, 2 * reflected.amax(0) + 0.01) * fade
    light = passed * _box(left, 2) + (1 - passed) * left
    return RealCloud(light * (tau > 0), reflected, passed, (tau > 0).to(cloudy.dtype)[None])


def paste(clouds: Sequence[RealCloud], image: Tensor, valid: Tensor) -> Clouded:
    """Put a real cloud over each image of a batch.

    image (B, 13, H, W) reflectance, valid (B, 1, H, W) 0 or 1: where it is 0 the image is kept; a cloud of the same H and W for each sample. An absent
    band gets cloud over whatever it holds. Raises InvalidSpec where numbers or sizes do not agree.
    """
    if len(clouds) != len(image) or valid.shape != (len(image), 1, *image.shape[2:]):
        raise InvalidSpec(
            f"{len(clouds)} clouds, image {tuple(image.shape)} and valid {tuple(valid.shape)}: they must be one cloud a sample, "
            "(B, 13, H, W) and (B, 1, H, W)"
        )
    for number, one in enumerate(clouds):
        if one.light.shape != image.shape[1:]:
            raise InvalidSpec(
                f"cloud {number} is {tuple(one.light.shape)}, the image {tuple(image.shape[1:])}: cut one to the other"
            )
    light, reflected, passed, cloud = (
        torch.stack([getattr(one, part) for one in clouds]) for part in ("light", "reflected", "passed", "cloud")
    )
    keep = cloud * valid
    seen = (optics.over(image, reflected, passed, 0.0) + light).clamp(0, BRIGHTEST)
    thin = keep * (passed[:, _GREEN : _GREEN + 1] > THIN)
    return Clouded(torch.where(keep > 0, seen, image), (1 - passed) * keep, keep, thin, torch.zeros_like(keep))


def _thickness(cloudy: Tensor, ground: Tensor, asymmetry: float) -> Tensor:
    """Optical thickness (H, W) by the visible bands."""
    above, below = cloudy[_VISIBLE], ground[_VISIBLE]
    solved = (above - below) / (1 - 2 * below + below * above).clamp_min(0.05)
    share = _box(solved.median(0).values[None], 1)[0].clamp(0, 0.97)
    return 2 * share / ((1 - asymmetry) * (1 - share))


def _box(values: Tensor, radius: int) -> Tensor:
    """Mean over a square of 2 `radius` + 1 pixels, (C, H, W); fewer at the border."""
    return F.avg_pool2d(values, 2 * radius + 1, 1, radius, count_include_pad=False)
