"""Synthetic clouds: seeded, physical, and shadows on the right side."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan.clouds import PAD, add_clouds, fractal_noise, shadow_offset, thickness_field
from srgan.spec import BANDS
from tests.srgan.made import ground

torch.set_num_threads(1)


def sky(cover=0.4, thickness=30.0, height=0.0, azimuth=150.0, shift=20.0, seed=0, edge=96, valid=None, image=None):
    one = torch.ones(1)
    image = ground(edge, edge)[None] if image is None else image
    return image, add_clouds(
        image,
        torch.ones(1, 1, edge, edge) if valid is None else valid,
        cover=cover * one,
        thickness=thickness * one,
        height=height * one,
        sun_azimuth=azimuth * one,
        shift=shift * one,
        generator=torch.Generator().manual_seed(seed),
    )


def test_the_seed_decides_alone():
    torch.manual_seed(1)
    _, first = sky(seed=5)
    torch.manual_seed(2)
    _, same = sky(seed=5)
    _, other = sky(seed=6)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(first, same, strict=True))
    assert not torch.equal(first.image, other.image)


@given(seed=st.integers(0, 10**6), cover=st.floats(0, 1), thickness=st.floats(0.1, 100), height=st.floats(0, 1))
@settings(max_examples=15, deadline=None)
def test_any_sky_is_finite_bounded_and_leaves_nodata_alone(seed, cover, thickness, height):
    valid = torch.ones(1, 1, 96, 96)
    valid[..., :20, :30] = 0
    image, clouded = sky(cover, thickness, height, seed=seed, valid=valid)
    assert clouded.image.isfinite().all()
    assert clouded.image.min() >= 0
    assert clouded.image.max() <= 1.6
    assert torch.equal(clouded.image[..., :20, :30], image[..., :20, :30])
    for part in (clouded.opacity, clouded.cloud, clouded.thin, clouded.shadow):
        assert not part[..., :20, :30].any()
        assert ((part >= 0) & (part <= 1)).all()
    assert (clouded.thin <= clouded.cloud).all()
    untouched = (clouded.cloud == 0) & (clouded.shadow == 0) & (valid > 0)
    assert ((clouded.image - image).abs() * untouched).max() < 0.05


def test_no_cover_changes_nothing():
    image, clouded = sky(cover=0.0)
    assert torch.equal(clouded.image, image)
    assert not clouded.cloud.any()


@pytest.mark.parametrize("cover", [0.1, 0.5, 0.9, 1.0])
def test_the_cover_is_what_was_asked_for(cover):
    field = thickness_field(1, 128, 128, torch.tensor([cover]), torch.tensor([20.0]), torch.Generator().manual_seed(0))
    assert (field > 0).float().mean().item() == pytest.approx(cover, abs=0.01)
    assert field.max().item() <= 20.0


def test_thick_cloud_is_white_bright_and_hides_the_ground():
    image, clouded = sky(cover=1.0, thickness=80.0)
    spectrum = clouded.image.mean((0, 2, 3))
    visible, swir = spectrum[1:4], spectrum[[11, 12]]
    assert visible.min() > 0.5
    assert visible.max() / visible.min() < 1.15
    assert (swir < visible.min()).all()
    dark, _ = sky(cover=1.0, thickness=80.0, image=image * 0.2)
    _, over_dark = sky(cover=1.0, thickness=80.0, image=dark)
    assert (over_dark.image - clouded.image).abs().mean() < 0.05


def test_thin_haze_is_bluish_and_lets_the_ground_through():
    image, clouded = sky(cover=1.0, thickness=1.5)
    added = (clouded.image - image).mean((0, 2, 3))
    blue, nir = BANDS.index("B02"), BANDS.index("B8A")
    assert added[blue] > added[nir]
    ours, theirs = clouded.image[0, 3].flatten().numpy(), image[0, 3].flatten().numpy()
    assert np.corrcoef(ours, theirs)[0, 1] > 0.7
    assert clouded.thin.mean() > 0.9


def test_the_cirrus_band_sees_high_cloud_only_and_the_water_vapour_band_half_of_low_cloud():
    _, low = sky(cover=1.0, thickness=40.0, height=0.0)
    _, high = sky(cover=1.0, thickness=40.0, height=1.0)
    cirrus, vapour, red = (BANDS.index(name) for name in ("B10", "B09", "B04"))
    assert low.image[0, cirrus].mean() < 0.02
    assert high.image[0, cirrus].mean() > 0.2
    assert low.image[0, vapour].mean() < 0.6 * low.image[0, red].mean()


@pytest.mark.parametrize(
    ("azimuth", "down", "right"), [(0, 1, 0), (90, 0, -1), (180, -1, 0), (270, 0, 1), (135, -1, -1)]
)
def test_the_shadow_lies_away_from_the_sun(azimuth, down, right):
    offset = shadow_offset(azimuth, 24)
    assert tuple(np.sign(offset)) == (down, right)
    image = torch.full((1, 13, 128, 128), 0.3)
    _, clouded = sky(cover=0.15, thickness=60.0, azimuth=float(azimuth), shift=24.0, edge=128, image=image)
    cloud = clouded.cloud[0, 0].numpy()
    spectrum = np.fft.fft2(cloud).conj() * np.fft.fft2(clouded.shadow[0, 0].numpy())
    rows, cols = np.unravel_index(np.fft.ifft2(spectrum).real.argmax(), cloud.shape)
    found = tuple((int(value) + 64) % 128 - 64 for value in (rows, cols))
    assert np.hypot(found[0] - offset[0], found[1] - offset[1]) < 6
    shaded = (clouded.shadow > 0) & (clouded.cloud == 0)
    assert clouded.image[:, 7:8][shaded].mean() < 0.25
    # Bluer inside: what is left is sky light.
    assert clouded.image[:, 1:2][shaded].mean() > clouded.image[:, 11:12][shaded].mean()


def test_the_longest_shadow_fits_the_margin_of_the_field():
    for azimuth in (0.0, 90.0, 180.0, 270.0):
        _, clouded = sky(azimuth=azimuth, shift=float(PAD))
        assert clouded.image.shape == (1, 13, 96, 96)


def test_noise_is_standardised():
    noise = fractal_noise(3, 64, 80, torch.Generator().manual_seed(0))
    assert noise.shape == (3, 1, 64, 80)
    torch.testing.assert_close(noise.std((1, 2, 3)), torch.ones(3))
