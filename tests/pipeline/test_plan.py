"""The plan tells beforehand what the run then does, and the budget keeps what it promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.budget import block_edge, needed
from pipeline.engine import decloud_scene
from pipeline.errors import InvalidSettings
from pipeline.plan import plan_scene
from pipeline.scene import open_scene
from pipeline.settings import DecloudSettings, Resources, parse_bytes

from .fakes import ArrayScene
from .made import WHEN, made_item
from .test_engine import IDENTITY, scene


def test_new_done_stale_and_invalid(tmp_path):
    item, output = scene(tmp_path / "scene"), tmp_path / "out"
    plan = plan_scene(item, output, IDENTITY)
    assert (plan.state, plan.scene) == ("new", "scene")
    product = decloud_scene(item, output, IDENTITY)
    settings = product.item["properties"]["declouder:settings"]
    assert (plan.tiles, plan.needed) == (settings["tiles"], settings["tiles_restored"])
    shares = product.provenance
    assert plan.unsupported == pytest.approx(plan.cloudy)
    assert shares["generated"] + shares["blended"] >= plan.cloudy * 0.99
    assert plan_scene(item, output, IDENTITY).state == "done"
    assert plan_scene(item, output, IDENTITY.model_copy(update={"grow": 0.0})).state == "stale"
    refused = plan_scene(item, output, IDENTITY.model_copy(update={"max_generated": 0.01}))
    assert refused.state == "invalid"
    assert "--max-generated" in refused.reason
    gone = replace(item, bands={"B02": replace(item.bands["B02"], href=str(tmp_path / "gone.tif"))})
    assert "gone.tif" in plan_scene(gone, output, IDENTITY).reason


def test_references_are_named(tmp_path):
    cloudy = scene(tmp_path / "scene")
    other = made_item(
        tmp_path / "other",
        {name: np.full_like(_read(cloudy, name), 700) for name in cloudy.bands},
        scl=np.full((60, 60), 4, np.uint8),
        when=WHEN.replace(day=15),
    )
    plan = plan_scene(
        cloudy, tmp_path / "out", IDENTITY.model_copy(update={"references": 2}), candidates=[cloudy, other]
    )
    assert plan.references == ("other",)
    assert plan.unsupported < plan.cloudy


def _read(item, name):
    with open_scene(item) as opened:
        rows, cols = opened.band(name).shape
        return opened.read(name, slice(0, rows), slice(0, cols))


def full(bands: int) -> ArrayScene:
    # A view of one row: its shape counts, its pixels are never read.
    pixels = np.broadcast_to(np.zeros((1, 10980), np.uint16), (10980, 10980))
    return ArrayScene({f"B{i:02}": (1, pixels, 0) for i in range(2, 2 + bands)})


def test_blocks_fit_the_budget_and_grow_with_it():
    edges = []
    for text in ("1.5GiB", "2GiB", "4GiB"):
        resources = Resources(max_memory=parse_bytes(text), workers=2)
        edge = block_edge(full(4), 2, 256, resources)
        assert needed(full(4), 2, 256, edge, 2) <= resources.max_memory
        edges.append(edge)
    assert edges == sorted(edges)
    assert edges[0] < edges[-1]


def test_too_little_memory_says_how_much_is_needed():
    with pytest.raises(InvalidSettings, match=r"--max-memory 1024MiB is too small .*give at least \d+MiB"):
        block_edge(full(13), 4, 256, Resources(max_memory=2**30, workers=8))
    with pytest.raises(InvalidSettings, match="the libraries alone need"):
        Resources(max_memory=2**20)


@pytest.mark.parametrize("text", ["", "much", "2 TiBs", "-1GiB", "1.5.2GiB"])
def test_sizes_that_are_none(text):
    with pytest.raises(InvalidSettings, match="is no size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    "change", [{"tile": 100}, {"references": -1}, {"format": "png"}, {"max_generated": 2}, {"gorw": 3}]
)
def test_settings_refuse_what_they_do_not_know(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        DecloudSettings(**change)
