"""The pipeline on exported files: the same pixels as from the checkpoint, and one line where tile or dates do not fit."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from pipeline.checkpoints import check_fits, checkpoint_digest, checkpoint_reach
from pipeline.engine import decloud_scene
from pipeline.errors import InvalidSettings
from pipeline.inference import TileInput, TorchRestorer, open_restorer
from pipeline.plan import plan_scene
from pipeline.product import Product
from pipeline.settings import DecloudSettings
from srgan.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from srgan.errors import InvalidExport
from srgan.export import export_checkpoint
from srgan.exported import load_exported
from srgan.spec import BANDS, ModelSpec
from tests.srgan.made import lively

from .made import WHEN, made_item

torch.set_num_threads(1)
SPEC = ModelSpec(name="smallest", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1), margin=16, guidance="none")
NAMES = ("B02", "B03", "B04", "B08")
SIZE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model.safetensors`, `model.pt2` and `model.ts`, tiles of 64 and two references, and `three.ts`, three tiles a pass."""
    folder = tmp_path_factory.mktemp("exported")
    save_checkpoint(folder / "model.safetensors", lively(SPEC), {}, dtype=torch.float32)
    checkpoint = load_checkpoint(folder / "model.safetensors")
    for name, kind, batch in (("model.pt2", "pt2", 1), ("model.ts", "torchscript", 1), ("three.ts", "torchscript", 3)):
        export_checkpoint(checkpoint, folder / name, kind, tile=SIZE, references=2, batch=batch)
    return folder


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    return load_checkpoint(folder / "model.safetensors")


def tiles(count: int, dates: int, size: int = SIZE) -> list[TileInput]:
    rng = np.random.default_rng(11)
    return [
        TileInput(
            cloudy=rng.random((4, size, size), np.float32) * 0.4,
            mask=(rng.random((size, size)) < 0.3).astype(np.float32),
            valid=rng.random((size, size)) < 0.95,
            references=rng.random((dates, 4, size, size), np.float32) * 0.4,
            reference_valid=rng.random((dates, size, size)) < 0.8,
            days=tuple(float(3 * i - 5) for i in range(dates)),
        )
        for _ in range(count)
    ]


def restored(restorer: TorchRestorer, given: list[TileInput]) -> list[np.ndarray]:
    try:
        return list(restorer.restore(iter(given)))
    finally:
        restorer.close()


@pytest.mark.parametrize("name", ["model.pt2", "model.ts", "three.ts"])
def test_an_export_restores_as_its_checkpoint_does(folder, checkpoint, name):
    exported = load_exported(folder / name)
    for dates in (0, 1, 2):
        given = tiles(4, dates)
        expected = restored(TorchRestorer(checkpoint, NAMES), given)
        for workers in (1, 3):
            found = restored(TorchRestorer(exported, NAMES, workers=workers), given)
            assert len(found) == 4
            for ours, theirs in zip(expected, found, strict=True):
                # One date of two is summed with an invalid one, and three tiles a pass take other code: a last bit may move.
                assert np.abs(ours - theirs).max() <= (0 if dates == 2 and name != "three.ts" else 1e-6)


def test_more_dates_and_other_tiles_than_exported_are_refused(folder, checkpoint):
    exported = load_exported(folder / "model.ts")
    with pytest.raises(InvalidSettings, match=r"--references 3: model takes at most 2: give --references 2"):
        restored(TorchRestorer(exported, NAMES), tiles(1, 3))
    with pytest.raises(InvalidSettings, match=r"--tile 128: model was exported for tiles of 64 pixels: give --tile 64"):
        restored(TorchRestorer(exported, NAMES), tiles(1, 2, 128))
    with pytest.raises(InvalidSettings, match=r"--references 5: model takes at most 4: give --references 4"):
        restored(TorchRestorer(checkpoint, NAMES), tiles(1, 5))


def test_what_a_run_needs_to_know_is_read_without_torch(folder):
    code = (
        "import sys; from pipeline.checkpoints import *; "
        "print([(checkpoint_reach(p), checkpoint_limits(p).tile, checkpoint_digest(p)) for p in sys.argv[1:]], 'torch' in sys.modules)"
    )
    paths = [str(folder / name) for name in ("model.safetensors", "model.pt2", "model.ts")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    found, _, loaded = done.stdout.strip().rpartition(" ")
    assert loaded == "False"
    digests = [
        hashlib.sha256((folder / "model.safetensors").read_bytes() + (folder / "model.json").read_bytes()),
        hashlib.sha256((folder / "model.pt2").read_bytes()),
        hashlib.sha256((folder / "model.ts").read_bytes()),
    ]
    expected = [((16, 8), tile, digest.hexdigest()) for tile, digest in zip((None, 64, 64), digests, strict=True)]
    assert found == repr(expected)
    restorer = open_restorer(str(folder / "model.ts"), NAMES, "cpu")
    restorer.close()
    assert (restorer.margin, restorer.grid, restorer.digest) == (16, 8, digests[2].hexdigest())


def test_settings_that_do_not_fit_are_named_before_anything_is_read(folder, tmp_path):
    item = made_item(tmp_path / "scene", {"B02": np.full((64, 64), 900, np.uint16)})
    path = str(folder / "model.pt2")
    good = DecloudSettings(checkpoint=path, tile=64)
    check_fits(good)
    for changes, said in (
        (
            {"tile": 256},
            rf"--tile 256: --checkpoint {path} was exported for tiles of 64 pixels: give --tile 64, or export it",
        ),
        ({"references": 3}, rf"--references 3: --checkpoint {path} takes at most 2: give --references 2"),
        ({"checkpoint": "default", "references": 5}, r"--references 5: --checkpoint default takes at most 4"),
    ):
        settings = good.model_copy(update=changes)
        for run in (check_fits, lambda settings: decloud_scene(item, tmp_path / "out", settings)):
            with pytest.raises(InvalidSettings, match=said):
                run(settings)
        plan = plan_scene(item, tmp_path / "out", settings)
        assert plan.state == "invalid"
        assert "--references" in plan.reason or "--tile" in plan.reason
    assert not (tmp_path / "out").exists()
    check_fits(DecloudSettings(checkpoint="identity", references=8))


def test_files_that_no_run_can_use(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("model.pt", "model.PTH", "model.ckpt"):
        for ask in (checkpoint_digest, checkpoint_reach):
            with pytest.raises(
                InvalidSettings, match=rf"--checkpoint {name}: a pickle can run any code and is not read"
            ):
                ask(name)
    with pytest.raises(InvalidExport, match=r"export m\.onnx: ONNX is for other programs and is not run here"):
        checkpoint_reach("m.onnx")
    with pytest.raises(InvalidExport, match=r"export gone\.pt2: no such file"):
        checkpoint_reach("gone.pt2")
    with pytest.raises(InvalidSettings, match=r"--checkpoint gone\.pt2: gone\.pt2 cannot be read"):
        checkpoint_digest("gone.pt2")
    Path("cut.ts").write_bytes((folder / "model.ts").read_bytes()[:5000])
    with pytest.raises(InvalidExport, match=r"export cut\.ts: cannot be read \(no zip archive, or truncated\)"):
        checkpoint_reach("cut.ts")
    card = json.loads((folder / "model.json").read_text())
    card["spec"]["widths"] = [8] * 12
    card["spec"]["depths"] = [1] * 12
    Path("deep.json").write_text(json.dumps(card))
    Path("deep.safetensors").write_bytes(b"")
    with pytest.raises(InvalidSettings, match=r"a margin of 16 and a grid of 2048 pixels, beyond any tile"):
        checkpoint_reach("deep.safetensors")


def pixels(product: Product, name: str) -> np.ndarray:
    with rasterio.open(product.folder / name) as file:
        return file.read(1)


def compared(first: Product, second: Product) -> int:
    """Number of pixels that were replaced; raises where the two products differ by more than one DN."""
    names = {path.name for path in first.folder.glob("*.tif")}
    assert names == {path.name for path in second.folder.glob("*.tif")}
    provenance = pixels(first, "provenance.tif")
    assert np.array_equal(provenance, pixels(second, "provenance.tif"))
    for name in names - {"provenance.tif"}:
        ours, theirs = (pixels(product, name).astype(int) for product in (first, second))
        assert np.abs(ours - theirs).max() <= 1, name
    return int((provenance >= 3).sum())


def test_a_product_from_an_export_is_that_of_its_checkpoint(folder, tmp_path):
    rng = np.random.default_rng(2)
    scl = np.full((60, 60), 4, np.uint8)
    scl[10:40, 12:44] = 9
    bands = {name: rng.integers(300, 3000, (120, 120)).astype(np.uint16) for name in NAMES}
    bands["B11"] = rng.integers(900, 1900, (60, 60)).astype(np.uint16)
    item = made_item(tmp_path / "scene", bands, scl=scl)
    products = []
    for name in ("model.safetensors", "model.ts"):
        settings = DecloudSettings(checkpoint=str(folder / name), tile=64, max_generated=1)
        products.append(decloud_scene(item, tmp_path / "out", settings))
    assert compared(*products) > 1000
    assert products[0].id != products[1].id
    models = [product.item["properties"] for product in products]
    assert checkpoint_digest(str(folder / "model.ts")) in json.dumps(models[1])
    assert checkpoint_digest(str(folder / "model.ts")) not in json.dumps(models[0])


def test_real_dates_of_one_place(folder, tmp_path, shared_data):
    def item(side: str, day: int):
        path = shared_data / f"SEN12MSCR/ROIs1868_summer_{side}/{side}_102/ROIs1868_summer_{side}_102_p100.tif"
        with rasterio.open(path) as file:
            bands = {name: file.read(BANDS.index(name) + 1).astype(np.uint16) for name in NAMES}
        blue = bands["B02"].reshape(128, 2, 128, 2).mean((1, 3))
        scl = np.where(blue > np.quantile(blue, 0.7), 9, 4) if side == "s2_cloudy" else np.full((128, 128), 4)
        return made_item(tmp_path / side, bands, scl=scl, when=WHEN.replace(day=day))

    cloudy, clear = item("s2_cloudy", 10), item("s2", 15)
    products = []
    for name in ("model.safetensors", "model.pt2"):
        settings = DecloudSettings(checkpoint=str(folder / name), tile=64)
        products.append(decloud_scene(cloudy, tmp_path / "out", settings, candidates=[clear]))
    assert compared(*products) > 5000
    assert (pixels(products[0], "provenance.tif") == 3).any(), "with the other date"
    assert products[0].id != products[1].id
