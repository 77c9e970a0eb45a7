"""The arrays of a cube: how they are cut into files, and everything in it that is not pixels.

    bands, classes, percents   (time, y, x)   chunks of 1 x 512 x 512 in files of 1 x 1024 x 12288: a step never shares a file with another
    time                       (time,)        microseconds since 1970, UTC
    product_id, item_id        (time,)        of the product and its source; several of a merged day stand in the order of `source`, with blanks
    reflectance_scale, _offset (time,)        reflectance = DN * scale + offset
    x, y, spatial_ref                         centres of the pixels; CRS and transform as rioxarray reads them

Arrays along time have chunks of a fixed length, so that readers that began to open the cube just before an append read the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.cube_record import ATTRIBUTE, CubeRecord, StepRecord
from pipeline.layers import Layer
from pipeline.zarr_store import CHUNK, compressor, create_coordinates, grid_attributes, layer_attributes

if TYPE_CHECKING:
    import zarr

SHARD = (2 * CHUNK, 24 * CHUNK)
"""Largest rows and columns of a file: eleven for a band of 10980 x 10980, 24 MiB each before compression."""
_TIMES = 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ALONG_TIME = "product_id item_id reflectance_scale reflectance_offset"


def shard_rows(layer: Layer) -> int:
    """Rows of a file of this layer."""
    return min(SHARD[0], _whole(layer.shape[0]))


def create_array(group: zarr.Group, layer: Layer, steps: int) -> Any:
    """An empty array (time, y, x) for a layer; every step, and every cube, gets the same but for its length."""
    return group.create_array(
        layer.name,
        shape=(steps, *layer.shape),
        chunks=(1, CHUNK, CHUNK),
        shards=(1, shard_rows(layer), min(SHARD[1], _whole(layer.shape[1]))),
        dtype=layer.dtype,
        compressors=compressor(),
        fill_value=0 if layer.nodata is None else layer.nodata,
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=("time", "y", "x"),
        attributes=layer_attributes(layer) | {"coordinates": f"spatial_ref {_ALONG_TIME}"},
    )


def create_skeleton(folder: Path, record: CubeRecord, arrays: Mapping[str, Sequence[Layer]]) -> None:
    """Write a cube without pixels into `folder`: groups, arrays, coordinates and the record."""
    import zarr

    root = zarr.create_group(folder, zarr_format=3, attributes={ATTRIBUTE: record.model_dump(mode="json")})
    for name, layers in arrays.items():
        geobox = layers[0].geobox
        group = root.create_group(name, attributes=grid_attributes(geobox))
        create_coordinates(group, geobox)
        for layer in layers:
            create_array(group, layer, len(record.steps))
        for coordinate, (dtype, values, attributes) in _along_time(record.steps).items():
            array = group.create_array(
                coordinate,
                shape=(len(record.steps),),
                chunks=(_TIMES,),
                dtype=dtype,
                dimension_names=("time",),
                attributes=attributes,
            )
            array[:] = values


def _along_time(steps: Sequence[StepRecord]) -> dict[str, tuple[Any, npt.NDArray[Any], dict[str, Any]]]:
    """Name -> type, values, attributes of the coordinates along time."""

    def texts(of: Callable[[StepRecord], str]) -> npt.NDArray[Any]:
        return np.array([of(step) for step in steps], dtype=object)

    micros = [(step.time - _EPOCH) // timedelta(microseconds=1) for step in steps]
    units = {
        "standard_name": "time",
        "axis": "T",
        "units": "microseconds since 1970-01-01",
        "calendar": "proleptic_gregorian",
    }
    return {
        "time": ("int64", np.array(micros, np.int64), units),
        "product_id": (str, texts(lambda step: " ".join(member.product for member in step.members)), {}),
        "item_id": (str, texts(lambda step: " ".join(member.source for member in step.members)), {}),
        "reflectance_scale": ("float64", np.array([step.members[0].scale for step in steps]), {}),
        "reflectance_offset": ("float64", np.array([step.members[0].offset for step in steps]), {}),
    }


def _whole(count: int) -> int:
    return -(-count // CHUNK) * CHUNK
