"""Headers of raster files (GeoTIFF, JPEG 2000), and a `SceneItem` made of one or several of them.

Radiometry: a file's own scale and offset are honoured where they are set; otherwise reflectance = DN * 0.0001, which
is what a plain copy of Sentinel-2 data before baseline 04.00, or one harmonised to it, holds. For files as ESA makes
them from 04.00 on give the SAFE folder, whose metadata state the offset.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shapely
from shapely.geometry import Polygon, mapping
from shapely.geometry.base import BaseGeometry

from catalogs.bands import BANDS
from catalogs.errors import InvalidItem
from catalogs.footprint import split_antimeridian
from catalogs.hrefs import is_remote
from catalogs.item import BandAsset, SceneItem
from catalogs.local import require_regular, too_many_pixels
from catalogs.names import common_id, date_in, tile_in
from catalogs.radiometry import DEFAULT_SCALE

if TYPE_CHECKING:
    from rasterio.crs import CRS

UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""Datetime of files that tell none; the item then has the property `declouder:datetime_unknown: true`."""
DRIVERS = ("GTiff", "JP2OpenJPEG", "HFA", "ENVI", "PNG")
"""GDAL's formats that hold their own pixels. A VRT or a WMS description called `.tif` reads whatever it names."""
_PIXEL_METRES = (0.01, 100_000.0)
_METRES_PER_DEGREE = 111_320.0
_MEDIA = {"GTiff": "image/tiff; application=geotiff", "JP2OpenJPEG": "image/jp2"}


@dataclass(frozen=True)
class Header:
    """What the header of one raster file says."""

    path: str
    """Absolute path, or URL."""
    driver: str
    """GDAL's name of the format; the file's extension may lie."""
    crs: str
    """CRS as WKT, never empty."""
    transform: tuple[float, ...]
    """Affine coefficients a, b, c, d, e, f: x = a * col + b * row + c, y = d * col + e * row + f."""
    shape: tuple[int, int]
    """Rows, cols."""
    descriptions: tuple[str, ...]
    """One a band, empty where there is none."""
    scales: tuple[float, ...]
    """One a band, 1.0 where there is none."""
    offsets: tuple[float, ...]
    """One a band, 0.0 where there is none."""
    tags: Mapping[str, str]

    @property
    def stem(self) -> str:
        """File name without folder and extension."""
        return Path(self.path).stem

    @property
    def pixel(self) -> float:
        """Larger edge of a pixel, units of the CRS."""
        a, b, _, d, e, _ = self.transform
        return max(abs(a), abs(b), abs(d), abs(e))

    def corners(self) -> list[tuple[float, float]]:
        """Outer corners in the CRS: upper left, upper right, lower right, lower left of the array."""
        rows, cols = self.shape
        a, b, c, d, e, f = self.transform
        return [(a * x + b * y + c, d * x + e * y + f) for x, y in ((0, 0), (cols, 0), (cols, rows), (0, rows))]

    def footprint(self) -> BaseGeometry:
        """Outline of the grid in EPSG:4326, 20 points an edge; raises InvalidItem where CRS and grid do not fit."""
        from pyproj import Transformer
        from pyproj.exceptions import ProjError

        outline = Polygon(self.corners())
        outline = outline.segmentize(max(outline.length / 80, 1e-9))
        try:
            to_lonlat = Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)
            lon, lat = to_lonlat.transform(*outline.exterior.xy, errcheck=True)
            geometry = split_antimeridian(Polygon(list(zip(lon, lat, strict=True))))
        except (ProjError, ValueError, shapely.errors.ShapelyError) as error:
            raise InvalidItem(f"{self.path}: its grid does not fit its CRS: {error}") from None
        _, south, _, north = geometry.bounds
        if geometry.is_empty or south < -90.001 or north > 90.001:
            raise InvalidItem(f"{self.path}: its grid lies outside the Earth: is the CRS wrong?")
        return shapely.set_precision(geometry, 1e-7)


def read_header(path: str) -> Header:
    """Header of the raster at `path`; raises InvalidItem: missing, unreadable, another format, no CRS, a grid that is none."""
    from rasterio.env import ensure_env_with_credentials
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
    from rasterio.io import DatasetReader

    if not is_remote(path):
        require_regular(path)
        if not Path(path).exists():
            raise InvalidItem(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # Not rasterio.open, which knows one driver or all of them.
            with ensure_env_with_credentials(DatasetReader)(path, driver=list(DRIVERS)) as file:
                crs, known = file.crs.to_wkt() if file.crs else "", file.crs
                header = Header(
                    path, file.driver, crs, tuple(file.transform)[:6], file.shape,
                    tuple(text or "" for text in file.descriptions), tuple(file.scales), tuple(file.offsets), file.tags(),
                )  # fmt: skip
    except RasterioIOError as error:
        raise InvalidItem(
            f"{path}: cannot be read as a raster: {' '.join(str(error).split())}: only GeoTIFF and JPEG 2000 are (or HFA, ENVI, PNG)"
        ) from None
    if not header.descriptions:
        raise InvalidItem(f"{path}: holds no raster band")
    if header.transform == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0):
        raise InvalidItem(f"{path}: is not georeferenced: set its grid with gdal_edit.py -a_ullr")
    if not header.crs:
        raise InvalidItem(f"{path}: has no CRS: set it with gdal_edit.py -a_srs")
    _check_grid(header, known)
    return header


def _check_grid(header: Header, crs: CRS) -> None:
    """Raise InvalidItem for a grid on which nothing can be placed: not finite, flat, or of absurd pixels."""
    from rasterio.errors import CRSError

    if said := too_many_pixels(header.shape):
        raise InvalidItem(f"{header.path}: {said}")
    a, b, _, d, e, _ = header.transform
    if not all(map(math.isfinite, header.transform)) or a * e - b * d == 0:
        raise InvalidItem(f"{header.path}: its grid {header.transform} is none: set it with gdal_edit.py -a_ullr")
    try:
        metres = _METRES_PER_DEGREE if crs.is_geographic else float(crs.linear_units_factor[1])
    except CRSError:
        metres = 1.0
    least, most = _PIXEL_METRES
    edges = [math.hypot(a, d) * metres, math.hypot(b, e) * metres]
    if not (least <= min(edges) and max(edges) <= most):
        raise InvalidItem(
            f"{header.path}: pixels of {edges[0]:.3g} x {edges[1]:.3g} m, expected {least} m to {most / 1000:.0f} km: "
            "is its grid or its CRS wrong? set them with gdal_edit.py -a_ullr, -a_srs"
        )


def scale_offset(header: Header, index: int) -> tuple[float, float]:
    """Scale and offset of band `index` (from 1): the file's own where they are set, else 0.0001 and 0."""
    scale, offset = header.scales[index - 1], header.offsets[index - 1]
    if (scale, offset) == (1.0, 0.0):
        return DEFAULT_SCALE, 0.0
    if not (0 < scale < 1 and -1 <= offset <= 1):
        raise InvalidItem(
            f"{header.path}: band {index}: scale {scale} and offset {offset} give no reflectance; expected 0.0001 and 0 or -0.1"
        )
    return scale, offset


def scene_of(bands: Mapping[str, tuple[Header, int]], scl: tuple[Header, int] | None) -> SceneItem:
    """One scene of local rasters: ESA's band name -> (header, band index), and the scene classification if any.

    Raises InvalidItem where the files cannot be of one scene: different tile or date in their names, CRS, or outline.
    """
    ordered = {name: bands[name] for name in BANDS if name in bands}
    headers = list(dict.fromkeys(header.path for header, _ in ordered.values()))
    by_path = {header.path: header for header, _ in ordered.values()}
    files = [by_path[path] for path in headers]
    _same_scene([*files, *([scl[0]] if scl else [])])
    moment = _time_of(files)
    geometry = files[0].footprint()
    stems = sorted(file.stem for file in files)
    identifier = common_id(stems, Path(files[0].path).parent.name)
    assets = {
        name: BandAsset(name, name, header.path, index, *scale_offset(header, index))
        for name, (header, index) in ordered.items()
    }
    scl_asset = BandAsset("SCL", "SCL", scl[0].path, scl[1], 1.0, 0.0) if scl else None
    properties: dict[str, Any] = {} if moment else {"declouder:datetime_unknown": True}
    tile = tile_in(stems[0]) or tile_in(identifier)
    if tile:
        properties["grid:code"] = f"MGRS-{tile}"
    level = "L2A" if scl else "L1C" if "B10" in assets else level_in(files[0].path)
    return SceneItem(
        id=identifier,
        datetime=moment or UNKNOWN_TIME,
        bands=assets,
        scl=scl_asset,
        level=level,  # type: ignore[arg-type]
        tile=tile,
        geometry=geometry,
        origin=files[0].path if len(files) == 1 else os.path.dirname(files[0].path),  # noqa: PTH120
        stac=made_up_item(
            identifier, moment or UNKNOWN_TIME, geometry, properties, ordered | ({"SCL": scl} if scl else {}), assets
        ),
    )


def made_up_item(
    identifier: str,
    moment: datetime,
    geometry: BaseGeometry,
    properties: Mapping[str, Any],
    rasters: Mapping[str, tuple[Header, int]],
    assets: Mapping[str, BandAsset],
) -> dict[str, Any]:
    """A valid STAC 1.1 item for files that have none: an asset a file, its bands in the file's order.

    The asset of a file of one band is keyed by the band's name, a file of several bands is the asset `image`.
    """
    by_path: dict[str, dict[int, str]] = {}
    headers: dict[str, Header] = {}
    for name, (header, index) in rasters.items():
        by_path.setdefault(header.path, {})[index] = name
        headers[header.path] = header
    described: dict[str, Any] = {}
    for path, names in by_path.items():
        count = len(headers[path].descriptions)
        bands = [{"name": names.get(index, f"band {index}")} for index in range(1, count + 1)]
        for index, name in names.items():
            if name in assets:
                bands[index - 1] |= {"raster:scale": assets[name].scale, "raster:offset": assets[name].offset}  # type: ignore[dict-item]
        key = names[1] if count == 1 else "image"
        while key in described:
            key += "_"
        described[key] = {
            "href": path,
            "type": _MEDIA.get(headers[path].driver, "application/octet-stream"),
            "roles": ["data"],
            "bands": bands,
        }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": identifier,
        "geometry": mapping(geometry),
        "bbox": list(geometry.bounds),
        "properties": {"datetime": moment.isoformat().replace("+00:00", "Z")} | dict(properties),
        "links": [],
        "assets": described,
    }


def level_in(path: str) -> str | None:
    """Processing level that a path names (`MSIL1C`, `_L2A_`), the nearest folder first; None where it names none."""
    for part in reversed(Path(path).parts):
        for level in ("L1C", "L2A"):
            if level in part.upper().replace("MSI", "_").replace("-", "_").split("_"):
                return level
    return None


def _time_of(files: Sequence[Header]) -> datetime | None:
    """When the files say they were taken: file name, netCDF time, TIFF tag, folder name, in this order.

    The TIFF tag comes late, for it is the time of writing in most files.
    """
    first = files[0]
    tag = first.tags.get("TIFFTAG_DATETIME", "").replace(":", "-", 2).replace(" ", "T")
    folder = Path(first.path).parent.name
    return date_in(first.stem) or _netcdf_time(first.tags) or date_in(tag) or date_in(folder)


def _netcdf_time(tags: Mapping[str, str]) -> datetime | None:
    """The one time of a file converted from netCDF: `t#units` "days since 2019-04-11" and its value."""
    for name in ("t", "time"):
        unit, _, start = tags.get(f"{name}#units", "").partition(" since ")
        value = tags.get(f"NETCDF_DIM_{name}", "").strip("{}") or tags.get(f"NETCDF_DIM_{name}_VALUES", "")
        begin = date_in(start.strip().replace(" ", "T"))
        try:
            if begin and unit in ("days", "hours", "minutes", "seconds"):
                return begin + timedelta(**{unit: float(value)})
        except (ValueError, OverflowError):
            continue
    return None


def _same_scene(files: Sequence[Header]) -> None:
    first = files[0]
    for other in files[1:]:
        pair = f"{first.path} and {Path(other.path).name}"
        for what, find in (("tile", tile_in), ("date", date_in)):
            mine, theirs = find(first.stem), find(other.stem)
            if mine and theirs and mine != theirs:
                names = [f"{one:%Y-%m-%d}" if isinstance(one, datetime) else one for one in (mine, theirs)]
                if names[0] == names[1]:
                    names = [f"{one:%Y-%m-%d %H:%M:%S}" for one in (mine, theirs)]
                raise InvalidItem(
                    f"bands of different scenes: {pair} name {what}s {names[0]} and {names[1]}: give one scene's files"
                )
        if first.crs != other.crs and not _same_crs(first.crs, other.crs):
            raise InvalidItem(
                f"bands of different scenes: {pair} have different CRSs: give one scene's files, or reproject one"
            )
        extents = [Polygon(header.corners()).bounds for header in (first, other)]
        tolerance = max(first.pixel, other.pixel)
        if any(abs(a - b) > tolerance for a, b in zip(*extents, strict=True)):
            raise InvalidItem(
                f"bands of different scenes: {pair} cover {extents[0]} and {extents[1]}: cut them to one extent"
            )


def _same_crs(first: str, second: str) -> bool:
    from rasterio.crs import CRS

    return bool(CRS.from_wkt(first) == CRS.from_wkt(second))
