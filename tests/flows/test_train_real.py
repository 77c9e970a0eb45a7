"""The whole of the training job on real data: trees > pair tables > chips > a trained network > its export > a scene."""

from __future__ import annotations

import shutil
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
CLEAR_PATCHES = 12


@pytest.fixture(scope="module")
def trees(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some pairs of SEN12MS-CR, and patches of SEN12MS-CR-TS of which there is one date."""
    folder = tmp_path_factory.mktemp("trees")
    for source in sorted((shared_data / "SEN12MSCR").rglob("*.tif")):
        parts = source.stem.split("_")
        if "_".join((parts[0], parts[1], parts[-2])) in SPLITS:
            copy(source, folder / source.relative_to(shared_data))
    patches: dict[str, list[Path]] = {}
    for source in sorted((shared_data / "SEN12MSCRTS").rglob("s2_*.tif")):
        patches.setdefault(source.stem.rsplit("_", 1)[1], []).append(source)
    single = [sources[0] for _, sources in sorted(patches.items()) if len(sources) == 1]
    for source in single[:CLEAR_PATCHES]:
        copy(source, folder / source.relative_to(shared_data))
    (folder / "splits.yaml").write_text(yaml.safe_dump(SPLITS))
    return folder


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_tiny_learns_real_thin_clouds_in_two_minutes(trees: Path, decloud: Decloud) -> None:
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
        "--export",
        "torchscript",
        "--json",
    )
    assert ended.status == 0, ended.err

    best = load_checkpoint(output / "best.safetensors")
    scores = best.card["scores"]
    before, after = scores["validation_rmse_cloudy_before_training"], scores["validation"]["rmse_cloudy"]
    print(f"validation RMSE on cloudy pixels {before:.5f} -> {after:.5f}")
    assert after <= 0.7 * before
    assert 0 < best.spec.margin <= 128
    assert best.card["training"]["split_hash"]

    # What came out runs over a scene, and leaves what is clear alone.
    chip = next((trees / "SEN12MSCR").rglob("*_s2_cloudy_136_p500.tif"))
    run = decloud(
        "run", str(chip), "--bands", ",".join(best.spec.bands), "--mask", "s2cloudless", "--references", "0",
        "--max-generated", "1", "--checkpoint", str(output / "export" / "best.ts"), "--output", str(trees / "out"),
    )  # fmt: skip
    assert run.status == 0, run.err
    (product,) = (trees / "out").glob("*/B04.tif")
    with rasterio.open(product) as restored, rasterio.open(chip) as source:
        with rasterio.open(product.with_name("provenance.tif")) as provenance:
            observed = provenance.read(1) == 1
        assert observed.any()
        assert not observed.all()
        assert (restored.read(1) == source.read(4))[observed].all()
