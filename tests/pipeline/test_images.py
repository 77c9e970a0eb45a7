"""Images: pixels unchanged, radiometry applied once, classes from whoever knows them, every broken file named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from catalogs.errors import InvalidItem
from catalogs.places import Window
from pipeline import images
from pipeline.errors import InvalidScene, InvalidSettings
from pipeline.images import CLEAR, CLOUD, NODATA, SHADOW, ImageReader
from tests.pipeline.made_chips import NAMES, SIZE, clouded, land, simple_detector, write_item, write_patch

__all__ = ["simple_detector"]


@pytest.fixture
def reader():
    with ImageReader() as opened:
        yield opened


def item_bands(size: int = 48, **bands: np.ndarray) -> dict[str, np.ndarray]:
    made = {name: land(1, size)[NAMES.index(name)] for name in ("B02", "B03", "B04", "B08")}
    return made | bands


@pytest.mark.usefixtures("simple_detector")
def test_a_patch_comes_out_as_it_is_but_for_the_brightest(tmp_path, reader):
    values = clouded(land(), slice(0, 20))
    values[:, 2:4] = 13000
    values[:, 60:] = 0
    values[10, 40:50] = 0  # dark in one band alone is no hole
    image = reader.read(write_patch(tmp_path / "a.tif", values), "sen12mscr", None)
    np.testing.assert_array_equal(image.values, np.minimum(values, 10000))
    expected = np.full((SIZE, SIZE), CLEAR)
    expected[:20], expected[60:] = CLOUD, NODATA
    np.testing.assert_array_equal(image.classes, expected)
    assert (image.bands, image.mask, image.level, image.metres) == (NAMES, "s2cloudless", "L1C", 10)
    np.testing.assert_allclose(image.reflectance("B08"), np.minimum(values[7], 10000) / 1e4, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((12, 16, 16), np.uint16), "no band number 13"),
        (np.ones((13, 16, 16), np.float32), "float32"),
        (np.zeros((13, 16, 16), np.uint16), "nothing but zeros"),
    ],
)
@pytest.mark.usefixtures("simple_detector")
def test_a_wrong_patch_is_named(tmp_path, reader, values, message):
    path = write_patch(tmp_path / "image.tif", values)
    with pytest.raises(InvalidScene, match=rf"image\.tif.*{message}"):
        reader.read(path, "sen12mscr", None)


@pytest.mark.usefixtures("simple_detector")
def test_a_truncated_patch_is_no_black_image(tmp_path, reader):
    path = Path(write_patch(tmp_path / "image.tif", land()))
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(InvalidScene, match=r"image\.tif: truncated file"):
        reader.read(str(path), "sen12mscr", None)
    with pytest.raises(InvalidScene, match="no such file"):
        reader.read(str(tmp_path / "missing.tif"), "sen12mscr", None)


@pytest.mark.parametrize(("applied", "expected"), [(True, 2000), (False, 1000)])
def test_the_offset_of_an_item_is_applied_once(tmp_path, reader, applied, expected):
    bands = {name: np.full((48, 48), 2000, np.uint16) for name in ("B02", "B03", "B04", "B08")}
    href = write_item(tmp_path / "s", bands, np.full((48, 48), 4, np.uint8), offset=-0.1, applied=applied)
    image = reader.read(href, "stac", None)
    assert (image.values[NAMES.index("B02")] == expected).all()
    assert image.bands == ("B02", "B03", "B04", "B08")
    assert not image.values[[index for index, name in enumerate(NAMES) if name not in image.bands]].any()
    assert image.level == "L2A"


def test_metadata_that_contradict_the_pixels_are_refused(tmp_path, reader):
    bands = item_bands(B04=np.full((48, 48), 300, np.uint16))
    href = write_item(tmp_path / "s", bands, np.full((48, 48), 4, np.uint8), offset=-0.1, applied=False)
    with pytest.raises(InvalidScene, match="applied already"):
        reader.read(href, "stac", None)


def test_coarse_bands_are_repeated_and_only_the_window_is_read(tmp_path, reader, monkeypatch):
    swir = np.arange(24 * 24, dtype=np.uint16).reshape(24, 24) + 1
    scl = np.full((24, 24), 4, np.uint8)
    scl[2:5, 3:6] = 9
    href = write_item(tmp_path / "s", item_bands(B11=swir), scl)
    seen = []
    reader.read(href, "stac", None)
    scene, _ = next(iter(reader._open.values()))
    read = type(scene.reader).read

    def spy(self, href, index, rows, cols):
        seen.append((Path(href).stem, rows.stop - rows.start, cols.stop - cols.start))
        return read(self, href, index, rows, cols)

    monkeypatch.setattr(type(scene.reader), "read", spy)
    image = reader.read(href, "stac", Window(5, 3, 16, 20))
    repeated = np.kron(swir, np.ones((2, 2), np.uint16))
    np.testing.assert_array_equal(image.values[NAMES.index("B11")], repeated[5:21, 3:23])
    np.testing.assert_array_equal(image.classes == CLOUD, np.kron(scl, np.ones((2, 2)))[5:21, 3:23] == 9)
    assert {name for name, *_ in seen} == {"B02", "B03", "B04", "B08", "B11", "SCL"}
    assert max(rows for _, rows, _ in seen) <= 16
    assert max(cols for *_, cols in seen) <= 20


def test_classes_of_an_item_are_those_of_its_scl(tmp_path, reader):
    scl = np.repeat(np.arange(12, dtype=np.uint8), 4)[:, None].repeat(48, axis=1)
    bands = item_bands()
    for pixels in bands.values():
        pixels[:4] = 0
    bands["B04"][40:44] = 0  # black in one band only
    image = reader.read(write_item(tmp_path / "s", bands, scl), "stac", None)
    names = {0: NODATA, 3: SHADOW, 8: CLOUD, 9: CLOUD, 10: CLOUD}
    for value in range(12):
        assert (image.classes[4 * value + 1 : 4 * value + 3] == names.get(value, CLEAR)).all(), value
    np.testing.assert_array_equal(image.scl_snow, scl == 11)
    assert image.mask == "scl"


def test_a_window_outside_the_file_and_a_mask_that_does_not_fit(tmp_path, reader):
    href = write_item(tmp_path / "s", item_bands(), np.full((48, 48), 4, np.uint8))
    with pytest.raises(InvalidScene, match=r"holds 48 x 48 pixels, no window .*make the pair table again"):
        reader.read(href, "stac", Window(0, 0, 49, 48))
    with pytest.raises(InvalidSettings, match="s2cloudless reads L1C only"):
        reader.read(href, "stac", None, "s2cloudless")
    with pytest.raises(InvalidItem, match="no such file"):
        reader.read(str(tmp_path / "gone.json"), "stac", None)


@pytest.mark.usefixtures("simple_detector")
def test_no_more_than_a_few_files_stay_open(tmp_path, reader):
    hrefs = [write_patch(tmp_path / f"{number}.tif", land(number, 8)) for number in range(30)]
    for href in hrefs * 2:
        reader.read(href, "sen12mscr", None)
    assert len(reader._open) == 24
    reader.close()
    assert not reader._open


def test_what_takes_a_look_at_the_whole_tile_is_done_once(tmp_path, reader, monkeypatch):
    scl = np.full((48, 48), 4, np.uint8)
    href = write_item(
        tmp_path / "s", {name: np.full((48, 48), 2000, np.uint16) for name in ("B02", "B03", "B04", "B08")}, scl
    )
    bad = write_item(tmp_path / "bad", item_bands(B04=np.full((48, 48), 9, np.uint16)), scl, offset=-0.1, applied=False)
    looked = []
    real = images.check_radiometry
    monkeypatch.setattr(images, "check_radiometry", lambda scene: (looked.append(scene.id), real(scene)))
    for col in (0, 16):
        reader.read(href, "stac", Window(0, col, 16, 16))
        with pytest.raises(InvalidScene, match="applied already"):
            reader.read(bad, "stac", Window(0, col, 16, 16))
        reader.close()
    assert looked == ["s_L2A", "bad_L2A"]


def test_the_real_catalogue_is_read_with_its_offset_applied_once(shared_data, reader):
    folder = shared_data / "stac/earth-search/sentinel-2-l2a/S2A_33TWL_20230815_0_L2A"
    window = Window(300, 400, 256, 256)
    image = reader.read(str(folder / "S2A_33TWL_20230815_0_L2A.json"), "stac", window)
    with rasterio.open(folder / "B08.tif") as source:
        expected = np.minimum(source.read(1, window=((300, 556), (400, 656))), 10000)
    np.testing.assert_array_equal(image.values[NAMES.index("B08")], expected)
    assert (image.classes == CLEAR).mean() > 0.9
    assert image.bands == ("B02", "B03", "B04", "B08")
    assert image.metres == 120


def test_real_clouds_are_found_on_a_geographic_grid_too(shared_data, reader):
    pytest.importorskip("s2cloudless")
    shares = []
    for number, day in ((17, "2018-07-30"), (7, "2018-04-01")):
        path = shared_data / f"SEN12MSCRTS/ROIs2017/146/S2/{number}/s2_ROIs2017_146_ImgNo_{number}_{day}_patch_0.tif"
        image = reader.read(str(path), "sen12mscr-ts", None)
        assert image.classes.shape == (256, 256)
        shares.append((image.classes == CLOUD).mean())
    assert shares[0] < 0.01
    assert shares[1] > 0.95
