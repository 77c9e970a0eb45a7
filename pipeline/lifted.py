"""`LiftedClouds`: the clouds of one date, taken off its ground and laid over a window of another date of the same tile.

Strategy. A cloudy date (the donor) and a clear one (the ground) tell what the donor's clouds take from the light and what they add, band by
band (`srgan.transplant`); the same is then done to a third date, the truth. A shadow has no light of its own: where the donor's mask says
shadow, the truth is darkened by the share of the ground's light that the donor has left around the pixel, and never brightened. Everything
that a window needs lies within a halo of it, and ground and donor are brought to one level by what the whole scenes say: windows of any size
give the same pixels. (Where there is a B10, whether a cloud is of ice is decided in each window.)

Where the clear date is not clear, or was not seen, the truth itself serves as the ground: the donor's own light then comes out, with the
truth below thin cloud smoothed as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.classes import NODATA, SHADOW, is_cloudy
from pipeline.composite import refine
from pipeline.growth import GROW, dilate, effective_radius, reach
from pipeline.harmonise import Harmonisation
from pipeline.scene import Scene, SceneBand

HALO = 24
"""Pixels around a window that its clouds may depend on, at least."""
_DARKEST = 0.1  # share of the light that is left in a shadow, at least
_NEAR = 2  # pixels around one over which the depth of a shadow is averaged


@dataclass(frozen=True, eq=False)
class LiftedClouds:
    """Three scenes on one grid, of the same bands, and what is known of them."""

    truth: Scene
    donor: Scene
    ground: Scene
    classes: NDArray[np.uint8]
    """Of the truth, not grown."""
    cloudy: NDArray[np.uint8]
    """Classes of the donor, not grown."""
    clear: NDArray[np.bool_]
    """Where the ground is under no cloud of its own, grown; a shadow is ground, and the river that is taken for one as well."""
    bare: NDArray[np.bool_]
    """The same of the truth."""
    level: Harmonisation
    """What brings the ground to the level of the donor."""
    level_truth: Harmonisation
    """What brings the truth there."""

    @property
    def cell(self) -> int:
        """Work pixels per pixel of the coarsest band, per axis."""
        return lcm(*(band.factor for band in self.truth.bands))

    def laid(self, rows: slice, cols: slice) -> NDArray[np.bool_]:
        """Where a window gets cloud or shadow."""
        at = (rows, cols)
        laid = is_cloudy(self.cloudy[at]) & (self.clear[at] | self.bare[at])
        laid &= self.classes[at] != NODATA
        return laid

    def overlaid(self) -> NDArray[np.uint8]:
        """Classes of the truth under the clouds, not grown."""
        whole = (slice(None), slice(None))
        return np.where(self.laid(*whole), self.cloudy, self.classes)

    def over_truth(self, rows: slice, cols: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The truth under the clouds, (C, rows, cols) reflectance of a window on whole cells, and where that differs from the truth.

        It differs inside the grown clouds only.
        """
        import torch
        from torch.nn import functional as F  # noqa: N812

        from srgan.spec import BANDS
        from srgan.transplant import FEATHER, estimate, paste

        height, width = self.truth.shape
        radius = effective_radius(GROW, self.truth.pixel_size)
        halo = max(HALO, *reach(radius, self.truth.pixel_size))
        halo += -halo % self.cell
        wide = (
            slice(max(rows.start - halo, 0), min(rows.stop + halo, height)),
            slice(max(cols.start - halo, 0), min(cols.stop + halo, width)),
        )
        core = (
            slice(None),
            slice(rows.start - wide[0].start, rows.stop - wide[0].start),
            slice(cols.start - wide[1].start, cols.stop - wide[1].start),
        )
        truth, has_truth = reflectance(self.truth, *wide)
        laid = self.laid(*wide)
        if not laid.any():
            return truth[core], laid[core[1:]]
        donor, has_donor = reflectance(self.donor, *wide)
        ground, has_ground = reflectance(self.ground, *wide)
        clear = self.clear[wide] & has_ground
        ground = np.where(clear, self.level(ground), self.level_truth(truth))
        known = has_truth & has_donor & (clear | self.bare[wide])
        cloud = (self.cloudy[wide] != SHADOW) & laid & known
        shadow = (self.cloudy[wide] == SHADOW) & laid & known
        seen = truth * _shade(donor, ground, shadow)
        if cloud.any():
            # What is beyond the clouds' faded edge says nothing here: with no difference left there, no block shifts the level by itself.
            plane = torch.from_numpy(cloud.astype(np.float32))[None]
            near = F.max_pool2d(plane, 2 * FEATHER + 1, 1, FEATHER)[0].numpy() > 0
            above = np.where(near & known, donor, ground.clip(0))
            channels = [BANDS.index(band.name) for band in self.truth.bands]
            images = []
            for image in (above, ground.clip(0), seen):
                full = torch.zeros(len(BANDS), *image.shape[1:])
                full[channels] = torch.from_numpy(image.astype(np.float32))
                images.append(full)
            one = estimate(images[0], images[1], plane)
            pasted = paste([one], images[2][None], torch.from_numpy((near & known).astype(np.float32))[None, None])
            seen = pasted.image[0, channels].numpy()
            # A cloud's light is smoothed where it is thin; beyond the mask that must make nothing brighter than the donor is above its ground.
            seen = np.where(laid, seen, np.minimum(seen, truth + (donor - ground).clip(0)))
        changed = dilate(laid, radius, self.truth.pixel_size) & known & (seen != truth).any(axis=0)
        return np.where(changed, seen, truth)[core], changed[core[1:]]


def _shade(
    donor: NDArray[np.float32], ground: NDArray[np.float32], shadow: NDArray[np.bool_]
) -> NDArray[np.float32] | np.float32:
    """Share of the light that is left, (C, rows, cols) 0.1..1, fading out around the shadow."""
    if not shadow.any():
        return np.float32(1)
    from scipy.ndimage import uniform_filter

    def near(values: NDArray[Any]) -> NDArray[np.float32]:
        mean: NDArray[np.float32] = uniform_filter(values.astype(np.float32), 2 * _NEAR + 1, mode="nearest")
        return mean

    share = near(shadow)
    fade = np.minimum(2 * share, 1)
    left = np.ones_like(donor)
    for channel in range(len(donor)):
        lit = near(np.where(shadow, ground[channel], 0))
        dark = near(np.where(shadow, donor[channel], 0))
        depth = np.clip(np.divide(dark, lit, out=np.ones_like(lit), where=(share > 1e-3) & (lit > 1e-4)), _DARKEST, 1)
        left[channel] = 1 - (1 - depth) * fade
    return left


def reflectance(scene: Scene, rows: slice, cols: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(C, rows, cols) of a window of the work grid on whole cells, and where every band holds data.

    Pixels of coarser bands are repeated.
    """
    shape = (rows.stop - rows.start, cols.stop - cols.start)
    values, there = np.empty((len(scene.bands), *shape), np.float32), np.ones(shape, bool)
    for channel, band in enumerate(scene.bands):
        pixels = read_window(scene, band, rows, cols)
        values[channel] = refine(pixels * np.float32(band.scale) + np.float32(band.offset), band.factor)
        if band.nodata is not None:
            there &= refine(pixels != band.nodata, band.factor)
    return values, there


def read_window(scene: Scene, band: SceneBand, rows: slice, cols: slice) -> NDArray[np.uint16]:
    """A window of the work grid on whole cells, in the band's own pixels."""
    f = band.factor
    return scene.read(band.name, slice(rows.start // f, -(-rows.stop // f)), slice(cols.start // f, -(-cols.stop // f)))
