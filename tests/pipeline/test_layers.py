"""Layers: impossible ones cannot be made, and their colours can be told apart by every eye."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from pipeline import layers
from pipeline.errors import InvalidScene
from pipeline.layers import Layer


def grid(shape: tuple[int, int]) -> GeoBox:
    return GeoBox(shape, Affine(10, 0, 499980, 0, -10, 5100000), "EPSG:32633")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "../B02"}, "layer name '../B02' must be"),
        ({"dtype": "float32"}, "type float32 must be uint8 or uint16"),
        ({"nodata": 70000}, r"nodata 70000 must be 0\.\.65535"),
        ({"nodata": -1}, "nodata -1 must be"),
        ({"categories": {1: "one"}}, "need type uint8"),
        ({"geobox": GeoBox((2, 2), Affine.identity(), None)}, "its grid has no CRS"),
        ({"geobox": GeoBox((0, 2), Affine.identity(), "EPSG:4326")}, r"shape \(0, 2\) must be at least"),
    ],
)
def test_an_impossible_layer_cannot_be_made(change, reason):
    good = {"name": "B02", "key": "blue", "geobox": grid((2, 2)), "dtype": "uint16", "nodata": 0}
    with pytest.raises(InvalidScene, match=reason):
        Layer(**{**good, **change})


def test_classes_keep_their_values_in_overviews_and_quantities_are_averaged():
    made = {
        "average": [
            Layer("B02", "blue", grid((2, 2)), "uint16", 0),
            layers.confidence_layer(grid((2, 2))),
        ],
        "nearest": [
            Layer("SCL", "scl", grid((2, 2)), "uint8", 0),
            layers.provenance_layer(grid((2, 2))),
            layers.cloudmask_layer(grid((2, 2))),
        ],
    }
    assert all(layer.resampling == kind for kind, of_kind in made.items() for layer in of_kind)


@pytest.mark.parametrize("colours", [layers.PROVENANCE_COLOURS, layers.CLOUD_COLOURS], ids=["provenance", "cloudmask"])
def test_colours_stay_apart_for_colour_blind_eyes(colours):
    """Machado, Oliveira and Fernandes (2009), severity 1: protan, deutan, tritan; in CIE Lab, where 2.3 is just visible."""
    from skimage.color import rgb2lab

    eyes = {
        "normal": np.eye(3),
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    rgb = np.array([colour[:3] for value, colour in colours.items() if value]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for name, matrix in eyes.items():
        seen = np.clip(linear @ np.asarray(matrix).T, 0, 1)
        lab = rgb2lab(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055))
        distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2)]
        assert min(distances) > 12, name
