"""Blocks: groups of tiles that are read, restored and composed together; the unit of work and of resuming.

Strategy. A block owns a rectangle of the work grid. To fill it, every needed tile that touches the rectangle is run,
on pixels that reach beyond it; what falls outside belongs to a neighbour, which needs the same tile's same result.
Block edges are whole pixels of the coarsest band, so no pixel of any band has two owners. Nothing here depends on how
the scene is cut into blocks: positions, weights and the order of sums come from the scene's `TilePlan`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from math import lcm
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.alpha import alpha_halo, cloud_alpha
from pipeline.blending import tile_weights
from pipeline.classes import NODATA, is_cloudy
from pipeline.clock import Clock
from pipeline.composite import Provenance, coarsen_max, coarsen_mean, compose_band, refine
from pipeline.confidence import composed_spread, confidence_of
from pipeline.errors import InvalidSettings
from pipeline.inference import Restorer
from pipeline.tiling import Tile, TilePlan
from pipeline.window import Window, coarse, inside, shared

if TYPE_CHECKING:
    from pipeline.references import Reference
    from pipeline.scene import Scene
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
    before: dict[str, npt.NDArray[np.uint16]] = field(default_factory=dict, repr=False)
    """The source's DN of some bands in which something was replaced; all others are in `bands` as they were."""


def block_edges(length: int, edge: int, cell: int) -> list[slice]:
    """The blocks along an axis.

    length: pixels of the work grid. edge: pixels of a block. cell: work pixels per pixel of the coarsest band.
    Raises InvalidSettings for an edge that would cut a coarse pixel.
    """
    if edge < 1 or edge % cell:
        raise InvalidSettings(f"block edge {edge} must be a multiple of {cell}, the coarsest band's pixel")
    return [slice(start, min(start + edge, length)) for start in range(0, length, edge)]


def copy_block(job: SceneJob, rows: slice, cols: slice, *, told: bool) -> BlockResult:
    """A block in which nothing is replaced, as it is in the source.

    rows, cols: as for `compute_block`. told: whether the product has a confidence layer. Raises InvalidScene or ReadFailed.
    """
    present = np.zeros((rows.stop - rows.start, cols.stop - cols.start), np.bool_)
    bands = {}
    for band in job.scene.bands:
        pixels = job.scene.read(band.name, coarse(rows, band), coarse(cols, band))
        # A part of a decoded chunk would hold the whole of it until its stripe is written.
        bands[band.name] = pixels = pixels if pixels.base is None else pixels.copy()
        if not present.all():
            present |= True if band.nodata is None else refine(pixels != band.nodata, band.factor)
    provenance = np.where(present, np.uint8(Provenance.OBSERVED), np.uint8(Provenance.NODATA))
    # Whatever is cloudy here was left so.
    confidence = confidence_of(provenance, is_cloudy(job.classes[rows, cols])) if told else None
    return BlockResult(rows, cols, bands, provenance, confidence)


def compute_block(
    job: SceneJob,
    rows: slice,
    cols: slice,
    restorer: Restorer,
    store: TileStore | None = None,
    on_tile: Callable[[], None] | None = None,
    clock: Clock | None = None,
    shown: Collection[str] = (),
) -> BlockResult:
    """Restore and compose one block.

    rows, cols: window of the work grid, edges on whole cells. store: shares tiles with the blocks around; without it
    every tile of this block is run. on_tile: called for each tile that the network has done. clock: told of the stages.
    shown: bands of which the result holds the source's pixels too.
    Raises InvalidScene or ReadFailed where pixels cannot be read, and whatever the restorer raises.
    """
    clock = clock or Clock()
    tiles = list(job.plan.touching(rows, cols))
    with clock.stage("read"):
        window = Window.around(job, rows, cols, tiles)
    with clock.stage("network"):
        total, bad = _blended(job, rows, cols, tiles, window, restorer, store, on_tile)
    with clock.stage("compose"):
        result = _compose(job, rows, cols, window, restorer.groups, total, bad)
        inner = inside(rows, window.rows), inside(cols, window.cols)
        for pixels, band in zip(window.bands, job.scene.bands, strict=True):
            if band.name in shown:
                result.before[band.name] = pixels.cut(inner).pixels.copy()
    return result


def _blended(
    job: SceneJob,
    rows: slice,
    cols: slice,
    tiles: Sequence[Tile],
    window: Window,
    restorer: Restorer,
    store: TileStore | None,
    on_tile: Callable[[], None] | None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Weighted sums of the tiles' answers, float32 (bands + groups, rows, cols), and where an answer was unusable, bool (rows, cols)."""
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
            inner, outer = shared(tile.rows, rows), shared(tile.cols, cols)
            weights = tile_weights(job.plan.vertical, job.plan.horizontal, tile.row, tile.col)
            part = (inside(inner, tile.rows), inside(outer, tile.cols))
            own = (inside(inner, rows), inside(outer, cols))
            if not _usable(restored, len(job.scene.bands), window, tile):
                bad[own] |= weights[part] > 0
                continue
            total[(slice(None), *own)] += restored[(slice(None), *part)] * weights[part]
    return total, bad


def _usable(answer: npt.NDArray[np.float32], bands: int, window: Window, tile: Tile) -> bool:
    """Whether a tile's answer is finite, and the errors to expect are not negative, wherever the scene has data."""
    # A sum holds every NaN and infinity, and is had in one pass; only where it is no number is each pixel looked at.
    with np.errstate(over="ignore", invalid="ignore"):
        number = np.isfinite(answer.sum())
    if number and (answer.shape[0] == bands or answer[bands:].min() >= 0):
        return True
    filled = answer[:, window.filled(tile)]
    return bool(np.isfinite(filled).all() and not (filled[bands:] < 0).any())


def _compose(
    job: SceneJob,
    rows: slice,
    cols: slice,
    window: Window,
    groups: tuple[str, ...],
    total: npt.NDArray[np.float32],
    bad: npt.NDArray[np.bool_],
) -> BlockResult:
    present = window.present[inside(rows, window.rows), inside(cols, window.cols)]
    alpha = _block_alpha(job, rows, cols)
    alpha *= present
    # A coarse pixel with any part in a refused tile is refused as a whole: its mean would lack that part.
    bad = refine(coarsen_max(bad, job.cell), job.cell) if bad.any() else bad
    alpha_used = alpha * ~bad if bad.any() else alpha
    bands = {}
    by_factor = {band.factor: coarsen_max(alpha_used, band.factor) for band in job.scene.bands}
    for channel, band in enumerate(job.scene.bands):
        pixels = window.bands[channel].pixels
        source = pixels[coarse(inside(rows, window.rows), band), coarse(inside(cols, window.cols), band)]
        mean = coarsen_mean(total[channel], present, band.factor)
        share = by_factor[band.factor]
        bands[band.name], refused = compose_band(source, mean, share, band.scale, band.offset, band.nodata)
        if refused.any():
            bad |= refine(refused, band.factor)
    supported = np.zeros(alpha.shape, dtype=np.bool_)
    for date in window.dates:
        supported |= date.clear[inside(rows, window.rows), inside(cols, window.cols)]
    provenance = np.full(alpha.shape, Provenance.OBSERVED, dtype=np.uint8)
    for factor, share in by_factor.items():
        provenance[refine(share > 0, factor)] = Provenance.BLENDED
    full = alpha_used == 1
    provenance[full] = Provenance.GENERATED
    if window.dates:
        provenance[full & supported] = Provenance.RESTORED
    if bad.any():
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
    return alpha[inside(rows, wide[0]), inside(cols, wide[1])].copy()
