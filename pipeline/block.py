"""Blocks: groups of tiles that are read, restored and composed together; the unit of work and of resuming.

Strategy. A block owns a rectangle of the work grid. To fill it, every needed tile that touches the rectangle is run,
on pixels that reach beyond it; what falls outside belongs to a neighbour, which needs the same tile's same result.
Block edges are whole pixels of the coarsest band, so no pixel of any band has two owners. Nothing here depends on how
the scene is cut into blocks: positions, weights and the order of sums come from the scene's `TilePlan`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from math import lcm
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.alpha import alpha_halo, cloud_alpha
from pipeline.blending import tile_weights
from pipeline.classes import NODATA, is_cloudy
from pipeline.composite import Provenance, coarsen_max, coarsen_mean, compose_band, refine
from pipeline.confidence import composed_spread, confidence_of
from pipeline.errors import InvalidSettings
from pipeline.inference import Restorer, TileInput
from pipeline.tiling import Tile, TilePlan

if TYPE_CHECKING:
    from pipeline.references import Reference
    from pipeline.scene import Scene, SceneBand
    from pipeline.tilestore import TileStore


@dataclass(frozen=True)
class SceneJob:
    """Everything that the blocks of one scene share."""

    scene: Scene
    target: npt.NDArray[np.bool_]
    """bool (rows, cols) of the work grid, True = to be replaced (grown cloud or shadow, inside the area)."""
    classes: npt.NDArray[np.uint8]
    """(rows, cols) of the work grid, classes of the cloud mask; 0 = nodata. Cloudy pixels that are not in `target` stay
    as they are, but the network is told of them and nothing fades towards them."""
    references: tuple[Reference, ...]
    plan: TilePlan
    feather: int
    """Pixels over which the result fades in."""

    @property
    def cell(self) -> int:
        """Work pixels per pixel of the coarsest band."""
        return lcm(*(band.factor for band in self.scene.bands))


@dataclass(frozen=True)
class BlockResult:
    """One block, composed."""

    rows: slice
    cols: slice
    """Window of the work grid."""
    bands: dict[str, npt.NDArray[np.uint16]] = field(repr=False)
    """Band name -> (rows / factor, cols / factor) DN."""
    provenance: npt.NDArray[np.uint8] = field(repr=False)
    """(rows, cols) of the work grid, classes of `Provenance`."""
    confidence: npt.NDArray[np.uint8] | None = field(default=None, repr=False)
    """(rows, cols) of the work grid, percent as `pipeline.confidence` defines them; None where the network says nothing of its errors."""


def block_edges(length: int, edge: int, cell: int) -> list[slice]:
    """The blocks along an axis.

    length: pixels of the work grid. edge: pixels of a block. cell: work pixels per pixel of the coarsest band.
    Raises InvalidSettings for an edge that would cut a coarse pixel.
    """
    if edge < 1 or edge % cell:
        raise InvalidSettings(f"block edge {edge} must be a multiple of {cell}, the coarsest band's pixel")
    return [slice(start, min(start + edge, length)) for start in range(0, length, edge)]


def compute_block(
    job: SceneJob,
    rows: slice,
    cols: slice,
    restorer: Restorer,
    store: TileStore | None = None,
    on_tile: Callable[[], None] | None = None,
) -> BlockResult:
    """Restore and compose one block.

    rows, cols: window of the work grid, edges on whole cells. store: shares tiles with the blocks around; without it
    every tile of this block is run. on_tile: called for each tile that the network has done.
    Raises InvalidScene or ReadFailed where pixels cannot be read, and whatever the restorer raises.
    """
    tiles = list(job.plan.touching(rows, cols))
    window = _Window.around(job, rows, cols, tiles)
    shape = (rows.stop - rows.start, cols.stop - cols.start)
    total = np.zeros((len(job.scene.bands) + len(restorer.groups), *shape), dtype=np.float32)
    bad = np.zeros(shape, dtype=np.bool_)

    def run(chosen: Sequence[Tile]) -> Iterator[npt.NDArray[np.float32]]:
        for result in restorer.restore(window.inputs(chosen)):
            if on_tile is not None:
                on_tile()
            yield result

    with ExitStack() as stack:
        # Closed here and not when the garbage is collected: other blocks may be waiting for this one's tiles.
        results = run(tiles) if store is None else stack.enter_context(closing(store.results(tiles, run)))
        for tile, restored in zip(tiles, results, strict=True):
            inner, outer = _shared(tile.rows, rows), _shared(tile.cols, cols)
            weights = tile_weights(job.plan.vertical, job.plan.horizontal, tile.row, tile.col)
            part = (_inside(inner, tile.rows), _inside(outer, tile.cols))
            own = (_inside(inner, rows), _inside(outer, cols))
            answer = restored[:, window.filled(tile)]
            if not np.isfinite(answer).all() or (answer[len(job.scene.bands) :] < 0).any():
                bad[own] |= weights[part] > 0
                continue
            total[(slice(None), *own)] += restored[(slice(None), *part)] * weights[part]
    return _compose(job, rows, cols, window, restorer.groups, total, bad)


def _compose(
    job: SceneJob,
    rows: slice,
    cols: slice,
    window: _Window,
    groups: tuple[str, ...],
    total: npt.NDArray[np.float32],
    bad: npt.NDArray[np.bool_],
) -> BlockResult:
    present = window.present[_inside(rows, window.rows), _inside(cols, window.cols)]
    alpha = _block_alpha(job, rows, cols)
    alpha[~present] = 0.0
    # A coarse pixel with any part in a refused tile is refused as a whole: its mean would lack that part.
    bad = refine(coarsen_max(bad, job.cell), job.cell) if bad.any() else bad
    alpha_used = np.where(bad, np.float32(0), alpha)
    touched = np.zeros(alpha.shape, dtype=np.bool_)
    bands = {}
    for channel, band in enumerate(job.scene.bands):
        source = window.read(band)[_coarse(_inside(rows, window.rows), band), _coarse(_inside(cols, window.cols), band)]
        band_alpha = coarsen_max(alpha_used, band.factor)
        mean = coarsen_mean(total[channel], present, band.factor)
        bands[band.name], refused = compose_band(source, mean, band_alpha, band.scale, band.offset, band.nodata)
        touched |= refine(band_alpha > 0, band.factor)
        bad |= refine(refused, band.factor)
    supported = np.zeros(alpha.shape, dtype=np.bool_)
    for _, _, clear in window.dates:
        supported |= clear[_inside(rows, window.rows), _inside(cols, window.cols)]
    provenance = np.full(alpha.shape, Provenance.OBSERVED, dtype=np.uint8)
    provenance[touched] = Provenance.BLENDED
    full = alpha_used == 1
    provenance[full & supported] = Provenance.RESTORED
    provenance[full & ~supported] = Provenance.GENERATED
    provenance[bad & (alpha > 0)] = Provenance.REFUSED
    provenance[~present] = Provenance.NODATA
    if not groups:
        return BlockResult(rows, cols, bands, provenance)
    errors = dict(zip(groups, total[len(bands) :], strict=True))
    kinds = ((band.name, band.factor) for band in job.scene.bands)
    left = is_cloudy(job.classes[rows, cols]) & ~job.target[rows, cols]
    spread = composed_spread(errors, alpha_used, present, kinds)
    return BlockResult(rows, cols, bands, provenance, confidence_of(provenance, left, spread))


def _block_alpha(job: SceneJob, rows: slice, cols: slice) -> npt.NDArray[np.float32]:
    halo = alpha_halo(job.feather)
    height, width = job.target.shape
    wide = (
        slice(max(rows.start - halo, 0), min(rows.stop + halo, height)),
        slice(max(cols.start - halo, 0), min(cols.stop + halo, width)),
    )
    clear = (job.classes[wide] != NODATA) & ~is_cloudy(job.classes[wide])
    alpha = cloud_alpha(job.target[wide], clear, job.feather)
    return alpha[_inside(rows, wide[0]), _inside(cols, wide[1])].copy()


@dataclass
class _Window:
    """The pixels that the tiles of one block need, read once, at native resolutions."""

    job: SceneJob
    rows: slice
    cols: slice
    bands: dict[str, npt.NDArray[np.uint16]] = field(default_factory=dict)
    dates: list[tuple[Reference, dict[str, npt.NDArray[np.uint16]], npt.NDArray[np.bool_]]] = field(
        default_factory=list
    )
    complete: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    """bool (rows, cols), True = data in every band: what the network may look at."""
    present: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    """bool (rows, cols), True = data in some band: what may be restored, each band where it has data."""

    @classmethod
    def around(cls, job: SceneJob, rows: slice, cols: slice, tiles: list[Tile]) -> _Window:
        height, width = job.scene.shape
        cell = job.cell
        window = cls(
            job,
            _widened([rows, *(tile.rows for tile in tiles)], cell, height),
            _widened([cols, *(tile.cols for tile in tiles)], cell, width),
        )
        shape = (window.rows.stop - window.rows.start, window.cols.stop - window.cols.start)
        window.complete, window.present = np.ones(shape, np.bool_), np.zeros(shape, np.bool_)
        for band in job.scene.bands:
            if band.nodata is None:
                window.present[:] = True
                continue
            has = refine(window.read(band) != band.nodata, band.factor)
            window.complete &= has
            window.present |= has
        if tiles:
            window.dates = [window.date(reference) for reference in job.references]
        return window

    def read(self, band: SceneBand) -> npt.NDArray[np.uint16]:
        if band.name not in self.bands:
            self.bands[band.name] = self.job.scene.read(band.name, _coarse(self.rows, band), _coarse(self.cols, band))
        return self.bands[band.name]

    def date(self, reference: Reference) -> tuple[Reference, dict[str, npt.NDArray[np.uint16]], npt.NDArray[np.bool_]]:
        valid = reference.valid(self.rows, self.cols).copy()
        pixels = {}
        for band in self.job.scene.bands:
            other = reference.scene.band(band.name)
            pixels[band.name] = reference.scene.read(band.name, _coarse(self.rows, band), _coarse(self.cols, band))
            if other.nodata is not None:
                valid &= ~refine(pixels[band.name] == other.nodata, band.factor)
        return reference, pixels, valid

    def filled(self, tile: Tile) -> npt.NDArray[np.bool_]:
        """bool (tile, tile), True = the scene has data in some band; False behind the scene's end."""
        height, width = self.job.scene.shape
        rows, cols = _shared(tile.rows, slice(0, height)), _shared(tile.cols, slice(0, width))
        filled = np.zeros((tile.size, tile.size), np.bool_)
        filled[: rows.stop - rows.start, : cols.stop - cols.start] = self.present[
            _inside(rows, self.rows), _inside(cols, self.cols)
        ]
        return filled

    def inputs(self, tiles: Sequence[Tile]) -> Iterator[TileInput]:
        for tile in tiles:
            yield self.input(tile)

    def input(self, tile: Tile) -> TileInput:
        height, width = self.job.scene.shape
        rows, cols = _shared(tile.rows, slice(0, height)), _shared(tile.cols, slice(0, width))
        at = (_inside(rows, self.rows), _inside(cols, self.cols))
        valid = self.complete[at]
        bands = self.job.scene.bands
        cloudy = np.stack([self._reflectance(self.read(b), b, b.scale, b.offset, at) for b in bands])
        cloudy[:, ~valid] = 0.0
        references = np.zeros((len(self.dates), *cloudy.shape), np.float32)
        reference_valid = np.zeros((len(self.dates), *valid.shape), np.bool_)
        for i, (reference, pixels, clear) in enumerate(self.dates):
            reference_valid[i] = clear[at]
            others = [reference.scene.band(band.name) for band in bands]
            references[i] = reference.harmonise(
                np.stack(
                    [
                        self._reflectance(pixels[band.name], band, other.scale, other.offset, at)
                        for band, other in zip(bands, others, strict=True)
                    ]
                )
            )
            references[i][:, ~reference_valid[i]] = 0.0
        return TileInput(
            cloudy=_padded(cloudy, tile.size),
            mask=_padded(is_cloudy(self.job.classes[rows, cols]).astype(np.float32), tile.size),
            valid=_padded(valid, tile.size),
            references=_padded(references, tile.size),
            reference_valid=_padded(reference_valid, tile.size),
            days=tuple(reference.days for reference, _, _ in self.dates),
        )

    @staticmethod
    def _reflectance(
        pixels: npt.NDArray[np.uint16], band: SceneBand, scale: float, offset: float, at: tuple[slice, slice]
    ) -> npt.NDArray[np.float32]:
        """One band of a tile on the work grid, by repeating coarse pixels: their mean is again the coarse pixel."""
        f = band.factor
        first, left = at[0].start // f, at[1].start // f
        coarse = pixels[first : -(-at[0].stop // f), left : -(-at[1].stop // f)]
        values = refine(coarse * np.float32(scale) + np.float32(offset), f)
        top, side = at[0].start - first * f, at[1].start - left * f
        return values[top : top + at[0].stop - at[0].start, side : side + at[1].stop - at[1].start]


def _padded(array: npt.NDArray, size: int) -> npt.NDArray:
    """The last two axes filled up to `size` by mirroring, for scenes smaller than a tile."""
    if array.shape[-2:] == (size, size):
        return array
    if array.size == 0:
        return np.zeros((*array.shape[:-2], size, size), array.dtype)
    return np.pad(array, [(0, 0)] * (array.ndim - 2) + [(0, size - n) for n in array.shape[-2:]], mode="symmetric")


def _shared(a: slice, b: slice) -> slice:
    return slice(max(a.start, b.start), min(a.stop, b.stop))


def _inside(window: slice, frame: slice) -> slice:
    """`window` counted from the start of `frame`."""
    return slice(window.start - frame.start, window.stop - frame.start)


def _coarse(window: slice, band: SceneBand) -> slice:
    """A window of the work grid on whole cells, in the band's own pixels."""
    return slice(window.start // band.factor, -(-window.stop // band.factor))


def _widened(windows: list[slice], cell: int, length: int) -> slice:
    """The smallest window on whole cells that holds all of them."""
    start, stop = min(w.start for w in windows), max(w.stop for w in windows)
    return slice(start // cell * cell, min(-(-stop // cell) * cell, length))
