"""Checkpoints: what is written comes back, and every kind of bad file is named."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from srgan.checkpoint import PACKAGED, load_checkpoint, save_checkpoint
from srgan.errors import InvalidCheckpoint
from srgan.generator import Generator
from srgan.spec import ModelSpec
from tests.srgan.made import inputs, lively

torch.set_num_threads(1)
SPEC = ModelSpec(name="smallest", widths=(8, 8, 12, 12), depths=(1, 1, 1, 1), margin=40)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return lively(SPEC)


@pytest.fixture
def saved(tmp_path: Path, generator: Generator) -> Path:
    return save_checkpoint(tmp_path / "model.safetensors", generator, {"scores": {"rmse": 0.02}})


def resign(path: Path, **changes) -> None:
    """Write the card anew so that it fits the weights' bytes, with other entries changed."""
    place = path.with_suffix(".json")
    card = json.loads(place.read_text()) | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()} | changes
    place.write_text(json.dumps(card))


def test_what_is_saved_comes_back(tmp_path, generator):
    path = save_checkpoint(tmp_path / "full.safetensors", generator, {"scores": {}}, dtype=torch.float32)
    loaded = load_checkpoint(path)
    assert loaded.name == "full"
    assert loaded.spec == SPEC
    assert loaded.spec.margin == loaded.card["margin"] == 40
    assert loaded.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not loaded.generator.training
    given = inputs()
    assert torch.equal(loaded.generator(**given).restored, generator(**given).restored)


def test_half_precision_files_make_full_precision_models(saved, generator):
    loaded = load_checkpoint(str(saved))
    assert all(
        parameter.dtype == torch.float32 and not parameter.requires_grad for parameter in loaded.generator.parameters()
    )
    given = inputs()
    error = (loaded.generator(**given).restored - generator(**given).restored).abs().max()
    assert 0 < error < 0.01
    assert [entry.name for entry in sorted(saved.parent.iterdir())] == ["model.json", "model.safetensors"]


def test_the_packaged_default_loads_and_is_small():
    if not (PACKAGED / "default.safetensors").is_file():
        pytest.skip("no packaged checkpoint in this tree")
    loaded = load_checkpoint("default")
    assert loaded.name == "default"
    assert 0 < loaded.spec.margin <= 128
    assert (PACKAGED / "default.safetensors").stat().st_size <= 16 * 2**20


def test_missing(tmp_path):
    with pytest.raises(InvalidCheckpoint, match=r"no such file; packaged ones: "):
        load_checkpoint(tmp_path / "nothing.safetensors")
    with pytest.raises(InvalidCheckpoint, match=r"checkpoint defualt: no such file"):
        load_checkpoint("defualt")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(InvalidCheckpoint, match="no such file"):
        load_checkpoint(tmp_path)


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.safetensors", "model.ckpt"])
@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_is_refused_and_never_run(tmp_path, monkeypatch, name, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    else:
        torch.save({"bomb": Bomb()}, path)
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(InvalidCheckpoint, match=r"a pickle can run any code and is not read"):
        load_checkpoint(path)
    assert not (tmp_path / "exploded").exists()


def test_truncated(saved):
    saved.write_bytes(saved.read_bytes()[:-1000])
    with pytest.raises(InvalidCheckpoint, match="truncated or altered"):
        load_checkpoint(saved)
    resign(saved)
    with pytest.raises(InvalidCheckpoint, match="no readable safetensors"):
        load_checkpoint(saved)


@pytest.mark.parametrize("blob", [b"", b"abc", b"\xff" * 64, b'{"a": 1}'])
def test_not_safetensors(saved, blob):
    saved.write_bytes(blob)
    resign(saved)
    with pytest.raises(InvalidCheckpoint, match="no readable safetensors"):
        load_checkpoint(saved)


def test_one_changed_byte(saved):
    blob = bytearray(saved.read_bytes())
    blob[-7] ^= 1
    saved.write_bytes(blob)
    with pytest.raises(InvalidCheckpoint, match="sha256"):
        load_checkpoint(saved)


def test_card_missing_or_broken(saved):
    card = saved.with_suffix(".json")
    card.write_text("{ not json")
    with pytest.raises(InvalidCheckpoint, match="not readable JSON"):
        load_checkpoint(saved)
    card.write_text("[1, 2]")
    with pytest.raises(InvalidCheckpoint, match="no JSON object"):
        load_checkpoint(saved)
    card.write_text("{}")
    with pytest.raises(InvalidCheckpoint, match="no `spec`"):
        load_checkpoint(saved)
    card.unlink()
    with pytest.raises(InvalidCheckpoint, match=r"its card model\.json is not beside it"):
        load_checkpoint(saved)


def test_other_bands(saved):
    spec = SPEC.model_dump(mode="json") | {"bands": ["B02", "B03", "B04"]}
    resign(saved, spec=spec)
    with pytest.raises(InvalidCheckpoint, match="made for the bands B02 B03 B04"):
        load_checkpoint(saved)


def test_a_spec_without_its_version(saved):
    spec = SPEC.model_dump(mode="json")
    del spec["version"]
    resign(saved, spec=spec)
    with pytest.raises(InvalidCheckpoint, match="bad spec, version: it names none"):
        load_checkpoint(saved)


@pytest.mark.parametrize("change", [{"version": SPEC.version + 1}, {"widths": [8, 8]}, {"margin": -1}, {"name": ""}])
def test_a_bad_spec(saved, change):
    resign(saved, spec=SPEC.model_dump(mode="json") | change)
    with pytest.raises(InvalidCheckpoint, match="bad spec"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"spec": {"bands": null}}', "bands: None is no list"),
        ('{"spec": {"bands": 5}}', "bands: 5 is no list"),
        ('{"spec": {"bands": "B02"}}', "bands: 'B02' is no list"),
        ('{"spec": {"bands": [[1], {}]}}', "made for the bands"),
        ('{"spec": {"name": "x", "widths": [8, 8, 12, 12], "depths": [1, 1, 1, 1], "margin": Infinity}}', "margin"),
        (
            '{"spec": {"name": "x", "widths": [8, 8, 12, 12], "depths": [1, 1, 1, 1], "margin": 1025}}',
            "margin: 1025 is beyond",
        ),
        ('{"spec": ' + "[" * 100_000 + "]" * 100_000 + "}", "not readable JSON"),
    ],
    ids=["null", "number", "text", "nested", "infinity", "margin", "deep"],
)
def test_cards_of_every_wrong_kind(saved, text, said):
    saved.with_suffix(".json").write_text(text)
    with pytest.raises(InvalidCheckpoint, match=said) as caught:
        load_checkpoint(saved)
    assert "\n" not in str(caught.value)
    assert str(saved) in str(caught.value)


def test_other_shapes_and_foreign_tensors(saved, generator):
    resign(saved, spec=SPEC.model_dump(mode="json") | {"widths": [8, 8, 12, 16]})
    with pytest.raises(InvalidCheckpoint, match="has shape"):
        load_checkpoint(saved)
    tensors = generator.state_dict()
    resign(saved, spec=SPEC.model_dump(mode="json"))
    for change, message in (
        ({"surprise": torch.zeros(3)}, "surprise"),
        ({"stem.bias": torch.zeros(8, dtype=torch.int64)}, "finite real"),
    ):
        saved.write_bytes(save(tensors | change))
        resign(saved)
        with pytest.raises(InvalidCheckpoint, match=message):
            load_checkpoint(saved)


def test_weights_that_are_not_finite_are_neither_written_nor_read(saved, generator):
    before = saved.read_bytes()
    broken = lively(SPEC)
    broken.stem.bias[0] = 1e30  # finite, but not in half precision
    with pytest.raises(InvalidCheckpoint, match=r"stem\.bias is not finite"):
        save_checkpoint(saved, broken, {})
    assert saved.read_bytes() == before
    tensors = generator.state_dict()
    saved.write_bytes(save(tensors | {"stem.bias": torch.full_like(tensors["stem.bias"], float("nan"))}))
    resign(saved)
    with pytest.raises(InvalidCheckpoint, match=r"stem\.bias holds"):
        load_checkpoint(saved)


def test_every_message_is_one_line(saved):
    resign(saved, spec={"name": "x"})
    with pytest.raises(InvalidCheckpoint) as caught:
        load_checkpoint(saved)
    assert "\n" not in str(caught.value)
    assert str(saved) in str(caught.value)
