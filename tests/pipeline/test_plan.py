"""The plan tells beforehand what the run then does, and the budget keeps what it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pipeline.budget import block_edge, gpus, in_flight, needed, planned_memory, tiles_abreast
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


@pytest.fixture
def cores(monkeypatch):
    """Give this process so many cores, as far as it is told."""

    def given(count: int) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(count))

    return given


@pytest.mark.parametrize(("count", "bands", "dates"), [(8, 4, 2), (16, 13, 2), (64, 4, 4)])
def test_a_cpu_computes_as_many_tiles_at_a_time_as_fit(cores, count, bands, dates):
    cores(count)
    resources = Resources()
    abreast = tiles_abreast(full(bands), dates, 256, resources)
    assert 1 <= abreast < count
    edge = block_edge(full(bands), dates, 256, resources)
    least = needed(full(bands), dates, 256, 256, abreast + 1, in_flight(resources))
    assert planned_memory(full(bands), dates, 256, edge, resources) <= resources.max_memory < least
    assert tiles_abreast(full(bands), dates, 256, replace(resources, max_memory=2**40)) == count
    # Whoever says how many gets them, or is told what they need.
    asked = replace(resources, workers=count)
    assert tiles_abreast(full(bands), dates, 256, asked) == count
    with pytest.raises(InvalidSettings, match="is too small"):
        block_edge(full(bands), dates, 256, asked)


def test_where_not_even_one_tile_fits_the_scene_is_refused(cores):
    cores(8)
    tight = Resources(max_memory=2**30)
    assert tiles_abreast(full(13), 4, 256, tight) == 1
    with pytest.raises(InvalidSettings, match=r"give at least (\d+)MiB") as caught:
        block_edge(full(13), 4, 256, tight)
    least = int(str(caught.value).rpartition("at least ")[2].removesuffix("MiB"))
    assert block_edge(full(13), 4, 256, replace(tight, max_memory=least << 20)) == 256


def test_a_scene_of_which_no_tile_needs_the_network_is_not_refused_for_it():
    resources = Resources(workers=16)
    with pytest.raises(InvalidSettings, match="is too small"):
        block_edge(full(13), 2, 256, resources)
    edge = block_edge(full(13), 2, 256, resources, tiles=False)
    assert planned_memory(full(13), 2, 256, edge, resources, tiles=False) <= resources.max_memory


@pytest.mark.parametrize("bands", [4, 13])
def test_a_gpu_is_charged_for_its_batches_whatever_the_cores(cores, bands):
    edges = set()
    for count in (8, 16, 96):
        cores(count)
        resources = Resources(device="cuda")
        assert tiles_abreast(full(bands), 2, 256, resources) == count
        edges.add(block_edge(full(bands), 2, 256, resources))
    assert len(edges) == 1
    held = [
        planned_memory(full(bands), 2, 256, 256, Resources(max_memory=2**34, device=device))
        for device in ("cuda:0", "cuda:0,cuda:1")
    ]
    assert held[1] - held[0] >= 3 * 13 * 2**20
    assert planned_memory(full(bands), 2, 256, 256, replace(resources, max_memory=2**34), tiles=False) < held[0]


def test_devices_are_counted_and_torch_is_not_imported_where_there_can_be_none(monkeypatch):
    assert [gpus(Resources(device=name)) for name in ("cpu", "cuda", "cuda:1", "cuda:0,cuda:1")] == [0, 1, 1, 2]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert gpus(Resources()) == 1
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpus(Resources()) == 0
    code = (
        "import sys; from pipeline import budget; from pipeline.settings import Resources; budget._GPU_FILES = ();"
        " print(budget.gpus(Resources()), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "False"]


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
