"""The model card says what the JSON card says, in tables that are tables, and nothing that was never measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from srgan.card import read_card, write_card
from srgan.checkpoint import PACKAGED, load_checkpoint, save_checkpoint
from srgan.errors import InvalidCheckpoint
from srgan.generator import Generator, parameter_count
from srgan.spec import ModelSpec
from tests.srgan.made import lively

torch.set_num_threads(1)
SPEC = ModelSpec(name="smallest", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1), margin=40)
CARD = {
    "description": "Trained on made scenes,\nfor tests only.",
    "training": {
        "data": "SEN12MS-CR, 24 chips",
        "split_hash": "abc123",
        "step": 80,
        "steps": 120,
        "devices": 1,
        "settings": {"model": "tiny", "rate": 0.0002, "start": "", "losses": {"style": 250.0, "structural": 1.0}},
        "chips": {"train": 24, "val": 5},
    },
    "scores": {
        "validation": {"psnr": 30.14159, "rmse_cloudy": 0.021},
        "rmse_before_training": 0.0305,
        "by kind": {"haze": {"psnr": 31.5, "sam": 4.2}, "thick|cloud": {"psnr": 25.25}},
        "rows": [{"bands": "13 bands", "chips": 7, "model": {"note": "x", "rmse": 0.034, "psnr": 29.96}}],
    },
    "limits": ["No snow was ever seen."],
}


@pytest.fixture(scope="module")
def generator() -> Generator:
    return lively(SPEC)


def written(folder: Path, generator: Generator, card: dict) -> str:
    path = write_card(save_checkpoint(folder / "mine.safetensors", generator, card))
    assert path == folder / "mine.md"
    return path.read_text()


def tables(text: str) -> list[list[list[str]]]:
    """The cells of every Markdown table, checked to be one: equal numbers of cells, a rule below the head."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()]
        assert len({len(row) for row in rows}) == 1, block
        assert set("".join(rows[1])) == {"-"}, block
        found.append([rows[0], *rows[2:]])
    return found


def test_every_figure_of_the_json_card_is_there(tmp_path, generator):
    text = written(tmp_path, generator, CARD)
    sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert sections == ["What it is", "Data", "Training", "Scores", "How to use it", "Limits"]
    assert text.startswith("# mine\n\nTrained on made scenes, for tests only.\n")
    assert "Steps: 80 of 120." in text
    assert "Split: sha256 `abc123`" in text
    assert "\nSEN12MS-CR, 24 chips\n" in text
    assert "- No snow was ever seen." in text
    assert "decloud run SOURCE --output out --checkpoint mine.safetensors" in text
    cells = {row[0]: row[1:] for table in tables(text) for row in table}
    card = read_card(tmp_path / "mine.safetensors")
    assert cells["parameters"] == [f"{parameter_count(generator):,}"]
    assert cells["margin"][0].startswith("40 pixels")
    assert cells["tiles"] == ["edges are multiples of 32 pixels, they start on multiples of 8"]
    assert card["sha256"] in cells["weights"][0]
    assert cells["rate"] == ["0.0002"]
    assert cells["style"] == ["250"]
    assert cells["train"] == ["24"]
    assert cells["psnr"] == ["30.142"]
    assert cells["rmse_before_training"] == ["0.0305"]
    kinds = next(table for table in tables(text) if table[0] == ["", "psnr", "sam"])
    assert kinds[1:] == [["haze", "31.5", "4.2"], [r"thick\|cloud", "25.25", ""]]
    rows = next(table for table in tables(text) if table[0][0] == "bands")
    assert rows == [["bands", "chips", "model, rmse"], ["13 bands", "7", "0.034"]]


@pytest.mark.parametrize("card", [{}, {"training": "by hand", "scores": [1, 2], "limits": "none"}])
def test_what_the_card_lacks_was_not_measured(tmp_path, generator, card):
    text = written(tmp_path, generator, card)
    parts = dict(re.findall(r"^## (.*)\n\n((?:.*\n)*?)(?=\n?## |\Z)", text, re.MULTILINE))
    assert parts["Data"].startswith("Data: not measured.")
    assert "sha256 `not measured`" in parts["Data"]
    assert parts["Training"].strip() == "Steps: not measured."
    assert parts["Scores"].strip() == "Not measured."
    tables(text)


def test_an_older_card_without_the_number_of_parameters(tmp_path, generator):
    path = save_checkpoint(tmp_path / "old.safetensors", generator, {})
    place = path.with_suffix(".json")
    place.write_text(
        json.dumps({key: value for key, value in json.loads(place.read_text()).items() if key != "parameters"})
    )
    assert ["parameters", "not measured"] in [row for table in tables(write_card(path).read_text()) for row in table]
    assert load_checkpoint(path).spec == SPEC


def test_the_packaged_card(tmp_path):
    source = PACKAGED / "default.json"
    if not source.is_file():
        pytest.skip("no packaged checkpoint in this tree")
    (tmp_path / "default.json").write_bytes(source.read_bytes())
    text = write_card(tmp_path / "default.safetensors").read_text()
    spec = ModelSpec.model_validate(json.loads(source.read_text())["spec"])
    assert f"{spec.margin} pixels" in text
    assert len(tables(text)) >= 3
    assert f"at least {max(2 * spec.margin, spec.multiple)} pixels" in text


def test_no_card_and_no_room(tmp_path, generator):
    with pytest.raises(InvalidCheckpoint, match=r"its card gone\.json is not beside it"):
        write_card(tmp_path / "gone.safetensors")
    (tmp_path / "bad.json").write_text('{"spec": {"name": "x"}}')
    with pytest.raises(InvalidCheckpoint, match="bad spec"):
        write_card(tmp_path / "bad.safetensors")
    written(tmp_path, generator, CARD)
    before = (tmp_path / "mine.md").read_text()
    (tmp_path / ".mine.md.part").mkdir()
    with pytest.raises(IsADirectoryError):
        write_card(tmp_path / "mine.safetensors")
    assert (tmp_path / "mine.md").read_text() == before


def test_weights_and_card_are_replaced_together(tmp_path, generator):
    path = save_checkpoint(tmp_path / "m.safetensors", generator, {"scores": {"a": 1}})
    before = load_checkpoint(path)
    # The card cannot be written: the weights, written before it, must not be there alone.
    (tmp_path / ".m.json.part").mkdir()
    with pytest.raises(IsADirectoryError):
        save_checkpoint(path, lively(SPEC, seed=9), {"scores": {"a": 2}})
    after = load_checkpoint(path)
    assert (after.digest, after.card) == (before.digest, before.card)
    assert not (tmp_path / ".m.safetensors.part").exists()
