"""A small case, a small checkpoint, and a small pair table of made chips for the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalogs.pairs import PairTable
from pipeline import images
from pipeline.baselines import Problem
from pipeline.cases import Case
from pipeline.ground import ground_classes
from pipeline.pairs import build_pairs
from srgan.checkpoint import Checkpoint
from srgan.spec import ModelSpec
from tests.pipeline.made_chips import NAMES, bright_is_cloud, clouded, found, land, place, write_patch
from tests.srgan.made import lively

SPEC = ModelSpec(name="smallest", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1))


def smallest(name: str = "smallest", seed: int = 0, **spec: Any) -> Checkpoint:
    """A checkpoint of a network of random weights."""
    chosen = SPEC.model_copy(update=spec)
    return Checkpoint(name, chosen, lively(chosen, seed), f"{seed:064x}", {})


def reflectance(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32) / np.float32(1e4)


def made_case(seed: int = 0, dates: int = 0, size: int = 64) -> Case:
    """Land with a cloud over its middle, shadow below it, an edge without data, an edge of unknown truth, and `dates` clear references."""
    truth = land(seed, size)
    image = clouded(truth, slice(16, 40), slice(8, 56))
    image[:, 40:48, 8:56] //= 2
    mask, shadow, valid, known = (np.zeros((size, size), bool) for _ in range(4))
    mask[12:52, 4:60] = True
    shadow[40:48, 8:56] = True
    valid[:, 2:] = True
    known[2:] = True
    image[:, ~valid] = 0
    references = [reflectance(land(seed + 10 + number, size)) * np.float32(0.9) for number in range(dates)]
    problem = Problem(
        image=reflectance(image),
        mask=mask & valid,
        valid=valid,
        bands=NAMES,
        references=np.stack(references) if dates else np.zeros((0, 13, size, size), np.float32),
        reference_valid=np.ones((dates, size, size), bool),
        days=tuple(5.0 * (number + 1) * (-1) ** number for number in range(dates)),
        clouds=(0.0,) * dates,
    )
    target = reflectance(truth)
    ground = ground_classes(target, NAMES, known)
    ground[:, :32][known[:, :32]] = 1
    return Case(
        id=f"made{seed}", chip=f"made{seed}", group="made", protocol="pair", bands=NAMES, sky="", cover=0.5, cover_class="30-70 %",
        problem=problem, target=target, known=known, shadow=shadow, ground=ground, metres=10.0, row=f"made{seed}",
    )  # fmt: skip


def write_pair(folder: Path, name: str, seed: int, rows: int = 24, size: int = 64) -> dict[str, str]:
    """Files of the two sides of a SEN12MS-CR pair."""
    return {
        "clear": write_patch(folder / f"{name}_clear.tif", land(seed, size)),
        "cloudy": write_patch(
            folder / f"{name}_cloudy.tif", clouded(land(seed + 40, size), slice(0, rows), slice(0, 30))
        ),
    }


@contextmanager
def detector() -> Iterator[None]:
    """`bright_is_cloud` wherever s2cloudless would be asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "s2cloudless", bright_is_cloud)
        patch.setattr("pipeline.pairs.importlib.util.find_spec", lambda _: True)
        yield


def made_table(folder: Path) -> PairTable:
    """Pairs of test, val and train, one of test without cloud, and one of test whose clear side is cloudy."""
    bad = write_pair(folder, "d", 7)
    write_patch(Path(bad["clear"]), clouded(land(7), slice(0, 60)))
    places = [
        place("ROIs1158_spring_1_p1", write_pair(folder, "a", 1), "sen12mscr", split="test"),
        place("ROIs1158_spring_2_p1", write_pair(folder, "b", 3), "sen12mscr", split="test"),
        place("ROIs1158_spring_1_p2", write_pair(folder, "c", 5, rows=0), "sen12mscr", split="test"),
        place("ROIs1158_spring_1_p3", bad, "sen12mscr", split="test"),
        place("ROIs1158_spring_3_p1", write_pair(folder, "e", 9), "sen12mscr", split="val"),
        place("ROIs1158_spring_4_p1", write_pair(folder, "f", 11), "sen12mscr"),
    ]
    with detector():
        return build_pairs(found(*places))[0]


def made_series(folder: Path, split: str = "test") -> PairTable:
    """Five dates of one place, two of them cloudy."""
    dated = {
        f"2018-01-{day:02}": write_patch(
            folder / f"{day}.tif", clouded(land(20 + day), slice(0, 30)) if day in (6, 16) else land(20 + day)
        )
        for day in (1, 6, 11, 16, 21)
    }
    with detector():
        return build_pairs(found(place("ROIs2017_146_patch_0", dated, split=split)))[0]


def with_split(table: PairTable, split: str) -> PairTable:
    return replace(table, frame=table.frame.assign(split=split))
