"""A file that is replaced while a scene is made from it: the product is of one version, or there is none, and the next run is of what is there.

The run stops at a seeded event, with all its threads; the file is changed; the run goes on.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from pipeline.simulation.simulate import Simulated
from tests.faults.conftest import SEED, Tell, examples, words
from tests.faults.forked import Nursery
from tests.faults.outputs import pixels, whole_products

TRIES = examples(8)
# Of the two other dates it is the one that is taken.
SCENE, REFERENCE = "S2B_33UWP_20230713_0_L2A", "S2A_33UWP_20230708_0_L2A"
pytestmark = pytest.mark.timeout(1200)
Change = Callable[[Path, bytes], None]


def renamed(path: Path, content: bytes) -> None:
    """As rsync and most downloads do."""
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    beside.replace(path)


def overwritten(path: Path, content: bytes) -> None:
    """In place, as cp does."""
    path.write_bytes(content)


def truncated(path: Path, content: bytes) -> None:
    os.truncate(path, len(content) // 2)


def removed(path: Path, content: bytes) -> None:
    assert content
    path.unlink()


def written(path: Path, more: int) -> bytes:
    """Write a band anew, `more` DN brighter and without compression: every image then has the same size in bytes. Returns the file."""
    with rasterio.open(path) as dataset:
        profile, image = dataset.profile, dataset.read()
    brighter = np.where(image > 0, image.astype(np.int32) + more, 0).astype(image.dtype)
    with rasterio.open(path, "w", **{**profile, "compress": "none"}) as dataset:
        dataset.write(brighter)
    return path.read_bytes()


@dataclass(frozen=True)
class Versions:
    """Two versions of one file of an area, and what an undisturbed run makes of the former."""

    source: Path
    who: str
    former: bytes
    later: bytes
    old: dict[str, dict[str, str]]
    events: int

    def home(self, area: Simulated, folder: Path) -> tuple[Simulated, Path, Path]:
        """An area of its own, which holds the former version: the area, the file, the output."""
        shutil.copytree(self.source, folder / "stac")
        own = replace(area, catalogue=folder / "stac" / "catalog.json")
        return own, next((folder / "stac").rglob(f"{self.who}/B04.tif")), folder / "out"


def command(area: Simulated, output: Path) -> tuple[object, ...]:
    return words(area, output, "--references", "1", "--json")


def _files(products: dict[str, dict[str, str]]) -> list[dict[str, str]]:
    """What the products hold, whatever their names."""
    return list(products.values())


@pytest.fixture(scope="module", params=[SCENE, REFERENCE], ids=["scene", "reference"])
def versions(
    request: pytest.FixtureRequest, nursery: Nursery, tiny: Simulated, tmp_path_factory: pytest.TempPathFactory
) -> Versions:
    source = tmp_path_factory.mktemp("versions") / "stac"
    shutil.copytree(tiny.catalogue.parent, source)
    band, output = next(source.rglob(f"{request.param}/B04.tif")), source.parent / "out"
    later, former = written(band, 300), written(band, -300)
    assert len(former) == len(later)
    assert former != later
    ended = nursery.run(*command(replace(tiny, catalogue=source / "catalog.json"), output), output=output)
    assert ended.status == 0, ended.err
    return Versions(source, request.param, former, later, pixels(whole_products(output)), ended.events)


@pytest.mark.parametrize("change", [renamed, overwritten, truncated, removed], ids=lambda change: change.__name__)
def test_a_file_that_changes_during_the_run(
    change: Change, versions: Versions, nursery: Nursery, tiny: Simulated, tmp_path: Path, tell: Tell
) -> None:
    moments = random.Random(f"{SEED} {versions.who} {change.__name__}")  # noqa: S311
    old, of_scene, refused = versions.old, versions.who == SCENE, 0
    area, band, output = versions.home(tiny, tmp_path / "changed")
    change(band, versions.later)
    undisturbed = nursery.run(*command(area, output), output=output)
    new = pixels(whole_products(output))
    assert undisturbed.status == (0 if new else 1)
    assert bool(new) == (not of_scene or change in (renamed, overwritten))
    assert set(new) != set(old)
    for number in range(TRIES):
        area, band, output = versions.home(tiny, tmp_path / str(number))
        # The first try is in the midst of the blocks for certain.
        event = versions.events // 3 if number == 0 else moments.randint(1, versions.events)
        begun = nursery.begin(*command(area, output), output=output, pause=event)
        assert begun.paused()
        change(band, versions.later)
        begun.resume()
        ended = begun.end()
        made = pixels(whole_products(output))
        assert ended.status == (0 if made else 1), (event, ended.err)
        # A file that goes while the run still looks for what there is gives another key, and pixels of what is left.
        assert _files(made) in ([], _files(old), _files(new)), f"event {event} of {versions.events}: of two versions"
        if not made:
            refused += 1
            (scene,) = ended.document["scenes"]
            assert scene["state"] in ("failed", "invalid")
            assert band.name in scene["reason"], scene
        status = nursery.run("status", output, output=output)
        assert status.status == (0 if made else 1), status.out

        again = nursery.run(*command(area, output), output=output)
        assert again.status == undisturbed.status, again.out
        made_now = pixels(whole_products(output))
        assert made.items() <= made_now.items()
        # A product that was there stays where only another date has changed, see --refresh.
        if not made or of_scene:
            assert made_now == made | new
    where = "scene" if of_scene else "reference"
    tell(
        f"a file of the {where} {change.__name__} during the run: {TRIES} times, {refused} refused, none of two versions"
    )
