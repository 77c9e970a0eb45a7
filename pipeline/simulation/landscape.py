"""`Landscape`: simulated ground as Sentinel-2 would see it without a cloud, on any day.

The ground is composed from below upwards: farmland, forest, gardens, river and lake, roads, roofs. Only farmland and
forest change with the day and only the terrain's shade with the sun, so all the rest is blended once: with `t` the
share of a pixel through which the fields are seen, `ground = fixed + t * fields(day)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.errors import InvalidSettings
from pipeline.simulation.noise import fractal, smoothstep
from pipeline.simulation.parcels import Parcels, make_parcels
from pipeline.simulation.settlement import Canvas, Settlement, build, meander, road
from pipeline.simulation.spectra import SIMULATED_BANDS, SPECTRA
from pipeline.simulation.sun import Sun

PIXEL = 10
"""Metres a pixel."""


@dataclass(frozen=True)
class Landscape:
    """Simulated ground; all arrays on one grid of 10 m pixels, rows from north to south."""

    parcels: Parcels
    fixed: np.ndarray
    """float32 (bands, rows, cols): reflectance of what does not change, times the share it covers."""
    through: np.ndarray
    """float32 (rows, cols), 0..1: share of the pixel through which fields are seen."""
    slope: tuple[np.ndarray, np.ndarray]
    """float32 (rows, cols) each: rise of the terrain towards the east and the north, metres a metre."""
    water: np.ndarray
    """bool (rows, cols): mostly open water."""

    def reflectance(self, day: float, sun: Sun) -> np.ndarray:
        """Surface reflectance (bands, rows, cols) float32, bands as in `SIMULATED_BANDS`, `day` days after the first."""
        from scipy.ndimage import gaussian_filter

        spectra = self.parcels.spectra(day)
        shade = self._shade(sun)
        seen = self.through * self.parcels.texture
        ground = np.empty_like(self.fixed)
        for band in range(len(SIMULATED_BANDS)):
            fields = spectra[:, band][self.parcels.labels]
            margin = np.float32(0.8) * SPECTRA["meadow"][band]
            fields += self.parcels.margin * (margin - fields)
            # What the telescope blurs: about a third of the contrast is left at the finest detail.
            gaussian_filter((self.fixed[band] + seen * fields) * shade, 0.5, output=ground[band], truncate=2)
        return ground

    def _shade(self, sun: Sun) -> np.ndarray:
        """Light on the slope relative to flat ground; half of it, as L2A is corrected for terrain, but never fully."""
        east, north = self.slope
        towards = east * np.float32(np.sin(sun.azimuth_radians)) + north * np.float32(np.cos(sun.azimuth_radians))
        lit = (1 - towards * np.float32(np.tan(sun.zenith_radians))) / np.sqrt(1 + east**2 + north**2)
        return np.where(self.water, 1, 1 + np.float32(0.5) * (lit.clip(0.2, 1.8) - 1)).astype(np.float32)


def make_landscape(rng: np.random.Generator, size: int) -> Landscape:
    """A landscape of `size` x `size` pixels: a valley with a meandering river, fields and towns, and wooded hills.

    Raises InvalidSettings for a size below 96 pixels, in which no settlement finds room.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    if size < 96:
        raise InvalidSettings(f"a simulated area of {size} pixels is too small: use at least 96")
    shape = (size, size)
    parcels = make_parcels(rng, size)
    course = meander(rng, size, (-20, rng.uniform(0.5, 0.68) * size), rng.uniform(-0.5, -0.25), 0.95)
    banks, gravel = Canvas(size), Canvas(size)
    for start in range(0, len(course) - 1, 4):
        width = 7.5 + 1.6 * np.sin(start / 31) + 0.8 * np.sin(start / 11)
        gravel.line(course[start : start + 6], width + 1.2 + 1.6 * max(0, np.sin(start / 47)))
        banks.line(course[start : start + 6], width)
    river = banks.coverage()
    away = distance_transform_edt(river < 0.5).astype(np.float32)

    hills = fractal(rng, shape, 2.9, 0.45 * size)
    rise = smoothstep(away, 0.1 * size, 0.55 * size)
    height = rise * (90 + 85 * hills) + 14 * fractal(rng, shape, 2.3, 90) * (0.15 + rise)
    north, east = np.gradient(gaussian_filter(height, 1.5), PIXEL)

    wild = 1.0 * hills + 0.45 * fractal(rng, shape, 1.9, 70) + 1.6 * rise - 1.75
    counts = np.bincount(parcels.labels.ravel())
    by_parcel = (np.bincount(parcels.labels.ravel(), wild.ravel()) / counts).astype(np.float32)[parcels.labels]
    wood = 0.4 * wild + 0.6 * by_parcel + 0.08 * fractal(rng, shape, 1.2, 12)
    lake_field = fractal(rng, shape, 2.6, 0.12 * size) - 4 * rise - 0.02 * np.clip(30 - away, 0, None)
    lake = smoothstep(lake_field, *(np.quantile(lake_field, (0.9945, 0.9955)).tolist())) * (river < 0.1)
    woods = smoothstep(wood, -0.07, 0.07) * (1 - lake)
    riparian = smoothstep(0.75 * fractal(rng, shape, 1.7, 22) - (away - 6) / 9, -0.15, 0.2) * (away > 0)
    scattered = smoothstep(fractal(rng, shape, 0.5, 3) + 0.35 * fractal(rng, shape, 2.0, 50), 2.75, 3.1)
    forest = np.maximum.reduce([woods, riparian, 0.8 * scattered])

    dry = (river < 0.05) & (lake < 0.05)
    towns = _settlements(rng, size, dry & (woods < 0.3) & (away > 9))
    roofs = {name: Canvas(size) for name in ("tile", "slate", "hall")}
    streets, highways = Canvas(size), Canvas(size)
    houses_allowed = dry & (forest < 0.6)
    gardens = np.zeros(shape, np.float32)
    for town in towns:
        build(rng, town, roofs, streets, houses_allowed)
        rows, cols = np.ogrid[0:size, 0:size]
        from_centre = np.hypot(rows - town.centre[1], cols - town.centre[0]) / town.radius
        gardens = np.maximum(gardens, 0.9 * (1 - smoothstep(from_centre + 0.13 * hills, 0.7, 1.2)))
    _roads(rng, size, towns, streets, highways)

    canopy = (1 + 0.10 * fractal(rng, shape, 0.7, 3) + 0.07 * fractal(rng, shape, 1.5, 16)).clip(0.5, 1.6)
    conifer = smoothstep(fractal(rng, shape, 1.9, 45) + 0.35 * hills, 0.1, 0.5)
    stands = np.exp(0.05 * rng.standard_normal(len(counts), dtype=np.float32))[parcels.labels]
    yards = 1 + 0.14 * fractal(rng, shape, 0.4, 3)
    ripple = 1 + 0.03 * fractal(rng, shape, 1.2, 30)
    fixed = np.zeros((len(SIMULATED_BANDS), *shape), np.float32)
    through = np.ones(shape, np.float32)

    def layers() -> Iterator[tuple[np.ndarray, str, np.ndarray | float]]:
        yield forest, "broadleaf", canopy * stands
        yield woods * conifer, "conifer", canopy * stands
        yield gardens, "garden", yards
        yield gravel.coverage() * 0.7, "gravel", canopy
        yield river, "river", ripple
        yield lake, "lake", ripple
        yield streets.coverage() * 0.95, "asphalt", 1.0
        yield highways.coverage(), "concrete", 1.0
        for name, canvas in roofs.items():
            yield canvas.coverage(), name, yards

    for cover, name, texture in layers():
        rest = (1 - cover).astype(np.float32)
        painted = (cover * texture).astype(np.float32)
        through *= rest
        for band, value in enumerate(SPECTRA[name]):
            fixed[band] *= rest
            fixed[band] += value * painted
    return Landscape(
        parcels=parcels,
        fixed=fixed,
        through=through,
        slope=(east.astype(np.float32), -north.astype(np.float32)),
        water=(river > 0.5) | (lake > 0.5),
    )


def _settlements(rng: np.random.Generator, size: int, allowed: np.ndarray) -> list[Settlement]:
    """One town and villages around it, each at a place where most of the ground near its centre is `allowed`."""
    from scipy.ndimage import uniform_filter

    room = uniform_filter(allowed.astype(np.float32), max(5, size // 24))
    found: list[Settlement] = []
    for number in range(max(2, round(14 * (size / 960) ** 2))):
        radius = 0.085 * size if number == 0 else float(rng.uniform(0.016, 0.033)) * size
        edge = 0.16 if number == 0 else 0.04
        for _ in range(60):
            x, y = rng.uniform(edge * size, (1 - edge) * size, 2)
            apart = all(
                np.hypot(x - other.centre[0], y - other.centre[1]) > 2.2 * (radius + other.radius) for other in found
            )
            if apart and room[int(y), int(x)] > 0.8:
                found.append(Settlement((float(x), float(y)), radius, float(rng.uniform(0, np.pi))))
                break
    return found


def _roads(rng: np.random.Generator, size: int, towns: list[Settlement], streets: Canvas, highways: Canvas) -> None:
    """Join every settlement to its two nearest and some to the edge; one motorway crosses the area."""
    places = np.array([town.centre for town in towns])
    joined = set()
    for index, place in enumerate(places):
        order = np.argsort(np.hypot(*(places - place).T))
        joined |= {(min(index, int(other)), max(index, int(other))) for other in order[1:3]}
    for first, second in sorted(joined):
        streets.line(road(rng, tuple(places[first]), tuple(places[second]), 0.05), 0.9)
    for place in places[:4]:
        end = rng.choice(
            [(-9.0, rng.uniform(0, size)), (size + 9.0, rng.uniform(0, size)), (rng.uniform(0, size), -9.0)]
        )
        streets.line(road(rng, tuple(place), tuple(end), 0.04), 0.85)
    tries = [
        road(rng, (rng.uniform(0.05, 0.5) * size, -9.0), (rng.uniform(0.5, 0.95) * size, size + 9.0), 0.05)
        for _ in range(12)
    ]
    clearance = [float(np.min(np.hypot(*(course - places[0]).T))) for course in tries]
    highways.line(tries[int(np.argmax(clearance))], 1.8)
