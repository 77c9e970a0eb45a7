"""Synthetic clouds beside real ones: a cloud detector takes them, and their spectra are those of real cloud."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from srgan.clouds import Clouded, Layer, Sky, add_clouds, random_sky
from tests.srgan.chips import chip

torch.set_num_threads(1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clouded_chip(shared_data, sky: Sky, seed: int, patch: str = "39_p500", season: str = "1158_spring") -> Clouded:
    image = chip(shared_data, season, patch)[:, 64:192, 64:192][None]
    return add_clouds(image, torch.ones(1, 1, 128, 128), [sky], [seeded(seed)])


def test_s2cloudless_takes_thick_synthetic_cloud_for_cloud_and_leaves_the_ground(shared_data):
    detectors = pytest.importorskip("s2cloudless")
    detector = detectors.S2PixelCloudDetector(threshold=0.4, all_bands=True, average_over=1, dilation_size=0)
    hit, thick, false, free = 0, 0, 0, 0
    for seed, (season, patch, kind) in enumerate(
        (
            ("1158_spring", "39_p500", "low"),
            ("1868_summer", "102_p100", "mid"),
            ("1868_summer", "100_p840", "low"),
            ("1970_fall", "136_p500", "cirrus"),
        )
    ):
        clouded = clouded_chip(shared_data, Sky((Layer(kind, 0.35, 60.0),), 15, 150), seed, patch, season)
        called = detector.get_cloud_masks(clouded.image[0].permute(1, 2, 0).numpy()[None])[0] > 0
        opaque = clouded.opacity[0, 1:4].mean(0).numpy() > 0.9
        untouched = ((clouded.cloud + clouded.shadow)[0, 0] == 0).numpy()
        hit, thick = hit + (called & opaque).sum(), thick + opaque.sum()
        false, free = false + (called & untouched).sum(), free + untouched.sum()
    assert thick > 5000
    assert free > 5000
    assert hit / thick > 0.9
    assert false / free < 0.05


COLOUR_BOUND = 0.13
"""Mean over bands of the Wasserstein distance between spectra relative to the visible: real scenes among themselves reach 0.12."""


def thick_colours(image: np.ndarray) -> np.ndarray:
    """Spectra (13, n) of bright cloud, divided by their visible mean."""
    visible = image[1:4].mean(0)
    spectra = image[:, (visible > 0.35) & (visible < 1.2)]
    return (spectra / spectra[1:4].mean(0))[:, :: max(1, spectra.shape[1] // 1500)]


def test_thick_cloud_has_the_colour_of_real_cloud_and_a_uniform_white_one_has_not(shared_data):
    real = [
        thick_colours(chip(shared_data, season, patch, cloudy=True).numpy())
        for season, patches in (
            ("1158_spring", ("39_p100", "39_p500", "39_p838", "26_p100", "26_p840")),
            ("1970_fall", ("136_p100", "136_p500", "136_p840", "136_p309")),
        )
        for patch in patches
    ]
    ours, white = [], []
    for seed, (season, patch) in enumerate(
        3 * [("1158_spring", "39_p500"), ("1970_fall", "136_p500"), ("1868_summer", "100_p840")]
    ):
        clouded = clouded_chip(shared_data, random_sky(seeded(seed), "broken"), seed, patch, season)
        ours.append(thick_colours(clouded.image[0].numpy()))
        share = clouded.opacity[0, 1:4].mean(0).numpy()
        bare = chip(shared_data, season, patch)[:, 64:192, 64:192].numpy()
        white.append(thick_colours(bare * (1 - share) + 0.8 * share))
    true, made, plain = (np.concatenate(part, 1) for part in (real, ours, white))
    assert made.shape[1] > 2000
    by_band = [stats.wasserstein_distance(one, other) for one, other in zip(true, made, strict=True)]
    assert np.mean(by_band) < COLOUR_BOUND
    assert max(by_band) < 0.3
    assert np.mean([stats.wasserstein_distance(*both) for both in zip(true, plain, strict=True)]) > 1.5 * COLOUR_BOUND
