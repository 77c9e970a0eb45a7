"""`PublishedProduct` and `ProductPixels`: a product as the cube reads it, first its item alone, then its checked files.

The files say what the grids, types and nodata are; the item says when, of what and by whom. COG and Zarr give the same layers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from catalogs.bands import BANDS
from catalogs.grid import crs_name
from pipeline.checksums import verify
from pipeline.cube_record import MemberRecord, make_layer
from pipeline.errors import InvalidScene, ReadFailed
from pipeline.folders import CACHE
from pipeline.layers import PROVENANCE, Layer
from pipeline.product import require_known
from pipeline.publish import read_item
from pipeline.reader import BandReader

OPTIONAL = ("SCL", "confidence", "cloudmask")
"""Layers that a product may lack; its steps then hold nodata there."""
_COG = re.compile(r"(?:\./)?([^/]+)\.tif")
_ZARR = re.compile(r"(?:\./)?[^/]+\.zarr/[^/]+/([^/]+)")


class StepSource(Protocol):
    """Where the pixels of one step of a cube come from."""

    def read(self, layer: Layer, rows: slice) -> NDArray[Any] | None:
        """Rows of a layer of the cube, (rows, width) in the layer's type; None where the step has nothing of it."""


@dataclass(frozen=True)
class PublishedProduct:
    """A product by its item; no file was opened."""

    folder: Path
    """Absolute."""
    item: Mapping[str, Any] = field(repr=False)
    member: MemberRecord

    @classmethod
    def of(cls, folder: Path, cube: Path) -> PublishedProduct:
        """The product published in `folder`, as the cube at `cube` would record it.

        Raises InvalidScene where there is none, or one that this version does not know, ReadFailed where it cannot be read.
        """
        folder = folder.absolute()
        item = read_item(folder.parent, folder.name)
        if item is None:
            raise InvalidScene(f"{folder}: no complete product: decloud the scene again")
        try:
            properties, assets = item["properties"], item["assets"]
            require_known(str(properties["processing:software"]["declouder"]), str(folder))
            _check_classes(assets["provenance"], folder)
            encodings = {
                (float(asset["declouder:reflectance"]["scale"]), float(asset["declouder:reflectance"]["offset"]))
                for asset in assets.values()
                if "declouder:reflectance" in asset
            }
            if len(encodings) != 1:
                raise InvalidScene(
                    f"{folder}: its bands have {len(encodings)} different scales and offsets, a cube needs one"
                )
            scale, offset = encodings.pop()
            member = MemberRecord(
                product=folder.name,
                source=str(properties["declouder:source"]),
                time=_moment(properties.get("datetime") or properties["start_datetime"]),
                created=_moment(properties["created"]),
                digest=str(assets["manifest"]["file:checksum"]),
                level=str(properties.get("processing:level", "")),
                scale=scale,
                offset=offset,
                folder=_from(cube, folder),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidScene(
                f"{folder}: no product of declouder ({type(error).__name__}: {error}): give folders that it published"
            ) from error
        return cls(folder, item, member)

    def open(self) -> ProductPixels:
        """Check every file against its checksum, read the headers, and give access to the pixels.

        Raises InvalidScene for a damaged product, ReadFailed where it cannot be read.
        """
        problems = verify(self.folder, self.item, cache=self.folder.parent / CACHE)
        if problems:
            raise InvalidScene(
                f"{self.folder}: damaged: {problems[0]}{' and more' if problems[1:] else ''}: decloud the scene again"
            )
        reader = BandReader()
        layers: dict[str, Layer] = {}
        files: dict[str, Path] = {}
        for asset in self.item["assets"].values():
            href = unquote(str(asset["href"]))
            match = _COG.fullmatch(href) or _ZARR.fullmatch(href)
            if match is None:
                continue
            name, path = match[1], self.folder / href
            if name not in (*BANDS, *OPTIONAL, "provenance"):
                raise InvalidScene(f"{path}: layer {name} is not known: was it made by a newer declouder?")
            layers[name] = _cog_layer(name, path, reader) if path.suffix == ".tif" else _zarr_layer(name, path)
            files[name] = path
        if "provenance" not in layers or not any(name in BANDS for name in layers):
            raise InvalidScene(f"{self.folder}: has no bands or no provenance: decloud the scene again")
        return ProductPixels(self.member, {name: layers[name] for name in _ordered(layers)}, files, reader)


@dataclass(frozen=True, eq=False)
class ProductPixels:
    """The pixels of one product."""

    member: MemberRecord
    layers: Mapping[str, Layer]
    """Name -> layer, bands in the order of `BANDS` first."""
    files: Mapping[str, Path]
    """Name -> GeoTIFF or Zarr array."""
    reader: BandReader = field(repr=False)

    @property
    def geobox(self) -> GeoBox:
        """The work grid, on which provenance is."""
        return self.layers["provenance"].geobox

    def window(self, name: str, rows: slice, cols: slice) -> NDArray[Any]:
        """Pixels of a layer, (rows, cols), inside it. Raises InvalidScene or ReadFailed where they cannot be had."""
        path = self.files[name]
        if path.suffix == ".tif":
            return self.reader.read(str(path), 1, rows, cols)
        import zarr

        try:
            return np.asarray(zarr.open_array(path, mode="r")[rows, cols])
        except (OSError, ValueError, RuntimeError) as error:
            raise ReadFailed(f"{path}: cannot be read: {' '.join(str(error).split())}") from error

    def read(self, layer: Layer, rows: slice) -> NDArray[Any] | None:
        """See `StepSource`: the cube has this product's grids."""
        return self.window(layer.name, rows, slice(0, layer.shape[1])) if layer.name in self.layers else None

    def close(self) -> None:
        """Close its files."""
        self.reader.close()


def _ordered(names: Mapping[str, Layer]) -> list[str]:
    order = [*BANDS, "SCL", "provenance", "confidence", "cloudmask"]
    return sorted(names, key=order.index)


def _cog_layer(name: str, path: Path, reader: BandReader) -> Layer:
    header = reader.header(str(path))
    if header.crs is None or len(header.dtypes) != 1:
        raise InvalidScene(f"{path}: {len(header.dtypes)} bands and CRS {header.crs}: not a layer of a product")
    nodata = header.nodata[0]
    grid = GeoBox(header.shape, header.transform, crs_name(header.crs))
    return _known(name, path, grid, header.dtypes[0], None if nodata is None else int(nodata))


def _zarr_layer(name: str, path: Path) -> Layer:
    import zarr

    try:
        array, group = zarr.open_array(path, mode="r"), zarr.open_group(path.parent, mode="r")
        said: Any = dict(group.attrs)
        grid = _geobox(array.shape, said["spatial:transform"], said.get("proj:code") or said["proj:wkt2"])
        return _known(name, path, grid, str(array.dtype), array.attrs.get("nodata"))  # type: ignore[arg-type]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InvalidScene(f"{path}: no layer of a product: {' '.join(str(error).split())}") from error


def _geobox(shape: Any, transform: Any, crs: str) -> GeoBox:
    from affine import Affine

    return GeoBox(tuple(shape), Affine(*transform), crs)


def _known(name: str, path: Path, grid: GeoBox, dtype: str, nodata: int | None) -> Layer:
    """The layer, if this version knows what its values mean."""
    layer = make_layer(name, grid, dtype, nodata)
    expected = "uint16" if name in BANDS else "uint8"
    if dtype != expected or layer.nodata != nodata:
        raise InvalidScene(
            f"{path}: {dtype} with nodata {nodata}, expected {expected} with {layer.nodata}: another declouder's product?"
        )
    return layer


def _check_classes(asset: Mapping[str, Any], folder: Path) -> None:
    found = {int(entry["value"]): str(entry["name"]) for entry in asset["classification:classes"]}
    if found != dict(PROVENANCE):
        raise InvalidScene(
            f"{folder}: its provenance has the classes {found}, not {dict(PROVENANCE)}: decloud it again"
        )


def _moment(text: Any) -> datetime:
    moment = datetime.fromisoformat(str(text))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _from(cube: Path, folder: Path) -> str:
    return Path(os.path.relpath(folder, cube.absolute().parent)).as_posix()
