"""Assembly: staged blocks and untouched source, put together stripe by stripe into the product's layers.

A stripe is as high as a row of blocks and as wide as the scene. What no block replaced is copied from the source, so
clear parts of a scene cost a read and a write. Statistics are gathered in passing, as integers: they do not depend on
how the stripes are cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.block import BlockResult, SceneJob
from pipeline.classes import NODATA, is_cloudy
from pipeline.composite import Provenance, refine
from pipeline.confidence import REPLACED, confidence_of
from pipeline.seams import SeamScore

if TYPE_CHECKING:
    from pipeline.cloudmask import CloudMask
    from pipeline.preview import Preview
    from pipeline.scene import SceneBand
    from pipeline.sink import Sink

_RGB = ("B04", "B03", "B02")


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

    def add(self, rows: slice, blocks: Iterable[BlockResult]) -> None:
        """Write one stripe.

        rows: window of the work grid, edges on whole cells. blocks: the blocks of this stripe in which something was
        replaced; all others are the source's.
        """
        width = self.job.scene.shape[1]
        blocks = list(blocks)
        empty = np.ones((rows.stop - rows.start, width), dtype=np.bool_)
        before, after = {}, {}
        for band in self.job.scene.bands:
            f = band.factor
            source = self.job.scene.read(band.name, slice(rows.start // f, -(-rows.stop // f)), slice(0, band.shape[1]))
            empty &= False if band.nodata is None else refine(source == band.nodata, f)
            out = source.copy() if blocks else source
            for block in blocks:
                out[:, block.cols.start // f : -(-block.cols.stop // f)] = block.bands[band.name]
            self.sink.write(band.name, rows.start // f, out)
            if band.name in self._shown:
                before[band.name], after[band.name] = refine(source, f), refine(out, f)
        provenance = np.where(empty, np.uint8(Provenance.NODATA), np.uint8(Provenance.OBSERVED))
        for block in blocks:
            provenance[:, block.cols] = block.provenance
        self.sink.write("provenance", rows.start, provenance)
        if self.confidence:
            self._add_confidence(rows, blocks, provenance)
        # A classification need not know where the bands end.
        self.sink.write("cloudmask", rows.start, np.where(empty, np.uint8(NODATA), self.mask.classes[rows]))
        self._counts += np.bincount(provenance.ravel(), minlength=len(Provenance))
        self._seams.add(rows.start, after[self._shown[0]], provenance)
        self.preview.add(
            rows.start, np.stack([before[n] for n in self._shown]), np.stack([after[n] for n in self._shown])
        )

    def _add_confidence(self, rows: slice, blocks: list[BlockResult], provenance: npt.NDArray[np.uint8]) -> None:
        """Write the stripe's confidence: outside of blocks nothing was replaced, so whatever is cloudy there was left so."""
        confidence = confidence_of(provenance, is_cloudy(self.mask.classes[rows]))
        for block in blocks:
            assert block.confidence is not None  # noqa: S101 (one network made all blocks of a run key)
            confidence[:, block.cols] = block.confidence
        self.sink.write("confidence", rows.start, confidence)
        for kind in REPLACED:
            self._percents[kind] += int(confidence[provenance == kind].sum(dtype=np.int64))

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

    @property
    def _shown(self) -> tuple[str, str, str]:
        return preview_bands(self.job.scene.bands)


def preview_bands(bands: Iterable[SceneBand]) -> tuple[str, str, str]:
    """Red, green and blue where the scene has them, else its finest band three times, as grey."""
    names = {band.name for band in bands}
    if names.issuperset(_RGB):
        return _RGB
    finest = min(bands, key=lambda band: band.factor).name
    return (finest, finest, finest)
