"""Which source of cloud classes a scene gets: its SCL, an installed detector that fits its bands, or a user's raster.

Detectors see the scene on a thinned grid near the resolution they were made for, in tiles of a grid of their own, so that
their result depends on neither the memory limit nor the blocks of the run. Their imports are slow and optional.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from pipeline.classes import CLEAR, SHADOW, THICK, ClassArray, ClassSource, MaskRaster, SceneClassification, despeckle
from pipeline.errors import InvalidSettings
from pipeline.lookup import thin_grid
from pipeline.scene import Scene, open_scene

S2CLOUDLESS_BANDS = ("B01", "B02", "B04", "B05", "B08", "B8A", "B09", "B10", "B11", "B12")
CSMASK_BANDS = ("B02", "B03", "B04", "B08")
CSMASK_SWIR = ("B11", "B12")
_CSMASK_NAMES = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir", "B11": "swir16", "B12": "swir22"}

_CSMASK_METRES = 30.0  # "approximately 30 m", ukis-csmask's documentation
_S2CLOUDLESS_METRES = 60.0
_TILE, _HALO, _SMALLEST = 512, 64, 256  # pixels of the thinned grid; csmask warns below 256
_THRESHOLD = 0.4  # s2cloudless' own default

Classify = Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.uint8]]
"""Reflectance (bands, rows, cols) and valid (rows, cols) -> class codes, uint8 (rows, cols)."""


def class_source(scene: Scene, method: str) -> ClassSource:
    """The source of raw classes that `method` names: auto, scl, s2cloudless, csmask, or the path of a raster.

    Raises InvalidSettings, which names the way out, where the scene lacks bands or the detector is not installed.
    """
    if method == "scl" or (method == "auto" and scene.item.scl is not None):
        return SceneClassification.of(scene)
    if method == "auto":
        method = _automatic(scene)
    if method == "s2cloudless":
        return s2cloudless(scene)
    if method == "csmask":
        return _csmask(scene)
    return MaskRaster.of(scene, method)


def _automatic(scene: Scene) -> str:
    """The best installed detector that fits: s2cloudless knows L1C only, csmask finds shadows as well."""
    fits = []
    if _has(scene, CSMASK_BANDS):
        fits.append("csmask")
    if _has(scene, S2CLOUDLESS_BANDS) and scene.item.level != "L2A":
        fits.append("s2cloudless")
    for name in fits:
        if _installed(name):
            return name
    if fits:
        raise InvalidSettings(
            f"{scene.id}: no SCL and no detector installed: pip install 'declouder[{fits[0]}]', or give --mask RASTER"
        )
    raise InvalidSettings(
        f"{scene.id}: no SCL, and its bands ({', '.join(scene.item.bands)}) fit no detector: csmask needs "
        f"{', '.join(CSMASK_BANDS)}, s2cloudless (L1C) {', '.join(S2CLOUDLESS_BANDS)}; give --mask RASTER"
    )


def _csmask(scene: Scene) -> ClassArray:
    _require(scene, "csmask", CSMASK_BANDS)
    from ukis_csmask.mask import CSmask

    six = _has(scene, CSMASK_SWIR)
    bands = CSMASK_BANDS + CSMASK_SWIR if six else CSMASK_BANDS
    level = (scene.item.level or "L1C").lower()
    table = np.array([CLEAR, THICK, SHADOW], np.uint8)

    def classify(stack: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        del valid  # nodata is dark ground to csmask; the bands decide what is nodata
        rows, cols = stack.shape[1:]
        missing = max(_SMALLEST - rows, 0), max(_SMALLEST - cols, 0)
        image = np.moveaxis(np.pad(stack, ((0, 0), (0, missing[0]), (0, missing[1])), mode="reflect"), 0, -1)
        result = CSmask(
            np.ascontiguousarray(image),
            [_CSMASK_NAMES[name] for name in bands],
            product_level=level,
            intra_op_num_threads=1,  # sums in one order, so that the mask does not depend on the machine's cores
            inter_op_num_threads=1,
            providers=["CPUExecutionProvider"],
        )
        found: NDArray[np.uint8] = table[result.csm[:rows, :cols, 0]]
        return found

    classes, geobox = _run(scene, bands, _CSMASK_METRES, classify)
    unknown = "" if scene.item.level else " (level unknown)"
    return ClassArray(classes, geobox, scene.geobox, f"csmask {len(bands)}-band {level}{unknown}", own_shadows=True)


def s2cloudless(
    scene: Scene, metres: float = _S2CLOUDLESS_METRES, *, average_over: int = 2, dilation: int | None = None
) -> ClassArray:
    """Cloud by s2cloudless on a grid of about `metres`; probabilities averaged over, and clouds grown by, pixels of it.

    Raises InvalidSettings for L2A, a band that is missing, and where s2cloudless is not installed.
    """
    if scene.item.level == "L2A":
        raise InvalidSettings(f"{scene.id}: s2cloudless reads L1C only, this is L2A: use --mask scl or csmask")
    _require(scene, "s2cloudless", S2CLOUDLESS_BANDS)
    detector = _pixel_detector(average_over, dilation)

    def classify(stack: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        images = np.ascontiguousarray(np.moveaxis(stack, 0, -1)[None], np.float64)
        probability = detector.get_cloud_probability_maps(images)
        probability[0][~valid] = 0
        cloud = detector.get_mask_from_prob(probability)[0].astype(bool)
        return np.where(cloud, THICK, CLEAR).astype(np.uint8)

    classes, geobox = _run(scene, S2CLOUDLESS_BANDS, metres, classify)
    return ClassArray(classes, geobox, scene.geobox, "s2cloudless", own_shadows=False)


@cache
def _pixel_detector(average_over: int, dilation: int | None) -> Any:
    """The detector, its model loaded once: that takes longer than a chip."""
    from s2cloudless.cloud_detector import S2PixelCloudDetector

    return S2PixelCloudDetector(threshold=_THRESHOLD, average_over=average_over, dilation_size=dilation)


def _run(scene: Scene, bands: Sequence[str], metres: float, classify: Classify) -> tuple[NDArray[np.uint8], GeoBox]:
    """Classes of the whole scene on a grid of about `metres`, and that grid; tile by tile with a halo, cleaned."""
    with open_scene(scene.item, bands) as source:
        step = max(1, math.floor(metres / max(source.pixel_size) + 1e-6))
        shape = math.ceil(source.shape[0] / step), math.ceil(source.shape[1] / step)
        classes = np.full(shape, CLEAR, np.uint8)
        for top in range(0, shape[0], _TILE):
            for left in range(0, shape[1], _TILE):
                rows = slice(max(top - _HALO, 0), min(top + _TILE + _HALO, shape[0]))
                cols = slice(max(left - _HALO, 0), min(left + _TILE + _HALO, shape[1]))
                stack, valid = thinned(source, bands, step, rows, cols)
                if not valid.any():
                    continue
                found = despeckle(classify(stack, valid))
                core = slice(top, min(top + _TILE, shape[0])), slice(left, min(left + _TILE, shape[1]))
                classes[core] = found[
                    core[0].start - rows.start : core[0].stop - rows.start,
                    core[1].start - cols.start : core[1].stop - cols.start,
                ]
        thin = thin_grid(source.geobox, step)
    return classes, thin


def thinned(
    scene: Scene, bands: Sequence[str], step: int, rows: slice, cols: slice
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean reflectance over `step` x `step` work pixels, float32 (bands, rows, cols), and where all bands have data.

    The window is in pixels of the thinned grid; its last ones may be smaller. Bands without data count as 0.
    """
    height, width = scene.shape
    window = (
        slice(rows.start * step, min(rows.stop * step, height)),
        slice(cols.start * step, min(cols.stop * step, width)),
    )
    at_rows = np.arange(0, window[0].stop - window[0].start, step)
    at_cols = np.arange(0, window[1].stop - window[1].start, step)
    stack = np.empty((len(bands), len(at_rows), len(at_cols)), np.float32)
    valid = np.ones(stack.shape[1:], bool)
    for layer, name in zip(stack, bands, strict=True):
        pixels, known = on_work_grid(scene, name, *window)
        total = np.add.reduceat(
            np.add.reduceat(np.where(known, pixels, np.float32(0)), at_rows, axis=0), at_cols, axis=1
        )
        count = np.add.reduceat(np.add.reduceat(known.astype(np.float32), at_rows, axis=0), at_cols, axis=1)
        layer[...] = total / np.maximum(count, 1)
        valid &= count > 0
    return stack, valid


def on_work_grid(scene: Scene, name: str, rows: slice, cols: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Reflectance float32 of band `name` repeated onto a window of the work grid, and where it has data."""
    band = scene.band(name)
    factor = band.factor
    top, left = rows.start // factor, cols.start // factor
    pixels = scene.read(name, slice(top, -(-rows.stop // factor)), slice(left, -(-cols.stop // factor)))
    if factor > 1:
        at_rows = np.arange(rows.start, rows.stop) // factor - top
        at_cols = np.arange(cols.start, cols.stop) // factor - left
        pixels = pixels[at_rows[:, None], at_cols[None, :]]
    known = np.ones(pixels.shape, bool) if band.nodata is None else pixels != band.nodata
    return pixels.astype(np.float32) * np.float32(band.scale) + np.float32(band.offset), known


def _has(scene: Scene, bands: Sequence[str]) -> bool:
    return all(name in scene.item.bands for name in bands)


def _installed(method: str) -> bool:
    return importlib.util.find_spec({"csmask": "ukis_csmask"}.get(method, method)) is not None


def _require(scene: Scene, method: str, bands: Sequence[str]) -> None:
    missing: list[Any] = [name for name in bands if name not in scene.item.bands]
    if missing:
        raise InvalidSettings(
            f"{scene.id}: {method} needs the bands {', '.join(missing)} that the scene lacks: use another --mask"
        )
    if not _installed(method):
        raise InvalidSettings(f"--mask {method} is not installed: pip install 'declouder[{method}]'")
