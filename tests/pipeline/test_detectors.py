"""Detectors: which one a scene gets, what they find on real scenes, and that small scenes pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from catalogs.bands import BANDS
from catalogs.item import BandAsset, SceneItem
from pipeline import detectors
from pipeline.classes import CLEAR, SHADOW, THICK, ClassArray, SceneClassification
from pipeline.cloudmask import make_cloud_mask
from pipeline.detectors import S2CLOUDLESS_BANDS, _run, class_source, thinned
from pipeline.errors import InvalidSettings
from pipeline.lookup import thin_grid
from pipeline.scene import open_scene

from .made import WHEN, made_item

RNG = np.random.default_rng(5)
VISIBLE = ("B02", "B03", "B04", "B08")


def noise(rows: int, cols: int) -> np.ndarray:
    return RNG.integers(300, 900, (rows, cols), dtype=np.uint16)


def test_auto_takes_the_scl(tmp_path: Path) -> None:
    item = made_item(tmp_path / "s", {name: noise(12, 12) for name in VISIBLE}, scl=np.full((6, 6), 4))
    with open_scene(item) as scene:
        assert isinstance(class_source(scene, "auto"), SceneClassification)


def test_without_a_detector_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = made_item(tmp_path / "s", {name: noise(12, 12) for name in VISIBLE})
    monkeypatch.setattr(detectors, "_installed", lambda _: False)
    with open_scene(item) as scene:
        with pytest.raises(
            InvalidSettings, match=r"s: no SCL and no detector installed: pip install 'declouder\[csmask\]'"
        ):
            class_source(scene, "auto")
        with pytest.raises(InvalidSettings, match=r"csmask is not installed: pip install 'declouder\[csmask\]'"):
            class_source(scene, "csmask")


def test_bands_that_fit_no_detector(tmp_path: Path) -> None:
    with open_scene(made_item(tmp_path / "s", {"B02": noise(12, 12)})) as scene:
        with pytest.raises(InvalidSettings, match="fit no detector: csmask needs B02, B03, B04, B08"):
            class_source(scene, "auto")
        with pytest.raises(InvalidSettings, match="csmask needs the bands B03, B04, B08"):
            class_source(scene, "csmask")
        with pytest.raises(InvalidSettings, match="s2cloudless needs the bands B01"):
            class_source(scene, "s2cloudless")
    item = made_item(tmp_path / "t", {"B02": noise(12, 12)}, level="L2A")
    with open_scene(item) as scene, pytest.raises(InvalidSettings, match="s2cloudless reads L1C only"):
        class_source(scene, "s2cloudless")


def test_thinning_is_the_mean_of_valid_pixels(tmp_path: Path) -> None:
    fine, coarse = noise(14, 20), noise(7, 10)
    fine[0:3, 0:2] = 0
    with open_scene(made_item(tmp_path / "s", {"B02": fine, "B05": coarse}, offset=-0.01)) as scene:
        stack, valid = thinned(scene, ("B02", "B05"), 3, slice(0, 5), slice(0, 7))
    assert stack.shape == (2, 5, 7)
    assert valid.all()
    cell = fine[0:3, 0:3]
    assert stack[0, 0, 0] == pytest.approx(cell[cell > 0].mean() * 1e-4 - 0.01, abs=1e-6)
    assert stack[1, 4, 6] == pytest.approx(
        np.repeat(np.repeat(coarse, 2, 0), 2, 1)[12:, 18:].mean() * 1e-4 - 0.01, abs=1e-6
    )


def test_tiles_of_the_detector_are_seamless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(70, 90)
    with open_scene(made_item(tmp_path / "s", {"B02": pixels}, resolution=60.0)) as scene:

        def classify(stack: np.ndarray, valid: np.ndarray) -> np.ndarray:
            del valid
            return np.where(stack[0] > 0.06, THICK, CLEAR).astype(np.uint8)

        whole, grid = _run(scene, ("B02",), 60.0, classify)
        monkeypatch.setattr(detectors, "_TILE", 16)
        monkeypatch.setattr(detectors, "_HALO", 4)
        tiled, _ = _run(scene, ("B02",), 60.0, classify)
        assert grid == scene.geobox
    np.testing.assert_array_equal(tiled, whole)


def test_classes_on_a_thinned_grid_reach_every_work_pixel(tmp_path: Path) -> None:
    with open_scene(made_item(tmp_path / "s", {"B02": noise(20, 31)})) as scene:
        grid = thin_grid(scene.geobox, 3)
        classes = RNG.integers(1, 5, grid.shape).astype(np.uint8)
        source = ClassArray(classes, grid, scene.geobox, "made", own_shadows=True)
        whole = source.read(slice(0, 20), slice(0, 31))
        np.testing.assert_array_equal(whole, np.repeat(np.repeat(classes, 3, 0), 3, 1)[:20, :31])
        np.testing.assert_array_equal(source.read(slice(7, 19), slice(5, 31)), whole[7:19, 5:31])


def real_31u(shared_data: Path) -> SceneItem:
    folder = shared_data / "scenes/S2_L1C_31U_512x1024_10m"
    bands = {name: BandAsset(name, name, str(folder / f"ref_input_S2_{name}.tif")) for name in VISIBLE}
    return SceneItem("31U", WHEN, bands, level="L1C")


def test_csmask_on_a_real_scene(shared_data: Path) -> None:
    pytest.importorskip("ukis_csmask")
    with open_scene(real_31u(shared_data)) as scene:
        mask = make_cloud_mask(scene, "auto", 0)
        assert mask.method == "csmask 4-band l1c"
        nir, blue = (scene.read(name, slice(0, 1024), slice(0, 512)) for name in ("B08", "B02"))
    assert 0.08 < mask.fractions["thick"] < 0.25
    clear = mask.classes == CLEAR
    assert blue[mask.classes == THICK].mean() > 1.4 * blue[clear].mean()
    assert nir[mask.classes == SHADOW].mean() < 0.8 * nir[clear].mean()


def test_csmask_on_a_scene_smaller_than_its_tile(tmp_path: Path) -> None:
    pytest.importorskip("ukis_csmask")
    item = made_item(tmp_path / "s", {name: noise(9, 1) for name in VISIBLE}, resolution=30.0)
    with open_scene(item) as scene:
        mask = make_cloud_mask(scene, "csmask")
    assert mask.classes.shape == (9, 1)
    assert mask.method == "csmask 4-band l1c (level unknown)"


def sen12(path: Path) -> SceneItem:
    bands = {name: BandAsset(name, name, str(path), index=i) for i, name in enumerate(BANDS, 1)}
    return SceneItem(path.stem, WHEN, bands, level="L1C")


def test_s2cloudless_on_a_real_pair(shared_data: Path) -> None:
    pytest.importorskip("s2cloudless")
    root, name = shared_data / "SEN12MSCR", "ROIs1158_spring_{}_39_p100.tif"
    shares = []
    for kind in ("s2_cloudy", "s2"):
        path = root / f"ROIs1158_spring_{kind}" / f"{kind}_39" / name.format(kind)
        with open_scene(sen12(path)) as scene:
            mask = make_cloud_mask(scene, "s2cloudless", 0)
        assert mask.method.startswith("s2cloudless")
        shares.append(mask.fractions["thick"])
    cloudy, clear = shares
    assert cloudy > 0.2
    assert clear < 0.05


def test_s2cloudless_may_use_bands_that_the_run_does_not(tmp_path: Path) -> None:
    pytest.importorskip("s2cloudless")
    stack = np.stack([noise(30, 24) for _ in S2CLOUDLESS_BANDS])
    path = tmp_path / "stack.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(stack),
        height=30,
        width=24,
        dtype="uint16",
        crs="EPSG:32633",
        transform=Affine(20.0, 0, 500000, 0, -20.0, 5000000),
    ) as dataset:
        dataset.write(stack)
    item = sen12(path)
    item = replace(item, bands={n: BandAsset(n, n, str(path), index=i) for i, n in enumerate(S2CLOUDLESS_BANDS, 1)})
    with open_scene(item, ["B02"]) as scene:
        assert make_cloud_mask(scene, "s2cloudless").shape == (30, 24)
