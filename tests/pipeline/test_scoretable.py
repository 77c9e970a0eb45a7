"""Rows: means over images, intervals over groups, pooled scores, counts."""

from __future__ import annotations

import json
from dataclasses import astuple

import numpy as np
import pytest

from pipeline.ruler import ANY, Measures, Part
from pipeline.scoretable import Scored, ScoreTable
from srgan.bootstrap import interval
from srgan.metrics import SCORES, Moments

CLOUDY, ALL = Part("cloudy", ANY), Part("all", ANY)
GROUPS = ["a", "a", "b", "c", "c", "c"]


def measures(seed: int, spread: float = 0.02, *, spoilt: bool = False, constant: bool = False) -> Measures:
    rng = np.random.default_rng(seed)
    target = np.full((2, 24, 24), 0.3) if constant else rng.uniform(0.1, 0.5, (2, 24, 24))
    prediction = target + rng.normal(0, spread, target.shape)
    if spoilt:
        prediction[0, 0, 0] = np.inf
    where = np.ones((24, 24), bool)
    bands = tuple(Moments.measure(prediction[[band]], target[[band]], where) for band in range(2))
    return Measures(Moments.measure(prediction, target, where), bands)


def scored(parts: dict[Part, Measures], group: str = "a", **changes: object) -> Scored:
    fields = {
        "image": "one",
        "protocols": ("pair",), "band_set": "2", "bands": ("B02", "B03"), "method": "model", "group": group,
        "cover": "thin", "sky": "", "parts": parts,
    } | changes  # fmt: skip
    return Scored(**fields)  # type: ignore[arg-type]


def row(table: ScoreTable, **wanted: str) -> dict:
    keys = {
        "protocol": "pair",
        "bands": "2",
        "cover": ANY,
        "sky": ANY,
        "ground": ANY,
        "region": "cloudy",
        "method": "model",
    }
    (found,) = (row for row in table.rows() if all(row[name] == value for name, value in (keys | wanted).items()))
    return found


@pytest.fixture(scope="module")
def parts() -> list[Measures]:
    return [measures(seed, 0.01 * (seed + 1)) for seed in range(6)]


def test_a_row_is_the_mean_over_images_with_an_interval_over_groups(parts: list[Measures]) -> None:
    table = ScoreTable("model")
    for part, group in zip(parts, GROUPS, strict=True):
        table.add(scored({CLOUDY: part}, group))
    found = row(table)
    assert (found["images"], found["groups"]) == (6, 3)
    assert found["not_finite"] == found["identical"] == found["undefined"] == 0
    values = np.array([astuple(part.whole.scores) for part in parts])
    for column, name in enumerate(SCORES):
        assert found["mean"][name] == pytest.approx(values[:, column].mean())
        low, high = interval(values[:, column], GROUPS)
        assert (found["low"][name], found["high"][name]) == (low, high)
        assert low < found["mean"][name] < high
    pooled = sum((part.whole for part in parts), Moments()).scores
    assert found["pooled"] == {name: pytest.approx(value) for name, value in zip(SCORES, astuple(pooled), strict=True)}
    assert found["pooled"]["rmse"] > found["mean"]["rmse"]


def test_images_count_in_all_rows_that_they_belong_to(parts: list[Measures]) -> None:
    table = ScoreTable("model")
    water = Part("cloudy", "water")
    table.add(scored({CLOUDY: parts[0], ALL: parts[1], water: parts[2], Part("shadow", ANY): parts[3]}))
    table.add(scored({CLOUDY: parts[4]}, "b", protocols=("synthetic", "seed"), cover="full", sky="overcast"))
    keys = {
        (row["protocol"], row["cover"], row["sky"], row["ground"], row["region"]): row["images"] for row in table.rows()
    }
    assert keys == {
        ("pair", ANY, ANY, ANY, "cloudy"): 1,
        ("pair", "thin", ANY, ANY, "cloudy"): 1,
        ("pair", ANY, ANY, ANY, "all"): 1,
        ("pair", "thin", ANY, ANY, "all"): 1,
        ("pair", ANY, ANY, "water", "cloudy"): 1,
        ("pair", ANY, ANY, ANY, "shadow"): 1,
        ("synthetic", ANY, ANY, ANY, "cloudy"): 1,
        ("synthetic", "full", ANY, ANY, "cloudy"): 1,
        ("synthetic", ANY, "overcast", ANY, "cloudy"): 1,
        ("seed", ANY, ANY, ANY, "cloudy"): 1,
        ("seed", "full", ANY, ANY, "cloudy"): 1,
        ("seed", ANY, "overcast", ANY, "cloudy"): 1,
    }


def test_what_has_no_value_is_counted(parts: list[Measures]) -> None:
    table = ScoreTable("model")
    same = Moments.measure(np.full((2, 24, 24), 0.2), np.full((2, 24, 24), 0.2), np.ones((24, 24), bool))
    for number, part in enumerate((parts[0], measures(9, spoilt=True), Measures(same, (same, same)))):
        table.add(scored({CLOUDY: part}, f"g{number}"))
    found = row(table)
    # Of two identical constant images the PSNR is infinite and the correlation has no value.
    assert (found["images"], found["not_finite"], found["identical"], found["undefined"]) == (3, 1, 1, 1)
    finite = [entry.whole.scores for entry in (parts[0], measures(9, spoilt=True))]
    assert found["mean"]["psnr"] == pytest.approx(np.mean([scores.psnr for scores in finite]))
    assert found["mean"]["cc"] == pytest.approx(np.mean([scores.cc for scores in finite]))
    assert found["mean"]["rmse"] == pytest.approx(sum(scores.rmse for scores in finite) / 3)


def test_nothing_but_identical_images_is_plain_json() -> None:
    table = ScoreTable("model")
    same = Moments.measure(np.full((2, 24, 24), 0.2), np.full((2, 24, 24), 0.2), np.ones((24, 24), bool))
    table.add(scored({CLOUDY: Measures(same, (same, same))}))
    found = row(table)
    assert found["mean"]["psnr"] is found["pooled"]["psnr"] is found["low"]["rmse"] is None
    assert found["mean"]["rmse"] == 0
    json.dumps(table.rows() + table.per_band(), allow_nan=False)


def test_bands_one_by_one(parts: list[Measures]) -> None:
    table = ScoreTable("model")
    for part in parts[:3]:
        table.add(scored({CLOUDY: part, Part("shadow", ANY): part, Part("cloudy", "water"): part}))
    found = table.per_band()
    assert [(entry["region"], entry["band"]) for entry in found] == [("cloudy", "B02"), ("cloudy", "B03")]
    for number, entry in enumerate(found):
        scores = [part.bands[number].scores for part in parts[:3]]
        for name in ("rmse", "mae", "psnr", "ssim_valid"):
            assert entry[name] == pytest.approx(np.mean([getattr(one, name) for one in scores]))


def test_methods_are_held_against_the_subject_on_the_images_that_both_have(parts: list[Measures]) -> None:
    """A method that is silent on some images is compared on the others; the interval is that of the differences."""
    table = ScoreTable("model")
    for number, group in enumerate(GROUPS):
        table.add(scored({CLOUDY: parts[number]}, group, image=f"i{number}"))
    for number in (4, 2, 0):
        table.add(scored({CLOUDY: parts[5 - number]}, GROUPS[number], image=f"i{number}", method="fill"))
    assert row(table)["against"] is None
    found = row(table, method="fill")["against"]
    rmse = [part.whole.scores.rmse for part in parts]
    gains = [rmse[5 - number] - rmse[number] for number in (4, 2, 0)]
    assert (found["method"], found["images"]) == ("model", 3)
    assert found["mean"]["rmse"] == pytest.approx(np.mean([rmse[number] for number in (4, 2, 0)]))
    assert found["gain"] == pytest.approx(np.mean(gains))
    assert (found["low"], found["high"]) == interval(gains, ["c", "b", "a"])
    assert found["better"] == pytest.approx(np.mean(np.array(gains) > 0))


def test_a_method_that_shares_no_image_with_the_subject(parts: list[Measures]) -> None:
    table = ScoreTable("model")
    table.add(scored({CLOUDY: parts[0]}, method="fill"))
    assert row(table, method="fill")["against"] is None
    table.add(scored({CLOUDY: parts[1]}, image="other"))
    assert row(table, method="fill")["against"] is None
