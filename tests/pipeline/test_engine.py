"""One scene through the engine: any cut gives the same files, a kill costs only blocks in flight, bad input is named."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.engine import decloud_scene
from pipeline.errors import InvalidScene, InvalidSettings, PipelineError, SceneRefused, WriteFailed
from pipeline.journal import Journal, latest
from pipeline.runner import run_scene, run_scenes
from pipeline.settings import DecloudSettings, Resources
from srgan.errors import ModelError
from srgan.spec import ModelSpec

from .fakes import Smoother
from .made import made_item, write_raster

KNOWN = ("VIS", "SWIR")
"""Band groups of `scene`: a network that knows its errors gives products with confidence."""
IDENTITY = DecloudSettings(checkpoint="identity", max_generated=1, references=0, tile=64, overlap=16)


def scene(folder: Path, size: int = 120, seed: int = 0, **changes):
    rng = np.random.default_rng(seed)
    scl = np.full((size // 2, size // 2), 4, np.uint8)
    scl[10:30, 5:25] = 9
    scl[40:50, 40:55] = 3
    bands = {
        "B02": rng.integers(300, 900, (size, size)).astype(np.uint16),
        "B03": rng.integers(300, 900, (size, size)).astype(np.uint16),
        "B04": rng.integers(300, 900, (size, size)).astype(np.uint16),
        "B11": rng.integers(900, 1900, (size // 2, size // 2)).astype(np.uint16),
        "B09": rng.integers(900, 1900, (size // 6, size // 6)).astype(np.uint16),
    }
    for pixels in bands.values():
        pixels[:, : pixels.shape[1] // 20] = 0
        half = pixels.shape[0] * 2 // 6
        pixels[half : half + half // 3, half : half + half // 3] += 5000
    return made_item(folder, bands, scl=scl, sun_azimuth=150.0, sun_elevation=50.0, **changes)


def pixels_of(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of the raster files of a product."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tif"))}


def test_resources_change_no_byte_of_the_product(tmp_path, monkeypatch):
    item = scene(tmp_path / "S2A_33TWL_20230810_0_L2A", 240)
    network = Smoother(groups=KNOWN)
    monkeypatch.setattr("pipeline.engine.open_restorer", lambda *_: network)
    results = []
    for i, resources in enumerate(
        [
            Resources(block=240),
            Resources(block=60, workers=1),
            Resources(block=24, workers=3),
            Resources(max_memory=2**31),
        ]
    ):
        product = decloud_scene(item, tmp_path / f"out{i}", IDENTITY, resources=resources)
        results.append(pixels_of(product.folder))
        assert product.provenance["generated"] > 0
        # However small the blocks, the network sees every tile once.
        assert network.calls == product.item["properties"]["declouder:settings"]["tiles_restored"]
        network.calls = 0
    assert "confidence.tif" in results[0]
    assert all(result == results[0] for result in results[1:])


@pytest.mark.parametrize("kind", ["cog", "zarr"])
def test_confidence_of_a_product(tmp_path, monkeypatch, kind):
    item = scene(tmp_path / "scene", 240)
    monkeypatch.setattr("pipeline.engine.open_restorer", lambda *_: Smoother(groups=KNOWN))
    settings = IDENTITY.model_copy(update={"format": kind})
    product = decloud_scene(item, tmp_path / "out", settings, resources=Resources(block=60))
    if kind == "cog":
        with rasterio.open(product.folder / "confidence.tif") as file:
            confidence = file.read(1)
        with rasterio.open(product.folder / "provenance.tif") as file:
            provenance = file.read(1)
    else:
        with xr.open_zarr(product.folder / f"{product.id}.zarr", group="r10m") as data:
            confidence, provenance = data.confidence.values, data.provenance.values
    # The scene is larger than what was restored: most of it was never in a block.
    assert np.array_equal(confidence == 100, provenance == 1)
    assert np.array_equal(confidence == 255, provenance == 0)
    replaced = confidence[provenance >= 2]
    assert replaced.max() <= 99
    assert np.unique(replaced).size > 20
    kinds = {"blended": 2, "generated": 4}
    means = {name: float(confidence[provenance == value].mean()) for name, value in kinds.items()}
    assert product.item["properties"]["declouder:confidence"] == pytest.approx(means, abs=0.01)


def test_a_network_that_knows_nothing_of_its_errors_makes_a_product_without_confidence(tmp_path):
    product = decloud_scene(scene(tmp_path / "scene"), tmp_path / "out", IDENTITY)
    assert not (product.folder / "confidence.tif").exists()
    assert "confidence" not in product.item["assets"]
    assert "declouder:confidence" not in product.item["properties"]


@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**16), block=st.sampled_from([12, 30, 66]), poison=st.sampled_from([None, float("nan")]))
def test_observed_means_equal_whatever_the_network(tmp_path_factory, monkeypatch, seed, block, poison):
    tmp_path = tmp_path_factory.mktemp("any")
    item = scene(tmp_path / "scene", seed=seed)
    monkeypatch.setattr("pipeline.engine.open_restorer", lambda *_: Smoother(poison=poison))
    product = decloud_scene(item, tmp_path / "out", IDENTITY, resources=Resources(block=block))
    with rasterio.open(product.folder / "provenance.tif") as file:
        provenance = file.read(1)
    for asset in item.bands.values():
        with rasterio.open(asset.href) as before, rasterio.open(product.folder / f"{asset.band}.tif") as after:
            source, result = before.read(1), after.read(1)
        factor = provenance.shape[0] // source.shape[0]
        same = (source == result).repeat(factor, 0).repeat(factor, 1)
        assert same[np.isin(provenance, [1, 5])].all()
        assert np.array_equal(source == 0, result == 0)
    shares = product.provenance
    assert (shares["refused"] > 0) == bool((provenance == 5).any())


def files_of(folder: Path) -> dict[str, bytes]:
    """Relative name -> bytes of every file that holds pixels, COG or Zarr."""
    inside = [path for store in folder.glob("*.zarr") for path in store.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted([*folder.glob("*.tif"), *inside])}


KILLED = """
import sys, time
from pathlib import Path
import pipeline.stream, pipeline.engine
from tests.pipeline.fakes import Smoother
from tests.pipeline.test_engine import IDENTITY, scene
from pipeline.settings import Resources

class Slow(Smoother):
    def restore(self, tiles):
        for result in super().restore(tiles):
            time.sleep(0.02)
            yield result

pipeline.engine.open_restorer = lambda *_: Slow(groups=("VIS", "SWIR"))
root = Path(sys.argv[1])
item = scene(root / "scene", 240)
settings = IDENTITY.model_copy(update={"format": sys.argv[2]})
pipeline.engine.decloud_scene(item, root / "out", settings, resources=Resources(block=24))
"""


@pytest.mark.parametrize(("blocks", "kind"), [(1, "cog"), (5, "zarr"), (9, "cog")])
def test_a_killed_run_resumes_and_gives_the_undisturbed_product(tmp_path, monkeypatch, blocks, kind):
    settings = IDENTITY.model_copy(update={"format": kind})
    root = Path(__file__).resolve().parents[2]
    staging = tmp_path / "out" / ".staging"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), kind], cwd=root) as process:
        while len(list(staging.glob("*/blocks/*.npz"))) < blocks:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    item = scene(tmp_path / "scene", 240)
    assert len(list(staging.glob("*/blocks/*.npz"))) >= blocks
    assert not list((tmp_path / "out").glob("scene_*"))
    network = Smoother(groups=KNOWN)
    monkeypatch.setattr("pipeline.engine.open_restorer", lambda *_: network)
    resumed = decloud_scene(item, tmp_path / "out", settings, resources=Resources(block=24))
    resumed_calls = network.calls
    straight = decloud_scene(item, tmp_path / "fresh", settings, resources=Resources(block=24))
    assert files_of(resumed.folder) == files_of(straight.folder)
    assert any("confidence" in name for name in files_of(resumed.folder))
    assert not list(staging.iterdir())
    assert resumed_calls < network.calls - resumed_calls


def test_ctrl_c_is_noted_and_raised(tmp_path, monkeypatch):
    item = scene(tmp_path / "scene")

    class Interrupted(Smoother):
        def restore(self, tiles):
            raise KeyboardInterrupt
            yield from tiles

    monkeypatch.setattr("pipeline.engine.open_restorer", lambda *_: Interrupted())
    journal = Journal(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        run_scene(item, tmp_path / "out", IDENTITY, journal=journal)
    assert latest(tmp_path / "out")[item.id].state == "interrupted"
    assert not list((tmp_path / "out").glob("scene_*"))


def test_one_bad_scene_never_stops_the_rest(tmp_path):
    good, bad = scene(tmp_path / "good"), scene(tmp_path / "bad")
    path = Path(bad.bands["B03"].href)
    path.write_bytes(path.read_bytes()[:5000])
    report = run_scenes([bad, good], tmp_path / "out", IDENTITY)
    assert [outcome.state for outcome in report.outcomes] == ["invalid", "done"]
    assert report.failed
    assert "B03.tif" in report.outcomes[0].reason
    assert {name: entry.state for name, entry in latest(tmp_path / "out").items()} == {"bad": "invalid", "good": "done"}


def everything_nodata(folder: Path):
    return made_item(folder, {"B02": np.zeros((64, 64), np.uint16)}, scl=np.zeros((32, 32), np.uint8))


def everything_cloudy(folder: Path):
    return made_item(folder, {"B02": np.full((64, 64), 9000, np.uint16)}, scl=np.full((32, 32), 9, np.uint8))


@pytest.mark.parametrize(
    ("make", "changes", "error", "message"),
    [
        (everything_nodata, {}, InvalidScene, "no valid pixel|every pixel is nodata"),
        (everything_cloudy, {"max_generated": 0.6}, SceneRefused, "100% of it would be made up .*--max-generated 0.6"),
        (scene, {"bands": ("B08",)}, PipelineError, "no band B08"),
        (
            scene,
            {"checkpoint": "nowhere.safetensors"},
            InvalidSettings,
            "--checkpoint nowhere.safetensors: .*cannot be read",
        ),
        (scene, {"mask": "nowhere.tif"}, InvalidSettings, "--mask nowhere.tif: cannot be read"),
        (
            scene,
            {"tile": 64, "overlap": 40},
            InvalidSettings,
            "overlap 40 must lie between 0 and half the tile size 64",
        ),
        (scene, {"clip": True}, InvalidSettings, "--clip needs an area"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, make, changes, error, message):
    item = make(tmp_path / "scene")
    with pytest.raises(error, match=message) as caught:
        decloud_scene(item, tmp_path / "out", IDENTITY.model_copy(update=changes))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").glob("scene_*"))
    assert not list((tmp_path / "out").glob("**/*.tif"))


@pytest.mark.parametrize("size", [6, 12, 60])
def test_tiny_scenes_work(tmp_path, size):
    item = made_item(
        tmp_path / "tiny",
        {"B02": np.full((size, size), 4000, np.uint16), "B09": np.full((size // 6, size // 6), 4000, np.uint16)},
        scl=np.full((size, size), 9, np.uint8),
    )
    product = decloud_scene(item, tmp_path / "out", IDENTITY)
    assert product.provenance["generated"] == 1


def test_one_pixel(tmp_path):
    item = made_item(tmp_path / "dot", {"B02": np.full((1, 1), 4000, np.uint16)}, scl=np.full((1, 1), 4, np.uint8))
    product = decloud_scene(item, tmp_path / "out", IDENTITY)
    assert product.provenance["observed"] == 1
    with rasterio.open(product.folder / "B02.tif") as file:
        assert file.read(1).tolist() == [[4000]]


def test_only_the_area_is_processed_with_clip(tmp_path, monkeypatch):
    from pyproj import Transformer
    from shapely import box, transform

    item = scene(tmp_path / "scene", 240)
    with rasterio.open(item.bands["B02"].href) as file:
        bounds = file.bounds
    back = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True).transform
    area = transform(box(bounds.left, bounds.bottom, bounds.left + 1000, bounds.top), back, interleaved=False)
    monkeypatch.setattr("pipeline.engine.open_restorer", lambda *_: Smoother(groups=KNOWN))
    whole = decloud_scene(item, tmp_path / "out", IDENTITY)
    part = decloud_scene(item, tmp_path / "out", IDENTITY.model_copy(update={"clip": True}), area=area)
    assert part.id != whole.id
    with rasterio.open(part.folder / "provenance.tif") as a, rasterio.open(whole.folder / "provenance.tif") as b:
        clipped, full = a.read(1), b.read(1)
    assert (clipped[:, 110:] <= 1).all()
    assert (full[:, 110:] > 1).any()
    assert (clipped[:, :100] > 1).any()
    with rasterio.open(part.folder / "confidence.tif") as file:
        confidence = file.read(1)
    # Clouds outside of the area are still there, and nothing can be said of what they hide.
    left = (clipped == 1) & (full > 2)
    assert left[:, 110:].any()
    assert (confidence[left] == 0).all()
    assert (confidence[full == 1] == 100).all()


def test_a_full_disk_is_named_and_leaves_no_product(tmp_path):
    item = scene(tmp_path / "scene", 240)
    code = (
        "import resource, signal, sys; from pathlib import Path; from tests.pipeline.test_engine import IDENTITY, scene\n"
        "from pipeline.engine import decloud_scene; from pipeline.errors import WriteFailed\n"
        "root = Path(sys.argv[1]); item = scene(root / 'scene', 240)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))\n"
        "try:\n    decloud_scene(item, root / 'out', IDENTITY)\nexcept WriteFailed as error:\n    print(error)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, capture_output=True, text=True, check=True
    )
    assert "space" in done.stdout
    assert done.stdout.count("\n") == 1
    assert not list((tmp_path / "out").glob("scene_*"))
    again = decloud_scene(item, tmp_path / "out", IDENTITY)
    assert not again.unchanged


def test_a_checkpoint_that_is_damaged_is_refused(tmp_path):
    item = scene(tmp_path / "scene")
    weights = tmp_path / "mine.safetensors"
    weights.write_bytes(b"\x80\x04pickle")
    settings = IDENTITY.model_copy(update={"checkpoint": str(weights)})
    (tmp_path / "mine.json").write_text('{"spec": {"margin": 3}}')
    with pytest.raises(ModelError, match="bad spec"):
        decloud_scene(item, tmp_path / "out", settings)
    (tmp_path / "mine.json").write_text(f'{{"spec": {ModelSpec.tiny().model_dump_json()}}}')
    with pytest.raises(ModelError, match="pickle"):
        decloud_scene(item, tmp_path / "out", settings)


def test_an_output_that_is_a_file_is_named(tmp_path):
    item = scene(tmp_path / "scene")
    (tmp_path / "out").write_text("")
    with pytest.raises(WriteFailed, match=r"not writable .*--output"):
        decloud_scene(item, tmp_path / "out", IDENTITY)


def test_a_product_is_replaced_when_asked(tmp_path):
    item = scene(tmp_path / "scene")
    first = decloud_scene(item, tmp_path / "out", IDENTITY)
    inode = first.folder.stat().st_ino
    assert decloud_scene(item, tmp_path / "out", IDENTITY).unchanged
    again = decloud_scene(item, tmp_path / "out", IDENTITY, overwrite=True)
    assert not again.unchanged
    assert again.folder.stat().st_ino != inode
    assert pixels_of(again.folder)


def test_a_mask_raster_decides_alone(tmp_path):
    item = scene(tmp_path / "scene")
    mask = np.zeros((120, 120), np.uint8)
    mask[60:90, 60:90] = 1
    path = write_raster(tmp_path / "mask.tif", mask, nodata=None)
    product = decloud_scene(item, tmp_path / "out", IDENTITY.model_copy(update={"mask": str(path), "grow": 0.0}))
    with rasterio.open(product.folder / "cloudmask.tif") as file:
        assert np.array_equal(file.read(1) == 3, mask == 1)


def test_the_cloud_mask_of_a_product_can_be_the_mask_of_a_run(tmp_path):
    item = scene(tmp_path / "scene")
    product = decloud_scene(item, tmp_path / "out", IDENTITY)
    path = product.folder / "cloudmask.tif"
    again = decloud_scene(item, tmp_path / "out", IDENTITY.model_copy(update={"mask": str(path)}))
    with rasterio.open(path) as first, rasterio.open(again.folder / "cloudmask.tif") as second:
        assert np.array_equal(first.read(1), second.read(1))
        assert first.tags()["DECLOUDER_CLASSES"] == "1"


def test_a_damaged_product_is_found_and_made_again(tmp_path):
    item = scene(tmp_path / "scene")
    product = decloud_scene(item, tmp_path / "out", IDENTITY)
    path = product.folder / "B03.tif"
    good = path.read_bytes()
    path.write_bytes(good[:-10] + b"damaged!!!")
    again = decloud_scene(item, tmp_path / "out", IDENTITY)
    assert not again.unchanged
    assert path.read_bytes() == good


def test_cloud_outside_the_area_is_not_taken_for_land(tmp_path):
    """With --clip the network still knows of the clouds that stay: nothing of them spreads into the area."""
    from pyproj import Transformer
    from shapely import box, transform

    pixels = np.full((128, 128), 1000, np.uint16)
    pixels[:, 40:] = 9000
    scl = np.full((128, 128), 4, np.uint8)
    scl[:, 40:] = 9
    item = made_item(tmp_path / "scene", dict.fromkeys(("B02", "B03", "B04", "B08"), pixels), scl=scl)
    with rasterio.open(item.bands["B02"].href) as file:
        left, bottom, top = file.bounds.left, file.bounds.bottom, file.bounds.top
    back = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True).transform
    area = transform(box(left, bottom, left + 600, top), back, interleaved=False)
    settings = DecloudSettings(references=0, max_generated=1, clip=True, grow=0.0)
    product = decloud_scene(item, tmp_path / "out", settings, area=area)
    with rasterio.open(product.folder / "B02.tif") as file:
        restored = file.read(1)[:, 46:58]
    assert restored.max() < 2000
    assert product.item["properties"]["eo:cloud_cover"] == pytest.approx(100 * (128 - 60) / 128, abs=1)


def test_something_unforeseen_in_one_scene_is_a_failure_of_that_scene(tmp_path, monkeypatch):
    good, odd = scene(tmp_path / "good"), scene(tmp_path / "odd")

    class Odd(Smoother):
        def restore(self, tiles):
            raise ZeroDivisionError("never thought of")
            yield from tiles

    networks = iter([Odd(), Smoother()])
    monkeypatch.setattr("pipeline.engine.open_restorer", lambda *_: next(networks))
    report = run_scenes([odd, good], tmp_path / "out", IDENTITY)
    assert [outcome.state for outcome in report.outcomes] == ["failed", "done"]
    assert "unexpected ZeroDivisionError: never thought of" in report.outcomes[0].reason


def test_the_whole_world_is_an_area_that_holds_every_scene(tmp_path):
    from shapely import box

    item = scene(tmp_path / "scene")
    clipped = decloud_scene(
        item, tmp_path / "out", IDENTITY.model_copy(update={"clip": True}), area=box(-180, -90, 180, 90)
    )
    whole = decloud_scene(item, tmp_path / "out", IDENTITY)
    assert files_of(clipped.folder) == files_of(whole.folder)
