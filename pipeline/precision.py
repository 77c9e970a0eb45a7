"""`check_precision`: whether bf16 may be used for a scene, by comparing it with fp32 on tiles of that very scene, before anything is restored.

A bf16 trunk with a float32 head promises at most `BOUND` DN of difference on `SHARE` of the composed pixels. How far it is from fp32 depends on the
weights and on the scene: with the packaged weights it holds where other dates are there and not where the network has to make up the ground
(91 to 99 % of the pixels), so `auto` means fp32, and bf16 must be asked for. Then it is measured on a few tiles that the scene's plan decides, whatever
its blocks and workers are, and recorded in the product's item; where it does not hold, the scene is restored in fp32, and a warning says so. A run that
goes on where another stopped measures anew, and may find otherwise: `keep_apart` sees to it that one product is of one precision.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InvalidSettings, WriteFailed
from pipeline.settings import BF16_OR_DASK
from pipeline.tiling import Tile
from pipeline.window import Window

if TYPE_CHECKING:
    from pipeline.block import SceneJob
    from pipeline.inference import Restorer, TorchRestorer
    from pipeline.settings import DecloudSettings

BOUND, SHARE = 2, 0.999
"""DN by which at most, and share of the composed pixels on which, bf16 may differ from fp32."""
TILES = 8
"""Tiles that are compared."""
_MOST = 65535
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Precision:
    """How far bf16 is from fp32 on some tiles of a scene."""

    tiles: int
    values: int
    """Pixels that will be composed, each in each band."""
    within: float
    """Share of them on which the two differ by at most `BOUND` DN, 0..1; 1 where there are none."""
    percentile: int
    """DN by which at most `SHARE` of them differ."""
    highest: int
    """DN by which they differ at most."""

    @property
    def holds(self) -> bool:
        """Whether bf16 keeps its promise."""
        return self.within >= SHARE

    @property
    def record(self) -> Mapping[str, Any]:
        """What the product's item says of it, JSON types only."""
        return {
            "asked": "bf16",
            "used": "bf16" if self.holds else "fp32",
            "bound_dn": BOUND,
            "bound_share": SHARE,
            "within_bound": round(self.within, 6),
            "p99.9_dn": self.percentile,
            "max_dn": self.highest,
            "tiles": self.tiles,
            "values": self.values,
        }


def check_precision(settings: DecloudSettings, restorer: Restorer, job: SceneJob) -> None:
    """Put the restorer into the precision that the settings ask for, if it keeps its promise on this scene.

    Raises InvalidSettings where bf16 is asked for and cannot be, and what reading and the network raise.
    """
    if settings.precision != "bf16" or restorer.digest == "identity":
        return
    from pipeline.inference import TorchRestorer

    if not isinstance(restorer, TorchRestorer):
        raise InvalidSettings(BF16_OR_DASK)
    restorer.require_bf16()
    found = compared(restorer, job)
    restorer.checked = found
    restorer.precision = "bf16" if found.holds else "fp32"
    if not found.holds:
        _log.warning(
            "%s: bf16 is within %d DN of fp32 on %.2f %% of the pixels, not on %.1f %% (at most %d DN): it is restored in fp32",
            job.scene.id, BOUND, 100 * found.within, 100 * SHARE, found.highest,
        )  # fmt: skip


def keep_apart(staged: Path, restorer: Restorer) -> None:
    """Drop blocks and tiles that an earlier run of this scene staged in the other precision: it may have been measured on other numbers.

    staged: the scene's folder, with `blocks` and `tiles` in it, of which nobody else makes use. To be called after `check_precision` and before
    anything is staged. Raises WriteFailed.
    """
    if getattr(restorer, "checked", None) is None:
        # Nobody asked for another than fp32: the run key says so, and the folder is the key's.
        return
    used, note = getattr(restorer, "precision", "fp32"), staged / "precision"
    try:
        if note.exists() and note.read_text() == used:
            return
        # What is noted holds of all that is there, whenever this is interrupted: first the old goes, then the note changes.
        for folder in (staged / "blocks", staged / "tiles"):
            if folder.exists():
                shutil.rmtree(folder)
        staged.mkdir(parents=True, exist_ok=True)
        note.write_text(used)
    except OSError as error:
        raise WriteFailed(
            f"{note}: precision not noted ({error.strerror or error}); free space or remove the folder, and run again"
        ) from error


def recorded(restorer: Restorer) -> Mapping[str, Any]:
    """What a product's item says of the precision; nothing where nobody asked for another than fp32."""
    checked: Precision | None = getattr(restorer, "checked", None)
    return {} if checked is None else checked.record


def compared(restorer: TorchRestorer, job: SceneJob) -> Precision:
    """Both precisions on evenly chosen tiles of the scene's plan."""
    height, width = job.scene.shape
    counts = np.zeros(_MOST + 1, np.int64)
    tiles = _chosen(job)
    for tile in tiles:
        # Window by window: a scene may be larger than memory.
        rows, cols = slice(tile.row, min(tile.rows.stop, height)), slice(tile.col, min(tile.cols.stop, width))
        window = Window.around(job, rows, cols, [tile])
        answers: list[np.ndarray] = []
        for precision in ("fp32", "bf16"):
            restorer.precision = precision
            answers.extend(restorer.restore(window.inputs([tile])))
        inside = (slice(0, rows.stop - rows.start), slice(0, cols.stop - cols.start))
        target = job.target[rows, cols] & window.filled(tile)[inside]
        # Behind the bands an answer holds the errors to expect.
        for band, one, other in zip(job.scene.bands, *answers, strict=False):
            apart = np.abs(_numbers(one, band.scale)[inside] - _numbers(other, band.scale)[inside])
            counts += np.bincount(apart[target].clip(0, _MOST).astype(np.int64), minlength=_MOST + 1)
    total = int(counts.sum())
    if not total:
        return Precision(len(tiles), 0, 1.0, 0, 0)
    shares = counts.cumsum() / total
    return Precision(
        len(tiles), total, float(shares[BOUND]), int(np.searchsorted(shares, SHARE)), int(np.flatnonzero(counts)[-1])
    )


def _chosen(job: SceneJob) -> list[Tile]:
    height, width = job.scene.shape
    needed = list(job.plan.touching(slice(0, height), slice(0, width)))
    places = np.unique(np.linspace(0, len(needed) - 1, min(TILES, len(needed))).round().astype(int))
    return [needed[place] for place in places] if needed else []


def _numbers(band: np.ndarray, scale: float) -> np.ndarray:
    """Reflectance as whole DN; what is not finite is refused in either precision, and differs by the most."""
    return np.nan_to_num(np.rint(band.astype(np.float64) / scale), nan=_MOST, posinf=_MOST, neginf=-_MOST)
