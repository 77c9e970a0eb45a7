"""`CubeLayout`: which arrays a cube has, on which grids; what fits it, and what does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from odc.geo.geobox import GeoBox

from catalogs.bands import BANDS
from pipeline.areagrid import CELL, AreaGrid, Resampling
from pipeline.cube_record import SOURCE, CubeRecord, GridRecord, LayerRecord, make_layer
from pipeline.cube_source import OPTIONAL, ProductPixels
from pipeline.daymosaic import coarse
from pipeline.errors import InvalidScene, InvalidSettings
from pipeline.layers import Layer
from pipeline.placement import aligned
from pipeline.zarr_store import group_names

_ORDER = (*BANDS, "SCL", "provenance", "confidence", "cloudmask")
_OTHER = "give another --cube"


@dataclass(frozen=True)
class CubeLayout:
    """The arrays of a cube."""

    layers: tuple[Layer, ...]
    """Without `source`, which `arrays` adds; new ones are appended, so that groups keep their names."""
    level: str
    resampling: Resampling | Literal[""] = ""
    """Empty where the cube has the grid of its products."""

    @classmethod
    def of_record(cls, record: CubeRecord) -> CubeLayout:
        """The layout of a cube that is there."""
        layers = tuple(record.layer(entry) for entry in record.layers if entry.name != SOURCE)
        return cls(layers, record.level, record.resampling)

    @classmethod
    def of_products(cls, products: Sequence[ProductPixels], grid: AreaGrid | None) -> CubeLayout:
        """The layout of a cube that begins with these products (at least one). Raises InvalidSettings."""
        first = products[0]
        fine = None if grid is None else grid.resolve([product.geobox for product in products])
        layers = tuple(_onto(fine, first, layer) for layer in first.layers.values())
        return cls(layers, first.member.level, "" if grid is None else grid.resampling)

    @property
    def fine(self) -> GeoBox:
        """The finest grid, on which provenance is."""
        return next(layer.geobox for layer in self.layers if layer.name == "provenance")

    @property
    def arrays(self) -> dict[str, list[Layer]]:
        """Group -> its layers: bands in their order, then classes and percents, then `source` where scenes are merged."""
        names = group_names(self.layers)
        grouped: dict[str, list[Layer]] = {}
        for layer in self.layers:
            grouped.setdefault(names[layer.name], []).append(layer)
        for layers in grouped.values():
            layers.sort(key=lambda layer: _ORDER.index(layer.name))
            if self.resampling:
                layers.append(make_layer(SOURCE, layers[0].geobox, "uint16", 0))
        return grouped

    def record(self) -> CubeRecord:
        """The record of an empty cube of this layout."""
        names = group_names(self.layers)
        grids = {names[layer.name]: GridRecord.of(layer.geobox) for layer in self.layers}
        layers = tuple(
            LayerRecord(name=layer.name, group=names[layer.name], dtype=layer.dtype, nodata=layer.nodata)
            for layer in self.layers
        )
        return CubeRecord(level=self.level, grids=grids, layers=layers, resampling=self.resampling)

    def check_grid(self, cube: Path, grid: AreaGrid | None) -> None:
        """Raise InvalidSettings where an append asks for another grid than the cube has."""
        if (grid is None) != (not self.resampling):
            has = f"scenes merged on {_text(self.fine)}" if self.resampling else "the grid of its scenes"
            way = "give the --grid that it was made with" if self.resampling else "leave --grid away"
            raise InvalidSettings(f"{cube}: has {has}: {way}, or {_OTHER}")
        if grid is None:
            return
        fine = self.fine
        size = float(fine.transform.a)
        asked = (grid.resampling, grid.crs or str(fine.crs), grid.resolution or size)
        if asked[0] != self.resampling or fine.crs != asked[1] or asked[2] != size:
            raise InvalidSettings(
                f"{cube}: is on {_text(fine)} with resampling {self.resampling}, not {asked[1]},{asked[2]:g} with {asked[0]}: {_OTHER}"
            )
        if grid.geobox(str(fine.crs), size, (float(fine.transform.c), float(fine.transform.f))) != fine:
            raise InvalidSettings(
                f"{cube}: covers {tuple(fine.boundingbox.bbox)} of {fine.crs}, --aoi another area: {_OTHER}"
            )

    def extended(self, product: ProductPixels) -> CubeLayout:
        """The layout with those optional layers that the product has and the cube lacks; older steps hold nodata there."""
        there = {layer.name for layer in self.layers}
        fine = self.fine if self.resampling else None
        new = [
            _onto(fine, product, layer)
            for name, layer in product.layers.items()
            if name in OPTIONAL and name not in there
        ]
        return replace(self, layers=(*self.layers, *new)) if new else self

    def check(self, cube: Path, product: ProductPixels) -> None:
        """Raise InvalidScene where the product does not fit: other bands, another grid, type, nodata or level."""
        name = product.member.product
        mine = {layer.name: layer for layer in self.layers}
        bands, asked = ([key for key in names if key in BANDS] for names in (mine, product.layers))
        if set(bands) != set(asked):
            raise InvalidScene(f"{name}: has {' '.join(asked)}, {cube} has {' '.join(bands)}: {_OTHER}")
        if product.member.level != self.level:
            raise InvalidScene(f"{name}: level {product.member.level or '?'}, {cube} has {self.level or '?'}: {_OTHER}")
        fine = self.fine if self.resampling else None
        for key, layer in product.layers.items():
            if key not in mine:
                continue
            expected, found = mine[key], _onto(fine, product, layer)
            if found.nodata != expected.nodata:
                raise InvalidScene(
                    f"{name}: nodata of {key} is {found.nodata}, in {cube} it is {expected.nodata}: {_OTHER}"
                )
            if found.shape != expected.shape or aligned(found.geobox, expected.geobox) != (0, 0):
                way = _OTHER if self.resampling else f"merge tiles with --grid, or {_OTHER}"
                raise InvalidScene(
                    f"{name}: {key} is on {_text(layer.geobox)}, in {cube} on {_text(expected.geobox)}: {way}"
                )


def _onto(fine: GeoBox | None, product: ProductPixels, layer: Layer) -> Layer:
    """A product's layer as a cube holds it: on its own grid, or on that of the area with the same ratio to the finest."""
    if fine is None:
        return layer
    if layer.geobox.transform.b or layer.geobox.transform.d:
        raise InvalidScene(f"{product.member.product}: {layer.name} is on a rotated grid: warp it first")
    factor = round(abs(float(layer.geobox.transform.a / product.geobox.transform.a)))
    if factor < 1 or CELL % factor:
        raise InvalidScene(
            f"{product.member.product}: {layer.name} has pixels {factor} times as large as the finest: only 1, 2, 3 and 6 nest"
        )
    return make_layer(layer.name, coarse(fine, factor), layer.dtype, layer.nodata)


def _text(geobox: GeoBox) -> str:
    t, (rows, cols) = geobox.transform, geobox.shape
    return f"{geobox.crs} at ({t.c:g}, {t.f:g}), {rows} x {cols} pixels of {t.a:g}"
