"""`make_dates`: one place on several dates under real clouds, as large as asked for, its cover near a given share."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.windows import Window

from benchmarks.bench.scenes import repeated, write_raster
from catalogs.item import SceneItem
from catalogs.query import Query
from catalogs.search import search
from pipeline.simulation.simulate import simulate_area

CATALOGUE = "stac/earth-search/catalog.json"
BANDS = ("B02", "B03", "B04", "B08")
CLOUDY = (3, 8, 9, 10)
"""Classes of the SCL: cloud shadow, cloud of medium and high probability, cirrus."""
EDGE, STEP = 384, 24
"""Edge of the window that is repeated, and how finely windows are looked through; pixels of the finest band."""
NODATA = 0


@dataclass(frozen=True)
class Dates:
    """The same ground on several dates."""

    scene: Path
    """STAC item of the cloudy date."""
    others: tuple[Path, ...]
    """Items of the other dates."""
    share: float
    """Of the cloudy date under cloud and shadow, before anything is grown."""


@dataclass(frozen=True)
class _Found:
    item: SceneItem
    row: int
    col: int
    share: float


def make_dates(data: Path, work: Path, size: int, share: float) -> Dates:
    """Write all dates of the window whose cover is nearest to `share`, repeated in mirrors to size x size pixels; once below `work`."""
    catalogue, kind = data / CATALOGUE, "real"
    if not catalogue.is_file():
        catalogue, kind = work / "dates" / "simulated" / "stac" / "catalog.json", "simulated"
        if not catalogue.is_file():
            simulate_area(work / "dates" / "simulated")
    folder = work / "dates" / f"{kind}_{size}_{100 * share:.0f}"
    done = folder / "done.json"
    if not done.is_file():
        items = list(search(Query(), str(catalogue)))
        best = _nearest(items, share)
        paths = {item.id: _write(item, best, folder / item.id, size) for item in items}
        scene = str(paths.pop(best.item.id))
        done.write_text(json.dumps([scene, [str(path) for path in paths.values()], best.share]), encoding="utf-8")
    scene, others, found = json.loads(done.read_text(encoding="utf-8"))
    return Dates(Path(scene), tuple(map(Path, others)), found)


def _nearest(items: Sequence[SceneItem], share: float) -> _Found:
    """The window of a date, all of it with data, whose share of cloud is nearest."""
    found = []
    for item in items:
        classes = _classes(item)
        cloudy, empty = _in_windows(np.isin(classes, CLOUDY)), _in_windows(classes == NODATA)
        for row, col in np.argwhere(empty == 0):
            found.append(_Found(item, int(row) * STEP, int(col) * STEP, float(cloudy[row, col]) / EDGE**2))
    return min(found, key=lambda one: abs(one.share - share))


def _in_windows(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """How many pixels of each window are True, from sums over all that lies above and left."""
    sums = np.pad(mask.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    counts: npt.NDArray[np.int64] = (
        sums[EDGE:, EDGE:] - sums[:-EDGE, EDGE:] - sums[EDGE:, :-EDGE] + sums[:-EDGE, :-EDGE]
    )
    return counts[::STEP, ::STEP]


def _write(item: SceneItem, window: _Found, folder: Path, size: int) -> Path:
    """Bands, SCL and item of a date in the window."""
    folder.mkdir(parents=True, exist_ok=True)
    assert item.scl is not None  # noqa: S101 (every item of these catalogues has one)
    at = (slice(window.row, window.row + EDGE), slice(window.col, window.col + EDGE))
    layers: list[tuple[str, str, npt.NDArray]] = [
        (item.bands[name].key, name, _pixels(item.bands[name].href, window)) for name in BANDS
    ]
    layers.append((item.scl.key, "SCL", _classes(item)[at]))
    stac: dict[str, Any] = copy.deepcopy(dict(item.stac))
    assets = {}
    for key, name, pixels in layers:
        path = folder / f"{name}.tif"
        write_raster(path, repeated(pixels, size), size, 10, str(pixels.dtype), NODATA)
        assets[key] = {**stac["assets"][key], "href": str(path)}
        for word in ("proj:shape", "proj:transform", "file:checksum", "file:size"):
            assets[key].pop(word, None)
    path = folder / f"{item.id}.json"
    path.write_text(json.dumps({**stac, "assets": assets, "links": []}), encoding="utf-8")
    return path


def _classes(item: SceneItem) -> npt.NDArray[np.uint8]:
    """The SCL on the grid of the finest band."""
    assert item.scl is not None  # noqa: S101 (every item of these catalogues has one)
    classes = _pixels(item.scl.href)
    with rasterio.open(item.bands[BANDS[0]].href) as finest:
        factor = finest.height // classes.shape[0]
    fine: npt.NDArray[np.uint8] = classes.repeat(factor, 0).repeat(factor, 1)
    return fine


def _pixels(path: str, found: _Found | None = None) -> npt.NDArray:
    window = None if found is None else Window(found.col, found.row, EDGE, EDGE)
    with rasterio.open(path) as file:
        pixels: npt.NDArray = file.read(1, window=window)
    return pixels
