"""`Scene`: one acquisition's bands, lazily, on nested native grids.

Headers decide: grid, type and nodata come from the files, because items copy them from the product they once described
(or simply lie). Only the radiometry (scale, offset) comes from the item. The work grid is the finest native grid of the
chosen bands; every other grid nests in it, `factor` work pixels to a band pixel and axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from catalogs.bands import BANDS
from catalogs.item import BandAsset, SceneItem
from pipeline.errors import InvalidScene, InvalidSettings
from pipeline.reader import BandReader, Header

if TYPE_CHECKING:
    import xarray as xr

FACTORS = (1, 2, 3, 6)
"""Ratios of band pixel to work pixel that occur among 10, 20 and 60 m grids."""
CHUNK = 1024
"""Edge of a Dask chunk, pixels of the band's own grid; a multiple of 256."""
_METRES_PER_DEGREE = 111_320.0


@dataclass(frozen=True)
class SceneBand:
    """One band: where its pixels are and what they mean."""

    name: str
    """ESA's name, `B02`."""
    key: str
    """Asset key in the source item."""
    href: str
    """Path or URL as it is opened."""
    index: int
    """Band number in the file, from 1."""
    geobox: GeoBox
    """Native grid, from the file."""
    factor: int
    """Work pixels to a pixel of this band, per axis: 1, 2, 3 or 6."""
    dtype: str
    """Always `uint16`."""
    nodata: int | None
    """DN without data: the file's own value, else the item's, else None (every pixel is valid)."""
    scale: float
    """reflectance = DN * scale + offset."""
    offset: float
    """Reflectance units, still to be added."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of the band's own grid."""
        rows, cols = self.geobox.shape
        return int(rows), int(cols)


@dataclass(frozen=True, eq=False)
class Scene:
    """Lazy pixels of one acquisition; picklable, safe in threads. Close it, or use it as a context manager."""

    item: SceneItem
    """Where it came from."""
    bands: tuple[SceneBand, ...]
    """In the order of `catalogs.bands.BANDS`, at least one."""
    geobox: GeoBox
    """Work grid: the finest native grid of the bands."""
    reader: BandReader = field(default_factory=BandReader, repr=False)

    @property
    def id(self) -> str:
        """Id of the source item."""
        return self.item.id

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of the work grid."""
        rows, cols = self.geobox.shape
        return int(rows), int(cols)

    @property
    def pixel_size(self) -> tuple[float, float]:
        """(height, width) of a work pixel in metres; on a geographic grid as at the scene's centre."""
        return pixel_metres(self.geobox)

    def band(self, name: str) -> SceneBand:
        """The band called `name`; InvalidSettings where the scene has none of that name."""
        for band in self.bands:
            if band.name == name:
                return band
        raise InvalidSettings(f"{self.id}: no band {name} among {', '.join(band.name for band in self.bands)}")

    def read(self, name: str, rows: slice, cols: slice) -> NDArray[np.uint16]:
        """DN of band `name`, uint16 (rows, cols); the window is in pixels of the BAND's own grid and lies inside it.

        Raises ValueError for a window outside, InvalidScene for damaged data, ReadFailed where a retry may help.
        """
        band = self.band(name)
        return self.reader.read(band.href, band.index, rows, cols)

    def read_decimated(self, name: str, step: int) -> NDArray[np.uint16]:
        """DN of band `name` thinned by `step` pixels of the WORK grid, uint16 (ceil(rows / step), ceil(cols / step)).

        `step` is 1 or a multiple of the band's factor, so that all bands come out in one shape; coarser bands than
        `step` are repeated. Meant for statistics: overviews may be used.
        """
        band = self.band(name)
        if step % band.factor == 0:
            return self.reader.read_decimated(band.href, band.index, step // band.factor)
        if band.factor % step:
            raise ValueError(f"step {step} fits no grid of factor {band.factor}: use a multiple of 6, or 1")
        repeat = band.factor // step
        pixels = self.reader.read_decimated(band.href, band.index, 1)
        rows, cols = (math.ceil(length / step) for length in self.shape)
        return np.repeat(np.repeat(pixels, repeat, axis=0), repeat, axis=1)[:rows, :cols]

    def dataset(self, factor: int = 1) -> xr.Dataset:
        """Lazy dataset of the bands with this factor: variables by band name, dims (y, x), uint16, chunks of `CHUNK`.

        Coordinates are pixel centres, the CRS is rioxarray's; `scale`, `offset`, `nodata` stand in each variable's
        attributes. Raises InvalidSettings where no band has the factor.
        """
        import dask.array as da
        import rioxarray  # noqa: F401  (the accessor `rio`)
        import xarray as xr

        chosen = [band for band in self.bands if band.factor == factor]
        if not chosen:
            raise InvalidSettings(
                f"{self.id}: no band of factor {factor}, only {sorted({b.factor for b in self.bands})}"
            )
        rows, cols = chosen[0].shape
        chunks = tuple(
            tuple(min(CHUNK, length - start) for start in range(0, length, CHUNK)) for length in (rows, cols)
        )
        transform = chosen[0].geobox.transform
        coords = {
            "y": transform.f + transform.e * (np.arange(rows) + 0.5),
            "x": transform.c + transform.a * (np.arange(cols) + 0.5),
        }
        variables = {}
        for band in chosen:
            pixels = da.map_blocks(
                _read_chunk,
                chunks=chunks,
                dtype=np.uint16,
                meta=np.empty((0, 0), np.uint16),
                scene=self,
                band_name=band.name,
            )
            attrs = {"scale": band.scale, "offset": band.offset, "nodata": band.nodata}
            variables[band.name] = xr.DataArray(pixels, coords=coords, dims=("y", "x"), attrs=attrs)
        dataset = xr.Dataset(variables, attrs={"id": self.id, "datetime": self.item.datetime.isoformat()})
        crs = str(self.geobox.crs)
        located: xr.Dataset = dataset.rio.write_crs(crs).rio.write_transform(transform)
        return located

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (type(self).__name__, self.id, *((b.name, b.href, b.index, str(b.geobox)) for b in self.bands))

    def close(self) -> None:
        """Close the open files; a later read opens them again."""
        self.reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_scene(item: SceneItem, bands: Sequence[str] | None = None) -> Scene:
    """The scene of `item`, from the headers of its files; `bands` chooses among its bands (all if None).

    Raises InvalidSettings for a band that the item lacks, InvalidScene for files that are missing, truncated, not
    georeferenced, not uint16, or not of one scene, ReadFailed where a remote file may come back.
    """
    assets = _chosen(item, bands)
    reader = BandReader()
    try:
        headers: dict[str, Header] = {}
        for asset in assets:
            if asset.href not in headers:
                headers[asset.href] = reader.header(asset.href)
        grids = {asset.band: _grid(asset, headers[asset.href]) for asset in assets}
        finest = min(assets, key=lambda asset: abs(grids[asset.band].transform.a))
        found = tuple(_band(asset, headers[asset.href], grids, finest) for asset in assets)
    except BaseException:
        reader.close()
        raise
    return Scene(item, found, grids[finest.band], reader)


def pixel_metres(geobox: GeoBox) -> tuple[float, float]:
    """(height, width) of a pixel of `geobox` in metres; on a geographic grid as at its centre."""
    transform, crs = geobox.transform, geobox.crs
    if crs is not None and crs.geographic:
        latitude = transform.f + transform.e * geobox.shape[0] / 2
        return (
            -transform.e * _METRES_PER_DEGREE,
            transform.a * _METRES_PER_DEGREE * max(math.cos(math.radians(latitude)), 1e-3),
        )
    metres = 1.0 if crs is None else float(crs.proj.axis_info[0].unit_conversion_factor)
    return -transform.e * metres, transform.a * metres


def _read_chunk(scene: Scene, band_name: str, block_info: Any = None) -> NDArray[np.uint16]:
    (first_row, last_row), (first_col, last_col) = block_info[None]["array-location"]
    return scene.read(band_name, slice(first_row, last_row), slice(first_col, last_col))


def _chosen(item: SceneItem, bands: Sequence[str] | None) -> tuple[BandAsset, ...]:
    """The assets to open, in the order of BANDS."""
    for name in bands or ():
        if name not in item.bands:
            reason = f" ({item.left_out[name]})" if name in item.left_out else ""
            raise InvalidSettings(f"{item.id}: no band {name}{reason}; it has {', '.join(item.bands)}")
    names = set(item.bands if bands is None else bands)
    if not names:
        raise InvalidSettings(f"{item.id}: no band chosen; it has {', '.join(item.bands)}")
    return tuple(item.bands[name] for name in BANDS if name in names)


def _grid(asset: BandAsset, header: Header) -> GeoBox:
    """Grid of one file; InvalidScene where it cannot carry a product."""
    where = asset.href
    if asset.index > len(header.dtypes):
        raise InvalidScene(f"{where}: no band number {asset.index} for {asset.band}, only {len(header.dtypes)}")
    dtype = header.dtypes[asset.index - 1]
    if dtype != "uint16":
        raise InvalidScene(f"{where}: {asset.band} holds {dtype} pixels, only uint16 digital numbers are accepted")
    if header.crs is None:
        raise InvalidScene(f"{where}: no coordinate reference system: assign one, for example with gdal_edit.py -a_srs")
    if not (header.crs.is_projected or header.crs.is_geographic):
        raise InvalidScene(f"{where}: the CRS {header.crs.to_string()} is neither projected nor geographic")
    transform = header.transform
    if transform.is_identity:
        raise InvalidScene(f"{where}: no geotransform: georeference the file first")
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise InvalidScene(f"{where}: the grid is not north-up ({transform.to_gdal()}): warp it first")
    return GeoBox(header.shape, transform, header.crs)


def _band(asset: BandAsset, header: Header, grids: dict[str, GeoBox], finest: BandAsset) -> SceneBand:
    """The band in its place on the work grid; InvalidScene where it is of another scene."""
    grid, work = grids[asset.band], grids[finest.band]
    factor = round(grid.transform.a / work.transform.a)
    pixel = abs(work.transform.a)
    nests = (
        grid.crs == work.crs
        and factor in FACTORS
        and math.isclose(grid.transform.a, factor * work.transform.a, rel_tol=1e-6)
        and math.isclose(grid.transform.e, factor * work.transform.e, rel_tol=1e-6)
        and math.isclose(grid.transform.c, work.transform.c, abs_tol=0.01 * pixel)
        and math.isclose(grid.transform.f, work.transform.f, abs_tol=0.01 * pixel)
        and tuple(length * factor for length in grid.shape) == tuple(work.shape)
    )
    if not nests:
        raise InvalidScene(
            f"bands of different scenes: {asset.band} ({asset.href}: {_described(grid)}) "
            f"does not nest in {finest.band} ({finest.href}: {_described(work)}); name the files of one scene, or other --bands"
        )
    own = header.nodata[asset.index - 1]
    usable = own is not None and float(own).is_integer() and 0 <= own <= np.iinfo(np.uint16).max
    return SceneBand(
        name=asset.band,
        key=asset.key,
        href=asset.href,
        index=asset.index,
        geobox=grid,
        factor=factor,
        dtype="uint16",
        nodata=int(own) if own is not None and usable else asset.nodata,
        scale=asset.scale,
        offset=asset.offset,
    )


def _described(grid: GeoBox) -> str:
    transform = grid.transform
    code = grid.crs.to_epsg() if grid.crs is not None else None
    crs = f"EPSG:{code}" if code is not None else "no CRS" if grid.crs is None else "a CRS of its own"
    return (
        f"{crs}, {grid.shape[0]} x {grid.shape[1]} pixels of {transform.a:g}, "
        f"origin {transform.c:.10g} {transform.f:.10g}"
    )
