"""bf16 is used where a scene's own tiles show that it keeps its promise; the rest of the world stays in fp32, keys included."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from catalogs.item import SceneItem
from pipeline import precision
from pipeline.engine import decloud_scene
from pipeline.errors import InvalidSettings, WriteFailed
from pipeline.inference import TileInput, TorchRestorer, open_restorer
from pipeline.precision import Precision, compared, keep_apart
from pipeline.product import Product
from pipeline.runkey import run_key
from pipeline.settings import DecloudSettings, Resources
from srgan.checkpoint import load_checkpoint, save_checkpoint
from srgan.export import export_checkpoint
from srgan.spec import ModelSpec
from tests.srgan.made import lively

from .fakes import made_job
from .made import made_item

SPEC = ModelSpec(name="smallest", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1), margin=16, guidance="none")


@pytest.fixture
def item(tmp_path: Path) -> SceneItem:
    rng = np.random.default_rng(2)
    scl = np.full((60, 60), 4, np.uint8)
    scl[10:40, 12:44] = 9
    bands = {name: rng.integers(300, 3000, (120, 120)).astype(np.uint16) for name in ("B02", "B03", "B04", "B08")}
    return made_item(tmp_path / "scene", bands, scl=scl)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "model.safetensors", lively(SPEC), {}, dtype=torch.float32)


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device with bf16: this one works it out step by step, with the same result."""
    monkeypatch.setattr("srgan.precision.lacks_bf16", lambda device: "")  # noqa: ARG005


def run(item: SceneItem, model: Path, output: Path, asked: str, **resources: object) -> Product:
    settings = DecloudSettings(checkpoint=str(model), tile=64, max_generated=1, precision=asked)
    return decloud_scene(item, output, settings, resources=Resources(**resources))  # type: ignore[arg-type]


def pixels(product: Product) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted(product.folder.glob("B*.tif")):
        with rasterio.open(path) as file:
            found[path.stem] = file.read(1).astype(int)
    return found


@pytest.mark.usefixtures("able")
def test_bf16_that_keeps_its_promise_is_used_and_recorded(item, model, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "SHARE", 0.0)
    plain, half = (run(item, model, tmp_path / "out", asked) for asked in ("fp32", "bf16"))
    said = half.item["properties"]["declouder:precision"]
    assert (said["asked"], said["used"], said["bound_dn"]) == ("bf16", "bf16", 2)
    assert "declouder:precision" not in plain.item["properties"]
    assert half.item["properties"]["declouder:settings"]["precision"] == "bf16"
    assert "precision" not in plain.item["properties"]["declouder:settings"]
    assert plain.id != half.id
    apart = np.stack(
        [np.abs(ours - theirs) for ours, theirs in zip(pixels(plain).values(), pixels(half).values(), strict=True)]
    )
    assert apart.max() > 0
    # All tiles of so small a scene are looked at: what they say of the tiles holds for the product that is composed of them.
    assert apart.max() <= said["max_dn"] + 1
    assert said["tiles"] <= 8
    assert said["values"] > 1000
    assert 0 <= said["p99.9_dn"] <= said["max_dn"]


@pytest.mark.usefixtures("able")
def test_bf16_that_breaks_it_is_given_up_with_a_warning(item, model, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(precision, "BOUND", 0)
    monkeypatch.setattr(precision, "SHARE", 1.0)
    with caplog.at_level(logging.WARNING):
        plain, half = (run(item, model, tmp_path / "out", asked) for asked in ("fp32", "bf16"))
    assert half.item["properties"]["declouder:precision"]["used"] == "fp32"
    assert half.item["properties"]["declouder:precision"]["within_bound"] < 1
    (said,) = [message for message in caplog.messages if "bf16" in message]
    assert "it is restored in fp32" in said
    assert all(
        np.array_equal(ours, theirs) for ours, theirs in zip(pixels(plain).values(), pixels(half).values(), strict=True)
    )


@dataclass
class Shifting:
    """In bf16, so many DN further in every third column."""

    by: int
    precision: str = "fp32"

    def restore(self, tiles: Iterable[TileInput]) -> Iterator[np.ndarray]:
        for tile in tiles:
            out = np.round(tile.cloudy, 4)
            if self.precision == "bf16":
                out[:, :, ::3] += np.float32(self.by * 1e-4)
            # An expected error behind the bands, whose difference is nobody's concern.
            yield np.concatenate([out, out[:1] + (self.precision == "bf16")])


@pytest.mark.parametrize("by", [0, 2, 7])
def test_what_is_compared_are_the_pixels_that_will_be_composed_in_dn(by):
    job = made_job(4, 66, 90, tile=24, overlap=6)
    found = compared(Shifting(by), job)  # type: ignore[arg-type]
    assert found.tiles == 8
    assert found.highest == by
    share = 1.0 if by <= 2 else 2 / 3
    assert found.within == pytest.approx(share, abs=0.02)
    assert found.percentile == by
    assert found.holds == (by <= 2)
    targeted = sum(
        int((job.target[tile.rows, tile.cols]).sum()) for tile in precision._chosen(job)
    )  # fmt: skip
    # Three bands; pixels without data in any band are not composed.
    assert 0.9 * 3 * targeted <= found.values <= 3 * targeted


def test_the_tiles_that_are_looked_at_are_the_plans_alone():
    job = made_job(4, 66, 90, tile=24, overlap=6)
    needed = list(job.plan.touching(slice(0, 66), slice(0, 90)))
    looked_at = precision._chosen(job)
    assert looked_at == sorted(looked_at)
    assert (looked_at[0], looked_at[-1]) == (needed[0], needed[-1])
    assert len({*looked_at}) == min(8, len(needed))


def test_where_bf16_cannot_be_it_is_refused_in_one_line(item, model, tmp_path, monkeypatch):
    monkeypatch.setattr("srgan.precision._cpu_flags", lambda: {"avx2"})
    with pytest.raises(
        InvalidSettings, match=r"--precision bf16: cpu has no AVX512_BF16 or AMX .* use --precision fp32"
    ):
        run(item, model, tmp_path / "out", "bf16")
    export_checkpoint(load_checkpoint(model), tmp_path / "model.ts", "torchscript", tile=64, references=2)
    with pytest.raises(InvalidSettings, match=r"--precision bf16: model computes as it was exported"):
        run(item, tmp_path / "model.ts", tmp_path / "out", "bf16")
    assert not list((tmp_path / "out").glob("*_*"))


def test_without_a_network_there_is_no_precision(item, tmp_path):
    settings = DecloudSettings(checkpoint="identity", tile=64, max_generated=1, precision="bf16")
    assert "declouder:precision" not in decloud_scene(item, tmp_path / "out", settings).item["properties"]


def test_keys_of_fp32_are_what_they_were_before_there_was_a_choice(item):
    settings = {name: DecloudSettings(checkpoint="identity", precision=name) for name in ("auto", "fp32", "bf16")}
    keys = {name: run_key(item, each) for name, each in settings.items()}
    assert keys["auto"].digest == keys["fp32"].digest != keys["bf16"].digest
    assert "precision" not in keys["auto"].parts["settings"]
    assert keys["bf16"].parts["settings"]["precision"] == "bf16"
    for each in settings.values():
        again = DecloudSettings.model_validate(each.model_dump(mode="json"))
        assert (again.precision == "bf16") == (each.precision == "bf16")
    assert DecloudSettings.model_json_schema()["properties"]["precision"]["enum"] == ["auto", "fp32", "bf16"]


def test_a_promise_is_kept_or_broken_at_the_bound():
    assert Precision(8, 1000, 0.999, 2, 9).holds
    assert not Precision(8, 1000, 0.9989, 3, 9).holds
    restorer = open_restorer("default", ("B02", "B03", "B04", "B08"), "cpu")
    assert isinstance(restorer, TorchRestorer)
    assert (restorer.precision, restorer.checked) == ("fp32", None)
    restorer.close()


@dataclass
class Found:
    """A restorer after its check."""

    precision: str
    checked: Precision | None = field(default_factory=lambda: Precision(1, 1, 1.0, 0, 0))


def staged_in(folder: Path) -> list[str]:
    for name in ("blocks", "tiles"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "0_64.npz").write_bytes(b"numbers")
    return left(folder)


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.npz"))


def test_what_was_staged_in_one_precision_is_not_used_in_the_other(tmp_path):
    staged = tmp_path / "staged"
    keep_apart(staged, Found("bf16"))
    made = staged_in(staged)
    keep_apart(staged, Found("bf16"))
    assert left(staged) == made == ["blocks/0_64.npz", "tiles/0_64.npz"]
    keep_apart(staged, Found("fp32"))
    assert left(staged) == []
    staged_in(staged)
    keep_apart(staged, Found("fp32"))
    assert left(staged) == made
    keep_apart(staged, Found("bf16"))
    assert left(staged) == []


def test_what_nobody_noted_the_precision_of_is_made_again(tmp_path):
    staged_in(tmp_path)
    keep_apart(tmp_path, Found("bf16"))
    assert left(tmp_path) == []
    # Cut short while it was noted.
    staged_in(tmp_path)
    (tmp_path / "precision").write_text("bf")
    keep_apart(tmp_path, Found("bf16"))
    assert left(tmp_path) == []


def test_runs_that_nobody_asked_for_bf16_keep_their_blocks(tmp_path):
    made = staged_in(tmp_path)
    keep_apart(tmp_path, Found("fp32", None))
    keep_apart(tmp_path, open_restorer("identity", ("B02",)))
    assert left(tmp_path) == made
    assert not (tmp_path / "precision").exists()


def test_a_precision_that_cannot_be_noted_is_one_line(tmp_path):
    (tmp_path / "staged").write_text("a file where a folder should be")
    with pytest.raises(WriteFailed, match=r"staged/precision: precision not noted \(.*\); free space"):
        keep_apart(tmp_path / "staged", Found("bf16"))
