"""`Sky` and its `Layer`s: what is put over a clear image, and skies drawn at random."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from srgan.errors import InvalidSpec

Kind = Literal["low", "mid", "cirrus"]
Form = Literal["cumulus", "stratus", "fibres"]
Weather = Literal["haze", "broken", "overcast", "cirrus"]

_USUAL: dict[str, tuple[Form, float, float]] = {
    "low": ("cumulus", 1200.0, 1000.0),
    "mid": ("stratus", 4000.0, 2500.0),
    "cirrus": ("fibres", 9000.0, 3500.0),
}
"""Form, height and size, metres, of a kind where nothing else is said (WMO, International Cloud Atlas, 2017, table 3)."""


@dataclass(frozen=True)
class Layer:
    """One layer of cloud. Raises InvalidSpec for values that no cloud has."""

    kind: Kind
    """low and mid are of droplets, cirrus of ice."""
    cover: float
    """Share of the tile under the layer, 0..1."""
    thickness: float
    """Median optical thickness inside the cloud, > 0: cirrus 0.1 to 3, opaque above 30."""
    height: float = 0.0
    """Base above the ground, metres; 0 = usual for the kind."""
    size: float = 0.0
    """Largest structures, metres; 0 = usual for the kind."""
    form: Form | Literal[""] = ""
    """cumulus (steep edges), stratus (smooth) or fibres; empty = usual for the kind."""
    radius: float = 0.0
    """Effective radius of the droplets or crystals, micrometres: large ones are darker in B11 and B12; 0 = usual for the kind."""

    def __post_init__(self) -> None:
        if self.kind not in _USUAL:
            raise InvalidSpec(f"cloud layer {self.kind!r}: it must be low, mid or cirrus")
        if not 0 <= self.cover <= 1:
            raise InvalidSpec(f"{self.kind} cloud: cover {self.cover} must be a share, 0 to 1")
        if not 0 < self.thickness <= 1000:
            raise InvalidSpec(f"{self.kind} cloud: thickness {self.thickness} must be above 0, at most 1000")
        form, height, size = _USUAL[self.kind]
        if self.form and self.form not in get_args(Form):
            raise InvalidSpec(f"{self.kind} cloud: form {self.form!r} must be one of {', '.join(get_args(Form))}")
        for name, usual in (("form", form), ("height", height), ("size", size)):
            if not getattr(self, name):
                object.__setattr__(self, name, usual)
        if not 0 <= self.radius <= 200:
            raise InvalidSpec(f"{self.kind} cloud: radius {self.radius} must be at most 200 micrometres")
        if not 0 < self.height <= 20000 or not 10 <= self.size <= 1e6:
            raise InvalidSpec(
                f"{self.kind} cloud: height {self.height} m must be above 0, at most 20000, and size {self.size} m 10 to 1000000"
            )


@dataclass(frozen=True)
class Sky:
    """Everything above one tile. Raises InvalidSpec for a sun below the horizon and the like."""

    layers: tuple[Layer, ...]
    """In any order; they are composed from the lowest to the highest."""
    sun_zenith: float
    """Degrees from the vertical, 0..85."""
    sun_azimuth: float
    """Degrees clockwise from north, where the sun stands."""
    haze: float = 0.0
    """Optical thickness at 550 nm of a smooth layer on the ground, 0 = none."""
    resolution: float = 10.0
    """Metres per pixel."""
    moisture: float = 1.0
    """Water vapour relative to the usual 1.5 cm: how much B05 to B10 lose above the cloud."""

    def __post_init__(self) -> None:
        if not 0 <= self.sun_zenith <= 85:
            raise InvalidSpec(f"sun zenith {self.sun_zenith} must be 0 to 85 degrees")
        if not math.isfinite(self.sun_azimuth):
            raise InvalidSpec(f"sun azimuth {self.sun_azimuth} must be a number of degrees")
        if not 0 <= self.haze <= 10:
            raise InvalidSpec(f"haze {self.haze} must be an optical thickness of 0 to 10")
        if not 0 < self.resolution <= 1000:
            raise InvalidSpec(f"resolution {self.resolution} must be above 0, at most 1000 metres")
        if not 0 <= self.moisture <= 10:
            raise InvalidSpec(f"moisture {self.moisture} must be 0 to 10")

    def shadow(self, height: float) -> tuple[int, int]:
        """Rows (down) and columns (right) by which the shadow of something at `height` metres lies beside it: away from the sun.

        >>> Sky((), 45, 180).shadow(100), Sky((), 45, 90).shadow(100), Sky((), 0, 90).shadow(100)
        ((-10, 0), (0, -10), (0, 0))
        """
        length = height * math.tan(math.radians(self.sun_zenith)) / self.resolution
        angle = math.radians(self.sun_azimuth)
        return round(math.cos(angle) * length), round(-math.sin(angle) * length)


def random_sky(generator: torch.Generator, kind: str | None = None, resolution: float = 10.0) -> Sky:
    """A sky drawn at random: `kind` haze, broken, overcast or cirrus; None draws that too. The same generator state gives the same sky."""
    draw = _Draw(generator)
    weather = get_args(Weather)
    if kind is None:
        # Thin cloud is drawn often: through it the ground is seen, so there is something to learn.
        chance = draw.between(0, 1)
        kind = weather[sum(chance > edge for edge in (0.25, 0.65, 0.75))]
    if kind not in weather:
        raise InvalidSpec(f"sky {kind!r}: it must be one of {', '.join(weather)}")
    zenith, azimuth, moisture = draw.between(20, 70), draw.between(0, 360), draw.spread(0.4, 2.2)
    # Haze covers all there is: beside clouds it would leave nothing clear to see them by.
    haze = draw.spread(0.15, 3.0) if kind == "haze" else 0.0
    return Sky(_LAYERS[kind](draw), zenith, azimuth, haze, resolution, moisture)


@dataclass(frozen=True)
class _Draw:
    generator: torch.Generator

    def between(self, least: float, most: float) -> float:
        return least + (most - least) * float(torch.rand((), generator=self.generator))

    def spread(self, least: float, most: float) -> float:
        """Evenly over the orders of magnitude."""
        return math.exp(self.between(math.log(least), math.log(most)))


def _low(draw: _Draw, cover: float, thickness: tuple[float, float], size: tuple[float, float], form: Form) -> Layer:
    height, radius = draw.spread(500, 2500), draw.spread(4, 14)
    return Layer("low", cover, draw.spread(*thickness), height, draw.spread(*size), form, radius)


def _high(draw: _Draw, least: float, most: float) -> Layer:
    form: Form = "stratus" if draw.between(0, 1) < 0.3 else "fibres"
    height, size, radius = draw.between(6500, 12000), draw.spread(2000, 6000), draw.spread(15, 50)
    return Layer("cirrus", draw.between(0.4, 1), draw.spread(least, most), height, size, form, radius)


def _broken(draw: _Draw) -> tuple[Layer, ...]:
    low = _low(draw, draw.between(0.08, 0.75), (3, 20), (400, 3000), "cumulus")
    return (low, _high(draw, 0.05, 0.6)) if draw.between(0, 1) < 0.25 else (low,)


def _overcast(draw: _Draw) -> tuple[Layer, ...]:
    low = _low(draw, min(1.0, draw.between(0.85, 1.3)), (8, 60), (800, 4000), "stratus")
    if draw.between(0, 1) < 0.7:
        return (low,)
    height, radius = draw.spread(2500, 6000), draw.spread(4, 14)
    return low, Layer(
        "mid", draw.between(0.3, 1), draw.spread(2, 20), height, draw.spread(1500, 4000), "stratus", radius
    )


def _cirrus(draw: _Draw) -> tuple[Layer, ...]:
    high = _high(draw, 0.1, 1.5)
    low = _low(draw, draw.between(0.05, 0.3), (3, 15), (350, 1500), "cumulus")
    return (low, high) if draw.between(0, 1) < 0.2 else (high,)


_LAYERS = {"haze": lambda _: (), "broken": _broken, "overcast": _overcast, "cirrus": _cirrus}
