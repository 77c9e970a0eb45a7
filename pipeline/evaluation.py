"""`evaluate`: how good a checkpoint is on the rows of a split, beside other checkpoints and what anybody would do without one.

    heldout > chips (read, masked) > cases > answers / baselines > ruler > scoretable, trust > the document of report.json

Chips are scored a few side by side, one at a time in each worker, and only sums, scores and pictures of them are kept. Results are taken in the
order of the chips: the same tables give the same figures, to the bit, whatever the number of workers.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from catalogs.pairs import PairTable
from catalogs.splits import Splits
from pipeline import cases
from pipeline.ahead import in_order
from pipeline.bandsets import chosen_sets
from pipeline.baselines import BASELINES, unavailable
from pipeline.chipscores import ChipScores, Subject, score_chip
from pipeline.confidence import NEAR
from pipeline.errors import InvalidSettings
from pipeline.growth import GROW
from pipeline.heldout import HeldOut, HeldOutPlace, LeftOut
from pipeline.images import ImageReader
from pipeline.product import software_version
from pipeline.progress import Progress, silent
from pipeline.report import KIND, SCHEMA_VERSION
from pipeline.report_methods import ANCHORS, ANCHORS_POOLED, FIRST_GUESS
from pipeline.scoretable import ScoreTable
from pipeline.settings import DecloudSettings
from pipeline.trust import Trust
from srgan.checkpoint import Checkpoint
from srgan.generator import parameter_count
from srgan.release import trained_on

WORKERS = 2
STAGE = "evaluate"
"""What progress is told as; its counts are cases, those to come estimated from the tables."""
SSIM = {
    "ssim_same": "Gaussian window 11 x 11, sigma 1.5, C1 1e-4, C2 9e-4, mean over bands; windows over the border, zeros beyond it (as UnCRtainTS)",
    "ssim_valid": "the same; only windows wholly inside the image (as torchmetrics)",
}
PictureSink = Callable[[str, Mapping[str, bytes]], None]
"""Takes the pictures (name -> WebP) of one image by its id."""


class PredictionSink(Protocol):
    """Takes predictions; `pipeline.predictions.PredictionFolder` is one."""

    def write(
        self, row: str, bands: Sequence[str], prediction: NDArray[np.float32], valid: NDArray[np.bool_] | None = None
    ) -> object:
        """Take the prediction (C, H, W) of one row, and where there is one (H, W)."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found out."""

    content: Mapping[str, Any] = field(repr=False)
    pictures: Mapping[str, Mapping[str, bytes]] = field(repr=False)
    """Id of an image -> name of the picture -> WebP; empty where a sink took them."""

    def document(self) -> dict[str, Any]:
        """What report.json holds (schema 1), without scenes; every value is one of JSON's."""
        return dict(self.content)


def evaluate(
    tables: Sequence[PairTable],
    split: str,
    checkpoint: Checkpoint,
    *,
    compare: Sequence[Checkpoint] = (),
    splits: Splits | None = None,
    band_sets: Sequence[str] | None = None,
    limit: int | None = None,
    predictions: PredictionSink | None = None,
    pictures: PictureSink | None = None,
    progress: Progress = silent,
    workers: int = WORKERS,
) -> Evaluation:
    """Score `checkpoint` on the rows of `split` (train, val, test, other, or all).

    compare: further checkpoints, on the same pixels. splits: instead of those of the tables. band_sets: of `pipeline.bandsets.BAND_SETS`; None: all.
    limit: at most so many chips. predictions: takes what `checkpoint` makes of each pair without other dates, in its widest bands. pictures: takes
    the pictures of each case as it is done; without it they are kept. Both are called from this thread, in the order of the chips.
    progress: stage `evaluate`, called from this thread and from workers. workers: chips that are scored side by side, on a CPU each on one core.

    Postcondition: every row of the split is either used or in `chips.left_out`, with its reason. Raises InvalidSettings for a split without a row
    that can be scored, for settings that do not fit, and as `HeldOut.of` does; whatever `predictions` and `pictures` raise.
    """
    began = time.monotonic()
    if workers < 1:
        raise InvalidSettings(f"workers {workers} must be 1 or more")
    held = HeldOut.of(tables, split, splits, limit)
    subjects = _subjects((checkpoint, *compare))
    left_out, sets = _known_sets(subjects, chosen_sets(band_sets))
    left_out = [*held.left_out, *left_out, *(LeftOut(name, reason) for name, reason in unavailable().items())]
    table, trust = ScoreTable(subjects[0].method), Trust()
    images: list[dict[str, Any]] = []
    kept: dict[str, Mapping[str, bytes]] = {}
    take = kept.__setitem__ if pictures is None else pictures
    with (
        _Scoring(subjects, sets, held.places, progress) as scoring,
        closing(in_order(scoring.score, held.places, workers)) as results,
    ):
        for found in results:
            for scored in found.scored:
                table.add(scored)
            trust += found.trust
            images += found.images
            left_out += found.left_out
            for name, shown in found.pictures.items():
                take(name, shown)
            if predictions is not None:
                for made in found.predictions:
                    predictions.write(made.row, made.bands, made.restored, made.valid)
    if not images:
        # What could not be read says more than what the limit or the gate left out.
        listed = "; ".join(
            f"{entry.id}: {entry.reason}" for entry in sorted(left_out, key=lambda one: not one.unread)[:3]
        )
        raise InvalidSettings(f"split {split!r}: none of its {held.rows} rows can be scored, the first: {listed}")
    groups = {place.group for place in held.places}
    entries = [_checkpoint(subject, groups) for subject in subjects]
    content = {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": {
            "declouder": software_version(), "python": sys.version.split()[0], "numpy": np.__version__, "torch": str(torch.__version__),
        },
        "checkpoint": entries[0],
        "compared": entries[1:],
        "tables": [{"file": table.name, "layout": table.layout, "split_hash": table.split_hash} for table in tables],
        "split": split,
        "split_hash": held.split_hash,
        "splits_from": "the pair tables" if splits is None else splits.name,
        "mask": sorted({str(mask) for place in held.places for mask in place.rows["mask"].dropna()}),
        "ssim": SSIM,
        "settings": _settings(sets, limit),
        "seconds": 0.0,
        "chips": _counts(held, left_out),
        "rows": table.rows(),
        "per_band": table.per_band(),
        "confidence": trust.document(),
        "images": images,
        "scenes": [],
    }  # fmt: skip
    content["seconds"] = round(time.monotonic() - began, 1)
    return Evaluation(content, kept)


class _Scoring:
    """Scores places in several threads: readers, threads of the processor, and the count of cases. A context manager."""

    def __init__(
        self,
        subjects: Sequence[Subject],
        sets: Mapping[str, tuple[str, ...]],
        places: Sequence[HeldOutPlace],
        progress: Progress,
    ) -> None:
        self._subjects, self._sets, self._progress = subjects, sets, progress
        self._local = threading.local()
        self._readers: list[ImageReader] = []
        self._lock = threading.Lock()
        self._planned = {place.id: _planned(place) for place in places}
        self._total, self._done = sum(self._planned.values()), 0
        self._threads = torch.get_num_threads()

    def __enter__(self) -> _Scoring:
        # A chip's network runs on one core, and chips side by side: so its sums do not depend on how many there are.
        torch.set_num_threads(1)
        if "telea" not in unavailable():
            import_module("cv2")  # replaces itself while it is loaded: not to be met there by another thread
        self._progress(STAGE, 0, self._total)
        return self

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._threads)
        for reader in self._readers:
            reader.close()

    def score(self, place: HeldOutPlace) -> ChipScores:
        """Score one place; may be called from several threads."""
        if not hasattr(self._local, "reader"):
            torch.set_num_threads(1)  # belongs to the thread
            self._local.reader = ImageReader()
            with self._lock:
                self._readers.append(self._local.reader)
        told = 0

        def tick() -> None:
            nonlocal told
            if told < self._planned[place.id]:
                told += 1
                self._count(1)

        found = score_chip(place, self._local.reader, self._subjects, self._sets, tick)
        self._count(self._planned[place.id] - told)
        return found

    def _count(self, more: int) -> None:
        with self._lock:
            self._done += more
            self._progress(STAGE, self._done, self._total)


def _planned(place: HeldOutPlace) -> int:
    """Cases that a place will make, as far as its rows tell."""
    rows = place.rows
    real = (rows["role"] == "pair") & (rows["quality"] == "ok")
    truths = {*rows["clear_href"], *rows["cloudy_href"][~real].dropna()}
    skies = min(len(truths), cases.SKY_DATES) * len(cases.KINDS)
    revisited = len(truths | {*rows["cloudy_href"].dropna()}) > 2 and bool(rows["clear_date"].notna().all())
    return 3 * int(real.sum()) + 2 * skies if revisited else int(real.sum()) + skies


def _subjects(checkpoints: Sequence[Checkpoint]) -> tuple[Subject, ...]:
    """The checkpoints under names that no two methods share."""
    taken = {FIRST_GUESS, *BASELINES}
    subjects = []
    for checkpoint in checkpoints:
        name = checkpoint.name if checkpoint.name not in taken else f"{checkpoint.name} {checkpoint.digest[:8]}"
        if name in taken:
            raise InvalidSettings(
                f"checkpoint {checkpoint.name} ({checkpoint.digest[:12]}) is given twice: leave one out"
            )
        taken.add(name)
        subjects.append(Subject(name, checkpoint))
    return tuple(subjects)


def _known_sets(
    subjects: Sequence[Subject], sets: Mapping[str, tuple[str, ...]]
) -> tuple[list[LeftOut], dict[str, tuple[str, ...]]]:
    """What is left out because a checkpoint does not know a band, and the sets of which the first knows all bands."""
    left_out, known = [], dict(sets)
    for number, (method, checkpoint) in enumerate(subjects):
        for name, bands in sets.items():
            if missing := [band for band in bands if band not in checkpoint.spec.bands]:
                reason = f"checkpoint {method} does not know {', '.join(missing)}"
                left_out.append(LeftOut(f"{name} bands", reason if number == 0 else f"{reason}: without it"))
                if number == 0:
                    del known[name]
    if not known:
        raise InvalidSettings(f"{left_out[0].reason}: no band set is left, ask for another with --bands")
    return left_out, known


def _checkpoint(subject: Subject, groups: Collection[str]) -> dict[str, Any]:
    """What the report says of a checkpoint that was scored on `groups`."""
    checkpoint = subject.checkpoint
    training = checkpoint.card.get("training")
    return {
        "name": subject.method,
        "digest": checkpoint.digest,
        "parameters": parameter_count(checkpoint.generator),
        "size": checkpoint.spec.name,
        "guidance": checkpoint.spec.guidance,
        "split_hash": training.get("split_hash") if isinstance(training, Mapping) else None,
        "trained_on": sorted(trained_on(checkpoint.card) & set(groups)),
    }


def _counts(held: HeldOut, left_out: Sequence[LeftOut]) -> dict[str, Any]:
    """How many rows there were and were used, and what was left out; of a row that was left out twice the first reason counts."""
    rows = {str(name) for place in held.places for name in place.rows["id"]} | {entry.id for entry in held.left_out}
    gone = rows & {entry.id for entry in left_out}
    return {
        "rows": held.rows,
        "used": held.rows - len(gone),
        "unread": len({entry.id for entry in left_out if entry.unread}),
        "left_out": [{"id": entry.id, "reason": entry.reason} for entry in left_out],
    }


def _settings(sets: Mapping[str, tuple[str, ...]], limit: int | None) -> dict[str, Any]:
    return {
        "limit": limit,
        "band_sets": {name: list(bands) for name, bands in sets.items()},
        "grow_metres": GROW,
        "feather_metres": DecloudSettings().feather,
        "references": cases.DATES,
        "reference_window_days": cases.WINDOW,
        "reference_most_cloud": cases.CLEAR_DATE,
        "made_sky_kinds": dict(cases.KINDS),
        "made_sky_dates": cases.SKY_DATES,
        "least_pixels": cases.LEAST_PIXELS,
        "cover_classes": list(cases.COVERS),
        "near": NEAR,
        "seed_anchor": ANCHORS | {f"{name}_pooled": value for name, value in ANCHORS_POOLED.items()},
    }
