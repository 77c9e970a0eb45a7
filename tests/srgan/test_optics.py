"""Two-stream optics: energy, doubling, limits, and a table that says what the instrument does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srgan import optics
from srgan.optics import TABLE, air, coalbedo, over, two_stream
from srgan.spec import BANDS

absorptions = st.sampled_from([0.0, 0.0015, 0.01, 0.06, 0.3])
asymmetries = st.floats(0, 0.95)
thicknesses = st.floats(0, 300)


def names(*wanted: str) -> list[int]:
    return [BANDS.index(name) for name in wanted]


@given(thicknesses, asymmetries, absorptions)
def test_no_light_is_made_or_lost(tau, asymmetry, absorbed):
    reflected, passed = two_stream(torch.tensor([tau], dtype=torch.float64), asymmetry, absorbed)
    taken = 1 - reflected - passed
    assert reflected >= 0
    assert passed >= 0
    assert taken >= -1e-12
    assert taken <= 1e-12 or absorbed > 0


@given(st.floats(0, 100), st.floats(0, 100), asymmetries, absorptions)
def test_more_cloud_sends_back_more_and_lets_through_less(one, more, asymmetry, absorbed):
    tau = torch.tensor([one, one + more], dtype=torch.float64)
    reflected, passed = two_stream(tau, asymmetry, absorbed)
    assert reflected[1] >= reflected[0] - 1e-12
    assert passed[1] <= passed[0] + 1e-12


@given(st.floats(0.001, 60), asymmetries, absorptions)
def test_two_layers_on_top_of_each_other_are_one_of_twice_the_thickness(tau, asymmetry, absorbed):
    # The adding equations, which know nothing of the closed form.
    once, through = (part.item() for part in two_stream(torch.tensor(tau, dtype=torch.float64), asymmetry, absorbed))
    twice, passed = two_stream(torch.tensor(2 * tau, dtype=torch.float64), asymmetry, absorbed)
    assert twice.item() == pytest.approx(once + through**2 * once / (1 - once**2), rel=1e-9, abs=1e-12)
    assert passed.item() == pytest.approx(through**2 / (1 - once**2), rel=1e-9, abs=1e-12)


def test_thin_cloud_scatters_and_absorbs_in_proportion():
    tau, asymmetry, absorbed = 1e-5, 0.85, 0.05
    reflected, passed = two_stream(torch.tensor(tau, dtype=torch.float64), asymmetry, absorbed)
    assert reflected.item() == pytest.approx((1 - absorbed) * (1 - asymmetry) / 2 * tau, rel=1e-4)
    assert (1 - reflected - passed).item() == pytest.approx(absorbed * tau, rel=1e-4)


def test_the_form_without_absorption_is_the_limit_of_the_one_with_it():
    tau = torch.tensor([0.1, 1, 10, 50], dtype=torch.float64)
    plain, nearly = two_stream(tau, 0.85, 0.0), two_stream(tau, 0.85, 1.0001e-3)
    assert (plain[0] / nearly[0] - 1).abs().max() < 0.2  # fifty optical thicknesses absorb something even then
    assert (plain[0] / nearly[0] - 1)[:2].abs().max() < 0.01
    by_hand = 0.15 * tau / (2 + 0.15 * tau)
    torch.testing.assert_close(plain[0], by_hand)
    torch.testing.assert_close(plain[1], 1 - by_hand)


@pytest.mark.parametrize("absorbed", [0.0, 0.0058, 0.05])
def test_no_cloud_is_the_ground_bit_for_bit(absorbed):
    ground = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    reflected, passed = two_stream(torch.zeros(1000), 0.85, absorbed)
    assert torch.equal(reflected, torch.zeros(1000))
    assert torch.equal(passed, torch.ones(1000))
    assert torch.equal(over(ground, reflected, passed * passed, 0.8, 0.05), ground)


@given(st.floats(0, 1), thicknesses, absorptions)
def test_the_layer_over_ground_stays_between_dark_and_white(ground, tau, absorbed):
    reflected, passed = two_stream(torch.tensor(tau, dtype=torch.float64), 0.85, absorbed)
    seen = over(torch.tensor(ground, dtype=torch.float64), reflected, passed**2).item()
    assert 0 <= seen <= 1 + 1e-12
    white = over(torch.tensor(1.0, dtype=torch.float64), reflected, passed**2).item()
    # White ground under a cloud that absorbs nothing is white (unless light goes to and fro more often than is counted).
    assert absorbed or reflected > 0.9 or white == pytest.approx(1)


def test_over_is_the_sum_of_all_reflections():
    ground, reflected, passed = 0.4, 0.5, 0.45
    light, seen = passed, reflected
    for _ in range(60):
        seen += light * ground * passed
        light *= ground * reflected
    together = over(torch.tensor(ground), torch.tensor(reflected), torch.tensor(passed**2))
    assert together.item() == pytest.approx(seen, rel=1e-6)


def test_the_table_has_a_row_for_every_band_in_order():
    assert tuple(row.band for row in TABLE) == BANDS
    assert np.all(np.diff([row.wavelength for row in TABLE]) > 0)
    assert {row.band for row in TABLE if row.pixel == 10} == {"B02", "B03", "B04", "B08"}
    assert {row.band for row in TABLE if row.pixel == 60} == {"B01", "B09", "B10"}
    for row in TABLE:
        assert row.vapour[0] >= row.vapour[1] >= row.vapour[2] >= 0
        assert 0 <= row.sky <= 1
    land = [row.sky for row in TABLE if row.band != "B10"]
    assert np.all(np.diff(land) <= 0)  # shadows are bluer than what lies in the sun


def test_ice_is_darker_than_water_in_the_short_wave_infrared_and_neither_absorbs_light_that_is_seen():
    for band in range(8):
        assert max(coalbedo(band, "water"), coalbedo(band, "ice")) < 1e-4
    thick = torch.tensor(200.0)
    for band, least, most in ((11, 0.55, 0.75), (12, 0.4, 0.6)):
        water = two_stream(thick, optics.ASYMMETRY["water"], coalbedo(band, "water"))[0].item()
        ice = two_stream(thick, optics.ASYMMETRY["ice"], coalbedo(band, "ice"))[0].item()
        # MODIS sees about 0.6 and 0.45 over thick water cloud (King et al., J. Appl. Meteor. 43, 2004).
        assert least < water < most
        assert ice < 0.8 * water
    assert coalbedo(11, "water", 20) == pytest.approx(2 * coalbedo(11, "water", 10))


def test_the_air_above_takes_blue_and_gives_blue_and_vapour_hides_low_cloud():
    for band, height, zenith in (
        (b, h, z) for b in range(13) for h in (0, 1000, 4000, 9000, 20000) for z in (0, 45, 70)
    ):
        through, added = air(band, height, zenith)
        assert 0 <= through <= 1
        assert 0 <= added < 0.2
        assert through + added <= 1.01
        assert air(band, height + 500, zenith)[0] >= through
    blue, red, infrared = names("B01", "B04", "B8A")
    assert air(blue, 1000, 45)[1] > 3 * air(red, 1000, 45)[1] > 5 * air(infrared, 1000, 45)[1]
    vapour, cirrus = names("B09", "B10")
    assert air(cirrus, 1000, 45)[0] < 0.01 < 0.5 < air(cirrus, 10000, 45)[0]
    assert air(vapour, 1000, 45)[0] < 0.6 < 0.9 < air(vapour, 10000, 45)[0]
    assert air(vapour, 1000, 45, 2.0)[0] == pytest.approx(air(vapour, 1000, 45)[0] ** 2, rel=0.05)


def test_rayleigh_thickness_is_that_of_another_formula():
    for row in TABLE[:9]:
        # Bodhaine et al., J. Atmos. Oceanic Technol. 16, 1999, equation 30.
        square = row.wavelength**2
        above, below = (
            1.0455996 - 341.29061 / square - 0.90230850 * square,
            1 + 0.0027059889 / square - 85.968563 * square,
        )
        added = air(BANDS.index(row.band), 0, 60)[1]
        assert added * 4 * np.cos(np.pi / 3) == pytest.approx(0.0021520 * above / below, rel=0.01)
