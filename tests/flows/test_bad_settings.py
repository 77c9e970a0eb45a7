"""Checkpoints, masks, tiles and folders that no scene can be run with."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from tests.flows.conftest import Decloud, MadeScene, make_scene
from tests.flows.test_bad_input import invalid, nothing_published


def test_checkpoints_that_cannot_be_used(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    from pipeline.checkpoints import checkpoint_paths

    weights, card = checkpoint_paths("default")
    if not weights.is_file():
        pytest.skip("no default checkpoint is shipped yet")
    output = tmp_path / "out"
    missing = decloud(*scene.arguments(output, "--checkpoint", tmp_path / "gone.safetensors"))
    assert missing.status == 2
    assert "gone" in missing.error
    assert not output.exists()

    def refused(path: Path) -> str:
        # An overlap that fits the network's grid, so that nothing but the checkpoint is wrong.
        chosen = ("--checkpoint", path, "--overlap", "32")
        return invalid(decloud(*scene.arguments(output, *chosen, "--json", "--quiet")))

    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:100_000])
    cut.with_suffix(".json").write_bytes(card.read_bytes())
    assert "cut.safetensors" in refused(cut)

    disguised = tmp_path / "disguised.safetensors"
    disguised.write_bytes(pickle.dumps({"weights": 1}))
    disguised.with_suffix(".json").write_bytes(card.read_bytes())
    assert "pickle" in refused(disguised)
    nothing_published(output)

    # What name and card tell is told at once, before any scene.
    pickled = tmp_path / "model.pt"
    pickled.write_bytes(pickle.dumps({"weights": 1}))
    pickled.with_suffix(".json").write_bytes(card.read_bytes())
    other = tmp_path / "other.safetensors"
    other.write_bytes(weights.read_bytes())
    content = json.loads(card.read_text())
    content["spec"]["bands"] = ["B11", "B12"]
    other.with_suffix(".json").write_text(json.dumps(content))
    for path, said in ((pickled, "a pickle can run any code"), (other, "made for the bands B11 B12")):
        ended = decloud(*scene.arguments(output, "--checkpoint", path, "--overlap", "32"))
        assert ended.status == 2
        assert said in ended.error
        assert path.name in ended.error


def test_masks_that_cannot_be_used(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    ended = decloud(*scene.arguments(tmp_path / "out", "--mask", tmp_path / "gone.tif"))
    assert ended.status == 2
    assert "--mask" in ended.error
    other = make_scene(tmp_path / "far", origin=(900000.0, 5100000.0))
    reason = invalid(decloud(*scene.arguments(tmp_path / "out", "--mask", other.mask, "--json", "--quiet")))
    assert "mask" in reason
    nothing_published(tmp_path / "out")


def test_output_that_is_a_file(scene: MadeScene, tmp_path: Path, decloud: Decloud) -> None:
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        ended = decloud(*scene.arguments(output))
        assert ended.status == 2
        assert "is a file; name a folder" in ended.error
    assert (tmp_path / "file").read_text() == "mine"


def test_output_that_no_folder_can_be(
    scene: MadeScene, tmp_path: Path, decloud: Decloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for output, said in (("", "--output is empty"), ("x" * 300, "too long"), (tmp_path / "file", "is a file; name a")):
        for command in (("run", *scene.files), ("plan", *scene.files), ("demo",)):
            ended = decloud(*command, "--output", output)
            assert ended.status == 2, command
            assert said in ended.error
            assert "--output" in ended.error
            assert len(ended.error) < 300
            assert ended.err.splitlines() == [ended.error], "at once"
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tile", "64", "--overlap", "500"), "--overlap 500: at most 32 with --tile 64"),
        (("--overlap", "500"), "--overlap 500: at most 128 with --tile 256"),
        (
            ("--tile", "64", "--checkpoint", "card"),
            "--tile 64: --checkpoint card.safetensors needs a --tile of at least 128",
        ),
        (("--tile", "128", "--overlap", "50", "--checkpoint", "card"), "--overlap 50: "),
        (("--checkpoint", ""), "--checkpoint '' names no file"),
        (("--mask", "m" * 300), "no such file"),
    ],
)
def test_settings_that_fit_no_scene_are_refused_before_any(
    command: str,
    options: tuple[str, ...],
    said: str,
    scene: MadeScene,
    tmp_path: Path,
    decloud: Decloud,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    card = {"spec": {"name": "x", "version": 2, "margin": 64, "widths": [8, 16, 24, 32, 40, 48], "depths": [1] * 6}}
    Path("card.json").write_text(json.dumps(card))
    Path("card.safetensors").write_bytes(b"")
    given = ["card.safetensors" if part == "card" else part for part in options]
    if "--checkpoint" not in given:
        given += ["--checkpoint", "identity"]
    ended = decloud(command, *scene.files, "--mask", scene.mask, "--output", "out", *given)
    assert ended.status == 2, ended.out
    assert said in ended.error
    assert not Path("out").exists()


def test_output_without_permission(scene: MadeScene, decloud: Decloud) -> None:
    # Nobody may write there, the superuser included.
    ended = decloud(*scene.arguments(Path("/proc/out")))
    assert ended.status == 2
    assert "--output" in ended.error
    assert "/proc/out" in ended.error
