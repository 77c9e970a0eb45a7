"""`decloud report`, and the page at the end of `run` and `backfill`."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cli import main
from flows.record import write_record
from flows.request import SceneRequest
from pipeline import runpage
from pipeline.durable import turn
from pipeline.journal import Journal
from pipeline.publish import published_items
from pipeline.settings import DecloudSettings
from pipeline.simulation.simulate import Simulated
from tests.flows.conftest import Decloud, MadeScene, area_run
from tests.pipeline.conftest import SECRET, TestBucket, bucket, s3_endpoint, s3_environment  # noqa: F401 - fixtures


@pytest.fixture(scope="module")
def backfilled(area: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("backfilled") / "out"
    assert main([str(part) for part in area_run(area, output, "--step", "5d", command="backfill")]) == 0
    return output


def test_a_backfill_ends_with_the_page_of_all_its_dates(backfilled: Path, area: Simulated) -> None:
    page = (backfilled / "report.html").read_text()
    assert f"{len(area.items)} scenes from 2023-07-08 to 2023-07-18: 3 done." in page
    assert "Mean NDVI through the gaps" in page
    assert all(name in page for name in published_items(backfilled))
    assert 'class="area"' in page  # what was asked for is on the map


def test_the_command_makes_the_page_again(backfilled: Path, tmp_path: Path, decloud: Decloud) -> None:
    output = shutil.copytree(backfilled, tmp_path / "out")
    (output / "report.html").unlink()
    ended = decloud("report", output)
    assert (ended.status, ended.out, ended.err) == (0, f"{output / 'report.html'}\n", "")
    assert "3 scenes" in (output / "report.html").read_text()
    told = decloud("report", output, "--json").document
    assert told == {"page": str(output / "report.html"), "bytes": (output / "report.html").stat().st_size}
    small = decloud("report", output, "--pictures", "0", "--json").document
    assert small["bytes"] < told["bytes"] / 2
    assert decloud("report", output, "--quiet").out == ""


def test_a_run_ends_with_its_page_and_says_where(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    ended = decloud(*scene.arguments(tmp_path / "out"))
    assert ended.status == 0
    assert f"report: {tmp_path / 'out' / 'report.html'}" in ended.err
    page = (tmp_path / "out" / "report.html").read_text()
    assert "1 scene of 2023-08-10: 1 done." in page
    quiet = decloud(*scene.arguments(tmp_path / "quiet", "--quiet", "--json"))
    assert (quiet.status, quiet.err) == (0, "")
    assert (tmp_path / "quiet" / "report.html").is_file()
    json.loads(quiet.out)


def test_a_run_that_fails_says_why_on_its_page(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    Path(scene.files[2]).write_bytes(Path(scene.files[2]).read_bytes()[:2000])
    ended = decloud(*scene.arguments(tmp_path / "out", "--quiet"))
    assert ended.status == 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert "1 scene of 2023-08-10: 1 invalid." in page
    assert "truncated" in page


def test_a_page_that_cannot_be_written_fails_no_run(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    ended = decloud(*scene.arguments(tmp_path / "out", "--quiet"))
    assert ended.status == 0
    assert len(published_items(tmp_path / "out")) == 1
    assert "warning: no report.html: " in ended.err
    assert "Traceback" not in ended.err


def test_not_even_what_nobody_foresaw_fails_a_run(
    scene: MadeScene, tmp_path: Path, decloud: Decloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(runpage, "run_page", broken)
    ended = decloud(*scene.arguments(tmp_path / "out", "--quiet"))
    assert ended.status == 0
    assert "warning: no report.html: ZeroDivisionError" in ended.err
    # Asked for by itself, it is an error.
    assert decloud("report", tmp_path / "out").status == 1


def test_a_folder_with_nothing_to_report(tmp_path: Path, decloud: Decloud) -> None:
    for folder, reason in ((tmp_path / "none", "no such folder"), (tmp_path, "holds no run and no product")):
        ended = decloud("report", folder)
        assert ended.status == 2
        assert reason in ended.error
    (tmp_path / "file").write_text("")
    assert decloud("report", tmp_path / "file").status == 2
    assert not (tmp_path / "report.html").exists()


def test_half_a_product_alone_is_reported(backfilled: Path, tmp_path: Path, decloud: Decloud) -> None:
    name = published_items(backfilled)[0]
    folder = shutil.copytree(backfilled / name, tmp_path / "out" / name)
    (folder / f"{name}.json").unlink()
    ended = decloud("report", tmp_path / "out")
    assert ended.status == 0, ended.err
    assert "half a product" in (tmp_path / "out" / "report.html").read_text()


def test_an_item_that_cannot_be_read_costs_its_own_scene_alone(
    backfilled: Path, tmp_path: Path, decloud: Decloud
) -> None:
    output = shutil.copytree(backfilled, tmp_path / "out")
    name, *others = published_items(output)
    (output / name / f"{name}.json").unlink()
    (output / name / f"{name}.json").mkdir()
    assert decloud("report", output).status == 0
    page = (output / "report.html").read_text()
    # Named once: as its scene, not as a folder too.
    assert page.count("item cannot be read: Is a directory") == 1
    assert "3 scenes from 2023-07-08 to 2023-07-18: 1 damaged, 2 done." in page
    assert all(f'id="product-{other}"' in page for other in others)
    states = {scene["product"]: scene["state"] for scene in decloud("status", output, "--json").document["scenes"]}
    assert states == {name: "damaged"} | dict.fromkeys(others, "done")
    # Of one that no journal tells of, its folder is named.
    shutil.rmtree(output / "runs")
    assert decloud("report", output).status == 0
    page = (output / "report.html").read_text()
    assert page.count("item cannot be read: Is a directory") == 1
    assert name in page


def test_items_of_others_are_no_scenes_of_ours(backfilled: Path, tmp_path: Path, decloud: Decloud) -> None:
    output = shutil.copytree(backfilled, tmp_path / "out")
    name = published_items(output)[0]
    item = json.loads((output / name / f"{name}.json").read_text())
    (output / "theirs").mkdir()
    foreign = item | {"id": "theirs", "properties": {"datetime": item["properties"]["datetime"]}}
    (output / "theirs" / "theirs.json").write_text(json.dumps(foreign))
    (output / "later").mkdir()
    later = item | {"id": "later"}
    later["properties"] = item["properties"] | {"processing:software": {"declouder": "77.0"}}
    (output / "later" / "later.json").write_text(json.dumps(later))
    assert decloud("report", output).status == 0
    page = (output / "report.html").read_text()
    assert "3 scenes from 2023-07-08 to 2023-07-18: 3 done." in page
    assert "an item of another program" in page
    assert "made by declouder 77.0" in page
    for other in (*published_items(output), "runs"):
        if other not in ("theirs", "later"):
            shutil.rmtree(output / other)
    assert decloud("report", output).status == 0
    assert "No scene was ever run here." in (output / "report.html").read_text()


def test_a_name_that_no_disk_can_hold_is_a_missing_file(backfilled: Path, tmp_path: Path, decloud: Decloud) -> None:
    output = shutil.copytree(backfilled, tmp_path / "out")
    name = published_items(output)[0]
    path = output / name / f"{name}.json"
    item = json.loads(path.read_text())
    item["assets"]["red"]["href"] = f"./{'n' * 300}.tif"
    item["assets"]["preview"]["href"] = f"./{'n' * 300}.png"
    path.write_text(json.dumps(item))
    ended = decloud("report", output)
    assert (ended.status, ended.err) == (0, "")
    page = (output / "report.html").read_text()
    assert f"{'n' * 300}.tif is missing" in page
    assert "1 damaged, 2 done" in page


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not tell what a process has opened")
def test_ctrl_c_while_the_page_is_written_is_no_end_of_the_run(scene: MadeScene, tmp_path: Path) -> None:
    output = tmp_path / "out"
    lock = output / ".cache" / "report.lock"
    lock.parent.mkdir(parents=True)
    arguments = [str(part) for part in scene.arguments(output)]
    with (
        turn(lock),
        subprocess.Popen(
            [sys.executable, "-m", "flows", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            # It has published, and waits for us with its page.
            until(lambda: has_opened(process.pid, lock) or process.poll() is not None)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert "T33UWP_20230810" in out
    assert "Traceback" not in err
    (warning,) = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert warning == ("warning: no report.html: interrupted; the products are complete; try `decloud report`")
    assert len(published_items(output)) == 1
    assert not (output / "report.html").exists()
    assert main(["report", str(output), "--quiet"]) == 0
    assert (output / "report.html").is_file()


def has_opened(pid: int, path: Path) -> bool:
    """Whether a process of this machine has a file open."""
    try:
        return any(one.exists() and one.samefile(path) for one in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False  # one of them was closed meanwhile, or the process has ended


def until(what: Callable[[], bool]) -> None:
    for _ in range(2000):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it never came")


def test_another_try_for_what_failed_ends_with_the_page(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    output = tmp_path / "out"
    journal = Journal(output)
    settings = DecloudSettings(checkpoint="identity", mask=str(scene.mask), references=0, tile=64, overlap=16)
    write_record(journal.run, SceneRequest(output=output, sources=scene.files, settings=settings))
    journal.write("T33UWP_20230810", "failed", "the disk was full")
    assert decloud("report", output, "--quiet").status == 0
    assert "the disk was full" in (output / "report.html").read_text()
    ended = decloud("status", output, "--retry-failed")
    assert (ended.status, f"report: {output / 'report.html'}" in ended.err) == (0, True)
    page = (output / "report.html").read_text()
    assert "1 scene of 2023-08-10: 1 done." in page
    assert "the disk was full" not in page
    # Nothing failed any more: no page is made.
    (output / "report.html").unlink()
    assert decloud("status", output, "--retry-failed").status == 0
    assert not (output / "report.html").exists()


def test_journals_and_damaged_products_are_on_the_page(backfilled: Path, tmp_path: Path, decloud: Decloud) -> None:
    output = shutil.copytree(backfilled, tmp_path / "out")
    names = published_items(output)
    shutil.rmtree(output / names[0])
    (output / names[1] / "B03.tif").unlink()
    Journal(output).write("S2A_33TWL_20230901_0_L2A", "failed", "the catalogue did not answer <b>")
    assert decloud("report", output).status == 0
    page = (output / "report.html").read_text()
    assert "its product is not there any more; run again" in page
    assert "B03.tif is missing: run again" in page
    assert "the catalogue did not answer &lt;b&gt;" in page
    assert "1 damaged, 1 done, 1 failed, 1 gone" in page


@pytest.mark.parametrize("format_", ["cog", "zarr"])
def test_a_bucket_gets_the_page_and_another_machine_makes_it_again(
    bucket: TestBucket,  # noqa: F811
    scene: MadeScene,
    tmp_path: Path,
    decloud: Decloud,
    monkeypatch: pytest.MonkeyPatch,
    format_: str,
) -> None:
    output = f"{bucket.url}/out"
    ended = decloud(*scene.arguments(output, "--format", format_))
    assert (ended.status, f"report: {output}/report.html" in ended.err) == (0, True), ended.err
    first = bucket.get("out/report.html").decode()
    assert "1 scene of 2023-08-10: 1 done." in first
    assert SECRET not in first
    monkeypatch.setenv("DECLOUD_SCRATCH", str(tmp_path / "elsewhere"))
    assert decloud("report", output).out == f"{output}/report.html\n"
    again = bucket.get("out/report.html").decode()
    pictures = [page[page.index('id="pictures-0"') : page.index("use strict")] for page in (first, again)]
    assert pictures[0] == pictures[1]
    # Before and after are there either way; the layers of a Zarr store in a bucket are not, and the page says so.
    assert '"before":"data:image/webp' in pictures[0]
    assert ('"provenance":"data:image/png' in pictures[0]) == (format_ == "cog")
    assert ("Layers and NDVI of Zarr products in a bucket are not shown" in again) == (format_ == "zarr")
    assert decloud("report", f"{bucket.url}/nothing").status == 2
