"""Whether reliability and risk curves say what they are said to say, against sorting all pixels."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.confidence import NEAR
from pipeline.trust import COVERAGES, Trust
from srgan.spec import GROUPS
from tests.pipeline.made_chips import NAMES


def laplace(seed: int, size: int = 128, *, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction, target (13, H, W) and expected errors (4, H, W), of which the true ones are `factor` times as large."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.uniform(np.log(0.002), np.log(0.05), (4, size, size))).astype(np.float32)
    target = np.full((13, size, size), 0.5, np.float32)
    error = np.zeros_like(target)
    for number, members in enumerate(GROUPS.values()):
        for name in members:
            error[NAMES.index(name)] = rng.laplace(0, scale[number] * factor)
    return target + error, target, scale


def test_expected_errors_that_hold_are_reliable() -> None:
    prediction, target, scale = laplace(0)
    document = Trust.of(prediction, target, scale, NAMES, np.ones((128, 128), bool)).document()
    assert document is not None
    assert document["near"] == NEAR
    assert set(document["groups"]) == set(GROUPS)
    for group in document["groups"].values():
        assert sum(point["share"] for point in group["reliability"]) == pytest.approx(1)
        for point in group["reliability"]:
            if point["share"] > 0.02:
                assert point["found"] == pytest.approx(point["said"], abs=0.05)
        assert group["found_error"] == pytest.approx(group["expected_error"], rel=0.03)


def test_errors_twice_as_large_as_said_are_seen() -> None:
    prediction, target, scale = laplace(1, factor=2)
    document = Trust.of(prediction, target, scale, NAMES, np.ones((128, 128), bool)).document()
    assert document is not None
    for group in document["groups"].values():
        assert group["found_error"] == pytest.approx(2 * group["expected_error"], rel=0.03)
        sure = [point for point in group["reliability"] if 0.5 < point["said"] < 0.95 and point["share"] > 0.02]
        assert sure
        assert all(point["found"] < point["said"] - 0.05 for point in sure)


def test_risk_and_coverage_are_those_of_sorted_pixels() -> None:
    prediction, target, scale = laplace(2)
    where = np.ones((128, 128), bool)
    where[:20] = False
    document = Trust.of(prediction, target, scale, NAMES, where).document()
    assert document is not None
    counted = [NAMES.index(name) for members in GROUPS.values() for name in members]
    groups = [number for number, members in enumerate(GROUPS.values()) for _ in members]
    errors = (np.clip(prediction, 0, 1).astype(np.float64) - target)[counted][:, where]
    squares = (errors**2).mean(axis=0)
    said = scale[groups][:, where].astype(np.float64).mean(axis=0)
    curve = document["risk_coverage"]
    assert [point["coverage"] for point in curve] == list(COVERAGES)
    for order, key in ((said, "rmse_by_confidence"), (squares, "rmse_oracle")):
        ranked = squares[np.argsort(order)]
        for point in curve:
            most = round(point["coverage"] * len(ranked))
            assert point[key] == pytest.approx(np.sqrt(ranked[:most].mean()), rel=0.03)
    assert all(point["rmse_random"] == pytest.approx(np.sqrt(squares.mean())) for point in curve)
    assert all(point["rmse_oracle"] <= point["rmse_by_confidence"] + 1e-12 for point in curve)
    assert curve[-1]["rmse_by_confidence"] == pytest.approx(curve[-1]["rmse_random"])


def test_parts_add_up() -> None:
    images = [laplace(seed, 32) for seed in range(3)]
    everywhere = np.ones((32, 32), bool)
    parts = sum((Trust.of(*image, NAMES, everywhere) for image in images), Trust())
    whole = [np.concatenate(part, axis=1) for part in zip(*images, strict=True)]
    both = Trust.of(*whole, NAMES, np.ones((96, 32), bool))
    np.testing.assert_allclose(parts.groups, both.groups)
    np.testing.assert_allclose(parts.orders, both.orders)


def test_bands_that_are_not_there_do_not_count() -> None:
    prediction, target, scale = laplace(3, 32)
    everywhere = np.ones((32, 32), bool)
    bands = ("B01", "B02", "B08", "B10")
    at = [NAMES.index(name) for name in bands]
    document = Trust.of(prediction[at], target[at], scale, bands, everywhere).document()
    assert document is not None
    assert list(document["groups"]) == ["VIS", "NIR"]


def test_what_is_no_number_does_not_count_and_nothing_is_no_document() -> None:
    prediction, target, scale = laplace(4, 32)
    prediction[3, 5] = np.nan
    scale[2, 9] = np.inf
    with np.errstate(all="raise"):
        document = Trust.of(prediction, target, scale, NAMES, np.ones((32, 32), bool)).document()
    assert document is not None
    assert all(np.isfinite(point["rmse_by_confidence"]) for point in document["risk_coverage"])
    assert Trust.of(prediction, target, scale, NAMES, np.zeros((32, 32), bool)).document() is None
    assert Trust().document() is None


def test_a_perfect_prediction() -> None:
    _, target, scale = laplace(5, 32)
    document = Trust.of(target, target, scale, NAMES, np.ones((32, 32), bool)).document()
    assert document is not None
    assert {point["found"] for group in document["groups"].values() for point in group["reliability"]} == {1.0}
    assert {point["rmse_oracle"] for point in document["risk_coverage"]} == {0.0}
