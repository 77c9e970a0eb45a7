"""`Trial`: a clear scene under the clouds of another date, declouded by the whole pipeline and scored against itself.

A trial needs three dates of one tile: the truth, which is clear; the donor of the clouds; and a clear date from which those are told
apart from the ground (`pipeline.overcast`). References are chosen by the pipeline among all other dates: the day of the truth and the day of the donor
are kept from it. The simple fills see the same references (`pipeline.trial_scores`).
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from catalogs.item import SceneItem
from pipeline.candidates import days_between
from pipeline.engine import decloud_scene
from pipeline.errors import InvalidSettings
from pipeline.overcast import lay_clouds
from pipeline.pictures import Picture
from pipeline.prepare import prepare
from pipeline.product import Product
from pipeline.progress import Progress, silent
from pipeline.scene import open_scene
from pipeline.scoretable import scores_document
from pipeline.settings import DecloudSettings, Resources
from pipeline.trial_scores import METHODS, TrialScores, score
from srgan.metrics import Moments

CLEAR = 5.0
"""Per cent of cloud up to which a date can be a truth, as its catalogue states it."""
CLOUDY = (20.0, 95.0)
"""Per cent of cloud between which a date can lend its clouds: enough to say something, and not all of the scene."""
MASKS = ("auto", "scl", "s2cloudless", "csmask")


@dataclass(frozen=True)
class Trial:
    """What is laid over what."""

    truth: SceneItem
    """The clear scene."""
    donor: SceneItem
    """The date whose clouds are laid over it."""
    ground: SceneItem
    """The clear date beside which the donor's clouds are told; the truth itself where there is no other."""
    candidates: tuple[SceneItem, ...] = ()
    """Dates that may serve as references: none of the truth's day or the donor's."""

    def __post_init__(self) -> None:
        if self.donor.id in (self.truth.id, self.ground.id):
            raise InvalidSettings(f"{self.donor.id}: the donor of the clouds must be another date than {self.truth.id}")
        held_out = {self.truth.datetime.date(), self.donor.datetime.date()}
        leaked = [item.id for item in self.candidates if item.datetime.date() in held_out]
        if leaked:
            raise InvalidSettings(f"{leaked[0]}: of the day of the truth or of the donor, it cannot be a reference")

    @property
    def id(self) -> str:
        """Names the trial, and its folder."""
        return f"{self.truth.id}_under_{self.donor.datetime:%Y%m%d}"[:200]


@dataclass(frozen=True)
class Trials(Sequence[Trial]):
    """The trials that a catalogue allows, in the order in which they should be made."""

    trials: tuple[Trial, ...]
    reasons: tuple[str, ...] = ()
    """Why tiles gave none, a line each."""

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Trial, ...]: ...
    def __getitem__(self, index: int | slice) -> Trial | tuple[Trial, ...]:
        return self.trials[index]


@dataclass(frozen=True, eq=False)
class TrialResult:
    """How a trial ended."""

    trial: Trial
    method: str
    """Name of the checkpoint, as it stands in the rows; with `(checkpoint)` behind it where a simple fill has the same."""
    bands: tuple[str, ...]
    product: Product
    references: tuple[str, ...]
    """Ids of the dates that the pipeline restored from."""
    laid: float
    """Share of the truth's pixels under laid clouds and shadows, not grown, 0..1."""
    not_laid: float
    """Share of the donor's cloudy pixels that could not be laid, 0..1."""
    scores: TrialScores = field(repr=False)
    seconds: Mapping[str, float]
    """Stage -> wall time."""

    @property
    def pictures(self) -> Mapping[str, Picture]:
        """input, prediction, truth, error."""
        return self.scores.pictures

    def document(self) -> dict[str, Any]:
        """The scene's entry in report.json; plain JSON types, what is not finite is None. `pictures` is left for the report to fill."""
        return {
            "id": self.trial.id,
            "truth": self.trial.truth.id,
            "clouds_of": self.trial.donor.id,
            "ground_of": self.trial.ground.id,
            "references": list(self.references),
            "cover": self.scores.masked,
            "laid": self.laid,
            "not_laid": self.not_laid,
            "unseen": self.scores.unseen,
            "clear_changed": self.scores.changed,
            "bands": list(self.bands),
            "rows": [_row(method, region, moments) for (method, region), moments in self.scores.moments.items()],
            "left_out": dict(self.scores.left_out),
            "provenance": dict(self.product.provenance),
            "seconds": round(sum(self.seconds.values()), 3),
            "stages": {name: round(value, 3) for name, value in self.seconds.items()},
            "pictures": {},
        }


def find_trials(items: Sequence[SceneItem], limit: int | None = None) -> Trials:
    """Which clear scenes can be tried under whose clouds, `limit` of them at most.

    What is clear and what is cloudy is taken from the catalogue's cloud cover. Each truth is first tried under the cloudy date nearest to it in
    time, the clearest truth first, then under the second nearest, and so on. The same items in any order give the same trials.
    Raises InvalidSettings for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise InvalidSettings(f"{limit} trials: ask for at least one")
    tiles: dict[str, dict[str, SceneItem]] = defaultdict(dict)
    for item in items:
        tiles[item.tile or ""][item.id] = item
    ranked: list[tuple[int, float, str, Trial]] = []
    reasons = [] if items else ["the catalogue has no scene"]
    for tile, members in sorted(tiles.items()):
        found = _of_tile(sorted(members.values(), key=lambda item: (item.datetime, item.id)))
        reasons += [f"{tile or 'scenes without a tile'}: {found}"] if isinstance(found, str) else []
        ranked += [] if isinstance(found, str) else found
    ordered = sorted(ranked, key=lambda entry: entry[:3])
    return Trials(tuple(trial for *_, trial in ordered[:limit]), tuple(reasons))


def _of_tile(items: Sequence[SceneItem]) -> list[tuple[int, float, str, Trial]] | str:
    """(rank of the donor, cloud of the truth, id, trial) of one tile, or why there is none."""
    stated = [item for item in items if item.cloud_cover is not None]
    if not stated:
        return f"none of {len(items)} scenes states its cloud cover"
    clear = [item for item in stated if (item.cloud_cover or 0) <= CLEAR]
    donors = [item for item in stated if CLOUDY[0] <= (item.cloud_cover or 0) <= CLOUDY[1]]
    if not clear:
        return f"none of {len(stated)} scenes has at most {CLEAR:g} % cloud"
    if not donors:
        return f"none of {len(stated)} scenes has {CLOUDY[0]:g} to {CLOUDY[1]:g} % cloud to lend"
    found = []
    for truth in clear:
        able = sorted(
            (item for item in donors if _serves(truth, item)),
            key=lambda item: (abs(days_between(truth, item)), item.id),
        )
        # One of a day, whose clouds are the same: a trial is called by the day.
        by_day = {item.datetime.date(): item for item in reversed(able)}
        for rank, donor in enumerate(item for item in able if by_day[item.datetime.date()] is item):
            others = [item for item in clear if item.id != truth.id and _serves(truth, item)] or [truth]
            ground = min(others, key=lambda item: (abs(days_between(donor, item)), item.id))
            held_out = {truth.datetime.date(), donor.datetime.date()}
            rest = tuple(item for item in items if item.datetime.date() not in held_out)
            found.append((rank, truth.cloud_cover or 0.0, truth.id, Trial(truth, donor, ground, rest)))
    return found or "no cloudy scene has the bands of a clear one on another day"


def _serves(truth: SceneItem, other: SceneItem) -> bool:
    return other.datetime.date() != truth.datetime.date() and set(truth.bands) <= set(other.bands)


def run_trial(
    trial: Trial,
    folder: Path,
    settings: DecloudSettings | None = None,
    *,
    resources: Resources | None = None,
    progress: Progress = silent,
) -> TrialResult:
    """Lay the clouds, decloud the scene as `decloud run` does, and score it.

    folder: gets a folder of the trial's id with the scene under clouds and the product; both stay. settings: as of a run, but for three: files
    are COG, nothing is clipped, and no scene is refused for how much of it is made up, as that is what is to be measured.
    progress: called with the stages `clouds` and `score` beside those of a run. The same trial gives the same scores.

    Raises InvalidSettings for a mask that is a file (it would be of one scene only), and whatever `lay_clouds` and `decloud_scene` raise.
    """
    settings, resources = settings or DecloudSettings(), resources or Resources()
    if settings.mask not in MASKS:
        raise InvalidSettings(f"--mask {settings.mask}: a trial masks several dates: use {', '.join(MASKS)}")
    settings = settings.model_copy(update={"format": "cog", "clip": False, "max_generated": 1.0})
    seconds: dict[str, float] = {}
    start = time.perf_counter()

    def ended(stage: str) -> None:
        nonlocal start
        seconds[stage], start = time.perf_counter() - start, time.perf_counter()

    overcast = lay_clouds(
        trial.truth, trial.donor, trial.ground, folder / trial.id / "scene", bands=settings.bands, method=settings.mask,
        threads=resources.threads, progress=lambda done, total: progress("clouds", done, total),
    )  # fmt: skip
    ended("clouds")
    product = decloud_scene(
        overcast.item, folder / trial.id / "products", settings, candidates=trial.candidates, resources=resources,
        progress=progress,
    )  # fmt: skip
    ended("decloud")
    method = str(product.item["properties"]["declouder:model"]["name"])
    if method in METHODS:
        method = f"{method} (checkpoint)"
    with open_scene(overcast.item, settings.bands) as scene, open_scene(trial.truth, settings.bands) as truth:
        prepared = prepare(scene, settings, trial.candidates)
        try:
            scores = score(
                truth, prepared, overcast, product, method, progress=lambda done, total: progress("score", done, total)
            )
        finally:
            prepared.close()
        bands = tuple(band.name for band in scene.bands)
    ended("score")
    return TrialResult(
        trial, method, bands, product, tuple(one.id for one in prepared.references), overcast.laid, overcast.left_out,
        scores, seconds,
    )  # fmt: skip


def _row(method: str, region: str, moments: Moments) -> dict[str, Any]:
    scores = moments.scores
    return {
        "region": region,
        "method": method,
        "images": 1,
        "values": moments.values,
        "not_finite": moments.not_finite,
        "identical": int(math.isinf(scores.psnr)),
        "mean": scores_document(scores),
    }
