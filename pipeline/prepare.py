"""What is known of a scene before the network runs: its mask, its references, what will be replaced and with what support."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from catalogs.item import SceneItem
from pipeline.alpha import feather_pixels
from pipeline.area import inside_area
from pipeline.block import SceneJob
from pipeline.clock import Clock
from pipeline.cloudmask import CloudMask
from pipeline.errors import InvalidScene, InvalidSettings, SceneRefused
from pipeline.known_masks import mask_of
from pipeline.radiometry import check_radiometry
from pipeline.references import Reference, select_references
from pipeline.scene import Scene
from pipeline.settings import DecloudSettings
from pipeline.tiling import plan_tiles

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_ROWS = 1024
"""Rows at a time when whole-scene masks are counted."""


@dataclass(frozen=True)
class Prepared:
    """A scene with all that decides which pixels are replaced."""

    scene: Scene
    mask: CloudMask
    references: tuple[Reference, ...]
    skipped: Mapping[str, str]
    """Dates that could not serve as references -> why."""
    target: npt.NDArray[np.bool_] = field(repr=False)
    """bool (rows, cols) of the work grid, True = to be replaced."""
    replaced: float
    """Share of the pixels with data that will be replaced, 0..1."""
    left_cloudy: float
    """Share of the pixels with data that are cloudy and will not be replaced, because they lie outside the area, 0..1."""
    unsupported: float
    """Share of the pixels with data that will be replaced without a clear other date, 0..1."""

    def close(self) -> None:
        """Close the references' files; the scene's belong to whoever opened it."""
        for reference in self.references:
            reference.scene.close()


def prepare(
    scene: Scene,
    settings: DecloudSettings,
    candidates: Sequence[SceneItem] = (),
    area: BaseGeometry | None = None,
    clock: Clock | None = None,
    threads: int = 1,
) -> Prepared:
    """Mask a scene and find its references.

    candidates: other dates. area: EPSG:4326, looked at with `settings.clip` only. clock: told of the stages.
    threads: parts of a mask made at a time.
    Raises InvalidScene for a scene without data or with contradictory metadata, InvalidSettings for a mask that does
    not fit.
    """
    clock = clock or Clock()
    with clock.stage("mask", told=True):
        check_radiometry(scene)
        mask = mask_of(scene, settings.mask, settings.grow, threads=threads)
    target = np.empty(scene.shape, np.bool_)
    for start in range(0, scene.shape[0], _ROWS):
        rows = slice(start, min(start + _ROWS, scene.shape[0]))
        target[rows] = mask.cloudy(rows, slice(0, scene.shape[1]))
    filled = int(np.count_nonzero(mask.classes))
    if filled == 0:
        raise InvalidScene(f"{scene.id}: every pixel is nodata; there is nothing to restore")
    cloudy = int(np.count_nonzero(target))
    if settings.clip:
        if area is None:
            raise InvalidSettings("--clip needs an area: give --aoi")
        target &= inside_area(scene.geobox, area)
    with clock.stage("references", told=True):
        selection = select_references(
            scene,
            mask,
            candidates,
            settings.references,
            settings.window_days,
            settings.mask,
            settings.grow,
            threads=threads,
        )
    supported = _supported(target, selection.references)
    replaced = int(np.count_nonzero(target))
    return Prepared(
        scene=scene,
        mask=mask,
        references=selection.references,
        skipped=selection.skipped,
        target=target,
        replaced=replaced / filled,
        left_cloudy=(cloudy - replaced) / filled,
        unsupported=(replaced - supported) / filled,
    )


def refuse_if_made_up(prepared: Prepared, settings: DecloudSettings) -> None:
    """Raise SceneRefused where more of the scene would be made up without support than the settings allow."""
    if prepared.unsupported > settings.max_generated:
        found = len(prepared.references)
        raise SceneRefused(
            f"{prepared.scene.id}: {prepared.unsupported:.0%} of it would be made up without a clear other date "
            f"({found} reference{'' if found == 1 else 's'}), more than --max-generated {settings.max_generated:g}; "
            "give more dates (--catalog, --references, --window-days) or a higher --max-generated"
        )


def make_job(prepared: Prepared, settings: DecloudSettings, margin: int, grid: int) -> SceneJob:
    """The plan of the scene's blocks for a network of the given margin and grid (pixels).

    Raises InvalidSettings where tile and overlap do not fit.
    """
    scene = prepared.scene
    overlap = settings.overlap
    if overlap is None:
        if margin > settings.tile // 2:
            raise InvalidSettings(
                f"the checkpoint's margin of {margin} pixels needs a larger tile than {settings.tile}: give --tile "
                f"{-(-2 * margin // 64) * 64}, or ask for a smaller --overlap"
            )
        # Even for a network that looks at single pixels, a few shared pixels hide its rounding.
        overlap = min(max(32, margin), settings.tile // 2)
        overlap += (settings.tile - overlap) % grid
    feather = feather_pixels(settings.feather, settings.grow, scene.pixel_size)
    cell = math.lcm(*(band.factor for band in scene.bands))
    plan = plan_tiles(prepared.target, settings.tile, overlap, cell, grid)
    return SceneJob(scene, prepared.target, prepared.mask.classes, prepared.references, plan, feather)


def _supported(target: npt.NDArray[np.bool_], references: Sequence[Reference]) -> int:
    """Pixels of the target that are clear in at least one other date."""
    count = 0
    width = target.shape[1]
    for start in range(0, target.shape[0], _ROWS):
        rows = slice(start, min(start + _ROWS, target.shape[0]))
        if references and target[rows].any():
            clear = np.logical_or.reduce([reference.valid(rows, slice(0, width)) for reference in references])
            count += int(np.count_nonzero(clear & target[rows]))
    return count
