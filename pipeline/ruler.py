"""`Ruler`: measures predictions of one case over all of its regions in one pass.

Regions overlap: what is cloudy is also water, or in shadow. So the pixels are cut into cells that do not, each cell is measured once
(`srgan.metrics`), and a region is the sum of its cells. Bands are measured one by one, so that a band set is a sum as well; only the
spectral angle has to be found anew for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.cases import LEAST_PIXELS, Case
from pipeline.ground import GROUND
from srgan.metrics import Comparison, Moments

ANY = "any"
"""Ground of every kind."""


class Part(NamedTuple):
    """A region of `srgan.metrics.REGIONS`, and of that one kind of ground, or `ANY`."""

    region: str
    ground: str


class Measures(NamedTuple):
    """A prediction over one part."""

    whole: Moments
    """Over all bands."""
    bands: tuple[Moments, ...]
    """Of each band, without angles."""


class Ruler:
    """Cells and parts of one case. A part of fewer than `LEAST_PIXELS` pixels is none."""

    def __init__(self, case: Case) -> None:
        problem, self.case = case.problem, case
        self.known: NDArray[np.bool_] = problem.valid & case.known
        cloudy = case.cloudy
        # 0 nothing known, 1 clear, from 2 on masked: by ground, and whether there is shadow.
        cells = np.where(cloudy, 2 + 2 * case.ground + case.shadow, self.known.astype(np.uint8))
        sizes = np.bincount(cells.ravel(), minlength=2 + 2 * len(GROUND))
        self.cells = {code: cells == code for code in np.flatnonzero(sizes).tolist() if code}
        masked = [code for code in self.cells if code > 1]
        wanted = {
            Part("all", ANY): list(self.cells),
            Part("cloudy", ANY): masked,
            Part("clear_target", ANY): [1] if 1 in self.cells else [],
            Part("shadow", ANY): [code for code in masked if code % 2],
        }
        for number, name in enumerate(GROUND):
            if number:
                wanted[Part("cloudy", name)] = [code for code in masked if (code - 2) // 2 == number]
        self.parts = {
            part: codes for part, codes in wanted.items() if codes and int(sizes[codes].sum()) >= LEAST_PIXELS
        }
        self.clear: NDArray[np.bool_] = problem.valid & ~problem.mask
        self._same: dict[tuple[int, ...], Measures] = {}

    def take(self, prediction: NDArray[np.float32], channels: Sequence[int] | None = None) -> Taken:
        """Measure a prediction (C, H, W); channels: which of the case's bands it holds, all of them for None."""
        at = range(len(self.case.bands)) if channels is None else channels
        target = self.case.target[list(at)]
        return Taken(self, prediction, tuple(at), Comparison(prediction, target, self.known))

    def kept(self, prediction: NDArray[np.float32], channels: Sequence[int]) -> Measures | None:
        """The prediction of some channels against the input, where that is clear; None where too little is."""
        if int(self.clear.sum()) < LEAST_PIXELS:
            return None
        image = self.case.problem.image[list(channels)]
        if ((prediction != image) & self.clear).any():
            comparison = Comparison(prediction, image, self.clear)
            bands = comparison.bands(self.clear)
            return Measures(sum(bands, Moments()) + comparison.angles(self.clear), bands)
        # The rule, since composition leaves these pixels alone: measured once for all methods.
        wanted = tuple(channels)
        if wanted not in self._same:
            comparison = Comparison(image, image, self.clear)
            bands = comparison.bands(self.clear)
            self._same[wanted] = Measures(sum(bands, Moments()) + comparison.angles(self.clear), bands)
        return self._same[wanted]


class Taken:
    """One prediction, measured cell by cell."""

    def __init__(
        self,
        ruler: Ruler,
        prediction: NDArray[np.float32],
        channels: tuple[int, ...],
        comparison: Comparison,
    ) -> None:
        self._ruler, self._prediction, self._channels = ruler, prediction, channels
        self._cells = {code: comparison.bands(where) for code, where in ruler.cells.items()}
        self._angles = {channels: self._angles_of(comparison)}

    def measures(self, channels: Sequence[int]) -> dict[Part, Measures]:
        """Every part, over some of the case's bands, all of which the prediction holds."""
        wanted = tuple(channels)
        at = [self._channels.index(channel) for channel in wanted]
        prediction = self._prediction if wanted == self._channels else self._prediction[at]
        if wanted not in self._angles:
            target = self._ruler.case.target[list(wanted)]
            self._angles[wanted] = self._angles_of(Comparison(prediction, target, self._ruler.known))
        found: dict[Part, Measures] = {}
        for part, codes in self._ruler.parts.items():
            bands = tuple(sum((self._cells[code][band] for code in codes), Moments()) for band in at)
            angles = sum((self._angles[wanted][code] for code in codes), Moments())
            found[part] = Measures(sum(bands, Moments()) + angles, bands)
        if (kept := self._ruler.kept(prediction, wanted)) is not None:
            found[Part("clear_input", ANY)] = kept
        return found

    def _angles_of(self, comparison: Comparison) -> dict[int, Moments]:
        return {code: comparison.angles(where) for code, where in self._ruler.cells.items()}
