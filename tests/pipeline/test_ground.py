"""Classes of ground by their indices, and how much of it is seen."""

from __future__ import annotations

import numpy as np
import pytest

from catalogs.bands import BANDS
from pipeline.ground import GROUND, OTHER, SNOW, UNKNOWN, VEGETATION, WATER, ground_classes, opacity

TEN = ("B02", "B03", "B04", "B08")
SPECTRA = {
    "clear lake": ({"B02": 0.06, "B03": 0.05, "B04": 0.03, "B08": 0.02, "B11": 0.01}, WATER),
    "turbid river": ({"B02": 0.10, "B03": 0.12, "B04": 0.10, "B08": 0.08, "B11": 0.02}, WATER),
    "meadow": ({"B02": 0.05, "B03": 0.08, "B04": 0.04, "B08": 0.40, "B11": 0.20}, VEGETATION),
    "conifers below the air of L1C": ({"B02": 0.10, "B03": 0.07, "B04": 0.04, "B08": 0.16, "B11": 0.06}, VEGETATION),
    "fresh snow": ({"B02": 0.90, "B03": 0.88, "B04": 0.85, "B08": 0.75, "B11": 0.08}, SNOW),
    "sand": ({"B02": 0.20, "B03": 0.28, "B04": 0.35, "B08": 0.42, "B11": 0.52}, OTHER),
    "roofs": ({"B02": 0.14, "B03": 0.15, "B04": 0.17, "B08": 0.20, "B11": 0.24}, OTHER),
    "patches of snow on soil": ({"B02": 0.30, "B03": 0.30, "B04": 0.31, "B08": 0.32, "B11": 0.22}, OTHER),
}
"""Reflectances of typical ground (spectral libraries; snow after Warren 1982), and the class that they are."""


def pixels(spectrum: dict[str, float], bands: tuple[str, ...]) -> np.ndarray:
    values = [spectrum.get(name, 0.0) for name in bands]
    return np.array(values, np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)


@pytest.mark.parametrize("name", SPECTRA)
def test_typical_ground(name: str) -> None:
    spectrum, expected = SPECTRA[name]
    known = np.array([[True, True], [True, False]])
    found = ground_classes(pixels(spectrum, tuple(BANDS)), tuple(BANDS), known)
    assert found.dtype == np.uint8
    assert (found[known] == expected).all(), GROUND[int(found[0, 0])]
    assert found[1, 1] == UNKNOWN


@pytest.mark.parametrize("name", ["clear lake", "turbid river", "meadow", "sand", "roofs"])
def test_four_bands_tell_what_they_can(name: str) -> None:
    spectrum, expected = SPECTRA[name]
    assert (ground_classes(pixels(spectrum, TEN), TEN, np.ones((2, 2), bool)) == expected).all()
    assert not ground_classes(pixels(spectrum, TEN[:3]), TEN[:3], np.ones((2, 2), bool)).any()


def test_an_image_of_nothing_has_a_class() -> None:
    with np.errstate(all="raise"):
        found = ground_classes(np.zeros((13, 2, 2), np.float32), tuple(BANDS), np.ones((2, 2), bool))
    assert (found == OTHER).all()


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 1.0])
def test_the_share_of_a_mixture_with_cloud_is_found(share: float) -> None:
    truth = np.random.default_rng(0).uniform(0.02, 0.3, (4, 20, 20)).astype(np.float32)
    image = (1 - share) * truth + share * np.float32(0.6)
    assert opacity(image, truth, TEN, np.ones((20, 20), bool)) == pytest.approx(share, abs=1e-6)


def test_a_cloud_is_as_thick_as_its_thicker_quarter() -> None:
    truth = np.full((4, 10, 10), 0.1, np.float32)
    image = truth.copy()
    image[:, :3] = 0.6
    assert opacity(image, truth, TEN, np.ones((10, 10), bool)) == pytest.approx(1)
    image[:, 2] = truth[:, 2]
    assert opacity(image, truth, TEN, np.ones((10, 10), bool)) == pytest.approx(0)


def test_opacity_says_nothing_without_dark_ground_or_visible_bands() -> None:
    truth = np.full((4, 5, 5), 0.7, np.float32)
    everywhere = np.ones((5, 5), bool)
    assert np.isnan(opacity(truth, truth, TEN, everywhere))
    assert np.isnan(opacity(truth * 0.1, truth * 0.1, TEN, ~everywhere))
    assert np.isnan(opacity(truth[:1] * 0.1, truth[:1] * 0.1, ("B08",), everywhere))
