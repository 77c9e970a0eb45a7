"""`decloud run` and `decloud plan` over real files: products, second runs, machines' output, problems that are not hidden."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from catalogs.query import Query
from catalogs.search import search
from pipeline.simulation.simulate import Simulated
from tests.flows.conftest import BANDS, Decloud, MadeScene, area_run, on_a_terminal


def test_a_users_files_become_a_product_and_the_second_run_does_nothing(
    scene: MadeScene, tmp_path: Path, decloud: Decloud
) -> None:
    output = tmp_path / "out"
    first = decloud(*scene.arguments(output, "--json", "--grow", "0", "--feather", "0"))
    assert first.status == 0
    (made,) = first.document["scenes"]
    assert made["state"] == "done"
    folder = Path(made["product"]).parent
    for file, band in zip(scene.files, BANDS, strict=True):
        with rasterio.open(file) as source, rasterio.open(folder / f"{band}.tif") as product:
            before, after = source.read(1), product.read(1)
        clear = np.ones_like(before, bool)
        clear[30:60, 30:60] = False
        np.testing.assert_array_equal(after[clear], before[clear])
    assert made["figures"]["provenance"]["generated"] == pytest.approx(900 / 96**2, abs=1e-6)
    stamp = (folder / "B02.tif").stat().st_mtime_ns

    second = decloud(*scene.arguments(output, "--json", "--grow", "0", "--feather", "0"))
    assert second.status == 0
    assert [entry["state"] for entry in second.document["scenes"]] == ["unchanged"]
    assert (folder / "B02.tif").stat().st_mtime_ns == stamp

    again = decloud(*scene.arguments(output, "--json", "--grow", "0", "--feather", "0", "--overwrite"))
    assert [entry["state"] for entry in again.document["scenes"]] == ["done"]
    other = decloud(*scene.arguments(output, "--json", "--grow", "20", "--feather", "0"))
    assert other.document["scenes"][0]["product"] != made["product"]


def test_people_get_a_table_with_shares_seam_and_path(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    ended = decloud(*scene.arguments(tmp_path / "out"))
    assert ended.status == 0
    for word in ("scene", "state", "observed", "generated", "seam", "33UWP 2023-08-10", "done", "1 scene: 1 done"):
        assert word in ended.out
    assert str(tmp_path / "out") in ended.out
    assert "[1/1] 33UWP 2023-08-10: restore" in ended.err
    assert "done in" in ended.err
    quiet = decloud(*scene.arguments(tmp_path / "out", "--quiet"))
    assert quiet.err == ""
    assert "1 scene: 1 unchanged" in quiet.out


def test_scenes_of_a_catalogue_with_other_dates_as_references(
    area: Simulated, tmp_path: Path, decloud: Decloud
) -> None:
    output = tmp_path / "out"
    ended = decloud(*area_run(area, output, "--json"))
    assert ended.status == 0
    scenes = ended.document["scenes"]
    assert [scene["scene"] for scene in scenes] == list(area.items)
    item = json.loads(Path(scenes[1]["product"]).read_text())
    assert {reference["id"] for reference in item["properties"]["declouder:references"]} == {
        area.items[0],
        area.items[2],
    }
    # The product does not depend on which other dates were asked for along with it.
    alone = decloud(*area_run(area, output, "--json", "--dates", "2023-07-13"))
    (same,) = alone.document["scenes"]
    assert (same["state"], same["product"]) == ("unchanged", scenes[1]["product"])
    # The products are a catalogue of their own.
    assert len(search(Query(), str(output / "catalog.json"))) == 3


def test_plan_tells_new_done_and_stale_and_writes_no_product(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    output = tmp_path / "out"
    day = ("--dates", "2023-07-13")
    new = decloud(*area_run(area, output, "--json", *day, command="plan"))
    assert new.status == 0
    assert not output.exists()
    (scene,) = new.document["scenes"]
    assert scene["state"] == "new"
    assert 0 < scene["needed"] <= scene["tiles"]
    seconds = scene["cost"]["seconds"]
    assert seconds[scene["cost"]["limit"]] == max(seconds.values())
    assert len(scene["references"]) == 2
    assert decloud(*area_run(area, output, *day)).status == 0
    done = decloud(*area_run(area, output, "--json", *day, command="plan"))
    assert [entry["state"] for entry in done.document["scenes"]] == ["done"]
    stale = decloud(*area_run(area, output, "--grow", "60", *day, command="plan"))
    assert stale.status == 0
    assert "stale" in stale.out
    assert "1 scene, 1 to do" in stale.out


def test_no_scene_in_the_dates_says_so_and_is_no_error(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    for command in ("run", "plan"):
        ended = decloud(*area_run(area, tmp_path / "out", "--dates", "2021-01-01/2021-02-01", command=command))
        assert ended.status == 0
        assert ended.out.startswith("0 scenes between 2021-01-01 and 2021-02-01")
        assert "holds 3 of other dates, 2023-07-08 to 2023-07-18" in ended.out
    assert not (tmp_path / "out" / "runs").exists()


def test_area_outside_every_scene_names_area_dates_and_what_there_is(
    area: Simulated, tmp_path: Path, decloud: Decloud
) -> None:
    where = ("--catalog", area.catalogue, "--aoi", "1,2,3,4", "--dates", area.dates)
    ended = decloud("run", *where, "--output", tmp_path / "out")
    assert ended.status == 2
    for part in ("1,2,3,4", area.dates, str(area.catalogue), "it holds 3", "2023-07-08 to 2023-07-18"):
        assert part in ended.error
    assert not (tmp_path / "out").exists()


def test_area_beside_the_scenes_named(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    item = next(area.catalogue.parent.rglob(f"{area.items[1]}.json"))
    ended = decloud("run", item, "--aoi", "1,2,3,4", "--clip", "--output", tmp_path / "out")
    assert ended.status == 2
    assert "lies outside every scene of the scenes named" in ended.error


def test_broken_link_among_good_ones_is_told_and_counts(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    folder = tmp_path / "stac"
    shutil.copytree(area.catalogue.parent, folder)
    next(folder.rglob(f"{area.items[0]}.json")).unlink()
    arguments = ("--catalog", folder / "catalog.json", "--aoi", area.aoi, "--dates", area.dates)
    ended = decloud("run", *arguments, "--output", tmp_path / "out", "--checkpoint", "identity", "--json", "--quiet")
    assert ended.status == 1
    assert [scene["state"] for scene in ended.document["scenes"]] == ["done", "done"]
    (problem,) = ended.document["problems"]
    assert area.items[0] in problem
    assert ended.err.startswith("warning: ")
    assert ended.document["failed"] is True
    assert decloud("plan", *arguments, "--quiet").status == 1


def test_href_that_leaves_the_catalogue_is_a_problem_not_a_read(
    area: Simulated, tmp_path: Path, decloud: Decloud
) -> None:
    folder = tmp_path / "stac"
    shutil.copytree(area.catalogue.parent, folder)
    path = next(folder.rglob(f"{area.items[1]}.json"))
    item = json.loads(path.read_text())
    for asset in item["assets"].values():
        asset["href"] = "../../../../../../etc/passwd"
    path.write_text(json.dumps(item))
    arguments = ("--catalog", folder / "catalog.json", "--aoi", area.aoi, "--dates", "2023-07-13")
    ended = decloud("run", *arguments, "--output", tmp_path / "out", "--quiet")
    assert ended.status == 1
    assert "warning: " in ended.err
    assert ".." in ended.err


def test_one_bad_scene_does_not_stop_the_rest(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    folder = tmp_path / "stac"
    shutil.copytree(area.catalogue.parent, folder)
    band = next(path for path in folder.rglob("B03.tif") if area.items[0] in str(path))
    band.write_bytes(band.read_bytes()[:5000])
    ended = decloud(
        "run", "--catalog", folder / "catalog.json", "--aoi", area.aoi, "--dates", area.dates, "--quiet", "--json",
        "--output", tmp_path / "out", "--checkpoint", "identity",
    )  # fmt: skip
    assert ended.status == 1
    scenes = ended.document["scenes"]
    assert [scene["state"] for scene in scenes] == ["invalid", "done", "done"]
    assert "B03.tif" in scenes[0]["reason"]
    assert scenes[0]["product"] == ""
    # It could not serve as another date either, and the product says so.
    item = json.loads(Path(scenes[1]["product"]).read_text())
    assert area.items[0] in {entry["id"] for entry in item["properties"]["declouder:references_skipped"]}


def test_bands_select_and_clip_keeps_what_lies_outside(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    west, south, east, north = map(float, area.aoi.split(","))
    half = f"{west},{south},{(west + east) / 2},{north}"
    arguments = area_run(area, tmp_path / "out", "--json", "--dates", "2023-07-13", "--bands", "red,B8A")
    ended = decloud(*(half if part == area.aoi else part for part in arguments), "--clip")
    assert ended.status == 0, ended.err
    folder = Path(ended.document["scenes"][0]["product"]).parent
    assert sorted(path.name for path in folder.glob("B*.tif")) == ["B04.tif", "B8A.tif"]
    with rasterio.open(folder / "provenance.tif") as dataset:
        provenance = dataset.read(1)
    assert (provenance[:, -40:] == 1).all()
    assert (provenance[:, :80] > 1).any()


def test_zarr_holds_the_same_pixels(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    import xarray as xr

    day = ("--dates", "2023-07-13", "--json", "--bands", "B04")
    cog = decloud(*area_run(area, tmp_path / "out", *day)).document["scenes"][0]["product"]
    ended = decloud(*area_run(area, tmp_path / "out", *day, "--format", "zarr"))
    assert ended.status == 0
    item = json.loads(Path(ended.document["scenes"][0]["product"]).read_text())
    with rasterio.open(Path(cog).parent / "B04.tif") as dataset:
        expected = dataset.read(1)
    folder = Path(ended.document["scenes"][0]["product"]).parent
    group = next(a["href"] for k, a in item["assets"].items() if a["href"].endswith("/B04")).rsplit("/", 1)[0]
    with xr.open_zarr(folder / group, mask_and_scale=False) as opened:
        np.testing.assert_array_equal(opened["B04"].to_numpy(), expected)


def test_a_terminal_gets_a_bar_that_leaves_nothing_but_the_results(scene: MadeScene, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "flows", *(str(argument) for argument in scene.arguments(tmp_path / "out"))]
    text = on_a_terminal(arguments)
    assert "scenes" in text
    assert "restore" in text
    assert "4 tiles" in text
    assert "note: 1 scene, identity, " in text
    assert "[1/1] 33UWP 2023-08-10: done in" in text
