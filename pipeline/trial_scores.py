"""`score`: a declouded scene beside its truth, and beside what the simple fills make of the same input and the same references.

Everything is compared on the work grid, block by block with a halo as wide as the windows of SSIM: the scores are those of the whole scene.
Pixels of coarser bands are repeated. What counts as masked is the mask of the pipeline on whole pixels of the coarsest band, which is where the
product may differ from its input. The lines that harmonise a date, and the mean of the clear pixels, are those of the whole scene.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import lcm

import numpy as np
from numpy.typing import NDArray

from catalogs.stac import resolve_item
from pipeline.baselines import BASELINES, TEMPORAL, Problem
from pipeline.classes import NODATA
from pipeline.cloudmask import blocks
from pipeline.composite import coarsen_max, refine
from pipeline.lifted import reflectance
from pipeline.overcast import Overcast
from pipeline.pictures import Picture, error_map, stretch, true_colour
from pipeline.prepare import Prepared
from pipeline.product import Product
from pipeline.scene import Scene, open_scene
from srgan.metrics import Comparison, Moments
from srgan.ssim import BORDER

METHODS = tuple(name for name in BASELINES if name != "telea")
"""The simple fills of a scene. Telea's inpainting is not one of them: it needs the scene in one piece."""
_VALUES = 8_000_000  # of one image of a block
_PICTURE = 1024
"""Pixels of a picture's longer side, at most."""


@dataclass(frozen=True, eq=False)
class TrialScores:
    """What was measured of a trial."""

    moments: Mapping[tuple[str, str], Moments]
    """(method, region) -> errors; a method that has nothing to say is not there."""
    left_out: Mapping[str, str]
    """Methods without scores -> why."""
    unseen: float
    """Share of the masked pixels that no reference shows, 0..1: there temporal methods fall back on the mean fill."""
    masked: float
    """Share of the pixels with data that are masked, 0..1."""
    changed: int
    """Values of the product outside the mask that are not those of its input; 0 is what the pipeline promises."""
    pictures: Mapping[str, Picture] = field(repr=False)
    """input, prediction, truth, error: thinned to 1024 pixels an edge."""


def score(
    truth: Scene,
    prepared: Prepared,
    overcast: Overcast,
    product: Product,
    method: str,
    *,
    values: int = _VALUES,
    progress: Callable[[int, int], None] | None = None,
) -> TrialScores:
    """Scores of `product`, under the name `method`, and of `METHODS`.

    truth: open, of the product's bands. prepared: of the scene under clouds, as the pipeline prepared it. values: bands times pixels of a
    block, at most; changes no score. progress: called with blocks done and in all.
    """
    with ExitStack() as stack:
        names = [band.name for band in truth.bands]
        made = stack.enter_context(open_scene(resolve_item(product.item, str(product.path)), names))
        run = _Run(truth, prepared, overcast, made, method)
        edge = max(int((values / len(names)) ** 0.5) // run.cell, 1) * run.cell
        windows = list(blocks(truth.shape, edge))
        level = run.level(windows)
        for done, (rows, cols) in enumerate(windows, 1):
            run.measure(rows, cols, level)
            if progress is not None:
                progress(done, len(windows))
    masked, valid = run.counts["masked"], run.counts["valid"]
    return TrialScores(
        moments=run.moments,
        left_out=run.left_out(bool(np.isfinite(level).all())),
        unseen=run.counts["unseen"] / max(masked, 1),
        masked=masked / max(valid, 1),
        changed=run.counts["changed"],
        pictures=run.pictures(),
    )


class _Run:
    """Adds up block after block."""

    def __init__(self, truth: Scene, prepared: Prepared, overcast: Overcast, made: Scene, method: str) -> None:
        self.truth, self.prepared, self.overcast, self.made, self.method = truth, prepared, overcast, made, method
        self.bands = tuple(band.name for band in truth.bands)
        self.cell = lcm(*(band.factor for band in truth.bands))
        self.moments: dict[tuple[str, str], Moments] = {}
        self.counts: dict[str, int] = defaultdict(int)
        self.step = -(-max(truth.shape) // _PICTURE)
        shape = tuple(len(range(self.step // 2, length, self.step)) for length in truth.shape)
        self.thinned = {
            name: np.zeros((len(self.bands), *shape), np.float32) for name in ("input", "prediction", "truth")
        }
        self.seen = np.zeros((2, *shape), bool)  # valid, known
        fits = [[(fit.gain, fit.offset) for fit in one.harmonise.fits] for one in prepared.references]
        self.lines = np.array(fits, np.float64).reshape(len(fits), len(self.bands), 2)

    def level(self, windows: list[tuple[slice, slice]]) -> NDArray[np.float64]:
        """Mean of the clear pixels of each band; NaN where there is none."""
        total, count = np.zeros(len(self.bands)), 0
        for rows, cols in windows:
            image, there = reflectance(self.prepared.scene, rows, cols)
            clear = there & ~self.masked(rows, cols) & (self.prepared.mask.classes[rows, cols] != NODATA)
            total += image[:, clear].sum(axis=1, dtype=np.float64)
            count += int(clear.sum())
        return total / count if count else np.full(len(self.bands), np.nan)

    def masked(self, rows: slice, cols: slice) -> NDArray[np.bool_]:
        """Where a window on whole cells may be replaced in some band."""
        masked: NDArray[np.bool_] = refine(coarsen_max(self.prepared.target[rows, cols], self.cell), self.cell)
        return masked

    def problem(self, rows: slice, cols: slice, level: NDArray[np.float64]) -> Problem:
        """What the simple fills see of a window."""
        image, there = reflectance(self.prepared.scene, rows, cols)
        shape = image.shape[1:]
        references = np.zeros((len(self.prepared.references), len(self.bands), *shape), np.float32)
        clear = np.zeros((len(references), *shape), bool)
        for date, reference in enumerate(self.prepared.references):
            references[date], has = reflectance(reference.scene, rows, cols)
            clear[date] = has & reference.valid(rows, cols)
        shares = (one.mask.fractions for one in self.prepared.references)
        return Problem(
            image=image,
            mask=self.masked(rows, cols),
            valid=there & (self.prepared.mask.classes[rows, cols] != NODATA),
            bands=self.bands,
            references=references,
            reference_valid=clear,
            days=tuple(one.days for one in self.prepared.references),
            clouds=tuple(share["thin"] + share["thick"] + share["shadow"] for share in shares),
            lines=self.lines,
            level=level,
        )

    def measure(self, rows: slice, cols: slice, level: NDArray[np.float64]) -> None:
        """Add the errors of a block."""
        halo = -(-BORDER // self.cell) * self.cell
        height, width = self.truth.shape
        wide = (
            slice(max(rows.start - halo, 0), min(rows.stop + halo, height)),
            slice(max(cols.start - halo, 0), min(cols.stop + halo, width)),
        )
        problem = self.problem(*wide, level)
        target, there = reflectance(self.truth, *wide)
        own = np.zeros(there.shape, bool)
        own[rows.start - wide[0].start :, cols.start - wide[1].start :][
            : rows.stop - rows.start, : cols.stop - cols.start
        ] = True
        known = self.overcast.truth[wide] & there & problem.valid
        regions = {
            "all": known,
            "cloudy": known & problem.mask,
            "clear_target": known & ~problem.mask,
            "shadow": known & self.overcast.shadow[wide],
        }
        clear = known & ~problem.mask
        for name, image in self.predictions(problem, wide):
            beside, kept = Comparison(image, target, known), Comparison(image, problem.image, clear)
            for region, where in regions.items():
                self.add(name, region, beside.moments(where & own))
            self.add(name, "clear_input", kept.moments(clear & own))
            if name == self.method:
                outside = problem.valid & ~problem.mask & own
                self.counts["changed"] += int(np.count_nonzero(image[:, outside] != problem.image[:, outside]))
                images = {"input": problem.image, "prediction": image, "truth": target}
                self.keep(wide, own, images, problem.valid, known)
        for name, where in (("masked", problem.mask), ("unseen", problem.unseen), ("valid", problem.valid)):
            self.counts[name] += int(np.count_nonzero(where & problem.valid & own))

    def predictions(self, problem: Problem, window: tuple[slice, slice]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """The product, and each simple fill that has something to say of the scene."""
        yield self.method, reflectance(self.made, *window)[0]
        mean = BASELINES["mean fill"](problem)
        for name in METHODS:
            if name not in self.left_out(problem.known_mean is not None):
                image = BASELINES[name](problem)
                # Where no date shows anything of a block, the mean fill stands in, as it does for single pixels.
                yield name, next(one for one in (image, mean, problem.image) if one is not None)

    def left_out(self, mean: bool) -> dict[str, str]:  # noqa: FBT001
        """Methods that have nothing to say of this scene -> why."""
        reasons = {} if self.prepared.references else dict.fromkeys(TEMPORAL, "no other date serves as a reference")
        return reasons if mean else reasons | {"mean fill": "no pixel of the scene is clear"}

    def add(self, method: str, region: str, moments: Moments) -> None:
        """Add to what was measured before."""
        before = self.moments.get((method, region))
        self.moments[method, region] = moments if before is None else before + moments

    def keep(
        self,
        window: tuple[slice, slice],
        own: NDArray[np.bool_],
        images: Mapping[str, NDArray[np.float32]],
        valid: NDArray[np.bool_],
        known: NDArray[np.bool_],
    ) -> None:
        """Keep every so many pixels of a block for the pictures."""
        at, into = [], []
        for part, used in zip(window, (own.any(axis=1), own.any(axis=0)), strict=True):
            inside = np.flatnonzero(used)
            chosen = [i for i in inside if (part.start + i) % self.step == self.step // 2]
            at.append(np.array(chosen, np.intp))
            into.append((np.array(chosen, np.intp) + part.start) // self.step)
        rows, cols = np.ix_(*into)
        for name, image in images.items():
            self.thinned[name][:, rows, cols] = image[:, at[0][:, None], at[1]]
        self.seen[:, rows, cols] = np.stack([valid, known])[:, at[0][:, None], at[1]]

    def pictures(self) -> dict[str, Picture]:
        """Input, prediction and truth in the truth's stretch, and the product's mean absolute error."""
        valid, known = self.seen
        low, high = stretch(self.thinned["truth"], self.bands, known if known.any() else valid)
        shown = {name: true_colour(image, self.bands, low, high, valid) for name, image in self.thinned.items()}
        error = np.abs(self.thinned["prediction"].clip(0, 1) - self.thinned["truth"].clip(0, 1)).mean(axis=0)
        return shown | {"error": error_map(error, known)}
