"""`decloud status`, the record of a run, and another try for what failed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flows.record import read_record, record_path, write_record
from flows.request import AreaRequest, SceneRequest, make_request
from flows.state import read_state
from pipeline.errors import InvalidSettings, WriteFailed
from pipeline.journal import Journal
from pipeline.settings import DecloudSettings
from tests.flows.conftest import Decloud, MadeScene


def request_of(scene: MadeScene, output: Path, **settings: object) -> SceneRequest:
    return SceneRequest(
        output=output,
        sources=scene.files,
        settings=DecloudSettings(
            checkpoint="identity", mask=str(scene.mask), references=0, tile=64, overlap=16, **settings
        ),
    )


def test_a_record_gives_the_request_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    request = AreaRequest(
        output=Path("out"), catalog="stac/catalog.json", aoi="1,2,3,4", dates="2023-08-10", settings={"bands": ["red"]}
    )
    write_record("a-run", request)
    monkeypatch.chdir("/")
    again = read_record(tmp_path / "out", "a-run").request
    assert isinstance(again, AreaRequest)
    assert again.catalog == str(tmp_path / "stac" / "catalog.json")
    assert again.output == tmp_path / "out"
    assert (again.aoi, again.dates, again.settings.bands) == ("1,2,3,4", "2023-08-10", ("B04",))


def test_a_record_keeps_no_credentials_and_known_names(tmp_path: Path) -> None:
    url = "https://user:secret@stac.example/v1?token=secret#secret"
    write_record("r", AreaRequest(output=tmp_path, catalog=url, aoi="1,2,3,4", dates="2023-08-10"))
    text = record_path(tmp_path, "r").read_text()
    assert "secret" not in text
    assert "https://stac.example/v1" in text
    write_record("s", SceneRequest(output=tmp_path, sources=("https://h.example/item.json?sig=secret",)))
    assert "secret" not in record_path(tmp_path, "s").read_text()
    assert read_record(tmp_path, "s").withheld == ("https://h.example/item.json",)
    assert read_record(tmp_path, "r").withheld == ("https://stac.example/v1",)
    write_record("n", AreaRequest(output=tmp_path, catalog="earth-search", aoi="1,2,3,4", dates="2023-08-10"))
    again = read_record(tmp_path, "n").request
    assert isinstance(again, AreaRequest)
    assert again.catalog == "earth-search"
    assert read_record(tmp_path, "n").withheld == ()
    assert (again.settings.checkpoint, again.settings.mask) == ("default", "auto")


def test_a_record_that_is_damaged_or_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="run `decloud run` again"):
        read_record(tmp_path, "none")
    (tmp_path / "runs").mkdir()
    record_path(tmp_path, "cut").write_text('{"run": ')
    with pytest.raises(InvalidSettings, match="cannot be read"):
        read_record(tmp_path, "cut")
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteFailed, match="--output"):
        write_record("r", SceneRequest(output=tmp_path / "file", sources=("a.tif",)))


def test_request_names_the_option_that_is_wrong() -> None:
    area = {"kind": "area", "output": "out", "catalog": "c", "aoi": "1,2,3,4"}
    with pytest.raises(InvalidSettings, match=r"^--dates: "):
        make_request(area)
    with pytest.raises(InvalidSettings, match=r"^--window-days 0: "):
        make_request(area | {"dates": "2023-08-10", "settings": {"window_days": 0}})
    with pytest.raises(InvalidSettings, match=r"^--colour blue: extra"):
        make_request(area | {"dates": "2023-08-10", "settings": {"colour": "blue"}})


def test_every_state_is_told_with_its_reason(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    output = tmp_path / "out"
    assert decloud(*scene.arguments(output, "--quiet")).status == 0
    good = decloud("status", output)
    assert good.status == 0
    assert "1 scene: 1 done" in good.out

    journal = Journal(output)
    for state, reason in (("failed", "the disk was full"), ("invalid", "no valid pixel"), ("planned", "")):
        journal.write(f"scene-{state}", state, reason)
    ended = decloud("status", output)
    assert ended.status == 1
    for line in ("scene-failed: failed: the disk was full", "scene-invalid: invalid: no valid pixel"):
        assert line in ended.out.splitlines()
    assert "4 scenes: 1 done, 1 failed, 1 invalid, 1 planned" in ended.out
    listed = {entry["scene"]: entry["state"] for entry in decloud("status", output, "--json").document["scenes"]}
    assert listed == {
        "T33UWP_20230810": "done", "scene-failed": "failed", "scene-invalid": "invalid", "scene-planned": "planned"
    }  # fmt: skip


def test_a_product_that_was_removed_is_not_called_done(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    output = tmp_path / "out"
    made = decloud(*scene.arguments(output, "--quiet", "--json")).document["scenes"][0]["product"]
    shutil.rmtree(Path(made).parent)
    ended = decloud("status", output)
    assert ended.status == 1
    assert "gone: its product is not there any more" in ended.out


def test_a_product_that_lacks_a_file_is_not_called_done_and_run_mends_it(
    scene: MadeScene, tmp_path: Path, decloud: Decloud
) -> None:
    output = tmp_path / "out"
    made = decloud(*scene.arguments(output, "--quiet", "--json")).document["scenes"][0]["product"]
    folder = Path(made).parent
    (folder / "B02.tif").unlink()
    (folder / "B03.tif").write_bytes((folder / "B03.tif").read_bytes()[:-1])
    ended = decloud("status", output)
    assert ended.status == 1
    assert "damaged: B02.tif is missing; B03.tif has " in ended.out
    assert decloud(*scene.arguments(output, "--quiet")).status == 0
    assert decloud("status", output).status == 0


def test_products_without_a_journal_are_seen(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    output = tmp_path / "out"
    decloud(*scene.arguments(output, "--quiet"))
    shutil.rmtree(output / "runs")
    ended = decloud("status", output, "--json")
    assert ended.status == 0
    assert [entry["state"] for entry in ended.document["scenes"]] == ["done"]


def test_a_folder_without_runs_is_no_product_folder(tmp_path: Path, decloud: Decloud) -> None:
    ended = decloud("status", tmp_path)
    assert ended.status == 2
    assert "holds no run and no product" in ended.error


def test_failed_scenes_are_tried_again_with_the_parameters_of_their_run(
    scene: MadeScene, tmp_path: Path, decloud: Decloud
) -> None:
    output = tmp_path / "out"
    request = request_of(scene, output, grow=20.0, feather=20.0)
    journal = Journal(output)
    write_record(journal.run, request)
    journal.write("T33UWP_20230810", "failed", "the disk was full")
    assert read_state(output).retried == {journal.run: ("T33UWP_20230810",)}
    ended = decloud("status", output, "--retry-failed", "--json", "--quiet")
    assert ended.status == 0, ended.err
    (entry,) = ended.document["scenes"]
    assert entry["state"] == "done"
    item = json.loads((output / entry["product"] / f"{entry['product']}.json").read_text())
    settings = item["properties"]["declouder:settings"]
    assert (settings["grow"], settings["references"]) == (20.0, 0)
    again = decloud("status", output, "--retry-failed")
    assert again.status == 0
    assert "nothing failed: nothing to retry" in again.err


def test_a_scene_that_is_no_longer_there_cannot_be_retried(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    output = tmp_path / "out"
    journal = Journal(output)
    write_record(journal.run, request_of(scene, output))
    journal.write("another", "failed", "")
    ended = decloud("status", output, "--retry-failed")
    assert ended.status == 2
    assert "another: not found any more" in ended.error


def test_a_secret_that_was_not_kept_is_told(tmp_path: Path, decloud: Decloud) -> None:
    journal = Journal(tmp_path)
    write_record(journal.run, SceneRequest(output=tmp_path, sources=("http://127.0.0.1:9/item.json?sig=hush",)))
    journal.write("a", "failed", "")
    ended = decloud("status", tmp_path, "--retry-failed", "--quiet")
    assert ended.status != 0
    assert "warning: http://127.0.0.1:9/item.json: the query that it was given with is a secret" in ended.err
    assert "hush" not in ended.err


def test_planned_scenes_of_a_run_that_goes_on_are_left_to_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("a", "planned")
    journal.write("b", "planned")
    assert read_state(tmp_path).retried == {journal.run: ("a", "b")}
    journal.write("a", "running")
    assert read_state(tmp_path).retried == {}


def test_a_further_product_of_a_scene_is_no_further_scene(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    output = tmp_path / "out"
    for more in ((), ("--format", "zarr"), ()):
        assert decloud(*scene.arguments(output, "--quiet", *more)).status == 0
    told = decloud("status", output)
    assert told.status == 0
    assert "1 scene: 1 unchanged, 1 further product" in told.out
    entries = decloud("status", output, "--json").document["scenes"]
    assert len({entry["scene"] for entry in entries}) == 1
    assert len({entry["product"] for entry in entries}) == 2
    assert all(entry["time"] for entry in entries)
    # All three runs are counted, though two of them have no scene's last word.
    assert "3, the last" in (output / "report.html").read_text(encoding="utf-8")
