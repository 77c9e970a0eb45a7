"""Blocks on a cluster: the same products as in one process, whatever happens to workers, scheduler and client."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import psutil
import pytest

from pipeline import cluster as cluster_module
from pipeline.budget import PROCESS, block_edge, exchange, needed
from pipeline.cluster import connected
from pipeline.cluster_restorer import ClusterRestorer
from pipeline.cluster_worker import CheckpointLacking, Software, WorkerDiffers, restore_part, software
from pipeline.engine import decloud_scene
from pipeline.errors import ClusterFailed, InvalidSettings
from pipeline.inference import TileInput
from pipeline.product import Product
from pipeline.runner import run_scenes, several_scenes
from pipeline.settings import Resources

from .clusters import PATIENCE, alive, mirrored, processes, small_checkpoint, waited
from .test_engine import IDENTITY, pixels_of, scene
from .test_plan import full

SIZE = 240
BLOCK = 60
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return small_checkpoint(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def settings(checkpoint):
    return IDENTITY.model_copy(update={"checkpoint": str(checkpoint), "tile": 64, "overlap": 32, "references": 1})


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    first = scene(folder / "first", SIZE)
    return [first, mirrored(first, folder / "second", 15)]


@pytest.fixture(scope="module")
def alone(items, settings, tmp_path_factory) -> Product:
    """The first scene, in this process."""
    product = decloud(items, tmp_path_factory.mktemp("alone"), settings)
    assert len(product.item["properties"]["declouder:references"]) == 1
    return product


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Gives a scheduler and two workers, the second of which says that it has a GPU; new ones where fewer than wanted are left."""
    with contextlib.ExitStack() as stack:
        begun = []

        def living(least=2):
            if not begun or begun[-1].living() < least:
                started = stack.enter_context(processes(tmp_path_factory.mktemp("cluster"), workers=1))
                started.add_worker("gpu", "--resources", "GPU=1")
                with connected(Resources(dask=started.address)) as session:
                    waited(lambda: len(session.cluster().workers()) == 2, "two workers")
                begun.append(started)
            return begun[-1]

        yield living


@pytest.fixture
def pair(pairs):
    return pairs()


def decloud(items, output, settings, dask="", progress=lambda *_: None, **resources) -> Product:
    resources = Resources(block=BLOCK, dask=dask, device="cpu", **resources)
    return decloud_scene(items[0], output, settings, candidates=items, resources=resources, progress=progress)


def same(product: Product, other: Product) -> bool:
    """Every raster file byte for byte, and the checksums that were published."""
    sums = [{key: asset.get("file:checksum") for key, asset in one.item["assets"].items()} for one in (product, other)]
    assert sum(value is not None for value in sums[0].values()) >= 5
    return pixels_of(product.folder) == pixels_of(other.folder) and {**sums[0], "thumbnail": 0} == {
        **sums[1],
        "thumbnail": 0,
    }


def at_tile(number: int, act):
    """A listener that acts once, when so many tiles have come back."""
    done = threading.Event()

    def told(stage: str, count: int, _: int) -> None:
        if stage == "restore" and count >= number and not done.is_set():
            done.set()
            act()

    return told, done


def child_processes() -> set[int]:
    """Workers and what belongs to them; not Python's tracker of shared memory, which lives as long as this process."""
    children = psutil.Process().children(recursive=True)
    return {child.pid for child in children if not any("resource_tracker" in word for word in child.cmdline())}


def test_two_processes_give_the_products_of_one_and_a_killed_one_costs_its_parts_only(items, settings, alone, tmp_path):
    before = child_processes()
    told = []
    resources = Resources(block=BLOCK, dask="local:2", device="cpu")
    with several_scenes(resources, told.append):
        assert not told, "processes start when a scene needs them"
        first = decloud_scene(items[0], tmp_path, settings, candidates=items, resources=resources)
        workers = child_processes() - before
        report = run_scenes(items, tmp_path, settings, candidates=items, resources=resources)
        assert [outcome.state for outcome in report.outcomes] == ["unchanged", "done"]
        assert child_processes() - before == workers, "the scenes of a run share one cluster"
        with connected(resources) as session:
            client = session.cluster().client
            threads = client.run(lambda: (os.environ["OMP_NUM_THREADS"], sys.modules["torch"].get_num_threads()))
            assert list(threads.values()) == [("1", 1)] * 2
            assert session.cluster().threads("cpu") == 2
            pids = client.run(os.getpid)
        listener, killed = at_tile(2, lambda: os.kill(next(iter(pids.values())), signal.SIGKILL))
        third = decloud(items, tmp_path / "killed", settings, "local:2", listener)
        workers |= child_processes() - before
    assert same(first, alone)
    assert first.provenance["restored"] > 0
    assert killed.is_set()
    assert same(third, alone)
    assert len(told) == 1
    assert told[0].startswith("dashboard of --dask local:2: http://127.0.0.1:")
    waited(lambda: not any(alive(pid) for pid in workers), "the end of the processes")


def test_real_workers_get_the_weights_once_each(
    items, settings, alone, pair, tmp_path, checkpoint, monkeypatch, caplog
):
    # The same file under a path that the workers, which run in folders of their own, do not have.
    monkeypatch.chdir(checkpoint.parent)
    there = settings.model_copy(update={"checkpoint": f"/proc/self/cwd/{checkpoint.name}"})
    with caplog.at_level(logging.INFO, "pipeline.cluster"), several_scenes(Resources(dask=pair.address, device="cpu")):
        first = decloud(items, tmp_path / "a", there, pair.address)
        sent = [record.args[1] for record in caplog.records if record.msg.startswith("checkpoint")]
        second = decloud(items, tmp_path / "b", there, pair.address)
    assert same(first, alone)
    assert same(second, alone)
    assert 1 <= len(sent) == len(set(sent)) <= 2
    assert len([record for record in caplog.records if record.msg.startswith("checkpoint")]) == len(sent)
    kept = list(pair.folder.glob("*/**/checkpoints/*/shaken.safetensors"))
    assert len(kept) == len(sent)


def test_a_worker_that_is_started_anew_at_its_address_gets_the_weights_again(tmp_path, checkpoint, monkeypatch, caplog):
    monkeypatch.chdir(checkpoint.parent)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    with (
        caplog.at_level(logging.INFO, "pipeline.cluster"),
        processes(tmp_path / "cluster") as started,
        connected(Resources(dask=started.address, device="cpu")) as session,
    ):
        cluster = session.cluster()
        restorer = ClusterRestorer(cluster, f"/proc/self/cwd/{checkpoint.name}", ("B02",), 1 << 20)
        given, answers = list(tiles(8)), []
        for name in ("first", "anew"):
            started.add_worker(name, "--worker-port", port)
            waited(lambda name=name: name in [worker["name"] for worker in cluster.workers().values()], name)
            answers.append(np.stack(list(restorer.restore(given))))
            assert set(cluster.workers()) == {f"tcp://127.0.0.1:{port}"}
            started.kill(name)
            waited(lambda: not cluster.workers(), "the scheduler's notice")
    np.testing.assert_array_equal(*answers)
    sent = [record.args[1] for record in caplog.records if record.msg == "checkpoint %s sent to %s"]
    assert sent == [f"tcp://127.0.0.1:{port}"] * 2, "once to each of the two processes, however many parts asked"


def test_processes_that_cannot_be_started_are_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        dask.config.set({"temporary-directory": str(tmp_path / "file" / "x")}),
        pytest.raises(
            ClusterFailed, match=r"--dask local:1: the processes could not be started \(.*; ask for fewer"
        ) as caught,
        connected(Resources(dask="local:1", device="cpu")) as session,
    ):
        session.cluster()
    assert "\n" not in str(caught.value)
    assert "file" in str(caught.value)


def test_a_shared_path_counts_only_with_the_right_weights(pair, checkpoint):
    with connected(Resources(dask=pair.address, device="cpu")) as session:
        cluster = session.cluster()
        recipe = cluster.recipe(str(checkpoint), ("B02", "B03"))
        other = replace(recipe, digest="0" * 64)
        assert cluster.client.submit(restore_part, recipe, [], pure=False).result() == []
        with pytest.raises(CheckpointLacking):
            cluster.client.submit(restore_part, other, [], pure=False).result()


def test_tasks_for_cuda_go_to_workers_that_offer_a_gpu(pair):
    with connected(Resources(dask=pair.address)) as session:
        cluster = session.cluster()
        with connected(Resources(dask=pair.address, device="cuda")) as wanting:
            wanted = wanting.cluster()
            with pytest.raises(InvalidSettings, match=r"--device cuda: no worker of --dask tcp://\S+ offers a GPU"):
                wanted.recipe("default", ("B02",))
        restorer = ClusterRestorer(cluster, "identity", ("B02",), 1 << 20)
        restorer._recipe = replace(restorer._recipe, device="cuda")
        given = list(tiles(12))
        seen = [np.array_equal(a, b.cloudy) for a, b in zip(restorer.restore(given), given, strict=True)]
        assert seen == [True] * 12

        # Sent by value: the workers do not know the tests.
        def used_cuda() -> bool:
            from pipeline import cluster_worker

            return any(recipe.device == "cuda" for recipe in cluster_worker._restorers)

        used = cluster.client.run(used_cuda)
        names = {address: worker["name"] for address, worker in cluster.workers().items()}
        assert {names[address]: count for address, count in used.items()} == {"w0": False, "gpu": True}


def tiles(count: int):
    rng = np.random.default_rng(3)
    for _ in range(count):
        ones = np.ones((64, 64), np.bool_)
        yield TileInput(
            rng.random((1, 64, 64), np.float32), ones.astype(np.float32), ones, np.zeros((0, 1, 64, 64), np.float32), ones[None][:0], ()
        )  # fmt: skip


def test_what_is_on_its_way_is_bounded(pair):
    with connected(Resources(dask=pair.address, device="cpu")) as session:
        tight = ClusterRestorer(session.cluster(), "identity", ("B02",), 1)
        roomy = ClusterRestorer(session.cluster(), "identity", ("B02",), 1 << 30)
        for restorer, most in ((tight, 2), (roomy, 3)):
            flying = [len(restorer._flying) for _ in restorer.restore(tiles(40))]
            assert max(flying) <= most
            assert len(flying) == 40
            assert not restorer._flying
            begun = restorer.restore(tiles(40))
            next(begun)
            assert restorer._flying
            begun.close()
            assert not restorer._flying, "a block that is given up calls its parts back"


def test_tiles_that_kill_their_workers_are_given_up(items, settings, alone, tmp_path):
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        connected(Resources(dask="local:1", device="cpu")) as session,
    ):
        (pid,) = session.cluster().client.run(os.getpid).values()
        told, _ = at_tile(1, lambda: os.kill(pid, signal.SIGKILL))
        with pytest.raises(ClusterFailed, match=r"--dask local:1: 1 workers? died of the same tiles") as caught:
            decloud(items, tmp_path, settings, "local:1", told)
    assert caught.value.transient
    assert "\n" not in str(caught.value)
    assert list(tmp_path.glob(".staging/*/blocks/*.npz")) or list(tmp_path.glob(".staging/*/tiles/*.npz"))
    assert same(decloud(items, tmp_path, settings), alone)


def test_a_scheduler_that_is_not_there_is_told_quickly(monkeypatch):
    monkeypatch.setattr(cluster_module, "TIMEOUT", 2.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
    start = time.monotonic()
    with (
        pytest.raises(ClusterFailed, match=f"--dask {address}: no scheduler answers within 2 s; start one") as caught,
        several_scenes(Resources(dask=address)),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 60


def test_a_cluster_without_workers_is_given_up_in_the_end(items, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "PATIENCE", 1.0)
    with (
        processes(tmp_path / "cluster") as started,
        pytest.raises(ClusterFailed, match="no worker for 1 s; finished blocks are kept"),
    ):
        decloud(items, tmp_path / "out", settings, started.address)


def test_workers_that_would_compute_other_bits_are_refused(pair, tmp_path):
    assert str(software()).startswith("declouder ")
    with connected(Resources(dask=pair.address, device="cpu")) as session:
        cluster = session.cluster()
        recipe = replace(cluster.recipe("identity", ("B02",)), software=Software("0.0.9 (12345678)", "2.0", "2.0"))
        with pytest.raises(WorkerDiffers, match=r"worker tcp://\S+ runs declouder .*; here it is declouder 0.0.9"):
            cluster.client.submit(restore_part, recipe, [], pure=False).result()
    code = tmp_path / "code" / "pipeline"
    code.mkdir(parents=True)
    (code / "__init__.py").write_text("raise ImportError('another package of this name')\n")
    with processes(tmp_path / "cluster") as started:
        started.add_worker("foreign", PYTHONPATH=str(code.parent))
        waited(lambda: "Registered to" in (started.folder / "foreign" / "worker.log").read_text(), "the worker")
        with (
            pytest.raises(WorkerDiffers, match=r"worker tcp://\S+ has no declouder, .* the same on both") as caught,
            connected(Resources(dask=started.address, device="cpu")),
        ):
            pass
        assert "\n" not in str(caught.value)


def test_a_killed_worker_costs_its_parts_only(items, settings, alone, pair, tmp_path):
    with connected(Resources(dask=pair.address, device="cpu")) as session:
        told, killed = at_tile(2, lambda: pair.kill("w0"))
        product = decloud(items, tmp_path / "out", settings, pair.address, told)
        assert len(session.cluster().workers()) == 1
    assert killed.is_set()
    assert same(product, alone)


def test_a_scheduler_that_dies_fails_the_scenes_and_keeps_what_is_done(
    items, settings, alone, pairs, tmp_path, monkeypatch
):
    monkeypatch.setattr(cluster_module, "TIMEOUT", 3.0)
    started = pairs(least=1)
    resources = Resources(block=BLOCK, dask=started.address, device="cpu")
    told, _ = at_tile(10, lambda: started.kill("scheduler"))
    report = run_scenes(items, tmp_path / "out", settings, candidates=items, resources=resources, progress=told)
    assert [outcome.state for outcome in report.outcomes] == ["failed", "failed"], report.outcomes[0].reason
    assert "the scheduler is gone; finished blocks are kept" in report.outcomes[0].reason
    assert "no scheduler answers within 3 s" in report.outcomes[1].reason
    assert list((tmp_path / "out").glob(".staging/*/*/*.npz"))
    assert same(decloud(items, tmp_path / "out", settings), alone)


STOPPED = """
import signal, sys, time
from pathlib import Path
from flows import interrupts
from pipeline.engine import decloud_scene
from pipeline.runner import several_scenes
from pipeline.settings import DecloudSettings, Resources
from tests.pipeline.test_engine import scene

def slow(stage, done, total):
    if stage == "restore" and done:
        time.sleep(0.3)

def remembered(*_):
    # A destructor may swallow the exception: then the next stage or tile raises it again, as for the command line.
    interrupts.ask()
    raise KeyboardInterrupt

if __name__ == "__main__":
    signal.signal(signal.SIGINT, remembered)
    root, settings = Path(sys.argv[1]), DecloudSettings.model_validate_json(sys.argv[2])
    item = scene(root / "scene", 240)
    resources = Resources(block=60, dask=sys.argv[3], device="cpu")
    with several_scenes(resources):
        decloud_scene(item, root / "out", settings, resources=resources, progress=interrupts.checked(slow))
"""


@pytest.fixture(scope="module")
def straight(settings, tmp_path_factory) -> Product:
    """The scene of a client that is stopped, without a stop; in this process, without a reference."""
    folder = tmp_path_factory.mktemp("straight")
    settings = settings.model_copy(update={"references": 0})
    item = scene(folder / "scene", SIZE)
    return decloud_scene(item, folder / "out", settings, resources=Resources(block=BLOCK))


@pytest.mark.parametrize(("how", "count"), [(signal.SIGINT, 2), (signal.SIGKILL, 1)])
def test_a_stopped_client_leaves_no_process_and_a_resumable_state(settings, straight, tmp_path, how, count):
    settings = settings.model_copy(update={"references": 0})
    command = [sys.executable, "-c", STOPPED, str(tmp_path), settings.model_dump_json(), f"local:{count}"]
    root = Path(__file__).resolve().parents[2]
    staging = tmp_path / "out" / ".staging"
    with subprocess.Popen(command, cwd=root, start_new_session=True, stderr=subprocess.PIPE) as process:
        waited(lambda: process.poll() is not None or list(staging.glob("*/blocks/*.npz")), "a staged block")
        assert process.poll() is None, process.stderr.read()
        workers = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
        assert len(workers) >= count
        # Ctrl-C on a terminal reaches the whole process group; a kill the client alone.
        (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode in (-how, 128 + how, 1)
    if how == signal.SIGINT:
        assert said.decode().rstrip().endswith("KeyboardInterrupt")
    waited(lambda: not any(alive(pid) for pid in workers), "the end of the workers")
    assert not list((tmp_path / "out").glob("scene_*"))
    staged = {path.name: path.stat().st_mtime_ns for path in staging.glob("*/blocks/*.npz")}
    assert 1 <= len(staged) < 16
    item = scene(tmp_path / "scene", SIZE)
    resumed = decloud_scene(item, tmp_path / "out", settings, resources=Resources(block=BLOCK))
    assert pixels_of(resumed.folder) == pixels_of(straight.folder)


def test_the_memory_is_divided_over_all_processes():
    here = Resources(max_memory=6 << 30, workers=1)
    for count in (1, 2, 4):
        resources = replace(here, dask=f"local:{count}")
        edge = block_edge(full(4), 2, 256, resources)
        total = needed(full(4), 2, 256, edge, count) + count * PROCESS + exchange(resources)
        assert total <= here.max_memory
    with pytest.raises(
        InvalidSettings, match=r"--max-memory 2048MiB is too small .* and 4 processes .* at least (\d+)MiB"
    ) as caught:
        block_edge(full(4), 2, 256, Resources(max_memory=2 << 30, dask="local:4"))
    least = int(str(caught.value).rpartition("at least ")[2].removesuffix("MiB"))
    assert block_edge(full(4), 2, 256, Resources(max_memory=least << 20, dask="local:4")) == 256
    # A cluster elsewhere has memory of its own: more is left for blocks here than with the network in this process.
    there = Resources(max_memory=2 << 30, dask="tcp://cluster:8786", workers=8)
    assert block_edge(full(4), 2, 256, there) >= block_edge(full(4), 2, 256, replace(there, dask="", workers=2))


@pytest.mark.parametrize(
    "text", ["local", "local:0", "local:-1", "10.0.0.7:8786", "http://x:1", "tcp://host", "tcp://a:b"]
)
def test_what_names_no_cluster(text):
    with pytest.raises(InvalidSettings, match=r"--dask .*: use local:N for N processes on this machine"):
        Resources(dask=text)
