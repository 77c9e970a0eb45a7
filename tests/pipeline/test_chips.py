"""Chips: dates in their order, classes as the gate made them, and every change since the table was made named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio

from catalogs.places import Window, find_places
from pipeline.chips import ChipArrays, read_chip, sources_of, window_of
from pipeline.errors import InvalidScene, InvalidSettings
from pipeline.images import CLEAR, CLOUD, SHADOW, ImageReader
from pipeline.pairs import build_pairs
from tests.pipeline.made_chips import NAMES, clouded, found, land, place, simple_detector, write_item, write_patch

__all__ = ["simple_detector"]
pytestmark = pytest.mark.usefixtures("simple_detector")


def pair_rows(tmp_path: Path, cloudy: np.ndarray):
    hrefs = {
        "cloudy": write_patch(tmp_path / "cloudy.tif", cloudy),
        "clear": write_patch(tmp_path / "clear.tif", land(1)),
    }
    return build_pairs(found(place("ROIs1158_spring_39_p1", hrefs, "sen12mscr")))[0].frame


def shaded(image: np.ndarray, rows: slice) -> np.ndarray:
    changed = image.copy()
    changed[:, rows] //= 3
    return changed


def test_a_pair_has_its_clear_side_first_and_shadows_by_comparison(tmp_path):
    cloudy = clouded(shaded(land(2), slice(30, 50)), slice(0, 20))
    chip = read_chip(pair_rows(tmp_path, cloudy))
    assert (chip.id, chip.kind, chip.days, chip.bands) == ("ROIs1158_spring_39_p1", "pair", (0, 0), NAMES)
    np.testing.assert_array_equal(chip.images, np.stack([land(1), cloudy]))
    assert (chip.masks[0] == CLEAR).all()
    assert (chip.masks[1, :20] == CLOUD).all()
    assert (chip.masks[1, 32:48] == SHADOW).all()
    assert (chip.masks[1, 54:] == CLEAR).all()
    covered = ((chip.masks[1] == CLOUD) | (chip.masks[1] == SHADOW)).mean()
    assert chip.cloud == (0.0, pytest.approx(covered, abs=1e-4))


def test_two_dates_without_cloud_are_a_series(tmp_path):
    rows = pair_rows(tmp_path, land(2))
    assert list(rows["quality"]) == ["no_cloud"]
    assert read_chip(rows).kind == "series"


def test_a_series_is_in_the_order_of_time_with_every_date_once(tmp_path):
    covers = {"2018-03-05": 30, "2018-01-04": 0, "2018-01-20": 25, "2018-03-20": 0, "2018-12-30": 0}
    dated = {
        day: write_patch(tmp_path / f"{day}.tif", clouded(land(number), slice(0, rows)))
        for number, (day, rows) in enumerate(covers.items())
    }
    rows = build_pairs(found(place("ROIs2017_146_patch_0", dated)))[0].frame
    chip = read_chip(rows.sample(frac=1, random_state=1))
    assert (chip.kind, chip.days) == ("series", (0, 16, 60, 75, 360))
    np.testing.assert_array_equal(chip.images[2], clouded(land(0), slice(0, 30)))
    assert [share > 0.3 for share in chip.cloud] == [False, True, True, False, False]
    assert sources_of(rows) == tuple(sorted(dated.values()))


def test_one_date_is_single_and_only_its_window_is_read(tmp_path):
    bands = {name: land(1, 48)[NAMES.index(name)] for name in ("B02", "B03", "B04", "B08")}
    bands["B02"] //= 2
    href = write_item(tmp_path / "s", bands, np.full((48, 48), 4, np.uint8))
    rows = build_pairs(found(place("33TWL_0", {"2023-08-15": href}, "stac", Window(8, 16, 32, 32))))[0].frame
    chip = read_chip(rows)
    assert (chip.kind, chip.days, chip.bands) == ("single", (0,), ("B02", "B03", "B04", "B08"))
    np.testing.assert_array_equal(chip.images[0, 1], bands["B02"][8:40, 16:48])
    assert window_of(rows.iloc[0]) == Window(8, 16, 32, 32)


def test_bands_are_those_that_every_date_has(tmp_path):
    full = {name: land(1, 32)[NAMES.index(name)] for name in ("B02", "B03", "B04", "B08")}
    full["B02"] //= 2
    fewer = {name: pixels for name, pixels in full.items() if name != "B08"}
    scl = np.full((32, 32), 4, np.uint8)
    dated = {
        "2023-08-15": write_item(tmp_path / "a", full, scl, day="2023-08-15"),
        "2023-08-18": write_item(tmp_path / "b", fewer, scl, day="2023-08-18"),
    }
    chip = read_chip(build_pairs(found(place("33TWL_0", dated, "stac", Window(0, 0, 32, 32))))[0].frame)
    assert chip.bands == ("B02", "B03", "B04")
    assert not chip.images[:, 7].any()
    assert chip.images[:, 1].all()


def test_a_file_that_moved_is_named_with_the_table_and_the_way_out(tmp_path):
    rows = pair_rows(tmp_path, clouded(land(2), slice(0, 20)))
    (tmp_path / "cloudy.tif").rename(tmp_path / "elsewhere.tif")
    with pytest.raises(
        InvalidScene, match=r"cloudy\.tif: moved or deleted since my\.parquet was made: .* `decloud pairs`"
    ):
        read_chip(rows, table="my.parquet")


def test_a_file_that_was_damaged_or_replaced_is_named(tmp_path):
    rows = pair_rows(tmp_path, clouded(land(2), slice(0, 20)))
    write_patch(tmp_path / "cloudy.tif", land(2, 32))
    with pytest.raises(InvalidScene, match=r"its dates have \(32, 32\) and \(64, 64\) pixels: files changed since"):
        read_chip(rows)
    path = Path(write_patch(tmp_path / "cloudy.tif", land(2)))
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(InvalidScene, match=r"cloudy\.tif: truncated file"):
        read_chip(rows)


def test_rows_of_several_places_are_no_chip(tmp_path):
    rows = pair_rows(tmp_path, clouded(land(2), slice(0, 20)))
    other = rows.assign(place="other", id="other")
    with pytest.raises(InvalidSettings, match="rows of one place, not of 2"):
        read_chip(pd.concat([rows, other]))
    with pytest.raises(InvalidSettings, match="not of 0"):
        read_chip(rows.iloc[:0])


def test_a_reader_that_was_given_stays_open(tmp_path):
    rows = pair_rows(tmp_path, clouded(land(2), slice(0, 20)))
    with ImageReader() as reader:
        read_chip(rows, reader)
        assert len(reader._open) == 2


def test_a_chip_that_contradicts_itself_is_refused():
    images, masks = np.zeros((2, 13, 4, 4), np.uint16), np.zeros((2, 4, 4), np.uint8)
    for changes in ({"kind": "film"}, {"days": (0,)}, {"masks": masks[:1]}, {"bands": ()}):
        given = {"kind": "series", "images": images, "masks": masks, "days": (0, 5), "bands": NAMES} | changes
        with pytest.raises(InvalidScene, match=r"chip a: kind .* 2 images"):
            ChipArrays("a", **given)


def test_a_real_pair_is_that_of_its_files(shared_data, monkeypatch):
    pytest.importorskip("s2cloudless")
    monkeypatch.undo()  # the real detector
    whole = find_places(str(shared_data / "SEN12MSCR"), "sen12mscr")
    chosen = [one for one in whole.places if one.id == "ROIs1868_summer_100_p500"]
    table, _ = build_pairs(found(*chosen))
    chip = read_chip(table.frame)
    for date, side in enumerate(("clear_href", "cloudy_href")):
        with rasterio.open(table.frame[side].iloc[0]) as source:
            np.testing.assert_array_equal(chip.images[date], np.minimum(source.read(), 10000))
    assert chip.cloud[0] == 0
    # A thin line of cloud at the edge; all the rest lies in the shadow of a cloud outside the chip.
    assert 0.02 < (chip.masks[1] == CLOUD).mean() < 0.1
    assert (chip.masks[1] == SHADOW).mean() > 0.9
