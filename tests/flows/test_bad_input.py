"""Every kind of bad input that reaches the command line: one clear line, status 2 or an invalid scene, nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.publish import published_items
from pipeline.simulation.simulate import Simulated
from tests.flows.conftest import Decloud, Ended, MadeScene, area_run, make_scene


def nothing_published(output: Path) -> None:
    """No product, no catalogue, no staged file: at most the journal, remembered checksums, and the page that says why."""
    if output.exists():
        assert published_items(output) == []
        left = {path.relative_to(output).parts[0] for path in output.rglob("*") if path.is_file()}
        assert left <= {"runs", ".cache", "report.html"}


def invalid(ended: Ended) -> str:
    """The reason of the one scene of the run, which is invalid."""
    assert ended.status == 1
    (scene,) = ended.document["scenes"]
    assert scene["state"] == "invalid"
    assert scene["reason"]
    assert "\n" not in scene["reason"]
    return str(scene["reason"])


@pytest.mark.parametrize("driver", ["GTiff", "JP2OpenJPEG"])
def test_truncated_file(driver: str, tmp_path: Path, decloud: Decloud) -> None:
    scene = make_scene(tmp_path / "scene", driver=driver)
    cut = Path(scene.files[1])
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    reason = invalid(decloud(*scene.arguments(tmp_path / "out", "--json", "--quiet")))
    assert cut.name in reason
    assert "truncated" in reason
    nothing_published(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": np.float32}, "float32"),
        ({"fill": 0}, "nodata"),
        ({"cloud": slice(0, 96)}, "100% of it would be made up"),
    ],
)
def test_scenes_that_cannot_be_restored_are_invalid(
    options: dict[str, Any], said: str, tmp_path: Path, decloud: Decloud
) -> None:
    scene = make_scene(tmp_path / "scene", **options)
    assert said in invalid(decloud(*scene.arguments(tmp_path / "out", "--json", "--quiet")))
    nothing_published(tmp_path / "out")


def test_files_that_are_no_scene_are_wrong_input(tmp_path: Path, decloud: Decloud) -> None:
    output = tmp_path / "out"
    (tmp_path / "folder").mkdir()
    no_crs = make_scene(tmp_path / "no_crs", crs=None)
    one, other = make_scene(tmp_path / "one"), make_scene(tmp_path / "other", origin=(600000.0, 5100000.0))
    cases: dict[tuple[object, ...], str] = {
        (tmp_path / "gone_B02.tif",): "gone_B02.tif: no such file",
        (tmp_path / "folder",): "is no SAFE folder",
        no_crs.files: "has no CRS",
        (one.files[0], other.files[1]): "bands of different scenes",
        (*one.files, "--bands", "B02,B11"): "no band B11",
    }
    for arguments, said in cases.items():
        ended = decloud("run", *arguments, "--output", output)
        assert ended.status == 2, arguments
        assert said in ended.error
        assert not output.exists()


def test_crs_that_no_map_knows(tmp_path: Path, decloud: Decloud) -> None:
    scene = make_scene(tmp_path / "scene", crs='LOCAL_CS["site grid",UNIT["metre",1]]')
    ended = decloud(*scene.arguments(tmp_path / "out", "--quiet"))
    assert ended.status in (1, 2)
    assert "CRS" in ended.err + ended.out
    nothing_published(tmp_path / "out")


def test_one_pixel_and_a_scene_smaller_than_a_tile_are_fine(tmp_path: Path, decloud: Decloud) -> None:
    for size, cloud in ((1, slice(0, 0)), (20, slice(5, 9))):
        scene = make_scene(tmp_path / f"scene{size}", size=size, cloud=cloud)
        ended = decloud(*scene.arguments(tmp_path / "out", "--quiet", "--json", "--grow", "20", "--feather", "20"))
        assert ended.status == 0, ended.err
        assert ended.document["scenes"][0]["state"] == "done"


@pytest.mark.parametrize(
    ("text", "said"), [("<html>", "is not JSON"), ("[1, 2]", "no STAC object"), ('{"type": "Topology"}', "no STAC")]
)
def test_catalogue_that_is_none(text: str, said: str, tmp_path: Path, decloud: Decloud) -> None:
    (tmp_path / "catalog.json").write_text(text)
    where = ("--catalog", tmp_path / "catalog.json", "--aoi", "1,2,3,4", "--dates", "2023-08-01/2023-08-31")
    ended = decloud("run", *where, "--output", tmp_path / "out")
    assert ended.status == 2
    assert said in ended.error


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--dates": "2023-08-31/2023-08-01"}, "are crossed"),
        ({"--dates": "August"}, "is no date"),
        ({"--aoi": "1,2,3"}, "four numbers"),
        ({"--aoi": "15,45,14,44"}, "no area"),
        ({"--aoi": "nowhere.gpkg"}, "neither a box"),
        ({"--catalog": "nowhere/catalog.json"}, "no such catalogue"),
    ],
)
def test_query_that_makes_no_sense(
    change: dict[str, str], said: str, area: Simulated, tmp_path: Path, decloud: Decloud
) -> None:
    options = {"--catalog": str(area.catalogue), "--aoi": area.aoi, "--dates": area.dates} | change
    ended = decloud("run", *(part for pair in options.items() for part in pair), "--output", tmp_path / "out")
    assert ended.status == 2
    assert said in ended.error
    assert not (tmp_path / "out").exists()


def command(arguments: tuple[object, ...]) -> list[str]:
    return [sys.executable, "-m", "flows", *(str(argument) for argument in arguments)]


def test_full_disk_fails_the_scene_and_leaves_nothing_half_written(tmp_path: Path, decloud: Decloud) -> None:
    # A limit on the size of a file is what a test may set everywhere; the kernel then refuses as on a full disk.
    scene = make_scene(tmp_path / "scene", size=240)
    output = tmp_path / "out"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    arguments = command(scene.arguments(output, "--json", "--quiet"))
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert ended.returncode == 1, ended.stderr
    (entry,) = json.loads(ended.stdout)["scenes"]
    assert entry["state"] == "failed"
    assert "Traceback" not in ended.stderr
    assert published_items(output) == []
    # With room again, the same command finishes the job, and the failed one can be asked for by its journal alone.
    again = decloud("status", output, "--retry-failed", "--quiet", "--json")
    assert again.status == 0, again.err
    assert len(published_items(output)) == 1


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_run_that_is_stopped_ends_in_order_and_the_next_one_goes_on(
    stop: signal.Signals, area: Simulated, tmp_path: Path, decloud: Decloud
) -> None:
    output = tmp_path / "out"
    arguments = command(tuple(part for part in area_run(area, output) if part != "--quiet"))
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if "restore" in line:
            break
    process.send_signal(stop)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopping" in err
    assert f"interrupted: finished blocks are kept in {output}" in err
    assert "Traceback" not in err + "".join(seen)
    assert out == ""

    told = decloud("status", output, "--json")
    assert told.status == 1
    states = {entry["scene"]: entry["state"] for entry in told.document["scenes"]}
    assert "interrupted" in states.values()
    assert set(states) == set(area.items)
    ended = decloud(*area_run(area, output), "--json")
    assert ended.status == 0
    assert {entry["state"] for entry in ended.document["scenes"]} <= {"done", "unchanged"}


def test_second_ctrl_c_leaves_at_once(area: Simulated, tmp_path: Path) -> None:
    arguments = command(tuple(part for part in area_run(area, tmp_path / "out") if part != "--quiet"))
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "restore" in line:
                break
        process.send_signal(signal.SIGINT)
        for line in process.stderr:
            if "stopping" in line:
                break
        start = time.monotonic()
        if process.poll() is None:
            os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert time.monotonic() - start < 5


def test_the_traceback_of_a_defect_is_for_debug_only(scene: MadeScene, tmp_path: Path) -> None:
    # A process of its own: here pytest listens to the log, and logging's last resort stays silent.
    code = """
import sys, pipeline.runner
def broken(*_, **__): raise ZeroDivisionError("a slip of ours")
pipeline.runner.decloud_scene = broken
from flows.cli import main
sys.exit(main(sys.argv[1:]))
"""
    arguments = [str(part) for part in scene.arguments(tmp_path / "out", "--quiet", "--json")]
    for debug in (False, True):
        more = ["--debug"] if debug else []
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments, *more], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 1
        assert "a slip of ours" in json.loads(ended.stdout)["scenes"][0]["reason"]
        assert ("Traceback" in ended.stderr) == debug
        if not debug:
            assert ended.stderr == ""


def test_a_command_without_arguments_is_its_help(decloud: Decloud) -> None:
    ended = decloud("run")
    assert ended.status == 2
    assert ended.err.startswith("Usage: decloud run")
    assert "\n  --output DIR" in ended.err
