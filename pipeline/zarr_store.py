"""`ZarrSink`: all layers in one Zarr v3 store, one group for each resolution, aligned writes only.

Strategy: a shard is as high as one chunk, so a layer holds back less than one row of chunks, whatever the height of the stripes, and each
shard is written once, by one writer. Grid and nodata are plain attributes and a CF `grid_mapping`: `_FillValue`, `scale_factor` and
`add_offset` would make `xr.open_zarr` turn digital numbers into floats.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from odc.geo.geobox import GeoBox

from pipeline.errors import WriteFailed
from pipeline.layers import Layer
from pipeline.progress import Progress, silent
from pipeline.sink import RowLedger, as_bytes, write_failed

if TYPE_CHECKING:
    import zarr

CHUNK = 512
SHARD = (CHUNK, 8 * CHUNK)
"""Rows and columns of a shard: 4 MiB of uint16 a file, 66 files for a band of 10980 x 10980."""

_CONVENTIONS = [
    {
        "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f",
        "name": "proj:",
        "spec_url": "https://github.com/zarr-conventions/geo-proj",
        "description": "Coordinate reference system information for geospatial data",
    },
    {
        "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
        "name": "spatial:",
        "spec_url": "https://github.com/zarr-conventions/spatial",
        "description": "Spatial coordinate information",
    },
]


_DRAINING = threading.Lock()
"""Two at a time would wait for each other."""


class ZarrSink:
    """Writes the layers to `<folder>/<name>.zarr/<group>/<layer.name>`."""

    def __init__(
        self, folder: Path, name: str, layers: Sequence[Layer], *, threads: int = 1, verify: bool = True
    ) -> None:
        """Start the store `<folder>/<name>.zarr`, which must not be there yet; `folder` is made.

        `threads` shards are compressed at a time; `verify` reads every layer back in `close`. Raises WriteFailed.
        """
        self.folder = folder
        self.path = folder / f"{name}.zarr"
        """The store."""
        self._ledgers = {layer.name: RowLedger(layer) for layer in layers}
        if len(self._ledgers) != len(layers):
            raise WriteFailed(f"{self.path}: two layers have the same name: {[layer.name for layer in layers]}")
        self._threads, self._verify = threads, verify
        self._pending: dict[str, list[np.ndarray]] = {name: [] for name in self._ledgers}
        self._arrays: dict[str, zarr.Array[Any]] = {}
        if self.path.exists():
            raise WriteFailed(f"{self.path}: is there already")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._create()
        except OSError as error:
            self.abort()
            raise write_failed(error, self.path) from error

    def write(self, name: str, row: int, data: np.ndarray) -> None:
        """Append the stripe `data` (rows, width) to the layer `name`, see `Sink`. Raises WriteFailed."""
        if name not in self._arrays:
            raise WriteFailed(f"{self.path}: no open layer {name!r}, only {sorted(self._arrays)}")
        ledger = self._ledgers[name]
        ledger.accept(row, data)
        held = sum(part.shape[0] for part in self._pending[name])
        start, stop = row - held, ledger.row
        # Up to the last full row of chunks; at the bottom, everything.
        whole = stop if stop == ledger.layer.shape[0] else stop // CHUNK * CHUNK
        if whole <= start:
            self._pending[name].append(data.copy())
            return
        rows = np.concatenate([*self._pending[name], data]) if held else data
        self._pending[name] = [rows[whole - start :].copy()] if whole < stop else []
        try:
            with self._config():
                self._arrays[name][start:whole] = rows[: whole - start]
        except OSError as error:
            raise write_failed(error, self.path) from error

    def close(self, progress: Progress = silent) -> None:
        """Consolidate the metadata and read every layer back, see `Sink`. Raises WriteFailed and removes the store where one is not right."""
        import zarr

        try:
            for ledger in self._ledgers.values():
                ledger.assert_complete()
            for group in ("", *dict.fromkeys(self._groups.values())):
                # Without it, xr.open_zarr warns, and reads a file for each array. The warning here says that readers other than zarr
                # and xarray may not know it; they need not.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
                    zarr.consolidate_metadata(self.path, path=group, zarr_format=3)
            if self._verify:
                for done, (name, ledger) in enumerate(self._ledgers.items(), start=1):
                    self._check(name, ledger)
                    progress("encode", done, len(self._ledgers))
            self._arrays.clear()
        except OSError as error:
            self.abort()
            raise write_failed(error, self.path) from error
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Remove the store."""
        self._arrays.clear()
        drain()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.path)

    def _config(self) -> Any:
        import zarr

        return zarr.config.set({"async.concurrency": self._threads})

    def _create(self) -> None:
        import zarr

        layers = [ledger.layer for ledger in self._ledgers.values()]
        self._groups = group_names(layers)
        root = zarr.create_group(self.path, zarr_format=3)
        made: dict[str, zarr.Group] = {}
        for layer in layers:
            name = self._groups[layer.name]
            if name not in made:
                made[name] = root.create_group(name, attributes=grid_attributes(layer.geobox))
                create_coordinates(made[name], layer.geobox)
            made[name].create_array(
                layer.name,
                shape=layer.shape,
                chunks=(CHUNK, CHUNK),
                shards=(SHARD[0], min(SHARD[1], -(-layer.shape[1] // CHUNK) * CHUNK)),
                dtype=layer.dtype,
                compressors=compressor(),
                fill_value=0 if layer.nodata is None else layer.nodata,
                dimension_names=("y", "x"),
                attributes=layer_attributes(layer),
            )
        for layer in layers:
            array = made[self._groups[layer.name]][layer.name]
            self._arrays[layer.name] = array  # type: ignore[assignment]

    def _check(self, name: str, ledger: RowLedger) -> None:
        import zarr

        array = zarr.open_array(self.path, path=f"{self._groups[name]}/{name}", mode="r")
        crc = 0
        with self._config():
            for row in range(0, array.shape[0], CHUNK):
                crc = zlib.crc32(as_bytes(np.asarray(array[row : row + CHUNK])), crc)
        if crc != ledger.crc:
            raise WriteFailed(
                f"{self.path}: layer {name} reads back other pixels than were written: check the disk, run again"
            )


def drain() -> None:
    """Wait for what zarr still writes in its own thread: after an error the writes beside it go on, and would come back from the dead."""
    import asyncio

    from zarr.core.sync import sync

    async def others() -> None:
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)

    with _DRAINING:
        sync(others())


def group_names(layers: Sequence[Layer]) -> dict[str, str]:
    """Group of each layer: by the size of its pixels, `r10m`, `r0.0001deg`, `r10x20m`; layers on one grid share one."""
    grids: dict[str, GeoBox] = {}
    names = {}
    for layer in layers:
        stem = name = _resolution(layer.geobox)
        number = 1
        while grids.setdefault(name, layer.geobox) != layer.geobox:
            number += 1
            name = f"{stem}_{number}"
        names[layer.name] = name
    return names


def _resolution(geobox: GeoBox) -> str:
    units = [axis.unit_name for axis in geobox.crs.proj.axis_info] if geobox.crs is not None else []
    unit = {"metre": "m", "degree": "deg"}.get(units[0] if units else "", "")
    transform = geobox.transform
    sizes = [f"{float(np.hypot(*pair)):.6g}" for pair in ((transform.a, transform.d), (transform.b, transform.e))]
    return f"r{'x'.join(dict.fromkeys(sizes))}{unit}"


def compressor() -> Any:
    """The codec of all pixels."""
    from zarr.codecs import BloscCodec

    # Measured on real bands: bytes of one significance together make it a fifth smaller than Zstandard alone at the same speed; level 3
    # saves 3 % more and takes up to three times as long.
    return BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")


def layer_attributes(layer: Layer) -> dict[str, Any]:
    """What an array says of its values: nodata, unit, classes; nothing that would make a reader scale them."""
    attributes: dict[str, Any] = {"long_name": layer.name, "grid_mapping": "spatial_ref", "coordinates": "spatial_ref"}
    if layer.nodata is not None:
        attributes["nodata"] = layer.nodata
    if layer.unit is not None:
        attributes["units"] = layer.unit
    if layer.description:
        attributes["comment"] = layer.description
    if layer.categories:
        attributes["flag_values"] = list(layer.categories)
        attributes["flag_meanings"] = " ".join(layer.categories.values())
    if layer.categories and layer.colours:
        shown = (layer.colours.get(value, (0, 0, 0, 0)) for value in layer.categories)
        attributes["flag_colors"] = " ".join("#{:02x}{:02x}{:02x}".format(*colour[:3]) for colour in shown)
    return attributes


def grid_attributes(geobox: GeoBox) -> dict[str, Any]:
    """GeoZarr's `proj:` and `spatial:` attributes of a group, which hold for its arrays."""
    epsg = geobox.crs.epsg if geobox.crs is not None else None
    crs = (
        {"proj:code": f"EPSG:{epsg}"}
        if epsg
        else {"proj:wkt2": geobox.crs.to_wkt() if geobox.crs is not None else None}
    )
    return {
        "zarr_conventions": _CONVENTIONS,
        **crs,
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": list(geobox.shape),
        "spatial:transform": [float(value) for value in geobox.transform[:6]],
        "spatial:transform_type": "affine",
        "spatial:bbox": [float(value) for value in geobox.boundingbox.bbox],
        "spatial:registration": "pixel",
    }


def create_coordinates(group: zarr.Group, geobox: GeoBox) -> None:
    """Arrays `x`, `y` (centres of the pixels) and `spatial_ref`, as rioxarray writes them."""
    crs = geobox.crs.proj if geobox.crs is not None else None
    assert crs is not None  # noqa: S101 (a Layer without CRS cannot be made)
    transform = geobox.transform
    attributes = dict(crs.to_cf())
    attributes["spatial_ref"] = crs.to_wkt()
    attributes["GeoTransform"] = " ".join(repr(float(value)) for value in transform.to_gdal())
    group.create_array("spatial_ref", shape=(), dtype="int64", fill_value=0, attributes=attributes)
    if transform.b or transform.d:
        # A rotated grid has no coordinates along its axes; the transform says it all.
        return
    described = {entry["axis"].lower(): entry for entry in crs.cs_to_cf() if "axis" in entry}
    for axis, size, origin, step in (
        ("x", geobox.shape[1], transform.c, transform.a),
        ("y", geobox.shape[0], transform.f, transform.e),
    ):
        centres = origin + step * (np.arange(size, dtype=np.float64) + 0.5)
        array = group.create_array(
            axis,
            shape=(size,),
            dtype="float64",
            fill_value=0.0,
            dimension_names=(axis,),
            attributes=described.get(axis, {}),
        )
        array[:] = centres
