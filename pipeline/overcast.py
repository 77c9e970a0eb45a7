"""`lay_clouds`: a clear scene under the clouds of another date, written as files that are read like any other scene.

Postconditions, outside the grown clouds: every band of the truth bit for bit. Clouds over pixels of which the ground is not known (cloudy or
missing on the clear date and in the truth) are left out, of the mask as well; their share is told. How the clouds come off and on: `pipeline.lifted`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.item import SceneItem
from catalogs.stac import resolve_item
from pipeline.classes import CLEAR, NODATA, SHADOW, SNOW, THICK, THIN, is_cloudy
from pipeline.cloudmask import CloudMask, blocks, make_cloud_mask
from pipeline.cog import CogSink
from pipeline.composite import coarsen_max, coarsen_mean
from pipeline.errors import InvalidScene, InvalidSettings
from pipeline.growth import GROW, dilate, effective_radius, reach
from pipeline.layers import Layer
from pipeline.lifted import LiftedClouds, read_window
from pipeline.references import harmonise
from pipeline.scene import Scene, SceneBand, open_scene
from pipeline.sink import write_failed

BLOCK = 768
"""Edge of a block, pixels of the work grid; a multiple of 6, so that it holds whole pixels of every band."""
SCL_OF = {NODATA: 0, CLEAR: 7, THIN: 10, THICK: 9, SHADOW: 3, SNOW: 11}
"""What the written SCL says of each class of a mask; clear ground is "unclassified": nobody looked what it is."""
_VISIBLE = ("B02", "B03", "B04")
_KEPT = ("title", "roles", "gsd", "eo:bands")  # of an asset of the truth
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"


@dataclass(frozen=True, eq=False)
class Overcast:
    """A truth under clouds that are not its own."""

    item: SceneItem
    """The written scene."""
    truth: NDArray[np.bool_] = field(repr=False)
    """(rows, cols) of the work grid, True = the truth is known: data, and neither cloud nor shadow of its own, grown."""
    shadow: NDArray[np.bool_] = field(repr=False)
    """(rows, cols), True = laid shadow without cloud over it, not grown."""
    laid: float
    """Share of the pixels with data under laid clouds and shadows, not grown, 0..1."""
    left_out: float
    """Share of the donor's cloudy pixels over data of the truth that were left out, as the ground below them is not known, 0..1."""


def lay_clouds(
    truth: SceneItem,
    donor: SceneItem,
    ground: SceneItem,
    folder: Path,
    *,
    bands: Sequence[str] | None = None,
    method: str = "auto",
    threads: int = 1,
    block: int = BLOCK,
    progress: Callable[[int, int], None] | None = None,
) -> Overcast:
    """Write `truth` under the clouds of `donor`, which are told from the clear date `ground`, as a STAC item with files in `folder`.

    bands: those of `truth` that are written, all if None. method: of the masks, see `make_cloud_mask`. progress: called with blocks done and
    in all. The files are the same whatever `threads` and, without a B10, `block` are. Raises InvalidSettings where the three do not lie on one
    grid or lack bands, InvalidScene where no cloud can be laid, WriteFailed, ReadFailed.
    """
    with ExitStack() as stack:
        scene = stack.enter_context(open_scene(truth, bands))
        names = [band.name for band in scene.bands]
        other, clear = (stack.enter_context(open_scene(item, names)) for item in (donor, ground))
        _check(scene, other, clear)
        classes, cloudy, below = (make_cloud_mask(one, method, 0.0).classes for one in (scene, other, clear))
        own, around, away = (
            CloudMask(_grown(one, of), method) for one, of in ((scene, classes), (other, cloudy), (clear, below))
        )
        clouds = LiftedClouds(
            scene, other, clear, classes, cloudy, _bare(clear, below), _bare(scene, classes),
            harmonise(other, around, clear, away), harmonise(other, around, scene, own),
        )  # fmt: skip
        where = clouds.laid(slice(None), slice(None))
        laid = np.count_nonzero(where)
        all_of_it = np.count_nonzero(is_cloudy(cloudy) & (classes != NODATA))
        if laid == 0:
            raise InvalidScene(
                f"{donor.id}: no cloud of it can be laid over {truth.id}: of its cloudy pixels, {all_of_it} lie where {truth.id} "
                f"has data, none of them where it or {ground.id} is clear; choose another date"
            )
        _write(clouds, folder, threads, block, progress)
        cover = float(laid / np.count_nonzero(classes))
        shadow = where & (cloudy == SHADOW)
        return Overcast(
            _describe(clouds, folder, cover), _known(own.classes), shadow, cover, float(1 - laid / all_of_it)
        )


def _write(
    source: LiftedClouds,
    folder: Path,
    threads: int,
    block: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    if block < 1 or block % source.cell:
        raise InvalidSettings(f"block {block} must be a multiple of {source.cell}, the coarsest band's pixel")
    scene = source.truth
    layers = [Layer(band.name, band.key, band.geobox, "uint16", band.nodata) for band in scene.bands]
    sink = CogSink(folder, [*layers, Layer("SCL", "scl", scene.geobox, "uint8", 0)], threads=threads)
    table = np.array([SCL_OF[code] for code in range(len(SCL_OF))], np.uint8)
    classes = source.overlaid()
    total = len(list(blocks(scene.shape, block)))
    try:
        for done, (rows, stripe) in enumerate(_stripes(source, block), 1):
            for name, pixels in stripe.items():
                sink.write(name, rows.start // scene.band(name).factor, pixels)
            sink.write("SCL", rows.start, table[classes[rows]])
            if progress is not None:
                progress(min(done * -(-scene.shape[1] // block), total), total)
        sink.close()
    except BaseException:
        sink.abort()
        raise


def _stripes(source: LiftedClouds, block: int) -> Iterator[tuple[slice, dict[str, NDArray[np.uint16]]]]:
    """Rows of the work grid, and the DN of every band in them."""
    height, width = source.truth.shape
    for top in range(0, height, block):
        rows = slice(top, min(top + block, height))
        parts: dict[str, list[NDArray[np.uint16]]] = {band.name: [] for band in source.truth.bands}
        for left in range(0, width, block):
            cols = slice(left, min(left + block, width))
            seen, changed = source.over_truth(rows, cols)
            for channel, band in enumerate(source.truth.bands):
                pixels = read_window(source.truth, band, rows, cols)
                parts[band.name].append(_digital(pixels, seen[channel], changed, band))
        yield rows, {name: np.concatenate(columns, axis=1) for name, columns in parts.items()}


def _digital(
    pixels: NDArray[np.uint16], seen: NDArray[np.float32], changed: NDArray[np.bool_], band: SceneBand
) -> NDArray[np.uint16]:
    """DN on the band's own grid: those of the truth where nothing changed, or where it has no data."""
    where = coarsen_max(changed, band.factor)
    if band.nodata is not None:
        where &= pixels != band.nodata
    mean = coarsen_mean(seen, np.ones(seen.shape, bool), band.factor)
    counts = np.clip(np.rint((mean.astype(np.float64) - band.offset) / band.scale), 0, 65535).astype(np.uint16)
    if band.nodata is not None:
        counts[counts == band.nodata] = band.nodata - 1 if band.nodata == 65535 else band.nodata + 1
    return np.where(where, counts, pixels)


def _describe(source: LiftedClouds, folder: Path, cover: float) -> SceneItem:
    """Write the item, and read it as everybody does."""
    truth, donor = source.truth.item, source.donor.item
    stac: dict[str, Any] = dict(truth.stac)
    name = f"{truth.id}_under_{donor.datetime.astimezone(UTC):%Y%m%d}"
    assets: dict[str, Any] = {}
    for band in source.truth.bands:
        kept = {key: value for key, value in stac.get("assets", {}).get(band.key, {}).items() if key in _KEPT}
        stated = {"scale": band.scale, "offset": band.offset, "nodata": band.nodata, "data_type": "uint16"}
        assets[band.key] = kept | {"href": f"./{band.name}.tif", "type": _COG, "raster:bands": [stated]}
    assets["scl"] = {"href": "./SCL.tif", "type": _COG}
    document: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name[:200],
        "geometry": stac.get("geometry"),
        "bbox": stac.get("bbox"),
        "properties": {
            **stac.get("properties", {}),
            "datetime": truth.datetime.isoformat(),
            "eo:cloud_cover": round(100 * cover, 3),
            "description": f"{truth.id} under the clouds of {donor.id}, for evaluation: no satellite took this picture",
        },
        "links": [],
        "assets": assets,
    }
    path = folder / f"{document['id']}.json"
    try:
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise write_failed(error, path) from error
    item = resolve_item(document, str(path))
    for band in source.truth.bands:
        asset = item.bands.get(band.name)
        if asset is None or (asset.scale, asset.offset) != (band.scale, band.offset):
            raise InvalidScene(f"{path}: {band.name} of {truth.id} did not come out as it went in: {asset}")
    return item


def _known(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = (classes == CLEAR) | (classes == SNOW)
    return known


def _bare(scene: Scene, classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where there is data and no cloud, grown; shadow is no cloud."""
    return _known(_grown(scene, np.where(classes == SHADOW, np.uint8(CLEAR), classes)))


def _grown(scene: Scene, classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`classes` with clouds and shadows grown over what was clear; what they grew over is thick cloud."""
    radius = effective_radius(GROW, scene.pixel_size)
    halo = max(reach(radius, scene.pixel_size))
    grown = classes.copy()
    for rows, cols in blocks(scene.shape, 1024):
        top, left = max(rows.start - halo, 0), max(cols.start - halo, 0)
        around = is_cloudy(classes[top : rows.stop + halo, left : cols.stop + halo])
        reached = dilate(around, radius, scene.pixel_size)
        reached = reached[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
        grown[rows, cols][reached & _known(classes[rows, cols])] = THICK
    return grown


def _check(first: Scene, *others: Scene) -> None:
    """Raise InvalidSettings where the scenes are not of one grid, or of bands in which no cloud can be weighed."""
    missing = [name for name in _VISIBLE if name not in {band.name for band in first.bands}]
    if missing:
        raise InvalidSettings(f"{first.id}: clouds are weighed in {', '.join(_VISIBLE)}; it lacks {', '.join(missing)}")
    for other in others:
        for band, theirs in zip(first.bands, other.bands, strict=True):
            close = band.geobox.transform.almost_equals(theirs.geobox.transform, 0.01 * abs(band.geobox.transform.a))
            if band.geobox.crs != theirs.geobox.crs or band.shape != theirs.shape or not close:
                raise InvalidSettings(f"{other.id}: its {band.name} lies on another grid than that of {first.id}")
