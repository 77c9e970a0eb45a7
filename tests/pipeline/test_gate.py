"""The quality gate: measurements against a count by hand, verdicts on made pairs with one fault each, and on the 30 real ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import rasterio
from scipy import ndimage

from catalogs.pairs import PairTable
from catalogs.places import find_places
from pipeline.errors import InvalidSettings
from pipeline.gate import GateLimits, clear_fault, compare, judge, measure, snow_of
from pipeline.images import CLEAR, CLOUD, NODATA, SHADOW, ChipImage
from pipeline.pairs import build_pairs
from tests.pipeline.made_chips import NAMES, SIZE, chip_image, clouded, land

LIMITS = GateLimits()
SEA = np.array([1200, 900, 600, 300, 250, 220, 220, 210, 200, 100, 10, 60, 40], np.uint16)


def classes(rows: slice | None = None, code: int = CLOUD) -> np.ndarray:
    mask = np.full((SIZE, SIZE), CLEAR, np.uint8)
    if rows is not None:
        mask[rows] = code
    return mask


def verdict(clear: ChipImage, cloudy: ChipImage) -> tuple[str, str]:
    return judge(measure(clear, LIMITS), measure(cloudy, LIMITS), compare(clear, cloudy), LIMITS)


def snowy(image: np.ndarray, rows: slice) -> np.ndarray:
    changed = image.copy()
    changed[:9, rows] = 6000
    changed[11:, rows] = 600
    return changed


@pytest.mark.parametrize("name", [field.name for field in fields(GateLimits)])
@pytest.mark.parametrize("value", [float("nan"), -0.01, float("inf")])
def test_limits_must_be_numbers(name: str, value: float) -> None:
    with pytest.raises(InvalidSettings, match=f"limit {name} is"):
        GateLimits(**{name: value})


def test_what_is_measured_of_an_image() -> None:
    image = land()
    image[:, :8] = 0
    image[10, 8:] = np.where(np.arange(SIZE) < 16, 200, 30)[None]
    mask = classes(slice(8, 24))
    mask[:8] = NODATA
    mask[24:28] = SHADOW
    side = measure(chip_image(snowy(image, slice(40, 52)), mask), LIMITS)
    assert side.nodata == pytest.approx(8 / 64)
    assert side.cloud == pytest.approx(16 / 56)
    assert side.shadow == pytest.approx(4 / 56)
    assert side.snow == pytest.approx(12 / 40)  # of what is not under cloud
    assert side.cirrus == pytest.approx(0.003)
    assert side.cirrus_share == pytest.approx(16 / 64)
    assert side.surface is False
    clear = (snowy(image, slice(40, 52))[[1, 3]] / 1e4)[:, mask == CLEAR]
    assert side.haze == pytest.approx(np.median(clear[0] - 0.5 * clear[1]), abs=1e-6)


def test_what_cannot_be_measured_is_none() -> None:
    few = chip_image(land(), bands=("B02", "B03", "B08"), level="L2A")
    side = measure(few, LIMITS)
    assert (side.snow, side.cirrus, side.cirrus_share, side.haze) == (None, None, None, None)
    assert side.surface is True
    covered = measure(chip_image(land(), classes(slice(None))), LIMITS)
    assert (covered.cloud, covered.snow, covered.haze) == (1, None, None)
    both = compare(few, chip_image(land(1), bands=("B11",)))
    assert (both.difference, both.shift, both.refined) == (None, None, False)


def test_snow_is_told_from_cloud_water_and_plants() -> None:
    spectra = {  # B03, B08, B11 as reflectance times 10000
        True: [(8000, 7000, 900), (4000, 3500, 1200), (1100, 1200, 300)],
        False: [(5000, 5500, 4500), (600, 210, 60), (1000, 2500, 2000), (900, 3000, 100), (3000, 1000, 500)],
    }
    for snow, rows in spectra.items():
        for green, nir, swir in rows:
            image = land()
            image[[NAMES.index(name) for name in ("B03", "B08", "B11")]] = np.array([green, nir, swir])[:, None, None]
            found = snow_of(chip_image(image))
            assert found is not None
            assert (found == snow).all()
    scl = np.zeros((SIZE, SIZE), bool)
    assert snow_of(chip_image(land(), bands=("B02", "B03", "B04", "B08"), scl_snow=scl)) is scl
    assert snow_of(chip_image(land(), bands=("B02",))) is None


def test_thin_cloud_shows_beside_the_clear_date_and_ploughed_soil_does_not() -> None:
    clear, cloudy = land(1), land(2)
    cloudy[:, 10:30, 10:30] += np.uint16(600)  # white veil
    cloudy[1:5, 40:60, 10:30] += np.array([150, 300, 500, 600], np.uint16)[:, None, None]  # bare soil
    cloudy[11:, 40:60, 10:30] += np.uint16(500)
    both = compare(chip_image(clear), chip_image(cloudy + 120))  # and a hazier day as a whole
    assert both.refined
    expected = np.zeros((SIZE, SIZE), bool)
    expected[10:30, 10:30] = True
    found = both.classes == CLOUD
    assert found[12:28, 12:28].all()
    assert not (found & ~ndimage.binary_dilation(expected, iterations=3)).any()
    assert not found[40:60, 10:30].any()
    assert both.cloud == pytest.approx(found.mean())


def test_a_shadow_is_a_dark_piece_that_begins_near_a_cloud() -> None:
    clear = land(1, 400)
    cloudy = land(2, 400)
    cloudy[:, 60:390, 20:120] //= 3  # one piece, of which only the beginning is within 1.5 km of the cloud
    cloudy[:, 300:380, 250:380] //= 3  # a piece far from it
    mask = np.full((400, 400), CLEAR, np.uint8)
    mask[:40] = CLOUD
    cloudy[:, :40] = 7000
    both = compare(chip_image(clear), chip_image(cloudy, mask))
    shadow = both.classes == SHADOW
    assert shadow[63:387, 23:117].all()
    assert not shadow[300:380, 250:380].any()
    assert (both.classes[:40] == CLOUD).all()
    without = compare(chip_image(clear), chip_image(np.where(mask == CLOUD, clear, cloudy)))
    assert not (without.classes == SHADOW).any()


def test_difference_is_that_of_ground_clear_on_both_sides() -> None:
    clear, cloudy = land(1), clouded(land(1), slice(0, 20))
    cloudy[:, 20:] += 100
    cloudy = snowy(cloudy, slice(50, 64))
    both = compare(chip_image(clear), chip_image(cloudy, classes(slice(0, 20))))
    assert both.difference == pytest.approx(0.01, abs=1e-6)
    mean = (clear[:, 20:50].mean() + cloudy[:, 20:50].mean()) / 2e4
    assert both.share == pytest.approx(0.01 / mean, rel=0.01)


def _hazy_surface(image: np.ndarray) -> np.ndarray:
    image[1] = image[3] // 2 + 700
    return image


FAULTS: dict[str, tuple[Callable[[], ChipImage], Callable[[], ChipImage], str]] = {
    "ok": (lambda: chip_image(land(1)), lambda: chip_image(clouded(land(2), slice(0, 20)), classes(slice(0, 20))), "^$"),
    "no_cloud": (lambda: chip_image(land(1)), lambda: chip_image(land(2)), "0.0% of the cloudy side"),
    "nodata": (lambda: chip_image(land(1)), lambda: chip_image(land(2), classes(slice(0, 1), NODATA)), "1.6% of the cloudy"),
    "nodata ": (lambda: chip_image(land(1), classes(slice(0, 1), NODATA)), lambda: chip_image(land(2)), "of the clear side has"),
    "clear_side_cloudy": (
        lambda: chip_image(land(1), classes(slice(0, 10))),
        lambda: chip_image(land(2), classes(slice(0, 20))),
        "15.6% of the clear side is cloud",
    ),
    "clear_side_hazy": (
        lambda: chip_image(np.where(np.arange(13)[:, None, None] == 10, 150, land(1)).astype(np.uint16)),
        lambda: chip_image(land(2), classes(slice(0, 20))),
        "100% of the clear side is under cirrus, B10 above 0.012",
    ),
    "clear_side_hazy ": (
        lambda: chip_image(_hazy_surface(land(1)), level="L2A"),
        lambda: chip_image(land(2), classes(slice(0, 20)), level="L2A"),
        r"hazy: B02 - 0.5 B04 has a median of 0.0\d+, above 0.05",
    ),
    "snow": (
        lambda: chip_image(snowy(land(1), slice(0, 40))),
        lambda: chip_image(land(2), classes(slice(0, 20))),
        "62% of the clear side is snow",
    ),
    "snow ": (
        lambda: chip_image(land(1)),
        lambda: chip_image(snowy(land(2), slice(20, 50)), classes(slice(0, 20))),
        "68% of the cloudy side's ground is snow, 0% of the clear",
    ),
    "snow  ": (
        lambda: chip_image(snowy(land(1), slice(None))),
        lambda: chip_image(snowy(land(2), slice(None)), classes(slice(0, 20))),
        "snow on both sides: 100% of the clear one, 100% of the cloudy one",
    ),
    "misregistered": (
        lambda: chip_image(land(1, 96)[:, :64, :64]),
        lambda: chip_image(land(2, 96)[:, 3:67, 2:66], classes(slice(0, 20))),
        r"displaced by 3.\d pixels \(-3.\d rows, -\d.\d cols\)",
    ),
    "changed": (
        lambda: chip_image(land(1)),
        lambda: chip_image(land(2) // 3),
        r"differs by 0.\d+ in reflectance, \d+% of its mean",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_each_fault_has_its_verdict(case: str) -> None:
    clear, cloudy, reason = FAULTS[case]
    quality, said = verdict(clear(), cloudy())
    assert quality == case.strip()
    if quality == "ok":
        assert said == ""
    else:
        assert re.search(reason, said), said


def test_the_sea_is_no_change_and_its_shift_is_not_claimed() -> None:
    rng = np.random.default_rng(3)
    sides = [(SEA[:, None, None] + rng.integers(-9, 9, (13, SIZE, SIZE)) + add).astype(np.uint16) for add in (0, 150)]
    assert verdict(*(chip_image(side) for side in sides))[0] == "no_cloud"


def test_melting_patches_on_the_cloudy_side_pass_and_on_the_clear_side_do_not() -> None:
    patchy = snowy(land(2), slice(44, 54))
    cloudy = chip_image(patchy, classes(slice(0, 20)))
    assert verdict(chip_image(land(1)), cloudy)[0] == "ok"
    assert verdict(chip_image(patchy), chip_image(land(1), classes(slice(0, 20))))[0] == "snow"


def test_the_most_cloud_allowed_on_a_clear_side_is_the_callers() -> None:
    side = measure(chip_image(land(), classes(slice(0, 5))), LIMITS)
    assert clear_fault(side, LIMITS, LIMITS.clear_cloud) is None
    assert clear_fault(side, LIMITS, LIMITS.clear_date) == ("clear_side_cloudy", "7.8% of the clear side is cloud")


BEST = {
    "ROIs1158_spring_39_p100", "ROIs1158_spring_39_p500", "ROIs1158_spring_39_p838", "ROIs1868_summer_102_p100",
    "ROIs1868_summer_102_p500", "ROIs1970_fall_136_p500", "ROIs1970_fall_136_p840", "ROIs2017_winter_102_p926",
    "ROIs1868_summer_100_p100", "ROIs1868_summer_100_p500", "ROIs1868_summer_100_p840",
}  # fmt: skip
"""The best pairs by the data's README."""


@pytest.fixture(scope="module")
def real(shared_data) -> PairTable:
    pytest.importorskip("s2cloudless")
    table, rejects = build_pairs(find_places(str(shared_data / "SEN12MSCR"), "sen12mscr"))
    assert not rejects
    return table


@pytest.mark.slow
def test_real_pairs_get_the_verdicts_that_eyes_gave_them(real: PairTable) -> None:
    quality = dict(zip(real.frame["id"], real.frame["quality"], strict=True))
    assert len(quality) == 30
    by_verdict = {name: {place for place in quality if quality[place] == name} for name in set(quality.values())}
    assert by_verdict["ok"] == BEST | {"ROIs1868_summer_101_p840"}
    cirrus = {f"ROIs1970_fall_136_p{patch}" for patch in (308, 309, 310, 311, 312)} | {"ROIs1970_fall_85_p753"}
    assert cirrus <= by_verdict["clear_side_cloudy"] | by_verdict.get("clear_side_hazy", set())
    assert by_verdict["snow"] == {f"ROIs1158_spring_26_p{patch}" for patch in (100, 500, 840)}
    assert by_verdict["no_cloud"] >= {"ROIs1868_summer_135_p472", "ROIs1868_summer_135_p502", "ROIs1970_fall_148_p521"}
    assert by_verdict["changed"] == {"ROIs2017_winter_112_p797"}


@pytest.mark.slow
def test_real_measurements_are_those_of_the_pixels(real: PairTable) -> None:
    row = real.frame.set_index("id").loc["ROIs1970_fall_136_p308"]
    with rasterio.open(row["clear_href"]) as source:
        assert row["cirrus_clear"] == pytest.approx(float(np.median(source.read(11))) / 1e4)
    assert set(real.frame["mask"]) == {"s2cloudless + comparison"}
    sea = real.frame.set_index("id").loc["ROIs1868_summer_135_p472"]
    assert np.isnan(sea["shift"])
    measured = real.frame["shift"].dropna()
    assert len(measured) >= 15
    assert measured.max() < LIMITS.shift
    winter = real.frame.set_index("id").loc["ROIs2017_winter_112_p797"]
    assert winter["joint_difference"] > 0.06
    assert winter["s1_href"].endswith("ROIs2017_winter_s1_112_p797.tif")
