"""Small products for cubes: given arrays are published as a run would publish them, without a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from catalogs.bands import BANDS
from catalogs.item import BandAsset, SceneItem
from pipeline.cog import CogSink
from pipeline.layers import Layer, cloudmask_layer, confidence_layer, provenance_layer
from pipeline.preview import PREVIEW, THUMBNAIL
from pipeline.product import ModelRecord, ProductRecord
from pipeline.publish import publish
from pipeline.stac_item import build_item
from pipeline.zarr_store import ZarrSink

ORIGIN = (499980.0, 5100000.0)
DAY = datetime(2023, 8, 10, 10, 0, 31, 24000, tzinfo=UTC)
NODATA = {"provenance": 0, "confidence": 255, "cloudmask": 0, "SCL": 0, "source": 0}


def made_pixels(seed: int, shape: tuple[int, int] = (36, 30), *, confidence: bool = True) -> dict[str, np.ndarray]:
    """Two bands of 10 m, one of 20 m, one of 60 m, provenance of all classes in patches, cloud mask, SCL, confidence."""
    rng = np.random.default_rng(seed)

    def patches(high: int, factor: int = 1) -> np.ndarray:
        cells = rng.integers(0, high, (-(-shape[0] // 6), -(-shape[1] // 6)), np.uint8)
        grown = np.kron(cells, np.ones((6, 6), np.uint8))[: shape[0], : shape[1]]
        return np.ascontiguousarray(grown[::factor, ::factor])

    made = {
        name: rng.integers(0, 65536, (shape[0] // factor, shape[1] // factor), np.uint16)
        for name, factor in {"B02": 1, "B03": 1, "B05": 2, "B01": 6}.items()
    }
    made |= {"provenance": patches(6), "cloudmask": patches(6), "SCL": patches(12, 2)}
    if confidence:
        made["confidence"] = rng.integers(0, 101, shape, np.uint8)
    return made


def made_product(
    output: Path,
    source: str,
    pixels: Mapping[str, np.ndarray],
    *,
    when: datetime = DAY,
    origin: tuple[float, float] = ORIGIN,
    resolution: float = 10.0,
    crs: str = "EPSG:32633",
    version: int = 0,
    **other: Any,
) -> Path:
    """Publish a product and return its folder.

    version: of the same source; later ones are made later and name the one before as their predecessor. other: `format`, `nodata`,
    `scale`, `offset`, `level`, `software`.
    """
    rows = max(array.shape[0] for array in pixels.values())
    nodata, format_ = other.pop("nodata", 0), other.pop("format", "cog")
    encoding = {"scale": other.pop("scale", 1e-4), "offset": other.pop("offset", 0.0)}
    layers = []
    for name, array in pixels.items():
        size = resolution * round(rows / array.shape[0])
        grid = GeoBox(array.shape, Affine(size, 0, origin[0], 0, -size, origin[1]), crs)
        ours = {"provenance": provenance_layer, "confidence": confidence_layer, "cloudmask": cloudmask_layer}
        kind = "uint16" if name in BANDS else "uint8"
        key = BANDS[name].common_name if name in BANDS else name.lower()
        layers.append(
            ours[name](grid) if name in ours else Layer(name, key, grid, kind, nodata if name in BANDS else 0)
        )
    bands = {n: BandAsset(n, BANDS[n].common_name, f"/x/{n}.tif", **encoding) for n in BANDS if n in pixels}
    stac = {"type": "Feature", "stac_version": "1.0.0", "id": source, "properties": {}, "assets": {}}
    item = SceneItem(source, when, bands, level=other.pop("level", "L2A"), stac=stac)
    key = hashlib.sha256(f"{source} {version}".encode()).hexdigest()
    name = f"{source}_{key[:10]}"
    earlier = hashlib.sha256(f"{source} {version - 1}".encode()).hexdigest()[:10]
    build = output / ".staging" / name
    sink = ZarrSink(build, name, layers) if format_ == "zarr" else CogSink(build, layers)
    for layer in layers:
        sink.write(layer.name, 0, pixels[layer.name])
    sink.close()
    for picture in (PREVIEW, THUMBNAIL):
        (build / picture).write_bytes(b"png")
    record = ProductRecord(
        id=name, source=item, layers=tuple(layers), format=format_, key=key, settings={},
        model=ModelRecord("identity", "identity"), mask_method="scl", clouds={}, provenance={},
        predecessor=f"{source}_{earlier}" if version else None,
        created=datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=version),
        **({"software": other.pop("software")} if "software" in other else {}),
    )  # fmt: skip
    assert not other
    return publish(build, output, build_item(record))


def opened(cube: Path) -> dict[str, xr.DataArray]:
    """Every array of pixels, as plain `xr.open_zarr` gives it, in memory."""
    found = {}
    for group in sorted(path.name for path in cube.iterdir() if path.is_dir()):
        with xr.open_zarr(cube, group=group) as data:
            found |= {f"{group}/{name}": array.load() for name, array in data.data_vars.items()}
    return found


def files_of(cube: Path) -> dict[str, bytes]:
    """Every file of a cube and its content."""
    return {path.relative_to(cube).as_posix(): path.read_bytes() for path in sorted(cube.rglob("*")) if path.is_file()}
