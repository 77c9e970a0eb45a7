"""`decloud backfill` without Prefect: windows oldest first, resumable, and a rerun that publishes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from catalogs.errors import SourceUnavailable
from flows.backfill_request import BackfillRequest, make_backfill_request
from flows.backfilling import run_windows
from flows.ledger import Ledger, WindowLine, ledgers
from flows.request import AreaRequest
from flows.state import read_state
from flows.summary import RunSummary
from pipeline.errors import InvalidSettings
from pipeline.publish import published_items
from pipeline.simulation.simulate import Simulated
from tests.flows.conftest import Decloud, area_run

WEEKLY = ("--step", "5d")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def backfill(area: Simulated, output: Path, *more: object) -> tuple[object, ...]:
    return area_run(area, output, *more, command="backfill")


def pixels(output: Path) -> dict[str, bytes]:
    """Everything of the products but their items, which hold the time at which they were made."""
    files = (path for name in published_items(output) for path in (output / name).iterdir() if path.suffix != ".json")
    return {str(path.relative_to(output)): path.read_bytes() for path in files if path.name != "manifest.sha256"}


def request_of(area: Simulated, output: Path, **changes: object) -> BackfillRequest:
    values: dict[str, object] = {
        "output": output, "catalog": str(area.catalogue), "aoi": area.aoi, "dates": area.dates, "step": "5d",
        "settings": {"checkpoint": "identity", "tile": 64},
    }  # fmt: skip
    return make_backfill_request(values | changes)


def test_windows_oldest_first_the_same_products_and_nothing_the_second_time(
    area: Simulated, tmp_path: Path, decloud: Decloud
) -> None:
    output = tmp_path / "out"
    ended = decloud(*backfill(area, output, *WEEKLY, "--json"))
    assert ended.status == 0, ended.err
    windows = ended.document["windows"]
    assert [line["window"] for line in windows] == sorted(line["window"] for line in windows)
    assert [scene["scene"] for line in windows for scene in line["scenes"]] == list(area.items)
    assert [len(line["scenes"]) for line in windows] == [1, 1, 1]
    assert ended.document["published"] == 3
    times = [line["time"] for line in windows]
    assert times == sorted(times)
    # The other dates lie in other windows, before and after.
    middle = json.loads(
        (output / windows[1]["scenes"][0]["product"] / f"{windows[1]['scenes'][0]['product']}.json").read_text()
    )
    assert {entry["id"] for entry in middle["properties"]["declouder:references"]} == {area.items[0], area.items[2]}
    assert decloud(*area_run(area, tmp_path / "run")).status == 0
    assert pixels(output) == pixels(tmp_path / "run")

    before = pixels(output)
    made = {name: (output / name / f"{name}.json").read_bytes() for name in published_items(output)}
    start = time.perf_counter()
    again = decloud(*backfill(area, output, *WEEKLY, "--json"))
    assert again.status == 0
    assert again.document["published"] == 0
    assert (again.document["id"], again.document["failed"]) == (ended.document["id"], False)
    assert {scene["state"] for line in again.document["windows"] for scene in line["scenes"]} == {"unchanged"}
    assert pixels(output) == before
    assert made == {name: (output / name / f"{name}.json").read_bytes() for name in published_items(output)}
    assert time.perf_counter() - start < 60

    told = decloud("status", output)
    assert told.status == 0
    assert f"backfill {ended.document['id']}: 3 windows: 3 done" in told.out
    assert [
        [one["state"] for one in entry["windows"]]
        for entry in decloud("status", output, "--json").document["backfills"]
    ] == [["done"] * 3]


def test_kill_in_the_middle_costs_nothing_but_time(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-m", "flows", *map(str, backfill(area, output, *WEEKLY))]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        while not published_items(output):
            assert process.poll() is None, "ended by itself before its first product"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    status = decloud("status", output)
    if len(published_items(output)) < 3:
        assert status.status == 1
        (found,) = read_state(output).backfills
        assert {"interrupted", "waiting"} & {window.state for window in found.windows}
        assert "running" not in {window.state for window in found.windows}
    ended = decloud(*backfill(area, output, *WEEKLY, "--json"))
    assert ended.status == 0, ended.err
    assert decloud(*area_run(area, tmp_path / "undisturbed")).status == 0
    assert pixels(output) == pixels(tmp_path / "undisturbed")
    assert decloud("status", output).status == 0


def test_a_bad_scene_stops_no_window_and_is_done_when_it_is_mended(
    area: Simulated, tmp_path: Path, decloud: Decloud
) -> None:
    folder, output = tmp_path / "stac", tmp_path / "out"
    shutil.copytree(area.catalogue.parent, folder)
    band = next(path for path in folder.rglob("B03.tif") if area.items[0] in str(path))
    whole = band.read_bytes()
    band.write_bytes(whole[:5000])
    where = [folder / "catalog.json" if part == area.catalogue else part for part in backfill(area, output, *WEEKLY)]
    ended = decloud(*where, "--json")
    assert ended.status == 1
    assert [line["state"] for line in ended.document["windows"]] == ["failed", "done", "done"]
    status = decloud("status", output)
    assert status.status == 1
    assert "3 windows: 2 done, 1 failed" in status.out
    assert "B03.tif" in status.out
    band.write_bytes(whole)
    again = decloud(*where, "--json")
    assert again.status == 0
    # The others were made without it, and stay: that they could be better is for --refresh.
    assert again.document["published"] == 1
    assert decloud("status", output).status == 0
    refreshed = decloud(*where, "--json", "--refresh")
    assert refreshed.status == 0
    states = [scene["state"] for line in refreshed.document["windows"] for scene in line["scenes"]]
    assert states[:2] == ["unchanged", "done"]
    (middle,) = refreshed.document["windows"][1]["scenes"]
    item = json.loads((output / middle["product"] / f"{middle['product']}.json").read_text())
    (link,) = [link for link in item["links"] if link["rel"] == "predecessor-version"]
    assert link["title"] == ended.document["windows"][1]["scenes"][0]["product"]
    assert decloud(*where, "--json", "--refresh").document["published"] == 0


def test_windows_without_scenes_are_done_and_say_so(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    dates = ("--dates", "2023-05-01/2023-07-10", "--references", "0")
    ended = decloud(*backfill(area, tmp_path / "out", *dates))
    assert ended.status == 0
    assert "0 scenes between 2023-05-01 and 2023-05-31" in ended.out
    assert "3 windows, 1 scene: 1 done" in ended.out
    assert decloud("status", tmp_path / "out").status == 0
    nothing = decloud(*backfill(area, tmp_path / "none", "--dates", "2021-05-01/2021-06-30", "--json"))
    assert nothing.status == 0
    assert nothing.document["published"] == 0
    assert published_items(tmp_path / "none") == []
    longer = decloud(*backfill(area, tmp_path / "out", "--dates", "2023-07-08/2023-07-10", "--step", "90d", "--json"))
    assert [line["window"] for line in longer.document["windows"]] == ["2023-07-08/2023-07-10"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--step", "0d"), "--step 0d: give `month`, or a number of days of at least 1"),
        (("--step", "fortnight"), "--step fortnight: give `month`"),
        (("--dates", "2023-08-31/2023-08-01"), "crossed"),
        (("--dates", "2099-01-01/.."), "begin after today"),
        (("--dates", "P0D"), "look back at least one day"),
        (("--dates", "yesterday"), "is no date"),
        (("--grid", "EPSG:32633,10"), "--grid is the cube's: give --cube too"),
        (("--aoi", "1,2,3,4"), "lies outside every scene"),
        (("--checkpoint", "gone.safetensors"), "gone.safetensors"),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(
    options: tuple[str, ...], told: str, area: Simulated, tmp_path: Path, decloud: Decloud
) -> None:
    arguments = list(backfill(area, tmp_path / "out"))
    name, value = options
    if name in arguments:
        arguments[arguments.index(name) + 1] = value
    else:
        arguments += [name, value]
    ended = decloud(*arguments)
    assert ended.status == 2
    assert told in ended.error
    assert not (tmp_path / "out").exists() or published_items(tmp_path / "out") == []


def test_a_cube_is_not_the_folder_of_the_products(area: Simulated, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for cube in (output, tmp_path, output / "runs", output / "backfills", f"{output}/x/.."):
        with pytest.raises(
            InvalidSettings, match=r"^--cube.*: that is where the products are; give it a name of its own"
        ):
            request_of(area, output, cube=cube)
    assert request_of(area, output, cube=output / "cube.zarr").cube == output / "cube.zarr"
    assert not output.exists()


def test_an_output_that_is_a_file(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    (tmp_path / "out").write_text("")
    ended = decloud(*backfill(area, tmp_path / "out"))
    assert ended.status == 2
    assert "is a file; name a folder" in ended.error
    assert decloud("backfill", "--output", tmp_path / "fine").status == 2


def test_a_window_that_cannot_be_searched_does_not_stop_the_rest(area: Simulated, tmp_path: Path) -> None:
    request = request_of(area, tmp_path)
    seen = []

    def run(window: AreaRequest) -> None:
        seen.append(window.dates)
        ledger = Ledger(tmp_path, window.part_of)
        if len(seen) == 1:
            ledger.write(window.dates, "failed", reason="https://stac.example: HTTP 503")
            raise SourceUnavailable("https://stac.example: HTTP 503")
        if len(seen) == 2:
            ledger.write(window.dates, "running")
            return
        ledger.write(window.dates, "done", RunSummary("r", str(tmp_path)))

    told: list[str] = []
    summary = run_windows(request, run, NOW, told.append)
    assert [line.state for line in summary.windows] == ["failed", "interrupted", "done"]
    assert summary.failed
    assert "3 windows, 0 scenes: nothing to do; 2 windows not done" in summary.headline
    assert any("HTTP 503" in line for line in told)
    # What a run elsewhere does not write here is not taken for done, whatever was written before.
    summary = run_windows(request, lambda _: None, NOW, told.append)
    assert [line.state for line in summary.windows] == ["failed"] * 3
    assert "is it the folder that its run wrote to?" in summary.windows[0].reason

    def wrong(_: AreaRequest) -> None:
        raise InvalidSettings("--tile 1: no")

    with pytest.raises(InvalidSettings, match="--tile 1"):
        run_windows(request, wrong, NOW, told.append)


def test_the_same_series_has_the_same_id_whatever_it_may_use(area: Simulated, tmp_path: Path) -> None:
    request = request_of(area, tmp_path / "a")
    same = request_of(
        area, tmp_path / "b", resources={"workers": 1}, refresh=True, windows="inline", cube=tmp_path / "c.zarr"
    )
    assert request.id == same.id
    others = [
        request_of(area, tmp_path / "a", step="6d"),
        request_of(area, tmp_path / "a", dates="2023-07-01/2023-07-31"),
        request_of(area, tmp_path / "a", settings={"checkpoint": "identity", "tile": 128}),
    ]
    assert len({request.id, *(other.id for other in others)}) == 4
    secret = request_of(area, tmp_path, catalog="https://me:pw@stac.example/v1?token=hush")
    Ledger(tmp_path, secret.id).begin(secret.stored().model_dump(mode="json"), [])
    assert "hush" not in Ledger(tmp_path, secret.id).record.read_text()
    assert "pw@" not in Ledger(tmp_path, secret.id).record.read_text()


def test_the_end_is_cut_at_today(area: Simulated, tmp_path: Path) -> None:
    windows = request_of(area, tmp_path, dates="2023-07-01/..", step="month").split(
        datetime(2023, 9, 5, 12, tzinfo=UTC)
    )
    assert [window.dates for window in windows] == [
        "2023-07-01/2023-07-31", "2023-08-01/2023-08-31", "2023-09-01/2023-09-05"
    ]  # fmt: skip


def test_a_ledger_that_is_damaged(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    request = request_of(area, tmp_path)
    ledger = Ledger(tmp_path, request.id)
    ledger.begin({}, ["2023-07-01/2023-07-31", "2023-08-01/2023-08-31"])
    ledger.write("2023-07-01/2023-07-31", "running")
    with ledger.lines.open("a") as file:
        file.write('{"time": "20')
    (found,) = read_state(tmp_path).backfills
    assert [window.state for window in found.windows] == ["running", "waiting"]
    assert ledgers(tmp_path) == [ledger]
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    text = ledger.lines.read_text().replace(f'"pid": {os.getpid()}', f'"pid": {int(gone.stdout)}')
    ledger.lines.write_text(text)
    (found,) = read_state(tmp_path).backfills
    assert [window.state for window in found.windows] == ["interrupted", "waiting"]
    assert decloud("status", tmp_path).status == 1
    ledger.write("2023-08-01/2023-08-31", "done")
    assert {line.window: line.state for line in ledger.latest().values()} == {
        "2023-07-01/2023-07-31": "running", "2023-08-01/2023-08-31": "done"
    }  # fmt: skip
    # What the windows were to be is lost; those that began are still told, and so are all scenes.
    ledger.record.write_text("{")
    (found,) = read_state(tmp_path).backfills
    assert [(window.window, window.state) for window in found.windows] == [
        ("2023-07-01/2023-07-31", "interrupted"), ("2023-08-01/2023-08-31", "done")
    ]  # fmt: skip
    assert decloud("status", tmp_path).status == 1


def test_a_window_of_which_a_product_was_removed_is_not_called_done(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "0123456789")
    ledger.begin({}, ["2023-07-01/2023-07-31"])
    line = ledger.write("2023-07-01/2023-07-31", "done")
    assert isinstance(line, WindowLine)
    entry = json.loads(ledger.lines.read_text())
    entry["scenes"] = [{"scene": "a", "state": "done", "product": "a_1", "reason": ""}]
    ledger.lines.write_text(json.dumps(entry) + "\n")
    (found,) = read_state(tmp_path).backfills
    (window,) = found.windows
    assert (window.state, window.scenes, window.done) == ("failed", 1, 0)
    assert "is not there any more" in window.reason


def test_an_area_outside_every_scene_leaves_nothing_behind(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    far = ("--catalog", area.catalogue, "--aoi", "1,1,1.1,1.1", "--dates", area.dates)
    ended = decloud("backfill", *far, "--output", tmp_path / "out", "--checkpoint", "identity")
    assert ended.status == 2
    assert "outside" in ended.error or "no scene" in ended.error
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cube_that_cannot_be_written_is_told_before_anything_is_done(
    area: Simulated, tmp_path: Path, decloud: Decloud
) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    ended = decloud(*backfill(area, tmp_path / "out", "--cube", tmp_path / "closed" / "cube.zarr"))
    assert ended.status == 2
    assert "no permission to write" in ended.error
    assert not (tmp_path / "out").exists()
