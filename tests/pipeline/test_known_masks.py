"""Masks of a run: each date is masked once, and nothing that comes out depends on that."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

import pipeline.known_masks
from catalogs.item import SceneItem
from pipeline.cloudmask import CloudMask, make_cloud_mask
from pipeline.errors import InvalidScene
from pipeline.journal import Journal
from pipeline.known_masks import KnownMasks, mask_of, masks_kept
from pipeline.runner import run_scene, run_scenes, several_scenes
from pipeline.scene import Scene, open_scene
from pipeline.settings import DecloudSettings, Resources

from .made import WHEN, made_item, write_raster

RNG = np.random.default_rng(5)
GROUND = RNG.integers(800, 4000, (128, 128))
SETTINGS = DecloudSettings(checkpoint="identity", tile=64, references=2, max_generated=1.0)


def date(folder: Path, number: int) -> SceneItem:
    """One date of a series, with a cloud of its own and an SCL."""
    cloud = np.zeros(GROUND.shape, bool)
    cloud[20 * number : 20 * number + 40, 30:90] = True
    pixels = np.where(cloud, 8000, GROUND + 10 * number).astype(np.uint16)
    return made_item(
        folder / f"date-{number}",
        {"B02": pixels, "B03": pixels},
        scl=np.where(cloud, 9, 4),
        when=WHEN + timedelta(days=5 * number),
    )


@pytest.fixture
def series(tmp_path: Path) -> list[SceneItem]:
    return [date(tmp_path, number) for number in range(4)]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each scene has been masked, by id."""
    counts: Counter[str] = Counter()

    def counted(scene: Scene, *arguments: object, **options: object) -> CloudMask:
        counts[scene.id] += 1
        return make_cloud_mask(scene, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline.known_masks, "make_cloud_mask", counted)
    return counts


def classes(item: SceneItem, known: KnownMasks, method: str = "scl", grow: float = 20.0) -> np.ndarray:
    with open_scene(item) as scene:
        return known.mask(scene, method, grow).classes


def files(output: Path) -> dict[str, bytes]:
    """The rasters of all products."""
    return {str(path.relative_to(output)): path.read_bytes() for path in output.glob("*/*.tif")}


def test_a_series_masks_each_date_once_and_its_products_are_those_of_scenes_run_alone(
    series: list[SceneItem], made: Counter[str], tmp_path: Path
) -> None:
    report = run_scenes(series, tmp_path / "together", SETTINGS, candidates=series)
    assert [outcome.state for outcome in report.outcomes] == ["done"] * 4
    assert made == {item.id: 1 for item in series}
    made.clear()
    for item in series:
        journal = Journal(tmp_path / "alone")
        assert run_scene(item, tmp_path / "alone", SETTINGS, journal=journal, candidates=series).state == "done"
    assert made.total() > 4
    together = files(tmp_path / "together")
    assert len(together) >= 4 * 3
    assert together == files(tmp_path / "alone")


def test_what_is_kept_is_what_would_be_made(series: list[SceneItem], made: Counter[str]) -> None:
    known = KnownMasks()
    for item in series[:2]:
        with open_scene(item) as scene:
            fresh = make_cloud_mask(scene, "auto", 30.0)
            first, second = known.mask(scene, "auto", 30.0), known.mask(scene, "auto", 30.0)
        for mask in (first, second):
            np.testing.assert_array_equal(mask.classes, fresh.classes)
            assert mask.method == fresh.method
            assert not mask.classes.flags.writeable
    assert set(made.values()) == {1}


def test_another_way_of_masking_and_another_content_of_a_file_are_masked_anew(
    series: list[SceneItem], made: Counter[str], tmp_path: Path
) -> None:
    known, item = KnownMasks(), series[0]
    thin, wide = classes(item, known, grow=0), classes(item, known, grow=60)
    assert (wide != thin).any()
    assert made[item.id] == 2
    raster = write_raster(tmp_path / "mask.tif", np.eye(128, dtype=np.uint8))
    classes(item, known, str(raster))
    assert made[item.id] == 3
    assert item.scl is not None
    cloudless = write_raster(tmp_path / "clear.tif", np.full((128, 128), 4, np.uint8))
    cloudless.replace(item.scl.href)
    assert (classes(item, known, grow=0) == 1).all()
    # Where the angle of the sun is known, shadows are looked for along it.
    classes(replace(item, sun_azimuth=10.0, sun_elevation=40.0), known, grow=0)
    assert made[item.id] == 5


def test_those_not_asked_for_longest_are_forgotten_first(series: list[SceneItem], made: Counter[str]) -> None:
    measure = KnownMasks()
    classes(series[0], measure)
    made.clear()
    known = KnownMasks(limit=int(2.5 * measure.size))
    for number in (0, 1, 0, 2, 0, 1):
        classes(series[number], known)
        assert known.size <= 2.5 * measure.size
    assert made == {series[0].id: 1, series[1].id: 2, series[2].id: 1}


def test_a_mask_larger_than_all_that_may_be_kept_is_given_and_not_kept(series: list[SceneItem]) -> None:
    known = KnownMasks(limit=10)
    assert classes(series[0], known).shape == (128, 128)
    assert known.size == 0


def test_who_wants_a_mask_that_is_being_made_waits_for_it(series: list[SceneItem], made: Counter[str]) -> None:
    known, together = KnownMasks(), threading.Barrier(4)

    def asked(_: int) -> np.ndarray:
        together.wait()
        return classes(series[0], known)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(asked, range(4)))
    assert made == {series[0].id: 1}
    assert all(np.array_equal(found[0], one) for one in found)


def test_a_scene_that_cannot_be_masked_is_tried_again(series: list[SceneItem], made: Counter[str]) -> None:
    known, item = KnownMasks(), series[0]
    assert item.scl is not None
    whole = Path(item.scl.href).read_bytes()
    Path(item.scl.href).write_bytes(whole[: len(whole) // 2])
    with open_scene(item) as scene:
        for _ in range(2):
            with pytest.raises(InvalidScene):
                known.mask(scene, "scl", 20.0)
    assert known.size == 0
    Path(item.scl.href).write_bytes(whole)
    assert classes(item, known).any()
    assert made[item.id] == 3


def test_masks_are_kept_around_several_scenes_only(series: list[SceneItem], made: Counter[str]) -> None:
    with open_scene(series[0]) as scene:
        mask_of(scene)
        mask_of(scene)
        assert made[scene.id] == 2
        with several_scenes(Resources()):
            with masks_kept():
                mask_of(scene)
            mask_of(scene)
            assert made[scene.id] == 3
        mask_of(scene)
        assert made[scene.id] == 4
