"""Where the time of a scene went: in the summary, in `decloud status`, in Prefect's page; read from items of any age."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.artifacts import scene_page
from flows.state import read_state
from flows.summary import Figures, SceneSummary
from flows.tables import print_times
from flows.times import StageTimes, ordered, seconds
from pipeline.journal import Journal
from tests.flows.conftest import Decloud, MadeScene

TIMED = StageTimes({"mask": 1.2, "network": 18.2, "encode": 3.0}, 24.6, "network")


def edited(product: Path, **properties: Any) -> None:
    """Change the item of a product; None takes a property away."""
    item = json.loads(product.read_text())
    for name, value in properties.items():
        item["properties"].pop(f"declouder:{name}", None)
        if value is not None:
            item["properties"][f"declouder:{name}"] = value
    product.write_text(json.dumps(item))


@pytest.mark.parametrize(
    ("said", "stages", "total"),
    [
        (None, {}, None),
        ([1, 2], {}, None),
        ("fast", {}, None),
        ({}, {}, None),
        ({"mask and references": 1.5, "restore": 2, "write": 0}, {"restore": 2, "write": 0, "mask and references": 1.5}, None),
        ({"total": 5, "write": "2", "mask": None, "read": True, "network": -1}, {}, 5),
        ({"encode": float("nan"), "write": float("inf"), "mask": 0.5, "total": float("nan")}, {"mask": 0.5}, None),
    ],
)  # fmt: skip
def test_what_is_no_time_is_passed_over(said: object, stages: dict[str, float], total: float | None) -> None:
    times = StageTimes.of({"declouder:seconds": said, "declouder:limit": ["network"]})
    assert (list(times.stages.items()), times.total, times.limit) == (list(stages.items()), total, "")
    assert times.said == ""


def test_a_limit_that_no_stage_has_is_not_told() -> None:
    assert StageTimes({"mask": 1.0}, 2.0, "network").said == ""
    assert TIMED.said == "network 18.2 s was the limit"


def test_stages_stand_in_the_order_of_the_run() -> None:
    assert ordered(["encode", "other", "network", "mask", "mask"]) == ["mask", "network", "encode", "other"]
    assert ordered(["network", "precision", "load"]) == ["load", "precision", "network"]
    assert [seconds(value) for value in (0, 0.01, 9.96, 99.99, 100.4)] == ["0.0", "<0.1", "10.0", "100.0", "100"]


def test_a_line_says_what_the_limit_was() -> None:
    scene = SceneSummary("S", "33UWP", "done", seconds=24.6, figures=Figures({"observed": 1.0}, times=TIMED))
    assert scene.line == "done in 24.6 s (network 18.2 s was the limit): observed 100.0 %"
    older = SceneSummary("S", "33UWP", "done", seconds=24.6, figures=Figures({"observed": 1.0}))
    assert older.line == "done in 24.6 s: observed 100.0 %"


def test_the_page_of_a_scene_holds_its_times() -> None:
    page = scene_page(SceneSummary("S", "33UWP", "done", product="out/S.json", figures=Figures(times=TIMED)))
    table = "| stage | s |\n|---|---:|\n| mask | 1.2 |\n| network | 18.2 |\n| encode | 3.0 |\n| wall time | 24.6 |\n"
    assert table in page
    assert "network 18.2 s was the limit" in page
    assert "stage" not in scene_page(SceneSummary("S", "33UWP", "done", product="out/S.json"))


def test_a_table_of_scenes_that_were_timed_differently(capsys: pytest.CaptureFixture[str]) -> None:
    print_times([("new", TIMED), ("old", StageTimes({"restore": 7.5}))])
    header, new, old = [line.split() for line in capsys.readouterr().out.splitlines() if line.split()[1:]]
    assert header == ["scene", "mask", "s", "network", "s", "restore", "s", "encode", "s", "wall", "s", "limit"]
    assert new == ["new", "1.2", "18.2", "3.0", "24.6", "network"]
    assert old == ["old", "7.5"]


def test_status_holds_the_times_of_products_of_any_age(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    output = tmp_path / "out"
    ran = decloud(*scene.arguments(output, "--json", "--quiet")).document["scenes"][0]
    assert ran["figures"]["times"]["stages"]
    assert all(value >= 0 for value in ran["figures"]["times"]["stages"].values())
    product = Path(ran["product"])

    edited(product, seconds={"network": 1.5, "write": 0.5, "total": 1.75}, limit="network")
    (entry,) = decloud("status", output, "--json").document["scenes"]
    assert entry["times"] == {"stages": {"network": 1.5, "write": 0.5}, "total": 1.75, "limit": "network"}
    shown = decloud("status", output, "--times").out
    assert [line.split() for line in shown.splitlines() if "1.5" in line] == [
        [read_state(output).scenes[0].scene, "1.5", "0.5", "1.8", "network"]
    ]
    assert "1.5" not in decloud("status", output).out

    for seconds_said, limit in (("soon", 3), (None, None)):
        edited(product, seconds=seconds_said, limit=limit)
        ended = decloud("status", output, "--times")
        assert ended.status == 0
        assert "no product says where its time went" in ended.out
        (entry,) = decloud("status", output, "--json").document["scenes"]
        assert entry["times"] == {"stages": {}, "total": None, "limit": ""}


def test_status_of_a_scene_without_a_product_has_no_times(tmp_path: Path, decloud: Decloud) -> None:
    Journal(tmp_path).write("bad", "invalid", "no valid pixel")
    ended = decloud("status", tmp_path, "--times")
    assert ended.status == 1
    assert "no product says" in ended.out
