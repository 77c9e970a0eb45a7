"""`decloud export` and `decloud run` on what it wrote: one line for everything that goes wrong."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from srgan.checkpoint import save_checkpoint
from srgan.spec import BANDS, ModelSpec
from tests.flows.conftest import Decloud, MadeScene
from tests.srgan.made import lively

torch.set_num_threads(1)
SPEC = ModelSpec(name="smallest", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1), margin=20, guidance="none")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    return save_checkpoint(folder / "model.safetensors", lively(SPEC), {}, dtype=torch.float32)


def small(checkpoint: Path, output: object, *more: object) -> tuple[object, ...]:
    """An export that takes a second."""
    return (
        "export",
        checkpoint,
        "--format",
        "torchscript",
        "--output",
        output,
        "--tile",
        "64",
        "--references",
        "1",
        *more,
    )


def test_an_export_is_told_and_run(checkpoint: Path, scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    ended = decloud(*small(checkpoint, tmp_path / "model.ts"))
    assert ended.status == 0, ended.err
    for said in ("cloudy", "1x1x13x64x64", "reference_valid", "restored", " ".join(BANDS), "margin 20, grid 8 pixels"):
        assert said in ended.out
    assert "differs from model by at most 0 of reflectance on 7 made inputs" in ended.out
    assert ended.err.splitlines() == ["exporting model as torchscript, and comparing the file with the checkpoint"]

    told = decloud(*small(checkpoint, tmp_path / "other.torchscript", "--json", "--quiet"))
    assert told.err == ""
    assert told.document["path"] == str(tmp_path / "other.torchscript")
    assert told.document["max_difference"] == 0
    assert told.document["inputs"][4] | {"values": ""} == {
        "name": "references", "shape": [1, 1, 13, 64, 64], "dtype": "float32", "values": "",
    }  # fmt: skip

    output = tmp_path / "out"
    run = (
        "run",
        *scene.files,
        "--mask",
        scene.mask,
        "--references",
        "1",
        "--max-generated",
        "1",
        "--output",
        output,
        "--quiet",
    )
    done = decloud(*run, "--tile", "64", "--checkpoint", tmp_path / "model.ts", "--json")
    assert done.status == 0, done.err
    (product,) = done.document["scenes"]
    assert product["state"] == "done"
    assert Path(product["product"]).with_name("B08.tif").is_file()
    # The same file again is the same run.
    (again,) = decloud(*run, "--tile", "64", "--checkpoint", tmp_path / "model.ts", "--json").document["scenes"]
    assert (again["state"], again["product"]) == ("unchanged", product["product"])
    # From the checkpoint it is another.
    (other,) = decloud(*run, "--tile", "64", "--checkpoint", checkpoint, "--json").document["scenes"]
    assert other["product"] != product["product"]

    for options, line in (
        ((), f"--tile 256: --checkpoint {tmp_path / 'model.ts'} was exported for tiles of 64 pixels: give --tile 64"),
        (("--tile", "64", "--references", "2"), "takes at most 1: give --references 1"),
        (("--tile", "64", "--overlap", "33"), "--overlap 33: "),
    ):
        for command in ("run", "plan"):
            refused = decloud(command, *run[1:], "--checkpoint", tmp_path / "model.ts", *options)
            assert refused.status == 2
            assert line in refused.error


def test_a_small_tile_is_remarked(checkpoint: Path, tmp_path: Path, decloud: Decloud) -> None:
    ended = decloud(*small(checkpoint, tmp_path / "m.ts", "--tile", "32", "--references", "0"))
    assert ended.status == 0
    assert ended.err.startswith(
        "note: a tile of 32 is less than twice the margin of 20: `decloud run` will want an --overlap\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gone.safetensors", "--format", "pt2", "--output", "m.pt2"), "checkpoint gone.safetensors: no such file"),
        (("MODEL", "--format", "zip", "--output", "m.zip"), "'zip' is not one of 'torchscript', 'pt2', 'onnx'"),
        (("MODEL", "--format", "pt2", "--output", "m.ts"), "--output m.ts: a pt2 file is called *.pt2"),
        (("MODEL", "--format", "torchscript", "--output", "m.pt"), "is called *.ts or *.torchscript"),
        (("MODEL", "--format", "torchscript", "--output", "gone/m.ts"), "there is no folder gone; make it first"),
        (("MODEL", "--format", "torchscript", "--output", "/proc/m.ts"), "--output /proc/m.ts: "),
        (("MODEL", "--format", "torchscript", "--output", "m.ts", "--tile", "100"), "--tile 100: must be a multiple of 32"),
        (("MODEL", "--format", "torchscript", "--output", "m.ts", "--references", "9"), "--references 9: "),
        (("MODEL", "--format", "torchscript", "--output", "m.ts", "--batch", "0"), "--batch 0: "),
        (("m.pt2", "--format", "onnx", "--output", "m.onnx"), "checkpoint m.pt2: an exported file, no checkpoint"),
        (("MODEL", "--format", "torchscript"), "--output"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported(
    arguments: tuple[str, ...],
    said: str,
    checkpoint: Path,
    tmp_path: Path,
    decloud: Decloud,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.pt2").write_bytes(b"PK\x03\x04")
    ended = decloud("export", *(checkpoint if part == "MODEL" else part for part in arguments), "--quiet")
    assert ended.status == 2
    assert said in ended.error
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt2"]


def test_what_goes_wrong_on_the_way(
    checkpoint: Path, tmp_path: Path, decloud: Decloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        full = decloud(*small(checkpoint, tmp_path / "m.ts", "--quiet"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert full.status == 1
    assert "m.ts: cannot be written (File too large): nothing was left there" in full.error
    monkeypatch.setattr("srgan.parity.BOUND", -1.0)
    off = decloud(*small(checkpoint, tmp_path / "m.ts", "--quiet", "--json"))
    assert off.status == 1
    assert off.out == ""
    assert "m.ts: not written" in off.error
    assert "restored differs from the checkpoint's by 0 on `traced` inputs" in off.error
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    missing = decloud("export", checkpoint, "--format", "onnx", "--output", tmp_path / "m.onnx", "--quiet")
    assert missing.status == 2
    assert "onnx and onnxscript and onnxruntime not installed: pip install 'declouder[onnx]'" in missing.error


def test_files_that_no_run_can_use(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    (tmp_path / "cut.ts").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "model.onnx").write_bytes(b"")
    (tmp_path / "model.pt").write_bytes(b"")
    for name, said in (
        ("cut.ts", "cannot be read (no zip archive, or truncated): export or fetch it again"),
        ("model.onnx", "ONNX is for other programs and is not run here: give the checkpoint, a .pt2 or a .ts file"),
        ("model.pt", "a pickle can run any code and is not read"),
        ("gone.pt2", "no such file; `decloud export` makes one"),
    ):
        for command in ("run", "plan"):
            given = ("--mask", scene.mask, "--output", tmp_path / "out", "--checkpoint", tmp_path / name)
            ended = decloud(command, *scene.files, *given)
            assert ended.status == 2, ended.out
            assert name in ended.error
            assert said in ended.error
    assert not (tmp_path / "out").exists()
