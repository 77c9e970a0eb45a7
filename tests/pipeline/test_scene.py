"""Scenes: native grids that nest, headers that decide, bad files refused with their names."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from catalogs.item import BandAsset
from pipeline.errors import InvalidScene, InvalidSettings
from pipeline.scene import open_scene, pixel_metres

from .made import made_item, made_item_of, write_raster

RNG = np.random.default_rng(3)


def noise(rows: int, cols: int) -> np.ndarray:
    return RNG.integers(1, 9000, (rows, cols), dtype=np.uint16)


def mixed() -> dict[str, np.ndarray]:
    return {"B02": noise(120, 180), "B03": noise(120, 180), "B05": noise(60, 90), "B01": noise(20, 30)}


def test_grids_nest_in_the_finest(tmp_path: Path) -> None:
    bands = mixed()
    with open_scene(made_item(tmp_path / "s", bands, offset=-0.1)) as scene:
        assert [(b.name, b.factor) for b in scene.bands] == [("B01", 6), ("B02", 1), ("B03", 1), ("B05", 2)]
        assert scene.shape == (120, 180)
        assert scene.geobox == scene.band("B02").geobox
        assert scene.pixel_size == (10.0, 10.0)
        assert {b.offset for b in scene.bands} == {-0.1}
        for name, pixels in bands.items():
            rows, cols = (slice(0, length) for length in pixels.shape)
            np.testing.assert_array_equal(scene.read(name, rows, cols), pixels)


def test_chosen_bands_set_the_work_grid(tmp_path: Path) -> None:
    item = made_item(tmp_path / "s", mixed())
    with open_scene(item, ["B05", "B01"]) as scene:
        assert scene.shape == (60, 90)
        assert [(b.name, b.factor) for b in scene.bands] == [("B01", 3), ("B05", 1)]
    with pytest.raises(InvalidSettings, match="s: no band B12; it has B01, B02"):
        open_scene(item, ["B12"])
    with pytest.raises(InvalidSettings, match="no band chosen"):
        open_scene(item, [])


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rioxarray's own, from affine
def test_dataset_is_lazy_and_equals_rioxarray(tmp_path: Path) -> None:
    item = made_item(tmp_path / "s", {"B02": noise(1100, 700), "B05": noise(550, 350)})
    with open_scene(item) as scene:
        dataset = scene.dataset(1)
        assert dataset["B02"].dtype == np.uint16
        assert dataset["B02"].chunks == ((1024, 76), (700,))
        with rioxarray.open_rasterio(item.bands["B02"].href) as oracle:
            np.testing.assert_array_equal(dataset["B02"].values, oracle.values[0])
            np.testing.assert_array_equal(dataset.x, oracle.x)
            np.testing.assert_array_equal(dataset.y, oracle.y)
            assert dataset.rio.crs == oracle.rio.crs
            assert dataset.rio.transform() == oracle.rio.transform()
        assert dataset["B02"].attrs == {"scale": 1e-4, "offset": 0.0, "nodata": 0}
        assert list(scene.dataset(2)) == ["B05"]
        with pytest.raises(InvalidSettings, match="no band of factor 6"):
            scene.dataset(6)


def test_a_pickled_scene_reads_the_same(tmp_path: Path) -> None:
    with open_scene(made_item(tmp_path / "s", {"B02": noise(20, 30)})) as scene:
        window = slice(3, 9), slice(4, 30)
        here = scene.read("B02", *window)
        with pickle.loads(pickle.dumps(scene)) as other:  # noqa: S301
            np.testing.assert_array_equal(other.read("B02", *window), here)
            assert other.geobox == scene.geobox


@pytest.mark.parametrize(
    ("in_file", "in_item", "expected"), [(0, 7, 0), (None, 7, 7), (None, None, None), (65535, 0, 65535)]
)
def test_the_files_nodata_wins(tmp_path: Path, in_file: int | None, in_item: int | None, expected: int | None) -> None:
    item = made_item(tmp_path / "s", {"B02": noise(8, 8)}, file_nodata=in_file, item_nodata=in_item)
    with open_scene(item) as scene:
        assert scene.band("B02").nodata == expected


def test_several_bands_of_one_file(tmp_path: Path) -> None:
    stack = np.stack([noise(10, 12), noise(10, 12)])
    path = str(write_raster(tmp_path / "stack.tif", stack))
    item = made_item(tmp_path / "s", {"B02": noise(10, 12)})
    item = replace(item, bands={n: BandAsset(n, n, path, index=i) for i, n in ((2, "B02"), (1, "B03"))})
    with open_scene(item) as scene:
        np.testing.assert_array_equal(scene.read("B02", slice(0, 10), slice(0, 12)), stack[1])
        np.testing.assert_array_equal(scene.read("B03", slice(0, 10), slice(0, 12)), stack[0])
    with pytest.raises(InvalidScene, match="no band number 3 for B04, only 2"):
        open_scene(replace(item, bands={"B04": BandAsset("B04", "red", path, index=3)}))


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint8"])
def test_other_types_are_refused(tmp_path: Path, dtype: str) -> None:
    item = made_item(tmp_path / "s", {"B02": noise(8, 8).astype(dtype)})
    with pytest.raises(InvalidScene, match=rf"B02.tif: B02 holds {dtype} pixels, only uint16"):
        open_scene(item)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crs": None}, "no coordinate reference system"),
        ({"crs": "EPSG:4978"}, "neither projected nor geographic"),
        ({"resolution": -10.0}, "not north-up"),
    ],
)
def test_files_without_a_usable_grid_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    item = made_item(tmp_path / "s", {"B02": noise(8, 8)}, **change)
    with pytest.raises(InvalidScene, match=rf"B02.tif: .*{message}"):
        open_scene(item)


@pytest.mark.parametrize(
    "change",
    [{"crs": "EPSG:32634"}, {"origin": (499990.0, 5100000.0)}, {"resolution": 40.0}, {"pixels": noise(24, 31)}],
)
def test_bands_of_different_scenes_name_both(tmp_path: Path, change: dict) -> None:
    item = made_item(tmp_path / "s", {"B02": noise(24, 30), "B03": noise(24, 30)})
    pixels = change.pop("pixels", noise(24, 30))
    write_raster(tmp_path / "s/B03.tif", pixels, **change)
    with pytest.raises(InvalidScene, match=r"bands of different scenes: B0[23] .*B0[23].tif.* does not nest in B0[23]"):
        open_scene(item)


def test_a_file_without_a_geotransform_is_refused(tmp_path: Path) -> None:
    item = made_item(tmp_path / "s", {"B02": noise(8, 8)})
    with (
        pytest.warns(NotGeoreferencedWarning),
        rasterio.open(
            tmp_path / "s/B02.tif", "w", driver="GTiff", width=8, height=8, count=1, dtype="uint16", crs="EPSG:32633"
        ) as dataset,
    ):
        dataset.write(noise(8, 8), 1)
    with pytest.raises(InvalidScene, match=r"B02.tif: no geotransform"):
        open_scene(item)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    item = made_item(tmp_path / "s", {"B02": noise(8, 8), "B03": noise(8, 8)})
    (tmp_path / "s/B03.tif").unlink()
    with pytest.raises(InvalidScene, match=r"B03.tif: no such file"):
        open_scene(item)


def test_one_pixel(tmp_path: Path) -> None:
    with open_scene(made_item(tmp_path / "s", {"B02": noise(1, 1)})) as scene:
        assert scene.shape == (1, 1)
        assert scene.read_decimated("B02", 6).shape == (1, 1)
        assert scene.dataset(1)["B02"].shape == (1, 1)


def test_decimated_reads_of_all_grids_come_in_one_shape(tmp_path: Path) -> None:
    with open_scene(made_item(tmp_path / "s", mixed())) as scene:
        for step, shape in ((1, (120, 180)), (2, (60, 90)), (6, (20, 30)), (12, (10, 15))):
            assert {scene.read_decimated(band.name, step).shape for band in scene.bands} == {shape}
        with pytest.raises(ValueError, match="step 4 fits no grid of factor 6"):
            scene.read_decimated("B01", 4)


def test_pixels_in_metres_on_a_geographic_grid() -> None:
    height, width = pixel_metres(GeoBox((100, 100), Affine(0.001, 0, 10, 0, -0.001, 60.05), "EPSG:4326"))
    assert height == pytest.approx(111.3, abs=0.5)
    assert width == pytest.approx(55.7, abs=0.5)


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rioxarray's own, from affine
def test_real_mixed_resolutions(shared_data: Path) -> None:
    folder = shared_data / "stac/sentinel2_29RKH/S2A_29RKH_20200219_0_L2A"
    item = made_item_of(folder, ["B01", "B02", "B05", "B12"])
    with open_scene(item) as scene:
        assert [(b.name, b.factor) for b in scene.bands] == [("B01", 6), ("B02", 1), ("B05", 2), ("B12", 2)]
        for band in scene.bands:
            with rioxarray.open_rasterio(band.href) as oracle:
                np.testing.assert_array_equal(
                    scene.read(band.name, slice(50, 170), slice(31, 183)), oracle.values[0, 50:170, 31:183]
                )
