"""The contenders do what they are said to do: same input, same output profile, same network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from odc.geo.geobox import GeoBox
from rio_cogeo.cogeo import cog_validate

from benchmarks.bench import bare, decode, ours
from benchmarks.bench.contenders import dask_overlap, naive, naive_overlap, network, rasters, terratorch_style
from benchmarks.bench.covers import FULL, SCATTERED, make_cover
from benchmarks.bench.job import Job
from benchmarks.bench.scenes import MadeScene, write_raster
from benchmarks.bench.weights import MARGIN, make_network
from pipeline.cog import creation_options
from pipeline.layers import Layer
from srgan.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("torch_threads")


@pytest.fixture
def job(scene: MadeScene, tmp_path: Path) -> Job:
    return Job(scene.files, str(tmp_path / "out"), str(tmp_path / "marks.json"), threads=1)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_network(tmp_path_factory.mktemp("network"))


def facts(job: Job) -> dict[str, Any]:
    marks = json.loads(Path(job.marks).read_text(encoding="utf-8"))
    assert marks["begin"] < marks["end"]
    return dict(marks["facts"])


LAYERS = {"cloudmask", "confidence", "provenance"}
"""What a product of ours has beside the bands."""


def same_pixels(job: Job) -> None:
    files = facts(job)["files"]
    assert sorted(set(files) - LAYERS) == sorted(job.bands)
    for name, path in job.bands.items():
        with rasterio.open(path) as given, rasterio.open(files[name]) as made:
            np.testing.assert_array_equal(made.read(1), given.read(1))
            assert (made.transform, made.crs, made.nodata) == (given.transform, given.crs, given.nodata)


def valid_cogs(job: Job) -> None:
    for path in facts(job)["files"].values():
        assert cog_validate(path, strict=True, quiet=True)[0]
        with rasterio.open(path) as file:
            assert file.block_shapes == [(512, 512)]
            assert (file.profile["compress"], file.overviews(1)) == ("zstd", [2])
    left = {path.name for path in Path(job.output).iterdir()}
    assert left == {f"{name}.tif" for name in job.bands}


@pytest.mark.parametrize("finish", ["cog", "memory", "tiled"])
def test_the_naive_loop_copies(job: Job, finish: str) -> None:
    job = replace(job, options={"finish": finish})
    naive.main(job)
    same_pixels(job)
    if finish != "tiled":
        valid_cogs(job)


@pytest.mark.parametrize("contender", [naive_overlap, terratorch_style, dask_overlap])
def test_with_the_identity_overlapping_contenders_copy(job: Job, contender: Any) -> None:
    contender.main(job)
    same_pixels(job)
    valid_cogs(job)


def test_ours_is_measured_on_the_same_files(job: Job, tmp_path: Path) -> None:
    mask = make_cover(FULL, tmp_path, 600)
    settings = {"checkpoint": "identity", "mask": str(mask), "references": 0, "max_generated": 1.0}
    job = replace(job, options={"settings": settings, "max_memory": "1GiB"})
    ours.main(job)
    same_pixels(job)
    # A digest of the product is one of all its pixels.
    assert {"cloudmask", "provenance"} <= set(facts(job)["files"])
    assert facts(job)["tiles_restored"] == facts(job)["tiles"] > 1


def test_the_profile_is_the_products() -> None:
    grid = GeoBox((1024, 1024), rasterio.Affine(10, 0, 0, 0, -10, 0), "EPSG:32633")
    own = creation_options(Layer("B02", "B02", grid, "uint16", 0))
    given = {key: value for key, value in rasters.COG.items() if key != "driver"}
    words = {"AVERAGE", "STANDARD", "ZSTD"}
    assert {key: own[key] for key in given if key in own} == {key: given[key] for key in given if key in own}
    assert words <= {value.upper() for value in own.values()} & set(given.values())


@pytest.mark.parametrize("contender", [naive, naive_overlap, terratorch_style, dask_overlap])
def test_all_run_the_same_network(job: Job, contender: Any, weights: Path, tmp_path: Path) -> None:
    """On one tile no window, batch or overlap comes in: all must say what the generator says, to the rounding."""
    single = {name: str(tmp_path / f"{name}.tif") for name in job.bands}
    for name, path in job.bands.items():
        with rasterio.open(path) as file:
            profile = {**file.profile, "width": 256, "height": 256}
            pixels = file.read(1)[:256, :256]
        with rasterio.open(single[name], "w", **profile) as file:
            file.write(pixels, 1)
    mask = make_cover(SCATTERED, tmp_path, 256)
    overlap = 0 if contender is dask_overlap else 32
    job = replace(
        job, bands=single, mask=str(mask), network=str(weights), overlap=overlap, options={"finish": "memory"}
    )
    contender.main(job)
    stack = torch.from_numpy(rasters.read_stack(job))
    assert stack.shape == (5, 256, 256)
    generator = load_checkpoint(weights).generator
    channels = [generator.spec.bands.index(name) for name in single]
    cloudy, present = torch.zeros(1, 13, 256, 256), torch.zeros(1, 13)
    cloudy[0, channels], present[0, channels] = stack[:4], 1
    with torch.inference_mode():
        said = generator(
            cloudy, present, stack[None, 4:], torch.ones(1, 1, 256, 256), torch.zeros(1, 0, 13, 256, 256),
            torch.zeros(1, 0, 1, 256, 256), torch.zeros(1, 0),
        ).restored[0, channels]  # fmt: skip
    expected = np.rint(said.numpy() * 10000).clip(0, 65535)
    assert (expected != np.rint(stack[:4].numpy() * 10000)).mean() > 0.5
    for band, path in zip(expected, facts(job)["files"].values(), strict=True):
        with rasterio.open(path) as file:
            assert np.abs(file.read(1) - band).max() <= 1


def test_the_network_asks_for_the_overlap_that_all_are_given(weights: Path, tmp_path: Path) -> None:
    assert load_checkpoint(weights).spec.margin == MARGIN == Job({"B02": "a"}, "", "").overlap
    again = make_network(tmp_path)
    assert again.read_bytes() == weights.read_bytes()
    assert make_network(tmp_path, seed=1).read_bytes() != weights.read_bytes()


def test_what_is_smaller_than_a_tile_is_filled_up(job: Job, weights: Path) -> None:
    predict = network.load(replace(job, network=str(weights)))
    with torch.inference_mode():
        assert predict(torch.rand(2, 5, 96, 64)).shape == (2, 4, 96, 64)


def test_the_bare_network_runs_the_tiles_of_our_run(job: Job, weights: Path, tmp_path: Path) -> None:
    mask = tmp_path / "two.tif"
    cloudy = np.zeros((600, 600), np.uint8)
    cloudy[:50, :50] = cloudy[:50, -50:] = 1
    write_raster(mask, lambda row, rows: cloudy[row : row + rows], 600, 10, "uint8", None)
    settings = {"checkpoint": str(weights), "mask": str(mask), "references": 0, "max_generated": 1.0}
    job = replace(job, options={"settings": settings})
    ours.main(job)
    run = facts(job)["tiles_restored"]
    again = replace(job, output=job.output + "2")
    bare.main(again)
    assert facts(again)["tiles_restored"] == run == 2


def test_decoding_reads_every_byte(scene: MadeScene) -> None:
    assert sum(map(decode.decode, scene.files.values())) == 2 * scene.pixels


def test_terratorchs_windows_fade_over_the_overlap() -> None:
    weights = terratorch_style.window(256, 32)
    assert weights.shape == (256, 256)
    # Neighbours at a stride of crop - overlap complete each other.
    side = weights[128] - terratorch_style.FLOOR
    torch.testing.assert_close(side[-32:] + side[:32], torch.ones(32))
    torch.testing.assert_close(side[32:-32], torch.ones(192))
    assert float(weights.min()) > 0


@pytest.mark.parametrize("length", [64, 256, 257, 480, 481, 2048])
def test_tiles_cover_an_axis_and_stay_inside(length: int) -> None:
    starts = rasters.offsets(length, 256, 224)
    covered = np.zeros(length, bool)
    for start in starts:
        covered[start : start + 256] = True
        assert start == 0 or start + 256 <= length
    assert covered.all()
    assert starts == sorted(set(starts))
