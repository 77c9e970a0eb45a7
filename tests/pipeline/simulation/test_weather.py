"""The simulated sun, clouds and shadows against formulas written down a second time and metadata of real scenes."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InvalidSettings
from pipeline.simulation.spectra import SIMULATED_BANDS
from pipeline.simulation.sun import Sun, sun_at
from pipeline.simulation.weather import Clouds, Weather, make_clouds


@pytest.mark.parametrize(
    ("when", "azimuth", "elevation"),
    [
        # Metadata of two products of tile 33TWL, means over the tile, whose centre is 15.7 E, 45.56 N.
        (datetime(2023, 8, 20, 9, 58, 11, tzinfo=UTC), 153.192, 54.338),
        (datetime(2023, 8, 13, 10, 8, 8, tzinfo=UTC), 155.456, 57.092),
    ],
)
def test_sun_stands_where_real_products_say(when: datetime, azimuth: float, elevation: float) -> None:
    sun = sun_at(when, 15.7, 45.56)
    assert sun.azimuth == pytest.approx(azimuth, abs=1.0)
    assert sun.elevation == pytest.approx(elevation, abs=0.7)


def test_sun_does_not_care_for_the_zone_of_the_clock() -> None:
    here = sun_at(datetime(2023, 7, 8, 10, tzinfo=UTC), 15.5, 48.3)
    there = sun_at(datetime(2023, 7, 8, 12, tzinfo=timezone(timedelta(hours=2))), 15.5, 48.3)
    assert there.azimuth == pytest.approx(here.azimuth, abs=0.1)
    assert there.elevation == pytest.approx(here.elevation, abs=0.1)


def test_sun_needs_a_zone_and_daylight() -> None:
    with pytest.raises(InvalidSettings, match="time zone"):
        sun_at(datetime(2023, 7, 8, 10), 15.5, 48.3)  # noqa: DTZ001
    with pytest.raises(InvalidSettings, match="above the horizon"):
        sun_at(datetime(2023, 7, 8, 23, tzinfo=UTC), 15.5, 48.3)


@given(st.floats(0, 360), st.floats(5, 90), st.floats(0, 5000))
@settings(deadline=None)
def test_shadow_points_away_from_the_sun(azimuth: float, elevation: float, height: float) -> None:
    south, east = Sun(azimuth, elevation).shadow(height)
    length = height / math.tan(math.radians(elevation))
    assert math.hypot(south, east) == pytest.approx(length, abs=1e-6)
    towards = east * math.sin(math.radians(azimuth)) - south * math.cos(math.radians(azimuth))
    assert towards == pytest.approx(-length, abs=1e-6)


@pytest.mark.parametrize("azimuth", [20, 110, 150, 200, 300])
def test_cloud_shadows_are_clouds_moved_away_from_the_sun(azimuth: float) -> None:
    size, sun = 200, Sun(azimuth, 50)
    clouds = make_clouds(np.random.default_rng(4), size, Weather(cumulus=0.15, cell=400, base=600), sun)
    cloud = np.pad(clouds.cumulus > 3, ((0, size), (0, size))).astype(float)
    shadow = np.pad(clouds.shadow > 0.5, ((0, size), (0, size))).astype(float)
    match = np.fft.irfft2(np.fft.rfft2(shadow) * np.conj(np.fft.rfft2(cloud)))
    down, right = ((place + size) % (2 * size) - size for place in np.unravel_index(np.argmax(match), match.shape))
    away = math.degrees(math.atan2(right, -down))
    assert abs((away - azimuth) % 360 - 180) < 6
    assert 600 <= 10 * math.hypot(down, right) * math.tan(math.radians(50)) + 15 < 1000


def test_cover_is_what_was_asked_for() -> None:
    clouds = make_clouds(np.random.default_rng(0), 240, Weather(cumulus=0.3, cell=600), Sun(150, 55))
    assert (clouds.cumulus > 0).mean() == pytest.approx(0.3, abs=0.06)
    assert clouds.veil.max() == 0


def test_clear_sky_changes_nothing() -> None:
    ground = np.random.default_rng(0).uniform(0.01, 0.6, (len(SIMULATED_BANDS), 60, 60)).astype(np.float32)
    clouds = make_clouds(np.random.default_rng(0), 60, Weather(), Sun(150, 55))
    assert np.array_equal(clouds.cover(ground), ground)


@given(st.floats(0, 0.7), st.floats(0, 60), st.floats(0, 3), st.floats(0, 1))
@settings(deadline=None, max_examples=50)
def test_energy_is_not_made(ground: float, cumulus: float, veil: float, shadow: float) -> None:
    def flat(value: float) -> np.ndarray:
        return np.full((1, 1), value, np.float32)

    clouds = Clouds(cumulus=flat(cumulus), veil=flat(veil), lit=flat(1), shadow=flat(shadow))
    seen = clouds.cover(np.full((len(SIMULATED_BANDS), 1, 1), ground, np.float32))
    assert ((seen >= 0) & (seen <= 1)).all()


def test_thick_cloud_hides_the_ground_and_is_white_but_darker_in_the_infrared() -> None:
    layer = np.full((1, 1), 60, np.float32)
    clouds = Clouds(cumulus=layer, veil=layer * 0, lit=layer / 60, shadow=layer * 0)
    dark, bright = (clouds.cover(np.full((12, 1, 1), value, np.float32))[:, 0, 0] for value in (0.02, 0.4))
    assert np.abs(dark - bright).max() < 0.05
    assert dark[1] > 0.75
    assert np.ptp(dark[1:4]) < 0.05
    assert dark[-1] < 0.75 * dark[1]


def test_shadow_is_bluer_than_the_light() -> None:
    layer = np.ones((1, 1), np.float32)
    clouds = Clouds(cumulus=layer * 0, veil=layer * 0, lit=layer, shadow=layer)
    left = clouds.cover(np.full((12, 1, 1), 0.3, np.float32))[:, 0, 0] / 0.3
    assert (np.diff(left) <= 0).all()
    assert 0.3 < left[1] < 0.45


@pytest.mark.parametrize("wrong", [{"cumulus": 1.0}, {"cumulus": -0.1}, {"veil": 4.0}, {"base": 0.0}, {"cell": -1.0}])
def test_refuses_impossible_weather(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidSettings, match=str(next(iter(wrong.values())))):
        Weather(**wrong)
