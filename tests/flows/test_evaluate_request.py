"""What an evaluation is asked for: one model for options and form; bounds that are understood, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.evaluate import build_evaluate_request
from flows.evaluate_bounds import PROTOCOLS, Bound, Verdict, judge, parse_bound
from flows.evaluate_request import EvaluateRequest, make_evaluate_request
from pipeline import cases
from pipeline.errors import InvalidSettings
from pipeline.report_methods import METRICS


def request(**values: Any) -> EvaluateRequest:
    return make_evaluate_request({"pairs": ["pairs.parquet"], "output": "out", **values})


def test_every_field_is_described_and_only_two_are_required() -> None:
    schema = EvaluateRequest.model_json_schema()
    assert schema["required"] == ["pairs", "output"]
    assert schema["additionalProperties"] is False
    for name, shown in schema["properties"].items():
        assert shown.get("description"), name


def test_a_request_survives_json() -> None:
    given = request(fail_below=["psnr=27", "synthetic.cc=0.5"], fail_above=["rmse=0.06"], compare=["a", "b"], limit=3)
    again = make_evaluate_request(json.loads(given.model_dump_json()))
    assert again == given
    assert again.bounds == (
        Bound("psnr", 27, "below"),
        Bound("cc", 0.5, "below", "synthetic"),
        Bound("rmse", 0.06, "above"),
    )


def test_protocols_are_those_of_the_cases() -> None:
    assert cases.PROTOCOLS == PROTOCOLS


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"pairs": []}, "--pairs: "),
        ({"output": None}, "--output: "),
        ({"split": "tset"}, "--split tset: input should be 'train', 'val', 'test', 'other' or 'all'"),
        ({"bands": "3"}, "--bands 3: input should be 'all', '13', '12' or '4'"),
        ({"limit": 0}, "--limit 0: input should be greater than or equal to 1"),
        ({"workers": -1}, "--workers -1: "),
        ({"device": "tpu"}, "--device tpu: give auto, cpu, cuda or cuda:N"),
        ({"checkpoint": ""}, "--checkpoint "),
        ({"fail_below": ["psnr"]}, "--fail-below psnr: write [PROTOCOL.][REGION.]METRIC=VALUE"),
        ({"fail_below": ["psnr=high"]}, "--fail-below psnr=high: 'high' is no number"),
        ({"fail_below": ["psnr=nan"]}, "--fail-below psnr=nan: 'nan' is no number"),
        ({"fail_below": ["pnsr=27"]}, "--fail-below pnsr=27: 'pnsr' is no metric: did you mean psnr?"),
        ({"fail_below": ["xyz=27"]}, "known are rmse, psnr, mae, sam, cc, ssim_same, ssim_valid"),
        ({"fail_below": ["=27"]}, "'' is no metric"),
        ({"fail_below": ["rmse=0.06"]}, "rmse is better when it is lower: write --fail-above rmse=0.06"),
        ({"fail_above": ["ssim=0.8"]}, "ssim is better when it is higher: write --fail-below ssim=0.8"),
        ({"fail_below": ["cludy.psnr=2"]}, "'cludy' is no protocol or region: did you mean cloudy?"),
        ({"fail_below": ["all.cloudy.psnr=2"]}, "names two regions, all and cloudy"),
        ({"fail_below": ["pair.seed.psnr=2"]}, "names two protocols, pair and seed"),
    ],
)
def test_a_slip_is_one_line_that_names_it(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        request(**values)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def row(**changes: Any) -> dict[str, Any]:
    scores = {metric.key: 0.5 for metric in METRICS}
    return {
        "protocol": "pair", "bands": "13", "cover": "any", "sky": "", "ground": "any", "region": "all", "method": "mine",
        "images": 7, "mean": scores,
    } | changes  # fmt: skip


def report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """As much of a report as is judged."""
    return {"checkpoint": {"name": "mine"}, "compared": [], "rows": rows, "images": []}


def test_a_bound_is_judged_on_the_row_over_everything_in_the_widest_bands() -> None:
    rows = [
        row(method="identity", mean={"psnr": 1.0}),
        row(bands="4", mean={"psnr": 2.0}),
        row(cover="thin", mean={"psnr": 3.0}),
        row(ground="water", mean={"psnr": 4.0}),
        row(sky="haze", mean={"psnr": 5.0}),
        row(region="cloudy", mean={"psnr": 6.0}),
        row(mean={"psnr": 26.5, "rmse": None}),
        row(bands="12", mean={"psnr": 7.0}),
    ]
    for order in (rows, rows[::-1]):
        assert judge(report(order), parse_bound("psnr=26.5", "below")).found == 26.5
    verdict = judge(report(rows), parse_bound("psnr=26.5", "below"))
    assert verdict.reached
    assert (verdict.found, verdict.images, verdict.bands) == (26.5, 7, "13")
    missed = judge(report(rows), parse_bound("psnr=27", "below"))
    assert not missed.reached
    assert missed.line == (
        "--fail-below pair.all.psnr=27: psnr of pair, all pixels is 26.5, asked was 27 (mean of 7 images, bands 13)"
    )
    assert missed.document()["found"] == 26.5
    assert judge(report(rows), parse_bound("pair.cloudy.psnr=6", "below")).reached


def test_what_is_not_defined_or_not_there_is_not_reached() -> None:
    rows = [row(mean={"psnr": 26.5, "rmse": None})]
    undefined = judge(report(rows), parse_bound("rmse=1", "above"))
    assert not undefined.reached
    assert "rmse of pair, all pixels is not defined (mean of 7 images, bands 13)" in undefined.line
    absent = judge(report(rows), parse_bound("seed.psnr=1", "below"))
    assert not absent.reached
    assert absent.line == "--fail-below seed.all.psnr=1: no image was scored by that protocol"


@pytest.mark.parametrize(("found", "side", "reached"), [(0.5, "below", True), (0.49, "below", False),
                                                        (0.5, "above", True), (0.51, "above", False)])  # fmt: skip
def test_a_bound_itself_is_good_enough(found: float, side: Any, reached: bool) -> None:
    assert Verdict(Bound("cc", 0.5, side), found, 1, "13").reached is reached


def test_beside_the_default_stands_its_twin_without_guidance() -> None:
    assert request().compared == ("unguided",)
    assert request(checkpoint="mine.safetensors").compared == ()
    assert request(compare=[]).compared == ()
    assert request(compare=["a"]).compared == ("a",)
    assert build_evaluate_request({"pairs": ["p"], "output": Path("out"), "compare": ["none"]}).compared == ()
