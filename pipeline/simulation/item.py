"""STAC documents of a simulated area, in the form in which Earth Search v1 served Sentinel-2 L2A in 2023."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from catalogs.bands import BANDS
from pipeline.simulation.scl import CIRRUS, CLOUD_HIGH, CLOUD_MEDIUM, NODATA, SHADOW, UNCLASSIFIED, VEGETATION, WATER
from pipeline.simulation.spectra import SIMULATED_BANDS
from pipeline.simulation.sun import Sun

COLLECTION = "sentinel-2-l2a"
TILE = "33UWP"
_EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("eo/v1.1.0", "grid/v1.0.0", "mgrs/v1.0.0", "processing/v1.1.0", "projection/v1.1.0", "raster/v1.1.0", "view/v1.0.0")
]  # fmt: skip
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_SHARES = {
    "s2:high_proba_clouds_percentage": CLOUD_HIGH,
    "s2:medium_proba_clouds_percentage": CLOUD_MEDIUM,
    "s2:thin_cirrus_percentage": CIRRUS,
    "s2:cloud_shadow_percentage": SHADOW,
    "s2:vegetation_percentage": VEGETATION,
    "s2:water_percentage": WATER,
    "s2:unclassified_percentage": UNCLASSIFIED,
}


def item_id(platform: str, when: datetime) -> str:
    """Earth Search's id.

    >>> item_id("sentinel-2a", datetime(2023, 7, 8))
    'S2A_33UWP_20230708_0_L2A'
    """
    return f"S{platform[-2:].upper()}_{TILE}_{when:%Y%m%d}_0_L2A"


def make_item(
    identifier: str,
    platform: str,
    when: datetime,
    sun: Sun,
    classes: np.ndarray,
    footprint: BaseGeometry,
    origin: tuple[int, int],
) -> dict[str, Any]:
    """The item of one date.

    `classes` is the SCL, uint8 (rows, cols) at 20 m; `footprint` is in EPSG:4326; `origin` is the x and y of the upper
    left corner, metres in EPSG:32633. The pixels hold reflectance * 10000 with the offset applied already, and `offset` is
    stated all the same, as the real items do.
    """
    seen = max(1, int((classes != NODATA).sum()))
    shares = {name: round(100 * int((classes == value).sum()) / seen, 6) for name, value in _SHARES.items()}
    cloud = sum(shares[name] for name in tuple(_SHARES)[:3])
    stamp = when.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    assets = {BANDS[name].common_name: _band_asset(name, classes.shape, origin) for name in SIMULATED_BANDS}
    assets["scl"] = {
        "href": "./SCL.tif",
        "type": _COG,
        "title": "Scene classification map (SCL)",
        **_grid(classes.shape, 20, origin),
        "raster:bands": [{"nodata": 0, "data_type": "uint8", "spatial_resolution": 20}],
        "roles": ["data", "reflectance"],
    }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": _EXTENSIONS,
        "id": identifier,
        "collection": COLLECTION,
        "geometry": mapping(footprint),
        "bbox": list(footprint.bounds),
        "properties": {
            "datetime": stamp,
            "created": stamp,
            "updated": stamp,
            "description": "Simulated: no satellite took this picture",
            "platform": platform,
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "eo:cloud_cover": round(cloud, 6),
            "proj:epsg": 32633,
            "mgrs:utm_zone": 33,
            "mgrs:latitude_band": TILE[2],
            "mgrs:grid_square": TILE[3:],
            "grid:code": f"MGRS-{TILE}",
            "view:sun_azimuth": sun.azimuth,
            "view:sun_elevation": sun.elevation,
            **shares,
            "s2:nodata_pixel_percentage": round(100 * int((classes == NODATA).sum()) / classes.size, 6),
            "s2:product_type": "S2MSI2A",
            "s2:processing_baseline": "05.09",
            "s2:sequence": "0",
            "earthsearch:boa_offset_applied": True,
            "processing:software": {"declouder simulation": "1"},
        },
        "links": [
            {"rel": "root", "href": "../../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../collection.json", "type": "application/json"},
            {"rel": "collection", "href": "../collection.json", "type": "application/json"},
        ],
        "assets": assets,
    }


def make_collection(items: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The collection that holds `items` (id -> item); at least one."""
    boxes = np.array([item["bbox"] for item in items.values()])
    times = sorted(item["properties"]["datetime"] for item in items.values())
    extent = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": COLLECTION,
        "title": "Simulated Sentinel-2 Level 2A",
        "description": "Simulated pictures in the form of Sentinel-2 L2A, for demonstration and tests",
        "license": "CC0-1.0",
        "extent": {"spatial": {"bbox": [extent]}, "temporal": {"interval": [[times[0], times[-1]]]}},
        "links": [
            {"rel": "root", "href": "../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../catalog.json", "type": "application/json"},
            *({"rel": "item", "href": f"./{name}/{name}.json", "type": "application/json"} for name in items),
        ],
    }


def make_catalog() -> dict[str, Any]:
    """The root of the catalogue."""
    return {
        "type": "Catalog",
        "stac_version": "1.0.0",
        "id": "simulated",
        "description": "A simulated area on several dates, some of them cloudy",
        "links": [
            {"rel": "root", "href": "./catalog.json", "type": "application/json"},
            {"rel": "child", "href": f"./{COLLECTION}/collection.json", "type": "application/json"},
        ],
    }


def _grid(scl_shape: tuple[int, ...], gsd: int, origin: tuple[int, int]) -> dict[str, Any]:
    return {
        "proj:shape": [length * 20 // gsd for length in scl_shape],
        "proj:transform": [gsd, 0, origin[0], 0, -gsd, origin[1]],
    }


def _band_asset(name: str, scl_shape: tuple[int, ...], origin: tuple[int, int]) -> dict[str, Any]:
    band = BANDS[name]
    return {
        "href": f"./{name}.tif",
        "type": _COG,
        "title": f"{band.common_name} ({name}) - {band.gsd}m",
        "eo:bands": [{"name": band.common_name, "center_wavelength": band.wavelength}],
        "gsd": band.gsd,
        **_grid(scl_shape, band.gsd, origin),
        "raster:bands": [
            {
                "nodata": 0,
                "data_type": "uint16",
                "bits_per_sample": 15,
                "spatial_resolution": band.gsd,
                "scale": 0.0001,
                "offset": -0.1,
            }
        ],
        "roles": ["data", "reflectance"],
    }
