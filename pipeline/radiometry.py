"""`check_radiometry`: refuse a scene whose metadata and pixels contradict each other about the offset.

Since baseline 04.00 digital numbers carry 1000 that must be taken off, and catalogues exist that have taken it off already
but still say so. Guessing would be wrong in either case; a definite contradiction is refused with both sides of it.
"""

from __future__ import annotations

import numpy as np

from pipeline.errors import InvalidScene
from pipeline.reader import step_for
from pipeline.scene import Scene

_SAMPLE = 500_000  # pixels of a band looked at
_IMPOSSIBLE = -0.03  # reflectance; atmospheric correction overshoots, but not that far
_SHARE = 0.01  # of the valid pixels


def check_radiometry(scene: Scene) -> None:
    """Raise InvalidScene where applying a band's offset would make more than 1 % of it impossibly dark.

    Only bands with a negative offset are looked at, on a thinned sample. Raises ReadFailed for a bad connection.
    """
    step = step_for(scene.shape, _SAMPLE)
    for band in scene.bands:
        if band.offset >= 0:
            continue
        pixels = scene.read_decimated(band.name, step)
        valid = np.ones(pixels.shape, bool) if band.nodata is None else pixels != band.nodata
        # Overviews mix the outermost pixels with nodata: leave them out.
        inner = valid.copy()
        inner[1:] &= valid[:-1]
        inner[:-1] &= valid[1:]
        inner[:, 1:] &= valid[:, :-1]
        inner[:, :-1] &= valid[:, 1:]
        values = pixels[inner]
        if not values.size:
            continue
        share = float(np.mean(values * band.scale + band.offset < _IMPOSSIBLE))
        if share > _SHARE:
            raise InvalidScene(
                f"{scene.id}: the metadata say that an offset of {band.offset:g} is still to be applied to {band.name}, "
                f"but {share:.1%} of its pixels would then have a reflectance below {_IMPOSSIBLE:g} ({band.href}): "
                "it seems applied already; correct the item"
            )
