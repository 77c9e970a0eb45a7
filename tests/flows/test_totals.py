"""What `decloud plan` says of all scenes together."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.totals import COLUMNS, PlanTotals, cost_shown, size
from pipeline.cost import Cost
from pipeline.plan import ScenePlan
from tests.flows.conftest import Decloud, MadeScene

WHEN = datetime(2023, 8, 10, tzinfo=UTC)
COST = Cost(read=3 * 10**9, written=10**9, disk=6 * 10**8, memory=2**30, wall=90.0)
PLANS = (
    ScenePlan("a", WHEN, "new", 100, 40, cost=COST),
    ScenePlan("b", WHEN, "stale", 100, 0, cost=Cost(10**9, 10**9, 10**8, 2**29, {}, 30.0)),
    ScenePlan("c", WHEN, "done"),
    ScenePlan("d", WHEN, "invalid", 50, 50, reason="too much"),
)


def test_only_what_is_to_be_done_counts(tmp_path: Path) -> None:
    totals = PlanTotals.of(PLANS, 2 * 2**30, tmp_path / "not" / "yet")
    assert (totals.found, totals.scenes, totals.tiles, totals.needed) == (4, 2, 200, 40)
    assert (totals.read, totals.disk, totals.memory, totals.minutes) == (4 * 10**9, 7 * 10**8, 2**30, 2.0)
    assert totals.line == (
        "4 scenes, 2 to do: 40 of 200 tiles for the network, 4.0 GB to read, 2.0 GB to write (about 700 MB on disk),"
        " at most 1.0 of 2.0 GiB of memory, about 2.0 minutes"
    )
    disk = os.statvfs(tmp_path)
    assert totals.free is not None
    assert totals.free == pytest.approx(disk.f_bavail * disk.f_frsize, rel=0.1)


def test_nothing_to_do() -> None:
    totals = PlanTotals.of(PLANS[2:3], 2**31, None)
    assert (totals.line, totals.warning, totals.output, totals.free) == ("1 scene, 0 to do", "", "", None)
    assert cost_shown(PLANS[2].cost) == ("",) * len(COLUMNS)
    assert cost_shown(COST) == ("3.0 GB", "1.0 GB", "600 MB", "1.0 GiB", "1.5")


def test_a_disk_that_is_too_small_is_told_beforehand(tmp_path: Path) -> None:
    huge = ScenePlan("a", WHEN, "new", 1, 1, cost=Cost(1, 1, 10**18, 1, {}, 1.0))
    assert "make room, or choose another --output" in PlanTotals.of([huge], 2**31, tmp_path).warning
    assert PlanTotals.of([huge], 2**31, Path("s3:/bucket/prefix")).free is not None
    from pipeline.address import output_path

    bucket = PlanTotals.of([huge], 2**31, output_path("s3://bucket/prefix"))
    assert (bucket.free, bucket.warning) == (None, "")


def test_sizes_for_people() -> None:
    assert [size(count) for count in (0, 1, 999, 1001, 999_499, 999_500, 999_499_999, 999_500_000)] == [
        "0 kB", "1 kB", "1 kB", "2 kB", "1000 kB", "1 MB", "999 MB", "1.0 GB"
    ]  # fmt: skip


def test_the_document_holds_what_the_table_says(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    arguments = scene.arguments(tmp_path / "out", "--max-memory", "1GiB")[1:]
    told = decloud("plan", *arguments, "--json", "--quiet").document
    (one,) = told["scenes"]
    assert one["minutes"] == pytest.approx(one["cost"]["wall"] / 60)
    assert one["cost"]["read"] == 4 * 96 * 96 * 2
    assert one["cost"]["written"] == 4 * 96 * 96 * 2 + 2 * 96 * 96
    assert one["cost"]["memory"] <= told["total"]["max_memory"] == 2**30
    assert told["total"]["output"] == str(tmp_path / "out")
    assert told["total"]["needed"] == one["needed"]
    assert told["total"]["disk"] == one["cost"]["disk"]
    shown = decloud("plan", *arguments, "--quiet").out
    for word in (*COLUMNS, f"{one['needed']}/{one['tiles']}", "1 scene, 1 to do: ", "of 1.0 GiB of memory"):
        assert word in shown
    assert not (tmp_path / "out").exists()
    elsewhere = decloud("plan", *scene.files, "--checkpoint", "identity", "--mask", scene.mask, "--json", "--quiet")
    assert elsewhere.document["total"]["output"] == ""
