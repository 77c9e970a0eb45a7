"""What a plan says of bytes, memory and time: counted against the files of the product, and against each other."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import torch

from pipeline import pace
from pipeline.budget import needed, planned_memory
from pipeline.cost import Work, cost_of
from pipeline.engine import decloud_scene
from pipeline.errors import InvalidScene, InvalidSettings
from pipeline.inference import Identity, TileInput
from pipeline.pace import NetworkPace, SourcePace, network_pace, slowness, source_pace
from pipeline.plan import plan_scene
from pipeline.scene import open_scene
from pipeline.settings import DecloudSettings, Resources
from srgan.checkpoint import save_checkpoint
from srgan.precision import lacks_bf16
from srgan.spec import ModelSpec
from tests.pipeline.fakes import ArrayScene
from tests.pipeline.test_engine import IDENTITY, scene
from tests.srgan.made import lively

SOURCE = SourcePace(pixel=1e-8, packed=0.6)
NETWORK = NetworkPace(load=1.0, tile=0.25, elsewhere=False)


def work(tiles: int = 10, **changes: object) -> Work:
    made = ArrayScene({"B02": (1, np.zeros((600, 600), np.uint16), 0), "B11": (2, np.zeros((300, 300), np.uint16), 0)})
    plain = Work(made, 2, tiles, 256, 0.5, 0.25, ((600, 600), (600, 600)), confidence=True)  # type: ignore[arg-type]
    return replace(plain, **changes)  # type: ignore[arg-type]


def cost(made: Work, network: NetworkPace | None = NETWORK, **changes: object):
    given = {"libraries": 0.0, "slowness": 1.0, "cores": 2, "abreast": 2, "shared": True} | changes
    return cost_of(made, network, SOURCE, {"mask": 1.0, "references": 2.0}, 2**30, **given)  # type: ignore[arg-type]


def test_bytes_are_those_of_the_pixels() -> None:
    bands = 600 * 600 + 300 * 300
    found = cost(work())
    # Of the two other dates, half the tiles are needed.
    assert found.read == 2 * (bands + bands * 2 // 2)
    assert found.written == 2 * bands + 3 * 600 * 600
    assert cost(work(overviews=False)).disk < found.disk
    assert cost(work(confidence=False)).written == found.written - 600 * 600
    assert found.memory == 2**30


def test_times_add_up_on_shared_cores_and_overlap_elsewhere() -> None:
    here, there = cost(work(400)), cost(work(400), shared=False)
    assert here.seconds == there.seconds
    others = sum(here.seconds[stage] for stage in ("read", "compose", "write"))
    assert here.wall - there.wall == pytest.approx(others, abs=0.01)
    # Where the network has little to do, the rest is what takes long, and two cores do it in half the time.
    idle, alone = cost(work(0), None), cost(work(0), None, cores=1)
    assert idle.seconds["network"] == idle.seconds["load"] == 0.0
    for stage in ("read", "write", "encode"):
        assert alone.seconds[stage] == pytest.approx(2 * idle.seconds[stage], abs=2e-3)
    assert idle.limit == "references"


def test_a_machine_that_is_slow_now_takes_longer_for_what_is_not_measured() -> None:
    quick, slow = cost(work(400)), cost(work(400), slowness=3.0)
    for stage in ("compose", "write", "encode"):
        assert slow.seconds[stage] == pytest.approx(3 * quick.seconds[stage], abs=2e-3)
    for stage in ("mask", "references", "load", "network", "read"):
        assert slow.seconds[stage] == quick.seconds[stage]
    assert slow.wall > quick.wall
    assert 0 < slowness(1) < 1000


def test_a_last_tile_alone_takes_as_long_as_a_full_round() -> None:
    assert cost(work(9)).seconds["network"] == cost(work(10)).seconds["network"] == 2.5
    assert cost(work(9), abreast=1).seconds["network"] == 2.25


def test_what_a_process_spends_once_is_part_of_the_first_scene() -> None:
    first, second = cost(work(), libraries=2.5), cost(work())
    assert first.wall - second.wall == pytest.approx(2.5)
    assert first.limit == "load"


def test_a_plan_counts_what_the_run_then_writes(tmp_path: Path) -> None:
    item = scene(tmp_path / "scene", 240)
    plan = plan_scene(item, tmp_path / "out", IDENTITY, resources=Resources(workers=2))
    product = decloud_scene(item, tmp_path / "out", IDENTITY)
    raw = 0
    for path in product.folder.glob("*.tif"):
        with rasterio.open(path) as file:
            raw += file.width * file.height * np.dtype(file.dtypes[0]).itemsize
    assert plan.cost.written == raw
    with open_scene(item) as opened:
        assert plan.cost.read == 2 * sum(band.shape[0] * band.shape[1] for band in opened.bands)
        pixels = opened.shape[0] * opened.shape[1]
    assert plan.cost.memory > 2**27 + pixels
    assert plan.cost.memory <= Resources().max_memory
    assert {"mask", "references", "read", "compose", "write", "encode"} <= set(plan.cost.seconds)
    assert plan.cost.wall > sum(plan.cost.seconds[stage] for stage in ("mask", "references", "encode"))
    assert plan.minutes == plan.cost.wall / 60


def test_a_scene_that_is_not_run_costs_nothing_and_no_network_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("measured for nothing")

    item = scene(tmp_path / "scene")
    monkeypatch.setattr("pipeline.plan.network_pace", refuse)
    refused = plan_scene(item, tmp_path / "out", IDENTITY.model_copy(update={"max_generated": 0.01}))
    assert (refused.state, refused.cost.read, refused.cost.wall) == ("invalid", 0, 0.0)
    assert refused.tiles > 0
    decloud_scene(item, tmp_path / "out", IDENTITY)
    done = plan_scene(item, tmp_path / "out", IDENTITY)
    assert (done.state, done.cost.wall, done.cost.limit) == ("done", 0.0, "")


@pytest.fixture
def model(tmp_path: Path) -> str:
    spec = ModelSpec(name="smallest", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1), margin=16, guidance="none")
    return str(save_checkpoint(tmp_path / "model.safetensors", lively(spec), {}, dtype=torch.float32))


def test_a_plan_in_bf16_is_refused_where_the_run_would_be(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srgan.precision.lacks_bf16", lambda device: "bf16")  # noqa: ARG005
    item, output = scene(tmp_path / "scene"), tmp_path / "out"
    settings = DecloudSettings(checkpoint=model, tile=64, references=0, max_generated=1, precision="bf16")
    on_cpu = Resources(workers=1, device="cpu")
    plan = plan_scene(item, output, settings, resources=on_cpu)
    with pytest.raises(InvalidSettings) as refused:
        decloud_scene(item, output, settings, resources=on_cpu)
    assert (plan.state, plan.reason) == ("invalid", str(refused.value))
    assert "--precision bf16: cpu has no bf16" in plan.reason
    elsewhere = plan_scene(item, output, settings, resources=Resources(workers=1, dask="local:1", device="cpu"))
    assert elsewhere.state == "invalid"
    assert "--precision bf16: not with --dask" in elsewhere.reason
    assert plan_scene(item, output, settings.model_copy(update={"precision": "auto"}), resources=on_cpu).state == "new"


def test_a_plan_measures_the_precision_that_is_asked_for(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def measured(*_: object, bf16: bool) -> NetworkPace:
        asked.append(bf16)
        return NETWORK

    monkeypatch.setattr("pipeline.plan.network_pace", measured)
    item = scene(tmp_path / "scene")
    for precision in ("bf16", "fp32", "auto"):
        settings = DecloudSettings(checkpoint=model, tile=64, references=0, max_generated=1, precision=precision)
        assert plan_scene(item, tmp_path / "out", settings, resources=Resources(workers=1)).state == "new"
    assert asked == [True, False, False]


class Slow(Identity):
    """A network that counts and sleeps."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.tiles, self.closed = seconds, 0, False

    def restore(self, tiles: Iterable[TileInput]) -> Iterator[npt.NDArray[np.float32]]:
        for tile in tiles:
            time.sleep(self.seconds)
            self.tiles += 1
            yield tile.cloudy

    def close(self) -> None:
        self.closed = True


def test_a_pace_is_measured_once_and_over_few_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Slow] = []

    def open_slow(checkpoint: str, bands: tuple[str, ...], device: str, workers: int) -> Slow:  # noqa: ARG001
        opened.append(Slow(0.05))
        return opened[-1]

    monkeypatch.setattr(pace, "open_restorer", open_slow)
    network_pace.cache_clear()
    try:
        first = network_pace("slow", ("B02",), 2, 64, "cpu", 3)
        assert first.tile >= 0.05
        assert not first.elsewhere
        assert network_pace("slow", ("B02",), 2, 64, "cpu", 3) is first
        assert len(opened) == 1
        assert opened[0].closed
        # A round to begin with, and at most as many as fill a second.
        assert 6 <= opened[0].tiles <= 15
        network_pace("slow", ("B02",), 1, 64, "cpu", 3)
        assert len(opened) == 2
    finally:
        network_pace.cache_clear()


def test_a_network_that_cannot_be_opened_is_not_remembered() -> None:
    with pytest.raises(InvalidSettings, match="no CUDA"):
        network_pace("identity", ("B02",), 0, 64, "cuda:7", 1)


def test_a_precision_that_the_machine_lacks_is_told() -> None:
    if not lacks_bf16(torch.device("cpu")):
        pytest.skip("this CPU has bf16")
    with pytest.raises(InvalidSettings, match="--precision bf16: cpu has no"):
        network_pace("default", ("B02", "B03", "B04", "B08"), 0, 256, "cpu", 1, bf16=True)


def test_a_sample_of_the_files_tells_their_size(tmp_path: Path) -> None:
    with open_scene(scene(tmp_path / "scene", 240)) as opened:
        found = source_pace(opened)
    assert found.pixel > 0
    # Uniform noise of 600 values in 16 bits cannot shrink below its entropy, and does not grow.
    assert np.log2(600) / 16 * 0.9 < found.packed < 1.1


def test_pixels_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    item = scene(tmp_path / "scene", 240)
    path = Path(item.bands["B02"].href)
    with open_scene(item, ["B02"]) as opened:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InvalidScene, match=r"B02\.tif"):
            source_pace(opened)


def test_memory_of_processes_beside_this_one_counts() -> None:
    made = work().scene
    here = planned_memory(made, 2, 256, 256, Resources(workers=2))
    beside = planned_memory(made, 2, 256, 256, Resources(dask="local:2", max_memory=4 * 2**30))
    away = planned_memory(made, 2, 256, 256, Resources(dask="tcp://10.0.0.7:8786"))
    assert needed(made, 2, 256, 256, 2) <= here <= Resources().max_memory
    assert beside > here > away
