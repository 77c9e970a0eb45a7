"""Assembly: blocks put together stripe by stripe into the product's layers.

A stripe is as high as a row of blocks and as wide as the scene. Statistics are gathered in passing, as integers: they do not depend on
how the stripes are cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.block import BlockResult, SceneJob
from pipeline.classes import NODATA
from pipeline.composite import Provenance, refine
from pipeline.confidence import REPLACED
from pipeline.seams import SeamScore

if TYPE_CHECKING:
    from pipeline.cloudmask import CloudMask
    from pipeline.preview import Preview
    from pipeline.scene import SceneBand
    from pipeline.sink import Sink

_RGB = ("B04", "B03", "B02")
_ROWS = 512
"""Rows put together at a time, to bound what is copied."""

Pixel = TypeVar("Pixel", np.uint8, np.uint16)


@dataclass(frozen=True)
class Statistics:
    """Figures of a finished product."""

    provenance: Mapping[str, float]
    """Class name -> share of the pixels that are not nodata, 0..1; `nodata` -> share of all pixels."""
    seam_score: float | None
    """Gradient at tile borders against elsewhere, in restored pixels; None where there are none."""
    confidence: Mapping[str, float] = field(default_factory=dict)
    """Class name -> mean confidence of its pixels, percent; replaced classes that have pixels, none without a confidence layer."""


@dataclass
class Assembler:
    """Writes the stripes of one scene to a sink, from top to bottom."""

    job: SceneJob
    mask: CloudMask
    sink: Sink
    preview: Preview
    confidence: bool = False
    """True where the blocks, and so the product, hold a confidence layer."""
    _counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(Provenance), np.int64))
    _percents: dict[Provenance, int] = field(default_factory=lambda: dict.fromkeys(REPLACED, 0))
    _seams: SeamScore = field(init=False)

    def __post_init__(self) -> None:
        self._seams = SeamScore(self.job.plan)

    def add(self, rows: slice, blocks: Sequence[BlockResult]) -> None:
        """Write one stripe.

        rows: window of the work grid, edges on whole cells. blocks: all of the stripe, from left to right.
        """
        step = self.job.cell * max(1, _ROWS // self.job.cell)
        for top in range(rows.start, rows.stop, step):
            self._add(rows.start, slice(top, min(top + step, rows.stop)), blocks)

    def _add(self, start: int, rows: slice, blocks: Sequence[BlockResult]) -> None:
        """Write some rows of a stripe that begins at `start`."""

        def joined(parts: Iterable[npt.NDArray[Pixel]], factor: int = 1) -> npt.NDArray[Pixel]:
            own = slice((rows.start - start) // factor, -(-(rows.stop - start) // factor))
            return np.concatenate([part[own] for part in parts], axis=1)

        shown, after, before = preview_bands(self.job.scene.bands), {}, {}
        for band in self.job.scene.bands:
            name, factor = band.name, band.factor
            pixels = joined((block.bands[name] for block in blocks), factor)
            self.sink.write(name, rows.start // factor, pixels)
            if name in shown:
                after[name] = refine(pixels, factor)
                before[name] = refine(joined((b.before.get(name, b.bands[name]) for b in blocks), factor), factor)
        provenance = joined(block.provenance for block in blocks)
        self.sink.write("provenance", rows.start, provenance)
        # A classification need not know where the bands end.
        classes = np.where(provenance == Provenance.NODATA, np.uint8(NODATA), self.mask.classes[rows])
        self.sink.write("cloudmask", rows.start, classes)
        if self.confidence:
            parts = [block.confidence for block in blocks if block.confidence is not None]
            assert len(parts) == len(blocks)  # noqa: S101 (one network made all blocks of a run key)
            confidence = joined(parts)
            self.sink.write("confidence", rows.start, confidence)
            for kind in REPLACED:
                self._percents[kind] += int(confidence[provenance == kind].sum(dtype=np.int64))
        self._counts += np.bincount(provenance.ravel(), minlength=len(Provenance))
        self._seams.add(rows.start, after[shown[0]], provenance)
        self.preview.add(rows.start, [before[name] for name in shown], [after[name] for name in shown])

    @property
    def statistics(self) -> Statistics:
        """Figures over all stripes so far."""
        total, filled = int(self._counts.sum()), int(self._counts[1:].sum())
        shares = {
            kind.name.lower(): int(self._counts[kind]) / max(total if kind == Provenance.NODATA else filled, 1)
            for kind in Provenance
        }
        means = {
            kind.name.lower(): total / int(self._counts[kind])
            for kind, total in self._percents.items()
            if self.confidence and self._counts[kind]
        }
        return Statistics(shares, self._seams.value, means)


def preview_bands(bands: Iterable[SceneBand]) -> tuple[str, str, str]:
    """Red, green and blue where the scene has them, else its finest band three times, as grey."""
    names = {band.name for band in bands}
    if names.issuperset(_RGB):
        return _RGB
    finest = min(bands, key=lambda band: band.factor).name
    return (finest, finest, finest)
