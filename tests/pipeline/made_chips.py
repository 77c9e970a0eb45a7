"""Small patches of SEN12MS-CR and STAC items as files, their places, and a cloud detector that needs no model."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from scipy.spatial import KDTree
from shapely.geometry import box

from catalogs.bands import BANDS
from catalogs.places import DatedImage, Found, Place, Window
from pipeline import images
from pipeline.classes import CLEAR, THICK, ClassArray
from pipeline.images import ChipImage
from pipeline.scene import Scene, open_scene

NAMES = tuple(BANDS)
SIZE = 64
LEVELS = np.array([1300, 1100, 1000, 900, 1200, 2200, 2600, 2500, 2700, 900, 20, 2000, 1200], np.float32)
"""Clear land at the top of the atmosphere."""


def land(seed: int = 0, size: int = SIZE, *, fields: int = 0) -> np.ndarray:
    """uint16 (13, size, size): fields with edges, the same for the same `fields`, and noise that differs by `seed`."""
    layout = np.random.default_rng(fields)
    points = layout.uniform(0, size, (max(size * size // 150, 3), 2))
    pixels = np.stack(np.mgrid[:size, :size], axis=-1)
    nearest = KDTree(points).query(pixels)[1]
    bright = layout.uniform(0.7, 1.3, len(points))[nearest]
    noise = np.random.default_rng(seed).normal(1, 0.01, (13, size, size))
    return (LEVELS[:, None, None] * bright * noise).astype(np.uint16)


def clouded(image: np.ndarray, rows: slice, cols: slice = slice(None)) -> np.ndarray:
    """The same with a thick cloud."""
    changed = image.copy()
    changed[:, rows, cols] = 7000
    return changed


def write_patch(path: Path, values: np.ndarray) -> str:
    """A raster on 10 m UTM; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, rows, cols = values.shape
    profile = {"driver": "GTiff", "count": count, "height": rows, "width": cols, "dtype": values.dtype}
    with rasterio.open(path, "w", **profile, crs="EPSG:32633", transform=Affine(10, 0, 5e5, 0, -10, 5e6)) as target:
        target.write(values)
    return str(path)


def write_item(folder: Path, bands: Mapping[str, np.ndarray], scl: np.ndarray | None, **stated: object) -> str:
    """An L2A STAC item with local files; `stated`: day (ISO), offset, applied. Its path."""
    folder.mkdir(parents=True, exist_ok=True)
    edge = max(pixels.shape[0] for pixels in bands.values())
    assets = {}
    for name, pixels in {**bands, **({} if scl is None else {"SCL": scl})}.items():
        pixel = 10 * edge / pixels.shape[0]
        profile = {"driver": "GTiff", "count": 1, "height": len(pixels), "width": pixels.shape[1]}
        where = {"crs": "EPSG:32633", "transform": Affine(pixel, 0, 5e5, 0, -pixel, 5e6), "dtype": pixels.dtype}
        with rasterio.open(folder / f"{name}.tif", "w", **profile, **where, nodata=0) as target:
            target.write(pixels, 1)
        key = "scl" if name == "SCL" else BANDS[name].common_name
        assets[key] = {"href": f"./{name}.tif", "raster:bands": [{"offset": stated.get("offset", 0.0), "nodata": 0}]}
    properties = {
        "datetime": f"{stated.get('day', '2023-08-15')}T10:00:00Z",
        "platform": "sentinel-2a",
        "grid:code": "MGRS-33TWL",
        "earthsearch:boa_offset_applied": stated.get("applied", True),
    }
    item = {
        "type": "Feature", "stac_version": "1.0.0", "stac_extensions": [], "id": f"{folder.name}_L2A", "links": [],
        "geometry": {"type": "Point", "coordinates": [15, 45]}, "bbox": [15, 45, 15, 45],
        "properties": properties, "assets": assets,
    }  # fmt: skip
    (folder / "item.json").write_text(json.dumps(item))
    return str(folder / "item.json")


def place(
    name: str,
    dated: Mapping[str | None, str] | list[tuple[str | None, str]],
    layout: str = "sen12mscr-ts",
    window: Window | None = None,
    **changes: object,
) -> Place:
    """A place of (ISO day, href); for `sen12mscr` of (side, href)."""
    pairs = list(dated.items()) if isinstance(dated, Mapping) else dated
    if layout == "sen12mscr":
        taken = tuple(DatedImage(href, None, side) for side, href in pairs)  # type: ignore[arg-type]
    else:
        taken = tuple(DatedImage(href, datetime.fromisoformat(str(day)).replace(tzinfo=UTC)) for day, href in pairs)
    west = zlib.crc32(name.encode()) % 3400 / 10 - 170  # every place on ground of its own
    fields = {"group": name.split("_p")[0], "split": "train", "crs": "EPSG:32633"} | changes
    outline = box(west, 45, west + 0.03, 45.03)
    return Place(name, images=taken, layout=layout, window=window, geometry=outline, **fields)  # type: ignore[arg-type]


def found(*places: Place) -> Found:
    return Found(tuple(places), (), 0, "/root", places[0].layout)


def chip_image(values: np.ndarray, classes: np.ndarray | None = None, **changes: object) -> ChipImage:
    """An image in memory; clear where nothing is said."""
    given = np.full(values.shape[1:], images.CLEAR, np.uint8) if classes is None else classes
    fields = {"bands": NAMES, "mask": "made", "level": "L1C", "metres": 10.0} | changes
    return ChipImage("made", values, given, **fields)  # type: ignore[arg-type]


def bright_is_cloud(scene: Scene, *_: object, **__: object) -> ClassArray:
    """In the place of `pipeline.detectors.s2cloudless`: blue above 0.4 is cloud."""
    with open_scene(scene.item, ["B02"]) as source:
        blue = source.read("B02", *(slice(0, length) for length in source.shape))
    classes = np.where(blue > 4000, THICK, CLEAR).astype(np.uint8)
    return ClassArray(classes, scene.geobox, scene.geobox, "s2cloudless", own_shadows=False)


@pytest.fixture
def simple_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """`bright_is_cloud` wherever s2cloudless would be asked."""
    monkeypatch.setattr(images, "s2cloudless", bright_is_cloud)
    monkeypatch.setattr("pipeline.pairs.importlib.util.find_spec", lambda _: True)
