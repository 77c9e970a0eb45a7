"""The seam score: do tile borders show in what was restored?

    score = mean |step across a tile border| / mean |step between any other neighbours|

over neighbouring pixels that were both replaced in full. 1 means that borders look like everything else; None that
nothing was restored across a border. Sums are integers, so the score does not depend on how stripes are cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.composite import Provenance
from pipeline.tiling import Axis, TilePlan


def _borders(axis: Axis) -> npt.NDArray[np.bool_]:
    """bool (length,), True where the step from the pixel before crosses the start or the end of a tile."""
    border = np.zeros(axis.length, dtype=np.bool_)
    starts = np.array(axis.starts)
    edges = np.concatenate([starts[1:], starts[:-1] + axis.tile])
    border[edges[edges < axis.length]] = True
    return border


@dataclass
class SeamScore:
    """Collects steps while full-width stripes of the finest band pass, from top to bottom."""

    plan: TilePlan
    _sums: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 2), np.int64))
    """[border or not, (sum of steps, number of steps)]"""
    _above: tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]] | None = None

    def add(self, row: int, image: npt.NDArray[np.uint16], provenance: npt.NDArray[np.uint8]) -> None:
        """Take the next stripe: image and provenance (rows, width), `row` its first row in the scene."""
        values = image.astype(np.int32)
        replaced = (provenance == Provenance.RESTORED) | (provenance == Provenance.GENERATED)
        vertical, horizontal = _borders(self.plan.vertical), _borders(self.plan.horizontal)
        both = replaced[:, 1:] & replaced[:, :-1]
        self._count(np.abs(np.diff(values, axis=1)), both, np.broadcast_to(horizontal[1:], both.shape))
        if self._above is not None:
            values = np.concatenate([self._above[0], values])
            replaced = np.concatenate([self._above[1], replaced])
            row -= 1
        both = replaced[1:] & replaced[:-1]
        at_border = vertical[row + 1 : row + len(values)][:, None]
        self._count(np.abs(np.diff(values, axis=0)), both, np.broadcast_to(at_border, both.shape))
        self._above = values[-1:], replaced[-1:]

    def _count(self, steps: npt.NDArray[np.int32], both: npt.NDArray[np.bool_], border: npt.NDArray[np.bool_]) -> None:
        for i, chosen in enumerate((both & border, both & ~border)):
            self._sums[i] += (int(steps[chosen].sum(dtype=np.int64)), int(chosen.sum()))

    @property
    def value(self) -> float | None:
        """The score, or None where no two replaced pixels meet at a border or elsewhere."""
        (border_sum, border_count), (other_sum, other_count) = self._sums.tolist()
        if not border_count or not other_count or not other_sum:
            return None
        return float((border_sum / border_count) / (other_sum / other_count))
