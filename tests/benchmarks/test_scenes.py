"""Scenes, SAFE folders and dates that benchmarks are run on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

import benchmarks.bench.images
from benchmarks.bench.clouds import BANDS as DATE_BANDS
from benchmarks.bench.clouds import CLOUDY, make_dates
from benchmarks.bench.images import Images
from benchmarks.bench.safe import jp2_files, make_safe
from benchmarks.bench.scenes import TEN, TWELVE, MadeScene, make_scene, repeated
from catalogs.bands import BANDS
from catalogs.files import open_sources
from tests.benchmarks.conftest import EDGE


def pixels(path: str | Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


@given(rows=st.integers(1, 7), cols=st.integers(1, 7), size=st.integers(1, 30), data=st.data())
def test_repetition_is_numpys_symmetric_padding(rows: int, cols: int, size: int, data: st.DataObject) -> None:
    image = np.arange(rows * cols).reshape(rows, cols)
    whole = np.pad(image, [(0, max(0, size - rows)), (0, max(0, size - cols))], mode="symmetric")[:size, :size]
    first = data.draw(st.integers(0, size - 1))
    count = data.draw(st.integers(1, size - first))
    np.testing.assert_array_equal(repeated(image, size)(first, count), whole[first : first + count])


def test_a_scene_is_its_image_repeated(scene: MadeScene, images: Images) -> None:
    assert tuple(scene.files) == TEN
    assert scene.pixels == 4 * 600 * 600
    for name, path in scene.files.items():
        image = images.band(name)
        expected = np.pad(image, [(0, 600 - EDGE)] * 2, mode="symmetric")
        np.testing.assert_array_equal(pixels(path), expected)
        with rasterio.open(path) as file:
            assert (file.nodata, file.res, file.block_shapes) == (0, (10, 10), [(512, 512)])


def test_bands_keep_their_resolutions(images: Images, tmp_path: Path) -> None:
    made = make_scene(images, tmp_path, 120, TWELVE)
    for name, path in made.files.items():
        with rasterio.open(path) as file:
            assert file.shape == (1200 // BANDS[name].gsd,) * 2
            assert file.bounds[2] - file.bounds[0] == 1200
    (item,) = open_sources(list(made.files.values()))
    assert sorted(item.bands) == sorted(TWELVE)


def test_a_scene_is_written_once(images: Images, tmp_path: Path) -> None:
    def written() -> dict[str, int]:
        return {name: Path(path).stat().st_mtime_ns for name, path in make_scene(images, tmp_path, 96).files.items()}

    assert written() == written()


def test_a_size_that_cuts_a_coarse_pixel_is_refused(images: Images, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size 100: B01"):
        make_scene(images, tmp_path, 100, TWELVE)


def test_without_real_data_an_image_is_simulated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks.bench.images, "SIMULATED", 96)
    found = Images.find(tmp_path / "nowhere", tmp_path)
    assert not found.real
    assert found.band("B02").shape == (96, 96)
    assert found.band("B09").shape == (16, 16)
    assert found.band("B02").min() >= 1
    assert Images.find(tmp_path / "nowhere", tmp_path) == found


def test_real_images_are_found(shared_data: Path, tmp_path: Path) -> None:
    found = Images.find(shared_data, tmp_path)
    assert found.real
    assert not any(tmp_path.iterdir())
    for name in TWELVE:
        assert found.band(name).shape[0] * BANDS[name].gsd == found.band("B02").shape[0] * 10


def test_a_safe_folder_holds_the_same_pixels(scene: MadeScene, tmp_path: Path) -> None:
    folder = make_safe(scene, tmp_path, 2)
    (item,) = open_sources([str(folder)])
    assert tuple(item.bands) == TEN
    assert (item.level, item.baseline, item.tile) == ("L2A", "05.09", "33TWL")
    for name, path in jp2_files(folder, scene.bands).items():
        assert item.bands[name].href == str(path)
        assert item.bands[name].offset == pytest.approx(-0.1)
        np.testing.assert_array_equal(pixels(path), pixels(scene.files[name]))
        with rasterio.open(path) as file, rasterio.open(scene.files[name]) as source:
            assert (file.driver, file.transform, file.crs) == ("JP2OpenJPEG", source.transform, source.crs)


def test_dates_are_real_clouds_near_the_share(shared_data: Path, tmp_path: Path) -> None:
    dates = make_dates(shared_data, tmp_path, 400, 0.5)
    assert dates.share == pytest.approx(0.5, abs=0.1)
    scene, *others = open_sources([str(path) for path in (dates.scene, *dates.others)])
    assert len(others) >= 2
    assert set(DATE_BANDS) == set(scene.bands)
    assert scene.scl is not None
    classes = pixels(scene.scl.href)
    assert classes.shape == (400, 400)
    # 384 of the 400 rows and columns are the window itself.
    assert np.isin(classes[:384, :384], CLOUDY).mean() == pytest.approx(dates.share, abs=1e-9)
    assert make_dates(shared_data, tmp_path, 400, 0.5) == dates
