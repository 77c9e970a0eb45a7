"""Training chips: names parsed exactly, bad files named, splits whole, pixels unchanged."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from pipeline import chips
from pipeline.chips import CLEAR, CLOUD, NAMES, NODATA, SHADOW, Chip
from pipeline.errors import InvalidScene


def write_tif(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, rows, cols = values.shape
    profile = {"driver": "GTiff", "count": bands, "height": rows, "width": cols, "dtype": values.dtype}
    with rasterio.open(path, "w", **profile, crs="EPSG:32633", transform=Affine(10, 0, 5e5, 0, -10, 5e6)) as target:
        target.write(values)
    return path


def land(seed: int = 0, size: int = 256) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = np.array([1300, 1100, 1000, 900, 1200, 2200, 2600, 2500, 2700, 900, 20, 2000, 1200])[:, None, None]
    return (level * rng.uniform(0.95, 1.05, (13, size, size))).astype(np.uint16)


class Threshold:
    """A detector that needs no model: bright blue is cloud."""

    def mask(self, image: np.ndarray) -> np.ndarray:
        return np.where((image == 0).all(0), NODATA, np.where(image[1] > 4000, CLOUD, CLEAR)).astype(np.uint8)


def test_names_are_parsed_whole(tmp_path):
    for name in (
        "ROIs1158_spring_s2_1_p40.tif",
        "ROIs1158_spring_s2_cloudy_1_p40.tif",
        "ROIs1158_spring_s2_106_p40.tif",
    ):
        (tmp_path / name).touch()
    (tmp_path / "ROIs1158_spring_s2_1_p40_copy.tif").touch()
    found = chips.pair_paths(tmp_path)
    assert set(found) == {("1158", "spring", "1", "40"), ("1158", "spring", "106", "40")}
    assert set(found["1158", "spring", "1", "40"]) == {"s2", "s2_cloudy"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((12, 256, 256), np.uint16), r"uint16 \(12, 256, 256\)"),
        (np.ones((13, 128, 256), np.uint16), r"\(13, 128, 256\)"),
        (np.ones((13, 256, 256), np.float32), "float32"),
        (np.zeros((13, 256, 256), np.uint16), "nothing but zeros"),
    ],
)
def test_a_wrong_image_is_named(tmp_path, values, message):
    with pytest.raises(InvalidScene, match=message):
        chips.read_image(write_tif(tmp_path / "image.tif", values))


def test_a_truncated_image_is_named(tmp_path):
    path = write_tif(tmp_path / "image.tif", land())
    path.write_bytes(path.read_bytes()[:-200_000])
    with pytest.raises(InvalidScene, match=r"image\.tif: cannot be read .*download it again"):
        chips.read_image(path)
    with pytest.raises(InvalidScene, match="cannot be read"):
        chips.read_image(tmp_path / "missing.tif")


def pair_files(root: Path, name: tuple[str, str], clear: np.ndarray, cloudy: np.ndarray | None) -> None:
    roi, patch = name
    write_tif(root / f"ROIs1158_spring_s2/s2_{roi}/ROIs1158_spring_s2_{roi}_p{patch}.tif", clear)
    if cloudy is not None:
        write_tif(
            root / f"ROIs1158_spring_s2_cloudy/s2_cloudy_{roi}/ROIs1158_spring_s2_cloudy_{roi}_p{patch}.tif", cloudy
        )


def test_pairs_are_gated_by_measurement(tmp_path):
    clear, cloudy, snow, cirrus = land(), land(1), land(2), land(3)
    cloudy[:, :100] = 7000
    cloudy[:, 120:160, 50:200] = cloudy[:, 120:160, 50:200] // 3
    snow[1:9], snow[11] = 3900, 300
    cirrus[10] = 90
    pair_files(tmp_path, ("39", "1"), clear, cloudy)
    pair_files(tmp_path, ("3", "2"), clear, land(4))
    pair_files(tmp_path, ("3", "3"), snow, cloudy)
    pair_files(tmp_path, ("3", "4"), cirrus, cloudy)
    pair_files(tmp_path, ("3", "5"), cloudy, cloudy)
    pair_files(tmp_path, ("3", "6"), clear, None)
    pair_files(tmp_path, ("3", "7"), clear, np.zeros_like(clear))
    rejects: dict[str, str] = {}
    found = {chip.id: (chip, images, masks) for chip, images, masks in chips.pair_chips(tmp_path, Threshold(), rejects)}

    chip, images, masks = found["ROIs1158_spring_39_p1"]
    assert (chip.kind, chip.split, chip.group) == ("pair", "test", "ROIs1158_spring_39")
    np.testing.assert_array_equal(images, np.stack([clear, cloudy]))
    assert (masks[1, :100] == CLOUD).all()
    assert (masks[1, 122:158, 52:198] == SHADOW).all()
    assert (masks[0] == CLEAR).all()
    assert chip.cloud[1] == pytest.approx((masks[1] > CLEAR).mean(), abs=1e-4)

    assert found["ROIs1158_spring_3_p2"][0].kind == "series"
    assert found["ROIs1158_spring_3_p2"][0].split == "train"  # not 39, and not matched as a part of it
    reasons = {name.removeprefix("ROIs1158_spring_3_"): reason for name, reason in rejects.items()}
    assert set(reasons) == {"p2 as a pair", "p3", "p4", "p5", "p6", "p7"}
    assert "snow" in reasons["p3"]
    assert "cirrus" in reasons["p4"]
    assert "39% of the clear side is cloud" in reasons["p5"]
    assert reasons["p6"] == "no s2_cloudy beside it"
    assert "zeros" in reasons["p7"]


def test_series_are_ordered_by_date_and_partial_ones_kept(tmp_path):
    cloudy = land(1)
    cloudy[:, :200] = 7000
    folder = tmp_path / "ROIs1868/73/S2"
    for number, (day, image) in enumerate([("2018-03-05", cloudy), ("2018-01-04", land()), ("2018-12-30", land(2))]):
        write_tif(folder / str(number) / f"s2_ROIs1868_73_ImgNo_{number}_{day}_patch_7.tif", image)
    write_tif(folder / "0" / "s2_ROIs1868_73_ImgNo_0_2018-03-05_patch_8.tif", cloudy)
    (folder / "0" / "s2_ROIs1868_73_ImgNo_0_2018-03-05_patch_9.tif").write_bytes(b"no image")
    rejects: dict[str, str] = {}
    [(chip, images, _)] = chips.series_chips(tmp_path, Threshold(), rejects)
    assert (chip.id, chip.kind, chip.days) == ("ROIs1868_73_patch7", "series", (0, 60, 360))
    np.testing.assert_array_equal(images[1], cloudy)
    assert "no date is clear" in rejects["ROIs1868_73_patch8"]
    assert "cannot be read" in rejects["ROIs1868_73_patch9_2018-03-05"]


@pytest.mark.parametrize(("applied", "expected"), [(True, 2000), (False, 1000)])
def test_the_offset_of_an_item_is_applied_once(tmp_path, applied, expected):
    values = np.full((1, 300, 300), 2000, np.uint16)
    values[:, :4] = 0
    write_tif(tmp_path / "B02.tif", values)
    write_tif(tmp_path / "B11.tif", values[:, ::2, ::2])
    write_tif(tmp_path / "SCL.tif", np.full((1, 150, 150), 4, np.uint8))
    assets = {
        "blue": {"href": "s3://x/B02.tif", "raster:bands": [{"offset": -0.1}]},
        "swir16": {"href": "B11.tif", "raster:bands": [{"offset": -0.1}]},
    }
    properties = {
        "datetime": "2023-08-15T10:00:00Z",
        "grid:code": "MGRS-33TWL",
        "earthsearch:boa_offset_applied": applied,
    }
    (tmp_path / "item.json").write_text(json.dumps({"properties": properties, "assets": assets}))
    day, tile, images, classes = chips.read_item(tmp_path / "item.json")
    assert (day, tile) == (date(2023, 8, 15), "33TWL")
    assert images.shape == (13, 300, 300)
    assert (images[NAMES.index("B02"), 4:] == expected).all()
    assert (images[NAMES.index("B11"), 10:] == expected).all()
    assert (images[NAMES.index("B02"), :4] == 0).all()
    assert not images[NAMES.index("B04")].any()
    assert (classes == CLEAR).all()
    (tmp_path / "SCL.tif").unlink()
    with pytest.raises(InvalidScene, match=r"no SCL\.tif"):
        chips.read_item(tmp_path / "item.json")


def test_a_chip_that_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match="2 dates, 1 cloud shares"):
        Chip("a", "a", "train", "pair", (0, 0), NAMES, (0.1,))


def test_real_pairs_and_their_store(shared_data, tmp_path, monkeypatch):
    pytest.importorskip("s2cloudless")
    wanted = {"ROIs1158_spring_39_p100", "ROIs1970_fall_85_p753"}
    real = chips.pair_paths

    def some(root: Path) -> dict:
        return {key: sides for key, sides in real(root).items() if "ROIs{}_{}_{}_p{}".format(*key) in wanted}

    monkeypatch.setattr(chips, "pair_paths", some)
    monkeypatch.setattr(chips, "series_chips", lambda *_: iter(()))
    monkeypatch.setattr(chips, "item_chips", lambda *_: iter(()))
    manifest = chips.write_store(tmp_path, shared_data)
    [row] = manifest["chips"]
    assert (row["id"], row["split"], row["kind"]) == ("ROIs1158_spring_39_p100", "test", "pair")
    assert row["cloud"][0] < 0.05
    assert 0.2 < row["cloud"][1] < 0.6
    assert "clear side is cloud" in manifest["rejects"]["ROIs1970_fall_85_p753"]
    with rasterio.open(
        shared_data / "SEN12MSCR/ROIs1158_spring_s2_cloudy/s2_cloudy_39/ROIs1158_spring_s2_cloudy_39_p100.tif"
    ) as source:
        expected = np.minimum(source.read(), 10000)
    np.testing.assert_array_equal(np.load(tmp_path / row["id"] / "images.npy")[1], expected)
    assert json.loads((tmp_path / "manifest.json").read_text())["split_hash"] == manifest["split_hash"]


def test_the_real_catalogue_is_read_with_its_offset_applied_once(shared_data):
    folder = shared_data / "stac/earth-search/sentinel-2-l2a/S2A_33TWL_20230815_0_L2A"
    _, tile, images, classes = chips.read_item(folder / "S2A_33TWL_20230815_0_L2A.json")
    with rasterio.open(folder / "B08.tif") as source:
        expected = np.minimum(source.read(1), 10000)
    assert tile == "33TWL"
    assert images.shape == (13, 915, 915)
    np.testing.assert_array_equal(images[NAMES.index("B08")], expected)
    assert (classes == CLEAR).mean() > 0.9
    assert [name for name, image in zip(NAMES, images, strict=True) if image.any()] == ["B02", "B03", "B04", "B08"]
