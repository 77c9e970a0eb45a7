"""The whole of the training job on real data: trees > pair tables > chips > a trained network > its export > a scene."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest
import rasterio
import yaml

from srgan.checkpoint import load_checkpoint
from tests.flows.conftest import Decloud

pytest.importorskip("s2cloudless")

SPLITS = {
    "ROIs1868_summer_100": "val",
    "ROIs2017_winter_102": "val",
    "ROIs1970_fall_136": "train",
    "ROIs2017_146": "train",
}


@dataclass(frozen=True)
class Training:
    """How much is trained on how much, and what has to come of it."""

    pairs: tuple[str, ...]
    """Names of pairs, of which the gate rejects some."""
    clear: tuple[str, ...]
    """Numbers of clear patches, of which the gate rejects some."""
    settings: tuple[str, ...]
    export: str
    """What becomes of the network before it goes over a scene."""
    left: float
    """The share of the error under cloud that may be left."""


# What the preset is for: two minutes on two cores; `make integration` trains it.
WHOLE = Training(
    ("ROIs1868_summer_*_100_p*", "ROIs2017_winter_*_102_p*", "ROIs1970_fall_*_136_p*"),
    ("100", "110", "124", "140", "141", "15", "17", "18", "19", "195", "198", "204"), (), "torchscript", 0.7,
)  # fmt: skip
# As far as it takes to see that it learns.
SHORT = Training(
    ("ROIs1868_summer_*_100_p100", "ROIs2017_winter_*_102_p*", "ROIs1970_fall_*_136_p[158]*"),
    ("100", "110", "17", "19", "195"),
    ("epochs=1", "epoch_steps=40", "rate=3.0e-3", "warmup=5", "average=0.9", "validation_samples=8", "margin_samples=1"),
    "none", 0.85,
)  # fmt: skip


@pytest.fixture
def trees(training: Training, shared_data: Path, tmp_path: Path) -> Path:
    """Some pairs of SEN12MS-CR, and patches of SEN12MS-CR-TS of which there is one date."""
    folder = tmp_path / "trees"
    for source in sorted((shared_data / "SEN12MSCR").rglob("*.tif")):
        if any(fnmatch(source.stem, name) for name in training.pairs):
            copy(source, folder / source.relative_to(shared_data))
    for number in training.clear:
        (source,) = (shared_data / "SEN12MSCRTS").rglob(f"s2_*_patch_{number}.tif")
        copy(source, folder / source.relative_to(shared_data))
    (folder / "splits.yaml").write_text(yaml.safe_dump(SPLITS))
    return folder


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "training", [pytest.param(WHOLE, id="whole", marks=pytest.mark.integration), pytest.param(SHORT, id="short")]
)
def test_tiny_learns_real_thin_clouds(training: Training, trees: Path, decloud: Decloud) -> None:
    tables = []
    for name, layout in (("SEN12MSCR", "sen12mscr"), ("SEN12MSCRTS", "sen12mscr-ts")):
        tables.append(str(trees / f"{name}.parquet"))
        made = decloud(
            "pairs",
            str(trees / name),
            "--layout",
            layout,
            "--splits",
            str(trees / "splits.yaml"),
            "--output",
            tables[-1],
        )
        assert made.status == 0, made.err
    output = trees / "run"
    ended = decloud(
        "train",
        *tables,
        "--output",
        str(output),
        "--preset",
        "tiny",
        "--device",
        "cpu",
        *(f"--set={setting}" for setting in training.settings),
        "--export",
        training.export,
        "--json",
    )
    assert ended.status == 0, ended.err

    best = load_checkpoint(output / "best.safetensors")
    scores = best.card["scores"]
    before, after = scores["validation_rmse_cloudy_before_training"], scores["validation"]["rmse_cloudy"]
    print(f"validation RMSE on cloudy pixels {before:.5f} -> {after:.5f}")
    assert after <= training.left * before
    assert 0 < best.spec.margin <= 128
    assert best.card["training"]["split_hash"]

    # What came out runs over a scene, and leaves what is clear alone.
    network = output / ("best.safetensors" if training.export == "none" else "export/best.ts")
    chip = next((trees / "SEN12MSCR").rglob("*_s2_cloudy_136_p500.tif"))
    run = decloud(
        "run", str(chip), "--bands", ",".join(best.spec.bands), "--mask", "s2cloudless", "--references", "0",
        "--max-generated", "1", "--checkpoint", str(network), "--output", str(trees / "out"),
    )  # fmt: skip
    assert run.status == 0, run.err
    (product,) = (trees / "out").glob("*/B04.tif")
    with rasterio.open(product) as restored, rasterio.open(chip) as source:
        with rasterio.open(product.with_name("provenance.tif")) as provenance:
            observed = provenance.read(1) == 1
        assert observed.any()
        assert not observed.all()
        assert (restored.read(1) == source.read(4))[observed].all()
