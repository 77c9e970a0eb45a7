"""Small made scenes as files: given arrays become GeoTIFF or JPEG 2000 files, and a `SceneItem` that points to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from catalogs.bands import BANDS
from catalogs.item import BandAsset, SceneItem

WHEN = datetime(2023, 8, 10, 10, 0, 31, tzinfo=UTC)
ORIGIN = (499980.0, 5100000.0)


def write_raster(
    path: Path,
    pixels: np.ndarray,
    *,
    resolution: float = 10.0,
    origin: tuple[float, float] = ORIGIN,
    crs: str | None = "EPSG:32633",
    nodata: float | None = 0,
    driver: str = "GTiff",
    tags: Mapping[str, str] | None = None,
    **options: Any,
) -> Path:
    """Write (rows, cols) or (bands, rows, cols) pixels; JPEG 2000 (`driver="JP2OpenJPEG"`) is written without loss."""
    stack = pixels[None] if pixels.ndim == 2 else pixels
    if driver == "JP2OpenJPEG":
        options = {"QUALITY": "100", "REVERSIBLE": "YES"} | options
    profile: dict[str, Any] = {
        "driver": driver,
        "count": stack.shape[0],
        "height": stack.shape[1],
        "width": stack.shape[2],
        "dtype": stack.dtype.name,
        "nodata": nodata,
        "crs": crs,
        "transform": Affine(resolution, 0.0, origin[0], 0.0, -resolution, origin[1]),
    }
    with rasterio.open(path, "w", **profile, **options) as dataset:
        dataset.write(stack)
        if tags:
            dataset.update_tags(**tags)
    return path


def made_item(folder: Path, bands: Mapping[str, np.ndarray], **changes: Any) -> SceneItem:
    """Write a scene and return its item.

    folder: where to write, made if missing. bands: ESA name -> uint16 (rows, cols); the largest array has pixels of
    `resolution` metres, the others correspondingly coarser ones. Keywords: `scl` uint8 (rows, cols), `resolution` (10),
    `origin` (x, y), `crs`, `driver`, `suffix`, `file_nodata` (0; None for none in the file), `item_nodata`,
    `scale` (1e-4), `offset` (0), `id`, `when`, and any other field of SceneItem.
    """
    folder.mkdir(parents=True, exist_ok=True)
    resolution = changes.pop("resolution", 10.0)
    driver = changes.pop("driver", "GTiff")
    suffix = changes.pop("suffix", ".jp2" if driver == "JP2OpenJPEG" else ".tif")
    nodata = changes.pop("file_nodata", 0)
    radiometry = {"scale": changes.pop("scale", 1e-4), "offset": changes.pop("offset", 0.0)}
    item_nodata = changes.pop("item_nodata", None)
    where = {"crs": changes.pop("crs", "EPSG:32633"), "origin": changes.pop("origin", ORIGIN), "driver": driver}
    scl = changes.pop("scl", None)
    rows = max(pixels.shape[0] for pixels in bands.values())

    assets = {}
    for name in (name for name in BANDS if name in bands):
        path = folder / f"{name}{suffix}"
        pixels = bands[name]
        write_raster(path, pixels, resolution=resolution * rows / pixels.shape[0], nodata=nodata, **where)
        key = BANDS[name].common_name
        assets[name] = BandAsset(name, key, str(path), nodata=item_nodata, **radiometry)
    if scl is not None:
        path = folder / f"SCL{suffix}"
        write_raster(path, scl.astype(np.uint8), resolution=resolution * rows / scl.shape[0], nodata=0, **where)
        changes["scl"] = BandAsset("SCL", "scl", str(path), scale=1.0, nodata=0)
    fields = {"id": folder.name, "datetime": changes.pop("when", WHEN), "origin": str(folder)} | changes
    return SceneItem(bands=assets, **fields)


def made_item_of(folder: Path, names: Sequence[str], sun: tuple[float, float] | None = None) -> SceneItem:
    """The item of a folder of real data: bands in files called `B02.tif`, `SCL.tif`; `sun` is azimuth, elevation."""
    day = datetime.strptime(folder.name.split("_")[2], "%Y%m%d").replace(tzinfo=UTC)
    azimuth, elevation = sun or (None, None)
    return SceneItem(
        folder.name,
        day,
        {name: BandAsset(name, BANDS[name].common_name, str(folder / f"{name}.tif")) for name in names},
        scl=BandAsset("SCL", "scl", str(folder / "SCL.tif"), scale=1.0),
        sun_azimuth=azimuth,
        sun_elevation=elevation,
    )
