"""A small area on several dates, simulated: scenes with clouds as a static STAC catalogue, and the truth below them.

The same ground is lit by the sun of each date, changes a little with the season, gets that date's gain and haze, and is
covered by that date's weather. Where no cloud and no shadow is, scene and truth agree to the last bit.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from shapely.geometry.base import BaseGeometry

from catalogs.bands import BANDS
from pipeline.errors import InvalidSettings, WriteFailed
from pipeline.simulation.item import COLLECTION, item_id, make_catalog, make_collection, make_item
from pipeline.simulation.landscape import PIXEL, Landscape, make_landscape
from pipeline.simulation.scl import NODATA, average, classify
from pipeline.simulation.spectra import SIMULATED_BANDS
from pipeline.simulation.sun import Sun, sun_at
from pipeline.simulation.weather import Weather, make_clouds

CRS = "EPSG:32633"
ORIGIN = (540000, 5352000)
"""Upper left corner, metres; a multiple of 60, so that the grids of 10, 20 and 60 m share it."""
_FIRST = datetime(2023, 7, 8, 9, 58, 11, 24000, tzinfo=UTC)
_EDGE = math.radians(14)  # how far the edge of the swath leans from the north
_CLOUDY_SHARE = 0.05


@dataclass(frozen=True)
class SimulatedDate:
    """One overpass."""

    day: int
    """Days after the first date of the simulation (8 July 2023), at least 0."""
    weather: Weather
    missing: float = 0.0
    """Share of the southern edge that lies outside the swath, 0..0.9."""

    def __post_init__(self) -> None:
        if self.day < 0:
            raise InvalidSettings(f"day {self.day} of a simulated date must not be negative")
        if not 0 <= self.missing <= 0.9:
            raise InvalidSettings(f"missing {self.missing} must be between 0 and 0.9 of the edge")


DATES = (
    SimulatedDate(0, Weather(cumulus=0.004, cell=600, base=1100)),
    SimulatedDate(5, Weather(cumulus=0.27, cell=1500, base=1400)),
    SimulatedDate(10, Weather(cumulus=0.30, cell=2400, base=1200, veil=1.2), missing=0.18),
    SimulatedDate(15, Weather(cumulus=0.10, cell=800, base=1000, veil=2.0)),
    SimulatedDate(20, Weather(cumulus=0.006, cell=700, base=1200)),
)
"""Clear, cumulus, cumulus and veil at the edge of the swath, veil, clear: five days apart, as two satellites pass."""


@dataclass(frozen=True)
class Simulated:
    """What `simulate_area` wrote, and how to ask for it."""

    catalogue: Path
    """`catalog.json` of the static STAC catalogue."""
    truth: Path
    """Folder with `<item-id>/<band>.tif`: each date without clouds, same grids and nodata as the scenes."""
    aoi: str
    """`w,s,e,n`, degrees, inside the area."""
    dates: str
    """`YYYY-MM-DD/YYYY-MM-DD`, all dates."""
    items: tuple[str, ...]
    """Ids of the items, oldest first."""
    cloudy: tuple[str, ...]
    """Those of `items` where cloud and shadow take more than 5 % of the valid pixels."""


def simulate_area(folder: Path, seed: int = 7, size: int = 768, dates: Sequence[SimulatedDate] = DATES) -> Simulated:
    """Write a simulated area of `size` x `size` pixels of 10 m to `folder/stac` and its truth to `folder/truth`.

    The bands are those of an L2A product at 10, 20 and 60 m, COG, uint16, reflectance * 10000, nodata 0, with SCL.
    The same arguments give the same files, bit for bit. Files that are already there are overwritten; the catalogue is
    written last.

    Raises InvalidSettings for a size that is no multiple of 6 or below 96, or for dates that are not in ascending order;
    WriteFailed where the folder cannot be written.
    """
    days = [date.day for date in dates]
    if not days or any(later <= earlier for earlier, later in itertools.pairwise(days)):
        raise InvalidSettings(f"days of the simulated dates {days} must ascend, and there must be at least one")
    if size % 6:
        raise InvalidSettings(f"a simulated area of {size} pixels does not hold whole 60 m pixels: use a multiple of 6")
    landscape = make_landscape(np.random.default_rng([seed, 0]), size)
    catalogue, truth = folder / "stac", folder / "truth"
    items, cloudy = {}, []
    try:
        for date in dates:
            platform = "sentinel-2a" if date.day % 10 == 0 else "sentinel-2b"
            when = _FIRST + timedelta(days=date.day)
            identifier = item_id(platform, when)
            home = catalogue / COLLECTION / identifier
            sun, classes = _write_date(
                landscape, date, when, np.random.default_rng([seed, 1, date.day]), home, truth / identifier
            )
            item = make_item(identifier, platform, when, sun, classes, _footprint(size, date.missing), ORIGIN)
            _write_json(home / f"{identifier}.json", item)
            items[identifier] = item
            hidden = np.isin(classes, (3, 8, 9, 10)).sum() / max(1, (classes != NODATA).sum())
            if hidden > _CLOUDY_SHARE:
                cloudy.append(identifier)
        _write_json(catalogue / COLLECTION / "collection.json", make_collection(items))
        _write_json(catalogue / "catalog.json", make_catalog())
    except OSError as error:
        raise WriteFailed(f"{folder}: the simulated area could not be written: {error}") from error
    return Simulated(
        catalogue=catalogue / "catalog.json",
        truth=truth,
        aoi=",".join(f"{value:.5f}" for value in _inner_box(size)),
        dates=f"{_FIRST + timedelta(days=days[0]):%Y-%m-%d}/{_FIRST + timedelta(days=days[-1]):%Y-%m-%d}",
        items=tuple(items),
        cloudy=tuple(cloudy),
    )


def swath(size: int, missing: float) -> np.ndarray:
    """What the instrument saw, bool (size, size): its edge leans like the orbit and cuts `missing` off the lower edge.

    >>> swath(4, 0.0).all()
    np.True_
    """
    ends = np.array([_edge(row + 0.5, size, missing) for row in range(size)])
    seen: np.ndarray = np.less(np.arange(size) + 0.5, ends[:, None])
    return seen


def _edge(row: float, size: int, missing: float) -> float:
    """Column at which the swath ends, at this row (pixels)."""
    if missing == 0:
        return 2.0 * size
    return size * (1 - missing) + (size - row) * math.tan(_EDGE)


def _write_date(
    landscape: Landscape, date: SimulatedDate, when: datetime, rng: np.random.Generator, home: Path, truth: Path
) -> tuple[Sun, np.ndarray]:
    """Write the scene and the truth of one date; its sun, and its SCL at 20 m."""
    size = len(landscape.water)
    west, south, east, north = _inner_box(size)
    sun = sun_at(when, (west + east) / 2, (south + north) / 2)
    ground = landscape.reflectance(date.day, sun)
    _vary(rng, ground)
    clouds = make_clouds(rng, size, date.weather, sun)
    seen = clouds.cover(ground)
    valid = swath(size, date.missing)
    home.mkdir(parents=True, exist_ok=True)
    truth.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(SIMULATED_BANDS):
        factor = BANDS[name].gsd // PIXEL
        inside = average(valid.astype(np.float32), factor) > 1 - 0.5 / factor**2
        noise = rng.standard_normal(inside.shape, dtype=np.float32)
        _write_raster(
            home / f"{name}.tif", _digital(average(seen[index], factor), noise, inside), BANDS[name].gsd, "COG"
        )
        _write_raster(
            truth / f"{name}.tif", _digital(average(ground[index], factor), noise, inside), BANDS[name].gsd, "GTiff"
        )
    classes = classify(rng, ground, landscape.water, clouds, valid)
    _write_raster(home / "SCL.tif", classes, 20, "COG")
    return sun, classes


def _vary(rng: np.random.Generator, ground: np.ndarray) -> None:
    """Give `ground` (bands, rows, cols) what the atmospheric correction of this date leaves: a gain, and blue haze."""
    gains = (1 + rng.normal(0, 0.018)) * (1 + rng.normal(0, 0.006, len(SIMULATED_BANDS)))
    haze = abs(rng.normal(0, 0.004))
    for index, name in enumerate(SIMULATED_BANDS):
        ground[index] *= np.float32(gains[index])
        ground[index] += np.float32(haze * (BANDS[name].wavelength / 0.49) ** -1.3)


def _digital(reflectance: np.ndarray, noise: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """DN uint16 of float32 reflectance, same shape; 0 outside, at least 1 inside. `noise` is standard normal."""
    counts = reflectance * np.float32(10000)
    counts += noise * (5 + np.float32(0.0035) * counts)
    return np.where(inside, np.rint(counts).clip(1, 20000), NODATA).astype(np.uint16)


def _write_raster(path: Path, values: np.ndarray, gsd: int, driver: str) -> None:
    import rasterio
    from affine import Affine
    from rasterio.errors import RasterioError

    layout: dict[str, object] = {"tiled": True, "blockxsize": 256, "blockysize": 256, "zstd_level": 1, "predictor": 2}
    if driver == "COG":
        resampling = "nearest" if values.dtype == np.uint8 else "average"
        layout = {"blocksize": 512, "level": 1, "predictor": "YES", "overview_resampling": resampling}
    profile = {
        "driver": driver,
        "height": values.shape[0],
        "width": values.shape[1],
        "count": 1,
        "dtype": values.dtype,
        "crs": CRS,
        "transform": Affine(gsd, 0, ORIGIN[0], 0, -gsd, ORIGIN[1]),
        "nodata": 0,
        "compress": "ZSTD",
    }
    try:
        with rasterio.open(path, "w", **profile, **layout) as dataset:
            dataset.write(values, 1)
    except RasterioError as error:
        raise WriteFailed(f"{path}: the simulated raster could not be written: {error}") from error


def _write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _footprint(size: int, missing: float) -> BaseGeometry:
    """Outline of what was seen, EPSG:4326."""
    from rasterio.warp import transform_geom
    from shapely.geometry import Polygon, box, mapping, shape

    left, top, edge = ORIGIN[0], ORIGIN[1], PIXEL * size
    ends = (PIXEL * _edge(row, size, missing) for row in (0, size))
    seen = Polygon(
        [(left, top), *zip((left + end for end in ends), (top, top - edge), strict=True), (left, top - edge)]
    )
    outline = seen.intersection(box(left, top - edge, left + edge, top))
    degrees: BaseGeometry = shape(transform_geom(CRS, "EPSG:4326", mapping(outline), precision=7))
    return degrees


def _inner_box(size: int) -> tuple[float, float, float, float]:
    """West, south, east, north in degrees, well inside the area."""
    from rasterio.warp import transform_bounds

    edge = PIXEL * size
    west, south, east, north = transform_bounds(
        CRS, "EPSG:4326", ORIGIN[0], ORIGIN[1] - edge, ORIGIN[0] + edge, ORIGIN[1]
    )
    width, height = 0.02 * (east - west), 0.02 * (north - south)
    return west + width, south + height, east - width, north - height
