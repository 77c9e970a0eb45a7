"""What a run says of its scenes beforehand: nothing that is missing is left out in silence."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import rasterio

from catalogs.geotiff import UNKNOWN_TIME
from catalogs.item import BandAsset, SceneItem
from flows.remarks import missing_files, remote_files, unused_sources
from pipeline.settings import DecloudSettings
from pipeline.simulation.simulate import Simulated
from tests.flows.conftest import QUICK, Decloud, MadeScene, area_run, make_scene


@pytest.fixture
def copied(area: Simulated, tmp_path: Path) -> Path:
    """The simulated area's catalogue, to be broken."""
    shutil.copytree(area.catalogue.parent, tmp_path / "stac")
    return tmp_path / "stac" / "catalog.json"


def of_catalogue(catalogue: Path, area: Simulated, output: Path, *more: object, command: str = "run") -> list[object]:
    arguments = area_run(
        area, output, "--dates", "2023-07-13", "--references", "0", "--max-generated", "1", *more, command=command
    )
    return [catalogue if part == area.catalogue else part for part in arguments]


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_band_whose_file_is_gone_is_a_problem(
    command: str, copied: Path, area: Simulated, tmp_path: Path, decloud: Decloud
) -> None:
    band = next(path for path in copied.parent.rglob("B03.tif") if area.items[1] in str(path))
    band.unlink()
    ended = decloud(*of_catalogue(copied, area, tmp_path / "out", "--json", command=command))
    assert ended.status == 1
    (problem,) = ended.document["problems"]
    assert "band B03: file not found: " in problem
    assert str(band) in problem
    assert ended.err == f"warning: {problem}\n"
    # The rest of the scene is done all the same, and a band that nobody asked for is not missed.
    if command == "run":
        (scene,) = ended.document["scenes"]
        assert scene["state"] == "done"
        people = decloud(*of_catalogue(copied, area, tmp_path / "out"))
        assert "1 scene: 1 unchanged; 1 file or item could not be read" in people.out
    other = decloud(*of_catalogue(copied, area, tmp_path / "out", "--bands", "B02", command=command))
    assert (other.status, other.err) == (0, "")


def test_remote_bands_of_a_local_item_are_one_note(
    copied: Path, area: Simulated, tmp_path: Path, decloud: Decloud
) -> None:
    path = next(copied.parent.rglob(f"{area.items[1]}.json"))
    item = json.loads(path.read_text())
    moved = []
    for key, asset in item["assets"].items():
        name = Path(asset["href"]).stem
        if name in ("B01", "B09", "B12"):
            moved.append(key)
            asset["href"] = f"https://example.com/remote/{name}_far.tif"
    path.write_text(json.dumps(item))
    assert len(moved) == 3
    arguments = [part for part in of_catalogue(copied, area, tmp_path / "out") if part != "--quiet"]
    ended = decloud(*arguments)
    assert ended.status == 0, ended.err
    notes = [line for line in ended.err.splitlines() if line.startswith("note: ")]
    assert notes == [f"note: {area.items[1]}: not restored: 3 bands whose files are remote (B01 B09 B12)"]
    assert "warning" not in ended.err
    assert decloud(*arguments, "--quiet").err == ""


def test_only_what_is_wanted_is_missed() -> None:
    band = BandAsset("B02", "B02", "/data/B02.tif")
    reasons = {name: f"file not found: /data/{name}.tif" for name in ("B03", "SCL")} | {
        "B04": "remote asset of a local item"
    }
    item = SceneItem("s", datetime(2023, 8, 10, tzinfo=UTC), {"B02": band}, left_out=reasons, origin="/data/s.json")
    assert [line.split(": ")[1] for line in missing_files(item, DecloudSettings())] == ["band B03", "band SCL"]
    assert missing_files(item, DecloudSettings(mask="csmask", bands=("B02",))) == []
    assert remote_files([item], DecloudSettings()) == ["s: not restored: a band whose file is remote (B04)"]
    assert remote_files([item], DecloudSettings(bands=("B02",))) == []


def test_scenes_that_lack_the_same_bands_share_a_line() -> None:
    band, when = BandAsset("B02", "B02", "/data/B02.tif"), datetime(2023, 8, 10, tzinfo=UTC)

    def scene(name: str, *remote: str) -> SceneItem:
        return SceneItem(name, when, {"B02": band}, left_out=dict.fromkeys(remote, "remote asset of a local item"))

    items = [
        scene("a", "B03", "B04"),
        scene("b", "B03"),
        scene("c", "B03", "B04"),
        scene("d"),
        scene("e", "B03", "B04"),
    ]
    assert remote_files(items, DecloudSettings()) == [
        "a and 2 more: not restored: 2 bands whose files are remote (B03 B04)",
        "b: not restored: a band whose file is remote (B03)",
    ]


def undated(scene: MadeScene) -> list[str]:
    """The scene's files as one stack under a name without a date."""
    path = scene.folder / "stack.tif"
    with rasterio.open(scene.files[0]) as first:
        profile = first.profile | {"count": len(scene.files)}
    with rasterio.open(path, "w", **profile) as target:
        for index, file in enumerate(scene.files, 1):
            with rasterio.open(file) as source:
                target.write(source.read(1), index)
            target.set_band_description(index, Path(file).stem[-3:])
    return [str(path)]


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_scene_without_a_date_is_warned_of(command: str, tmp_path: Path, decloud: Decloud) -> None:
    scene, other = make_scene(tmp_path / "scene"), make_scene(tmp_path / "other")
    options = ("--mask", scene.mask, "--output", tmp_path / "out", "--quiet", *QUICK)
    alone = decloud(command, *undated(scene), *options)
    assert alone.status == 0
    assert alone.err == "warning: stack: date unknown: give a file name with YYYYMMDD\n"
    both = decloud(command, *undated(scene), *other.files, *options)
    assert both.status == 0
    assert both.err.splitlines() == [
        "warning: stack: date unknown: give a file name with YYYYMMDD",
        "warning: stack: no other date can be used: T33UWP_20230810 cannot be compared, as the date of stack is unknown",
        "warning: T33UWP_20230810: no other date can be used: stack cannot be compared, as the date of stack is unknown",
    ]


def test_why_sources_do_not_help_each_other() -> None:
    def item(name: str, day: datetime, tile: str | None = None) -> SceneItem:
        return SceneItem(name, day, {"B02": BandAsset("B02", "B02", f"/{name}.tif")}, tile=tile)

    first, later = (
        item("a", datetime(2023, 1, 1, tzinfo=UTC), "33UWP"),
        item("b", datetime(2023, 3, 2, tzinfo=UTC), "33UWP"),
    )
    tile = item("c", datetime(2023, 1, 1, tzinfo=UTC), "33TWL")
    settings = DecloudSettings()
    assert unused_sources(first, (first, later), (), settings) == [
        "a: no other date can be used: b is 60 days away, --window-days is 30"
    ]
    assert "c is of tile 33TWL, not 33UWP" in unused_sources(first, (first, tile), (), settings)[0]
    twin = item("d", datetime(2023, 1, 1, tzinfo=UTC), "33UWP")
    assert unused_sources(first, (first, twin), (), settings)[0].endswith("d is of the same moment")
    assert unused_sources(first, (first,), (), settings) == []
    assert unused_sources(first, (first, later), (later,), settings) == []
    assert unused_sources(first, (first, later), (), DecloudSettings(references=0)) == []
    assert UNKNOWN_TIME.year == 1970


def test_dates_that_were_looked_at_and_not_used_are_told(tmp_path: Path, decloud: Decloud) -> None:
    scene = make_scene(tmp_path / "scene")
    far = make_scene(tmp_path / "far", origin=(600000.0, 5100000.0))
    stacks = []
    for number, made in enumerate((scene, far)):
        (stack,) = undated(made)
        stacks.append(str(Path(stack).rename(made.folder / f"s{number}_2023081{number}.tif")))
    ended = decloud("run", *stacks, "--mask", scene.mask, "--output", tmp_path / "out", *QUICK)
    assert "s0_20230810: no other date was used: s1_20230811: " in ended.out.replace("20230810 2023-08-10", "20230810")
    assert "; no other date was used: s1_20230811: " in ended.err


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_catalogue_without_items_says_so(command: str, tmp_path: Path, decloud: Decloud) -> None:
    path = tmp_path / "catalog.json"
    path.write_text('{"type": "Catalog", "id": "k", "stac_version": "1.0.0", "description": "x", "links": []}')
    where = ("--catalog", path, "--aoi", "1,2,3,4", "--dates", "2023-08-01/2023-08-31")
    ended = decloud(command, *where, "--output", tmp_path / "out")
    assert ended.status == 0
    assert ended.out == f"{path}: the catalogue holds no items: nothing to do\n"
