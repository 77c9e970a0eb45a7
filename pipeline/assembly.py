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
        scene, shown = self.job.scene, preview_bands(self.job.scene.bands)
        pictures = {name: _joined([block.bands[name] for block in blocks]) for name in dict.fromkeys(shown)}
        for band in scene.bands:
            pixels = pictures[band.name] if band.name in pictures else _joined([b.bands[band.name] for b in blocks])
            self.sink.write(band.name, rows.start // band.factor, pixels)
        provenance = _joined([block.provenance for block in blocks])
        self.sink.write("provenance", rows.start, provenance)
        # A classification need not know where the bands end.
        classes = np.where(provenance == Provenance.NODATA, np.uint8(NODATA), self.mask.classes[rows])
        self.sink.write("cloudmask", rows.start, classes)
        if self.confidence:
            self._add_confidence(rows, blocks, provenance)
        self._counts += np.bincount(provenance.ravel(), minlength=len(Provenance))
        factors = {band.name: band.factor for band in scene.bands}
        self._seams.add(rows.start, refine(pictures[shown[0]], factors[shown[0]]), provenance)
        before = {
            name: _joined([block.before.get(name, block.bands[name]) for block in blocks])
            for name in dict.fromkeys(shown)
        }
        self.preview.add(
            rows.start, *([refine(side[name], factors[name]) for name in shown] for side in (before, pictures))
        )

    def _add_confidence(self, rows: slice, blocks: Sequence[BlockResult], provenance: npt.NDArray[np.uint8]) -> None:
        parts = [block.confidence for block in blocks if block.confidence is not None]
        assert len(parts) == len(blocks)  # noqa: S101 (one network made all blocks of a run key)
        confidence = _joined(parts)
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


def _joined(parts: Sequence[npt.NDArray[Pixel]]) -> npt.NDArray[Pixel]:
    """Blocks side by side."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def preview_bands(bands: Iterable[SceneBand]) -> tuple[str, str, str]:
    """Red, green and blue where the scene has them, else its finest band three times, as grey."""
    names = {band.name for band in bands}
    if names.issuperset(_RGB):
        return _RGB
    finest = min(bands, key=lambda band: band.factor).name
    return (finest, finest, finest)
