"""`score_chip`: everything that an evaluation finds out on one chip: its cases, the answers to them, and how good they are.

A network is run once for each case, band set and checkpoint. The simple methods look at each band by itself, so they are run once for a
case, in its widest band set, and narrower sets take their bands from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from catalogs.errors import CatalogError
from pipeline.answers import Answer, answer, harmonised
from pipeline.bandsets import possible_sets, protocols_of
from pipeline.baselines import BASELINES, unavailable
from pipeline.cases import Case, cases_of
from pipeline.chips import read_chip
from pipeline.errors import PipelineError
from pipeline.ground import GROUND
from pipeline.heldout import HeldOutPlace, LeftOut
from pipeline.images import ImageReader
from pipeline.pictures import encode, picture_set
from pipeline.report_methods import FIRST_GUESS
from pipeline.ruler import ANY, Measures, Part, Ruler, Taken
from pipeline.scoretable import Scored, number
from pipeline.trust import Trust
from srgan.checkpoint import Checkpoint
from srgan.metrics import SCORES

_DIGITS = 6


class Subject(NamedTuple):
    """A checkpoint that is scored."""

    method: str
    """What rows call it."""
    checkpoint: Checkpoint


class Prediction(NamedTuple):
    """What the first subject made of one row of a pair table."""

    row: str
    bands: tuple[str, ...]
    restored: NDArray[np.float32]
    """(C, H, W) reflectance."""
    valid: NDArray[np.bool_]
    """(H, W) True = predicted or observed."""


@dataclass
class ChipScores:
    """What was found out on one chip."""

    scored: list[Scored] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    """Entries of `images` in report.json, in each case's widest band set."""
    pictures: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Id of an image -> name of the picture -> WebP."""
    predictions: list[Prediction] = field(default_factory=list)
    trust: Trust = field(default_factory=Trust)
    left_out: list[LeftOut] = field(default_factory=list)


def score_chip(
    place: HeldOutPlace,
    reader: ImageReader,
    subjects: Sequence[Subject],
    sets: Mapping[str, tuple[str, ...]],
    tick: Callable[[], None],
) -> ChipScores:
    """Score `subjects`, the first of which the pictures show, on all cases of a place.

    sets: band sets that may be tried, the widest first. tick: called for each case that is done. What cannot be read, or has no bands of any set, is
    left out with its reason.
    """
    found = ChipScores()
    try:
        chip = read_chip(place.rows, reader, table=place.table)
    except (PipelineError, CatalogError) as error:
        found.left_out = [LeftOut(str(name), str(error), unread=True) for name in place.rows["id"]]
        return found
    possible = possible_sets(sets, chip.bands)
    if not possible:
        reason = f"its bands {' '.join(chip.bands)} hold none of the band sets {', '.join(sets)}"
        found.left_out = [LeftOut(str(name), reason) for name in place.rows["id"]]
        return found
    for case in cases_of(place, chip):
        if isinstance(case, LeftOut):
            found.left_out.append(case)
        else:
            _score(case.of_bands(sets[possible[0]]), subjects, sets, possible, found)
            tick()
    return found


def _score(
    case: Case,
    subjects: Sequence[Subject],
    sets: Mapping[str, tuple[str, ...]],
    possible: Sequence[str],
    found: ChipScores,
) -> None:
    """Score one case, which is of the widest of the `possible` sets."""
    ruler = Ruler(case)
    simple: dict[str, Taken] = {}
    for name in possible:
        if not (protocols := protocols_of(case, name, possible)):
            continue
        bands = sets[name]
        channels = [case.bands.index(band) for band in bands]
        part = case.of_bands(bands, name)
        answers = _answers(part, subjects)
        measured = {
            method: ruler.take(given.restored, channels).measures(channels) for method, given in answers.items()
        }
        if name == possible[0]:
            first = answers.get(subjects[0].method)
            simple = _simple(case, first, ruler)
        measured |= {method: taken.measures(channels) for method, taken in simple.items()}
        scored = [
            Scored(case.id, protocols, name, bands, method, case.group, case.cover_class, case.sky, parts)
            for method, parts in measured.items()
        ]
        found.scored += scored
        if name == possible[0]:
            found.images.append(_image(case, name, measured))
            if first is not None:
                _keep(case, first, found)


def _answers(case: Case, subjects: Sequence[Subject]) -> dict[str, Answer]:
    """The answers of the subjects that know all bands of the case."""
    able = [subject for subject in subjects if set(case.bands) <= set(subject.checkpoint.spec.bands)]
    references = harmonised(case)
    return {subject.method: answer(subject.checkpoint, case, references) for subject in able}


def _simple(case: Case, first: Answer | None, ruler: Ruler) -> dict[str, Taken]:
    """What needs no network, measured; methods that have nothing to say are left out."""
    missing = unavailable()
    given: dict[str, NDArray[np.float32] | None] = {} if first is None else {FIRST_GUESS: first.guess}
    given |= {name: method(case.problem) for name, method in BASELINES.items() if name not in missing}
    return {name: ruler.take(prediction) for name, prediction in given.items() if prediction is not None}


def _keep(case: Case, given: Answer, found: ChipScores) -> None:
    """What is kept of an answer beside its scores."""
    found.pictures[case.id] = {name: encode(picture) for name, picture in picture_set(case, given).items()}
    found.trust += Trust.of(given.network, case.target, given.uncertainty, case.bands, case.cloudy)
    if case.protocol == "pair":
        found.predictions.append(Prediction(case.row, case.bands, given.restored, case.problem.valid))


def _image(case: Case, name: str, measured: Mapping[str, Mapping[Part, Measures]]) -> dict[str, Any]:
    """Entry of `images` in report.json."""
    problem = case.problem
    kinds = np.bincount(case.ground[case.cloudy], minlength=len(GROUND))
    return {
        "id": case.id,
        "chip": case.chip,
        "group": case.group,
        "protocol": case.protocol,
        "also": list(case.also),
        "bands": name,
        "row": case.row,
        "cover": case.cover,
        "cover_class": case.cover_class,
        "sky": case.sky,
        "ground": GROUND[int(kinds.argmax())],
        "shadow": float(case.shadow.mean()),
        "days": list(problem.days),
        "open_share": problem.open_share if problem.days else None,
        "scores": {
            method: {
                part.region: {
                    score: None if (known := number(value)) is None else float(f"{known:.{_DIGITS}g}")
                    for score, value in zip(SCORES, astuple(measures.whole.scores), strict=True)
                }
                for part, measures in parts.items()
                if part.ground == ANY
            }
            for method, parts in measured.items()
        },
        "pictures": {},
    }
