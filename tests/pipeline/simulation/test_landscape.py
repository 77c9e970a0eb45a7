"""Simulated ground: noise with the spectrum that was asked for, plausible spectra, changes with day and sun."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InvalidSettings
from pipeline.simulation.landscape import Landscape, make_landscape
from pipeline.simulation.noise import fractal, smoothstep
from pipeline.simulation.parcels import make_parcels
from pipeline.simulation.settlement import Canvas
from pipeline.simulation.spectra import SIMULATED_BANDS, SPECTRA
from pipeline.simulation.sun import Sun

SUN = Sun(azimuth=150, elevation=58)


@pytest.fixture(scope="module")
def land() -> Landscape:
    return make_landscape(np.random.default_rng(3), 192)


@given(st.integers(2, 40), st.integers(2, 40), st.floats(0.5, 3), st.floats(1, 100))
@settings(max_examples=25, deadline=None)
def test_noise_is_standardised(rows: int, cols: int, slope: float, outer: float) -> None:
    field = fractal(np.random.default_rng(0), (rows, cols), slope, outer)
    assert field.shape == (rows, cols)
    assert field.dtype == np.float32
    assert abs(float(field.mean())) < 1e-4
    assert float(field.std()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("slope", [1.0, 2.0, 3.0])
def test_noise_has_the_slope_that_was_asked_for(slope: float) -> None:
    field = fractal(np.random.default_rng(1), (512, 512), slope, 1e4)
    amplitude = np.abs(np.fft.fft2(field))
    k = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.fftfreq(512)[None])
    rings = [(low, low * 1.5) for low in (0.01, 0.02, 0.04, 0.08, 0.16)]
    levels = [np.log(amplitude[(k >= low) & (k < high)].mean()) for low, high in rings]
    fitted = np.polyfit(np.log([low for low, _ in rings]), levels, 1)[0]
    assert fitted == pytest.approx(-slope, abs=0.15)


@pytest.mark.parametrize(("shape", "outer"), [((0, 5), 10.0), ((5, 5), 0.0), ((5, 5), float("nan"))])
def test_noise_refuses_nonsense(shape: tuple[int, int], outer: float) -> None:
    with pytest.raises(InvalidSettings, match="positive"):
        fractal(np.random.default_rng(0), shape, 2.0, outer)


def test_smoothstep_rises() -> None:
    ramp = smoothstep(np.linspace(-1, 2, 50), 0, 1)
    assert (np.diff(ramp) >= 0).all()
    assert (ramp[0], ramp[-1]) == (0, 1)


def test_coverage_is_the_drawn_share_of_a_pixel() -> None:
    canvas = Canvas(8)
    canvas.boxes(np.array([[4.0, 4.0]]), np.array([[3.0, 2.0]]), angle=0.0)
    assert float(canvas.coverage().sum()) == pytest.approx(6, rel=0.25)
    assert canvas.coverage()[4, 4] == 1
    assert canvas.coverage()[0].max() == 0


def test_every_spectrum_is_a_reflectance() -> None:
    for name, spectrum in SPECTRA.items():
        assert spectrum.shape == (len(SIMULATED_BANDS),), name
        assert ((spectrum > 0) & (spectrum < 0.7)).all(), name


def test_green_things_are_green_and_water_is_dark() -> None:
    red, nir = SIMULATED_BANDS.index("B04"), SIMULATED_BANDS.index("B08")
    index = {name: (s[nir] - s[red]) / (s[nir] + s[red]) for name, s in SPECTRA.items()}
    assert min(index[name] for name in ("broadleaf", "conifer", "maize", "beet", "meadow")) > 0.7
    assert max(index[name] for name in ("river", "lake", "asphalt", "hall")) < 0.15


def test_ground_is_a_reflectance_in_every_pixel(land: Landscape) -> None:
    ground = land.reflectance(0, SUN)
    assert ground.shape == (len(SIMULATED_BANDS), 192, 192)
    assert ground.dtype == np.float32
    assert 0 < ground.min() < ground.max() < 0.8
    nir = ground[SIMULATED_BANDS.index("B08")]
    assert land.water.any()
    assert np.median(nir[land.water]) < 0.06 < np.median(nir[~land.water])


def test_ground_changes_a_little_with_the_season_and_much_where_it_is_harvested(land: Landscape) -> None:
    first, later = (land.reflectance(day, SUN)[SIMULATED_BANDS.index("B8A")] for day in (0, 20))
    change = np.abs(later - first)[~land.water]
    assert (change > 0.002).mean() > 0.1
    assert np.median(change) < 0.02
    assert np.percentile(change, 99.5) > 0.03


def test_slopes_towards_the_sun_are_brighter(land: Landscape) -> None:
    nir = SIMULATED_BANDS.index("B08")
    morning = land.reflectance(0, Sun(azimuth=90, elevation=40))[nir]
    evening = land.reflectance(0, Sun(azimuth=270, elevation=40))[nir]
    facing_east = land.slope[0] < -0.03
    facing_west = land.slope[0] > 0.03
    assert facing_east.sum() > 50
    assert facing_west.sum() > 50
    assert (morning > evening)[facing_east & ~land.water].mean() > 0.98
    assert (morning < evening)[facing_west & ~land.water].mean() > 0.98


def test_parcels_are_fields_not_pixels() -> None:
    parcels = make_parcels(np.random.default_rng(0), 192)
    sizes = np.bincount(parcels.labels.ravel())
    assert sizes.min() >= 1
    assert 40 < np.median(np.repeat(sizes, sizes)) < 4000
    assert parcels.spectra(0).shape == (len(sizes), len(SIMULATED_BANDS))
    assert ((parcels.margin >= 0) & (parcels.margin <= 1)).all()


def test_refuses_an_area_without_room() -> None:
    with pytest.raises(InvalidSettings, match="at least 96"):
        make_landscape(np.random.default_rng(0), 95)
