"""References: the clearest dates, near ones first, harmonised; what cannot serve is passed over with its reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from catalogs.item import SceneItem
from pipeline.cloudmask import make_cloud_mask
from pipeline.errors import InvalidScene, InvalidSettings
from pipeline.radiometry import check_radiometry
from pipeline.references import References, select_references
from pipeline.scene import Scene, open_scene

from .made import WHEN, made_item, made_item_of, write_raster

RNG = np.random.default_rng(9)
GROUND = RNG.integers(800, 4000, (96, 96)).astype(np.float64)
CLOUD = np.zeros((96, 96), bool)
CLOUD[10:50, 10:50] = True
FULL = slice(0, 96), slice(0, 96)


def date(folder: Path, name: str, days: float, cloud: np.ndarray, gain: float = 1.0, **changes) -> SceneItem:
    pixels = np.where(cloud, 8000, GROUND / gain).astype(np.uint16)
    return made_item(
        folder / name,
        {"B02": pixels, "B05": pixels[::2, ::2]},
        scl=np.where(cloud, 9, 4),
        when=WHEN + timedelta(days=days),
        **changes,
    )


@pytest.fixture
def scene(tmp_path: Path):
    with open_scene(date(tmp_path, "scene", 0, CLOUD)) as scene:
        yield scene


def select(
    scene: Scene, candidates: list[SceneItem], count: int = 2, window: float = 30, grow: float = 0
) -> References:
    found = select_references(scene, make_cloud_mask(scene, "auto", grow), candidates, count, window, "auto", grow)
    for reference in found.references:
        reference.scene.close()
    return found


def hidden(share: float) -> np.ndarray:
    """Clouds over this share of the scene's clouds."""
    cloud = np.zeros_like(CLOUD)
    cloud[10 : 10 + round(40 * share), 10:50] = True
    return cloud


def test_clearest_first_and_near_ones_among_equals(tmp_path: Path, scene: Scene) -> None:
    candidates = [
        date(tmp_path, "half", 1, hidden(0.5)),
        date(tmp_path, "clear-far", -9, hidden(0)),
        date(tmp_path, "nearly-clear", 4, hidden(0.025)),
        date(tmp_path, "clear-b", 6, hidden(0)),
        date(tmp_path, "clear-a", -6, hidden(0)),
    ]
    found = select(scene, candidates, 5)
    assert [r.id for r in found.references] == ["nearly-clear", "clear-a", "clear-b", "clear-far", "half"]
    assert [r.days for r in found.references] == [4, -6, 6, -9, 1]
    assert [r.share for r in found.references] == pytest.approx([0.975, 1, 1, 1, 0.5], abs=0.003)
    assert found.skipped == {}
    again = select(scene, candidates[::-1], 2)
    assert [r.id for r in again.references] == ["nearly-clear", "clear-a"]


def test_harmonised_to_the_scene(tmp_path: Path, scene: Scene) -> None:
    (reference,) = select(scene, [date(tmp_path, "other", 3, hidden(0), gain=0.8)]).references
    truth = GROUND * 1e-4
    assert reference.harmonised == {"B02": True, "B05": True}
    assert reference.harmonise.fits[0].gain == pytest.approx(0.8, abs=0.005)
    fine = reference.scene.read("B02", *FULL) * np.float32(1e-4)
    coarse = reference.scene.read("B05", slice(0, 48), slice(0, 48)).repeat(2, 0).repeat(2, 1) * np.float32(1e-4)
    found = reference.harmonise(np.stack([fine, coarse]))
    np.testing.assert_allclose(found[0], truth, atol=2e-4)
    np.testing.assert_allclose(found[1, ::2, ::2], truth[::2, ::2], atol=2e-4)
    reference.scene.close()


def test_valid_is_clear_or_snow_after_growth(tmp_path: Path, scene: Scene) -> None:
    item = date(tmp_path, "other", 3, hidden(0.25))
    scl = np.where(hidden(0.25), 9, 4)
    scl[80:, 80:] = 11
    write_raster(tmp_path / "other/SCL.tif", scl.astype(np.uint8))
    (reference,) = select(scene, [item], grow=30).references
    valid = reference.valid(*FULL)
    assert valid[80:, 80:].all()
    assert not valid[hidden(0.25)].any()
    assert not valid[22, 30]
    assert valid[23, 30]


def test_what_cannot_serve_is_passed_over_with_its_reason(tmp_path: Path, scene: Scene) -> None:
    gone = date(tmp_path, "gone", 1, hidden(0))
    (tmp_path / "gone/B05.tif").unlink()
    cut = date(tmp_path, "cut", 2, hidden(0))
    (tmp_path / "cut/B02.tif").write_bytes((tmp_path / "cut/B02.tif").read_bytes()[:4000])
    lacks = date(tmp_path, "lacks", 3, hidden(0))
    lacks = replace(lacks, bands={"B02": lacks.bands["B02"]})
    candidates = [
        gone,
        cut,
        lacks,
        date(tmp_path, "shifted", 4, hidden(0), origin=(500000.0, 5100000.0)),
        date(tmp_path, "covered", 5, np.ones_like(CLOUD)),
        replace(date(tmp_path, "no-scl", 6, hidden(0)), scl=None),
        date(tmp_path, "offset", 7, hidden(0), offset=-0.5),
        date(tmp_path, "good", 8, hidden(0)),
        date(tmp_path, "too-far", 31, hidden(0)),
        replace(scene.item, id="same-time"),
        scene.item,
    ]
    found = select(scene, candidates, 8)
    assert [r.id for r in found.references] == ["good"]
    reasons = {
        "gone": "B05.tif: no such file",
        "cut": "B02.tif: truncated file",
        "lacks": "it lacks the bands B05",
        "shifted": "its B02 lies on another grid than that of scene",
        "covered": "no pixel under the scene's clouds is clear",
        "no-scl": "fit no detector",
        "offset": "seems applied already",
    }
    assert set(found.skipped) == set(reasons)
    for name, reason in reasons.items():
        assert reason in found.skipped[name]


def test_nothing_to_do(tmp_path: Path, scene: Scene) -> None:
    other = date(tmp_path, "other", 3, hidden(0))
    assert select(scene, [other], 0).references == ()
    with open_scene(other) as clear:
        assert select(clear, [scene.item]).references == ()
    with pytest.raises(InvalidSettings, match="must not be negative"):
        select(scene, [other], -1)


def test_too_few_jointly_clear_pixels(tmp_path: Path) -> None:
    mostly = np.ones_like(CLOUD)
    mostly[:5, :5] = False
    with open_scene(date(tmp_path, "scene", 0, mostly)) as scene:
        (reference,) = select(scene, [date(tmp_path, "other", 3, hidden(0), gain=1.5)]).references
    assert [fit.gain for fit in reference.harmonise.fits] == [1.0, 1.0]
    assert [fit.offset for fit in reference.harmonise.fits] == [0.0, 0.0]
    assert reference.harmonised == {"B02": False, "B05": False}


def test_an_offset_that_is_applied_already_is_refused_and_both_sides_named(tmp_path: Path) -> None:
    pixels = np.full((50, 50), 1500, np.uint16)
    pixels[:4] = 200
    pixels[40:] = 0
    item = made_item(tmp_path / "s", {"B02": pixels}, offset=-0.1)
    message = r"offset of -0.1 is still to be applied to B02, but 1?\d.\d% .*B02.tif"
    with open_scene(item) as scene, pytest.raises(InvalidScene, match=message):
        check_radiometry(scene)
    pixels[:4] = 900
    with open_scene(made_item(tmp_path / "t", {"B02": pixels}, offset=-0.1)) as scene:
        check_radiometry(scene)
    with open_scene(made_item(tmp_path / "u", {"B02": np.zeros((5, 5), np.uint16)}, offset=-0.1)) as scene:
        check_radiometry(scene)


def real(shared_data: Path, day: int, names: tuple[str, ...] = ("B03", "B08")) -> SceneItem:
    folder = next((shared_data / "stac/earth-search/sentinel-2-l2a").glob(f"S2?_33TWL_202308{day}_0_L2A"))
    return made_item_of(folder, names)


def test_real_dates_the_applied_offset_is_found_out(shared_data: Path) -> None:
    item = real(shared_data, 13)
    bands = {name: replace(asset, offset=-0.1, nodata=0) for name, asset in item.bands.items()}
    with open_scene(replace(item, bands=bands)) as scene, pytest.raises(InvalidScene, match="applied to B03, but"):
        check_radiometry(scene)


def test_real_dates_harmonising_brings_them_closer(shared_data: Path) -> None:
    with open_scene(real(shared_data, 18)) as scene:
        mask = make_cloud_mask(scene)
        found = select_references(scene, mask, [real(shared_data, day) for day in (13, 15)], 2, 30)
    assert sorted(r.scene.item.datetime.day for r in found.references) == [13, 15]
    with open_scene(real(shared_data, 15)) as scene:
        mask = make_cloud_mask(scene)
        cloudy = mask.classes.copy()
        cloudy[300:400, 300:400] = 3  # something to restore
        (reference,) = select_references(scene, type(mask)(cloudy, "made"), [real(shared_data, 13)], 1, 30).references
        whole = slice(0, 915), slice(0, 915)
        clear = (mask.classes == 1) & (reference.mask.classes == 1)
        names = [band.name for band in scene.bands]
        stack = np.stack([reference.scene.read(name, *whole) for name in names]) * np.float32(1e-4)
        brought = reference.harmonise(stack)
        for name in ("B03", "B08"):
            ours = scene.read(name, *whole)[clear] * 1e-4
            plain, fitted = (part[names.index(name)][clear] for part in (stack, brought))
            before, after = (np.sqrt(np.mean((ours - other) ** 2)) for other in (plain, fitted))
            assert after < 0.8 * before
    for opened in (*found.references, reference):
        opened.scene.close()
