"""Two-stream optics of cloud in Sentinel-2's bands, and the coefficients behind them.

A layer of optical thickness tau sends back R, lets through T and absorbs A = 1 - R - T. Without absorption (Bohren, "Multiple scattering of
light and some of its observable consequences", Am. J. Phys. 55, 1987, equation 21)

    R = (1 - g) tau / (2 + (1 - g) tau),    T = 1 - R

and with a share 1 - w of the light absorbed at each encounter (Bohren and Clothiaux, "Fundamentals of Atmospheric Radiation", 2006, section 5.3)

    K = sqrt((1 - w)(1 - w g)),    Q = w (1 - g) / 2 / (1 - w + w (1 - g) / 2 + K),    E = exp(-K tau)
    R = Q (1 - E^2) / (1 - Q^2 E^2),    T = (1 - Q^2) E / (1 - Q^2 E^2)

which tends to the first pair as w tends to 1. Over ground of reflectance rho the layer shows (adding method)

    rho' = R + T^2 rho / (1 - R rho)

which stands between what the air above it takes away and adds (`air`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Phase = Literal["water", "ice"]


@dataclass(frozen=True)
class Row:
    """What one band sees. Sources at `TABLE`."""

    band: str
    wavelength: float
    """Centre, micrometres."""
    pixel: int
    """Edge of the band's own pixels, metres: 10, 20 or 60."""
    water: float
    """Imaginary part of the refractive index of water."""
    ice: float
    """Imaginary part of the refractive index of ice."""
    ozone: float
    """Vertical optical depth of 300 Dobson units of ozone, all of it above any cloud."""
    vapour: tuple[float, float, float]
    """Vertical optical depth of the water vapour above low (1 km), mid (4 km) and high (9 km) cloud, for 1.5 cm of it in all."""
    sky: float
    """Share of a land pixel's light that is left in a full shadow, 0..1: from blue sky, clouds beside it, and the air above it."""


TABLE = (
    Row("B01", 0.443, 60, 1.1e-9, 6.9e-11, 0.001, (0.0, 0.0, 0.0), 0.85),
    Row("B02", 0.490, 10, 9.5e-10, 4.2e-10, 0.006, (0.0, 0.0, 0.0), 0.78),
    Row("B03", 0.560, 10, 2.6e-9, 2.8e-9, 0.031, (0.0, 0.0, 0.0), 0.66),
    Row("B04", 0.665, 10, 2.0e-8, 1.8e-8, 0.017, (0.004, 0.001, 0.0), 0.57),
    Row("B05", 0.705, 20, 4.6e-8, 3.2e-8, 0.007, (0.016, 0.005, 0.001), 0.43),
    Row("B06", 0.740, 20, 1.3e-7, 4.9e-8, 0.003, (0.016, 0.005, 0.001), 0.37),
    Row("B07", 0.783, 20, 1.4e-7, 1.1e-7, 0.001, (0.008, 0.002, 0.0), 0.35),
    Row("B08", 0.842, 10, 2.6e-7, 1.6e-7, 0.001, (0.025, 0.008, 0.001), 0.34),
    Row("B8A", 0.865, 20, 3.5e-7, 2.4e-7, 0.0, (0.002, 0.001, 0.0), 0.33),
    Row("B09", 0.945, 60, 2.6e-6, 5.8e-7, 0.0, (0.36, 0.12, 0.015), 0.33),
    Row("B10", 1.375, 60, 6.7e-5, 1.5e-5, 0.0, (2.5, 0.9, 0.12), 1.00),
    Row("B11", 1.610, 20, 8.8e-5, 2.7e-4, 0.0, (0.004, 0.001, 0.0), 0.24),
    Row("B12", 2.190, 20, 3.5e-4, 3.5e-4, 0.0, (0.02, 0.006, 0.001), 0.23),
)
"""One row a band, in the order of `srgan.spec.BANDS`. Sources, by column:

- wavelength, pixel: Sentinel-2 User Handbook (ESA, 2015), table 1.
- water: Hale and Querry, Appl. Opt. 12, 1973, table I, up to 1 micrometre; beyond, where they have a value every 0.2 micrometres only,
  Segelstein, thesis, University of Missouri, 1981. B12: mean over its width.
- ice: Warren and Brandt, J. Geophys. Res. 113, 2008, D14220, their compilation. B12: mean over its width.
- ozone: the Chappuis band of Gorshelev et al., Atmos. Meas. Tech. 7, 2014, figure 9, times 8.07e18 molecules per square centimetre.
- vapour: Gao and Goetz, J. Geophys. Res. 95, 1990 (0.94 micrometres), and Gao et al., J. Geophys. Res. 98, 1993 (1.38 micrometres: ground and low
  cloud vanish, cirrus stays), the other bands in the ratio of their absorption lines; a scale height of 2 km (Reitan, J. Appl. Meteor. 2, 1963),
  with less decrease up high, where the lines are narrow.
- sky: medians over shadows on vegetation in seven cloudy images of SEN12MS-CR beside their clear dates; falling to the red as skylight does
  (ASTM G173: diffuse over global radiation). B10 never saw the ground.
"""

RADIUS = {"water": 10.0, "ice": 30.0}
"""Effective radius of droplets and crystals, micrometres: the usual MODIS retrievals (Platnick et al., IEEE TGRS 55, 2017, figures 5 and 6)."""

ASYMMETRY = {"water": 0.85, "ice": 0.78}
"""g: droplets in the visible and near infrared (Hu and Stamnes, J. Climate 6, 1993, figure 1); roughened crystals (Baum et al., JQSRT 146, 2014)."""

LEAST_COALBEDO = 1e-3
"""Absorption at an encounter that counts as none: a cloud of optical thickness 20 would take 2 % of the light."""

HAZE_ASYMMETRY = 0.65
"""g of haze (Dubovik et al., J. Atmos. Sci. 59, 2002: 0.6 to 0.7 for urban and continental aerosol)."""

HAZE_SLOPE = 1.3
"""Angstrom's exponent: haze thins as wavelength ** -1.3 (Angstrom, Tellus 16, 1964)."""


def coalbedo(band: int, phase: Phase, radius: float = 0.0) -> float:
    """Share of the light that a droplet or crystal of effective radius `radius` (micrometres; 0 = usual) absorbs at an encounter, 1 - w.

    0.85 times absorption coefficient times effective radius (Twomey and Bohren, J. Atmos. Sci. 37, 1980, equation 9).

    >>> round(coalbedo(11, "water"), 4), round(coalbedo(11, "ice"), 4), coalbedo(1, "water") < 1e-6
    (0.0058, 0.0537, True)
    """
    row = TABLE[band]
    index = row.water if phase == "water" else row.ice
    return 0.85 * 4 * math.pi * index / row.wavelength * (radius or RADIUS[phase])


def two_stream(tau: Tensor, asymmetry: float, absorbed: float = 0.0) -> tuple[Tensor, Tensor]:
    """R and T, each like `tau` (optical thickness, at least 0), of a layer whose particles absorb the share `absorbed` = 1 - w.

    R + T + A = 1 with A >= 0; both are monotone in tau; tau = 0 gives exactly R = 0 and T = 1.
    """
    if absorbed < LEAST_COALBEDO:
        scaled = tau * ((1 - asymmetry) / 2)
        reflected = scaled / (1 + scaled)
        return reflected, 1 - reflected
    back = (1 - absorbed) * (1 - asymmetry) / 2
    decay = math.sqrt(absorbed * (absorbed + 2 * back))
    deep = back / (absorbed + back + decay)
    passed = torch.exp(tau * -decay)
    lost = 1 - passed * passed
    # 1 - Q^2 E^2, written so that the quotients are exactly 0 and 1 without cloud.
    below = deep**2 * lost + (1 - deep**2)
    return deep * lost / below, (1 - deep**2) / below * passed


def air(band: int, height: float, zenith: float, moisture: float = 1.0) -> tuple[float, float]:
    """What the air above a cloud at `height` metres does: two-way transmission, and the reflectance that it adds, 0..1.

    zenith of the sun, degrees; `moisture` 1 is 1.5 cm of water vapour. Rayleigh scattering (Hansen and Travis, Space Sci. Rev. 16, 1974, equation 2.30),
    half of it forwards, in the single-scattering limit; above the height of the cloud with a scale height of 8 km. Ozone and
    water vapour absorb.

    >>> through, added = air(0, 1000, 45)
    >>> round(through, 2), round(added, 2), [round(value, 3) for value in air(10, 1000, 45)]
    (0.78, 0.07, [0.002, 0.001])
    """
    row = TABLE[band]
    cosine = math.cos(math.radians(zenith))
    way = 1 / cosine + 1
    inverse = row.wavelength**-2
    rayleigh = 0.008569 * inverse**2 * (1 + 0.0113 * inverse + 0.00013 * inverse**2) * math.exp(-height / 8000)
    low, mid, high = row.vapour
    share = min(max(height - 1000, 0) / 3000, 1), min(max(height - 4000, 0) / 5000, 1)
    vapour = (low + (mid - low) * share[0] + (high - mid) * share[1]) * moisture
    through = math.exp(-way * (rayleigh / 2 + row.ozone + vapour))
    return through, rayleigh / (4 * cosine)


def over(
    ground: Tensor, reflected: Tensor, passed: Tensor, brightness: Tensor | float = 1.0, added: float = 0.0
) -> Tensor:
    """Reflectance of a layer above `ground`; `passed` is T^2.

    Above the layer lies air: `brightness` is its transmission (and what slopes do), `added` its own reflectance, which the ground has in it
    already. Exactly `ground` where reflected = 0 and passed = 1. Light that goes to and fro more than ten times is cut off.
    """
    again = (reflected * ground).neg_().add_(1).clamp_min_(0.1)
    seen = (passed * ground).div_(again).add_(reflected * brightness)
    return seen.add_(1 - passed, alpha=added) if added else seen
