"""`decloud backfill --cube`: the products of all windows in one store, resumed and refused like everything else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr

from pipeline.cube import read_cube_state
from pipeline.publish import published_items
from pipeline.simulation.simulate import Simulated
from tests.flows.conftest import Decloud
from tests.flows.test_backfill import WEEKLY, backfill


def test_the_cube_holds_every_window_and_takes_what_it_lacks(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    output, cube = tmp_path / "out", tmp_path / "cube.zarr"
    bands = ("--bands", "B04,B8A")
    without = decloud(*backfill(area, output, *WEEKLY, *bands, "--json"))
    assert without.status == 0, without.err
    # Made afterwards from what is published already, as after a kill between the two.
    ended = decloud(*backfill(area, output, *WEEKLY, *bands, "--cube", cube, "--json"))
    assert ended.status == 0, ended.err
    assert (ended.document["published"], ended.document["cube"]) == (0, str(cube))
    products = [scene["product"] for line in ended.document["windows"] for scene in line["scenes"]]
    assert list(read_cube_state(cube).products) == products
    assert sorted(products) == published_items(output)
    with xr.open_zarr(cube, group="r10m", mask_and_scale=False) as opened:
        for number, product in enumerate(products):
            with rasterio.open(output / product / "B04.tif") as dataset:
                np.testing.assert_array_equal(opened["B04"][number].to_numpy(), dataset.read(1))
    before = {path: path.read_bytes() for path in cube.rglob("*") if path.is_file()}
    assert decloud(*backfill(area, output, *WEEKLY, *bands, "--cube", cube)).status == 0
    assert before == {path: path.read_bytes() for path in cube.rglob("*") if path.is_file()}

    other = decloud(*backfill(area, output, *WEEKLY, *bands, "--cube", cube, "--grid", "auto"))
    assert other.status == 2
    assert "leave --grid away" in other.error
    shutil.rmtree(cube)
    (cube / "mine").mkdir(parents=True)
    (cube / "zarr.json").write_text("{}")
    foreign = decloud(*backfill(area, tmp_path / "fresh", *WEEKLY, *bands, "--cube", cube))
    assert foreign.status == 2
    assert str(cube) in foreign.error
    assert not (tmp_path / "fresh").exists(), "nothing is declouded for a cube that cannot take it"


def test_products_that_do_not_fit_the_cube_do_not_stop_the_windows(
    area: Simulated, tmp_path: Path, decloud: Decloud
) -> None:
    cube = tmp_path / "cube.zarr"
    first = backfill(area, tmp_path / "a", "--dates", "2023-07-08/2023-07-10", "--bands", "B04", "--cube", cube)
    assert decloud(*first).status == 0
    steps = read_cube_state(cube).steps
    ended = decloud(*backfill(area, tmp_path / "b", *WEEKLY, "--bands", "B04,B8A", "--cube", cube, "--json"))
    assert ended.status == 1
    assert len(published_items(tmp_path / "b")) == 3
    windows = ended.document["windows"]
    assert [line["state"] for line in windows] == ["done"] * 3
    assert ended.document["failed"]
    problem = ended.document["cube_problem"]
    assert problem.startswith(f"{windows[0]['window']}: {windows[0]['scenes'][0]['product']}: has B04 B8A")
    assert problem.endswith("(2 more windows)")
    assert read_cube_state(cube).steps == steps, "what was there is left alone"
    plain = decloud(*backfill(area, tmp_path / "b", *WEEKLY, "--bands", "B04,B8A", "--cube", cube))
    assert plain.status == 1
    assert f"the cube is not complete: {problem}" in plain.out


def test_an_areas_grid_and_another_area(area: Simulated, tmp_path: Path, decloud: Decloud) -> None:
    output, cube = tmp_path / "out", tmp_path / "cube.zarr"
    month = ("--dates", "2023-07-08/2023-07-13", "--bands", "B04", "--cube", cube, "--grid", "auto")
    ended = decloud(*backfill(area, output, *month, "--json"))
    assert ended.status == 0, ended.err
    assert [step.day for step in read_cube_state(cube).steps] == ["2023-07-08", "2023-07-13"]
    west, south, east, north = map(float, area.aoi.split(","))
    half = f"{west},{south},{(west + east) / 2},{north}"
    arguments = [half if part == area.aoi else part for part in backfill(area, output, *month)]
    elsewhere = decloud(*arguments)
    assert elsewhere.status == 2
    assert "another area" in elsewhere.error
    nonsense = decloud(*backfill(area, output, "--cube", tmp_path / "c.zarr", "--grid", "EPSG:1,x"))
    assert nonsense.status == 2
    assert "--grid" in nonsense.error
