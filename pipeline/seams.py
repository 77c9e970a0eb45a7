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

_ROWS = 128
"""Rows looked at a time: what is made of them stays in the processor's cache."""


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
    _above: tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]] | None = None

    def add(self, row: int, image: npt.NDArray[np.uint16], provenance: npt.NDArray[np.uint8]) -> None:
        """Take the next stripe: image and provenance (rows, width), `row` its first row in the scene."""
        vertical, horizontal = _borders(self.plan.vertical), _borders(self.plan.horizontal)
        for start in range(0, len(image), _ROWS):
            part, kinds = image[start : start + _ROWS], provenance[start : start + _ROWS]
            replaced = (kinds == Provenance.RESTORED) | (kinds == Provenance.GENERATED)
            above = self._above
            self._above = part[-1:], replaced[-1:]
            if not replaced.any():
                continue
            self._count(part[:, 1:], part[:, :-1], replaced[:, 1:] & replaced[:, :-1], horizontal[1:], axis=1)
            first = row + start
            if above is not None:
                part, replaced = np.concatenate([above[0], part]), np.concatenate([above[1], replaced])
                first -= 1
            at_border = vertical[first + 1 : first + len(part)]
            self._count(part[1:], part[:-1], replaced[1:] & replaced[:-1], at_border, axis=0)

    def _count(
        self,
        first: npt.NDArray[np.uint16],
        second: npt.NDArray[np.uint16],
        both: npt.NDArray[np.bool_],
        border: npt.NDArray[np.bool_],
        axis: int,
    ) -> None:
        """Add up the steps between neighbours that were both replaced; `border` tells along `axis` which cross a border."""
        steps = np.maximum(first, second)
        steps -= np.minimum(first, second)
        steps *= both
        sums, counts = (part.sum(axis=1 - axis, dtype=np.int64) for part in (steps, both))
        for i, chosen in enumerate((border, ~border)):
            self._sums[i] += (int(sums[chosen].sum()), int(counts[chosen].sum()))

    @property
    def value(self) -> float | None:
        """The score, or None where no two replaced pixels meet at a border or elsewhere."""
        (border_sum, border_count), (other_sum, other_count) = self._sums.tolist()
        if not border_count or not other_count or not other_sum:
            return None
        return float((border_sum / border_count) / (other_sum / other_count))
