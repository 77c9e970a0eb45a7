"""What a training is asked for: options, form and settings are one model, and a slip is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from flows.train_command import build_train_request
from flows.train_request import PRESETS, TrainRequest, make_train_request, nested_overrides
from pipeline.errors import InvalidSettings
from srgan.errors import ModelError
from srgan.settings import PRESETS as PRESET_FILES
from srgan.settings import TrainSettings, load_settings


def request(**values: Any) -> TrainRequest:
    return make_train_request({"pairs": ["pairs.parquet"], "output": "out", **values})


def nested(model: type[BaseModel]) -> dict[str, Any]:
    """Field name -> description, or the same of the model inside."""
    return {
        name: nested(field.annotation)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        else field.description
        for name, field in model.model_fields.items()
    }


def test_every_setting_is_in_the_form_and_no_default_hides_the_presets_value() -> None:
    overrides = TrainRequest.model_fields["settings"].annotation
    assert isinstance(overrides, type)
    assert nested(overrides) == nested(TrainSettings)
    schema = TrainRequest.model_json_schema()
    forms = {name: form for name, form in schema["$defs"].items() if name.endswith("Overrides")}
    assert set(forms) == {"TrainSettingsOverrides", "LossWeightsOverrides", "SkySharesOverrides"}
    for name, form in forms.items():
        assert form["additionalProperties"] is False
        assert "required" not in form, name
        for field, shown in form["properties"].items():
            assert "default" not in shown, (name, field)
    rate = forms["TrainSettingsOverrides"]["properties"]["rate"]
    assert (rate["type"], rate["exclusiveMinimum"]) == ("number", 0)
    for name, shown in schema["properties"].items():
        assert shown.get("description"), name
    assert schema["required"] == ["pairs", "output"]


def test_presets_of_the_form_are_those_of_the_package() -> None:
    assert set(PRESETS) == {file.stem for file in PRESET_FILES.glob("*.yaml")}
    assert TrainRequest.model_json_schema()["properties"]["preset"]["enum"] == list(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_not_given_is_as_the_preset_says(preset: str) -> None:
    assert request(preset=preset).train_settings() == load_settings(preset)
    changed = request(preset=preset, settings={"epochs": 3, "losses": {"style": 7}}).train_settings()
    expected = load_settings(preset, {"epochs": 3, "losses.style": 7})
    assert changed == expected
    assert changed.losses.perceptual == load_settings(preset).losses.perceptual
    assert (changed.epochs, changed.losses.style) == (3, 7)


def test_empty_fields_of_a_form_are_as_the_preset_says_but_none_can_be_asked_for() -> None:
    # `tiny` sets both; only for epoch_steps is None a value.
    tiny = load_settings("tiny")
    assert tiny.epoch_steps is not None
    settings = request(preset="tiny", settings={"batch": None, "epoch_steps": None}).train_settings()
    assert (settings.batch, settings.epoch_steps) == (tiny.batch, None)


def test_a_request_survives_json_with_nothing_added(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: tiny\nepochs: 2\n")
    given = request(preset_file=str(file), settings={"skies": {"haze": 0.9}, "crop": 128}, export=[])
    stored = json.loads(given.model_dump_json())
    assert stored["settings"] == {"skies": {"haze": 0.9}, "crop": 128}
    again = make_train_request(stored)
    assert again.train_settings() == given.train_settings()
    assert (again.train_settings().epochs, again.train_settings().skies.haze, again.export) == (2, 0.9, ())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"settings": {"rat": 1}}, "--set: rat is no setting: did you mean rate?"),
        ({"settings": {"losses": {"styl": 0}}}, "--set losses: styl is no setting: did you mean style?"),
        ({"settings": {"zzzzz": 1}}, "--set: zzzzz is no setting: known are model,"),
        ({"settings": {"rate": -1}}, "--set rate=-1: input should be greater than 0"),
        ({"settings": {"rate": "fast"}}, "--set rate=fast: input should be a valid number"),
        ({"settings": {"crop": 100}}, "--set crop=100: input should be a multiple of 64"),
        ({"settings": {"losses": 3}}, "--set losses=3: it holds settings: write losses.NAME=VALUE"),
        ({"settings": {"gan_start": 0.9, "gan_ramp": 0.5}}, "gan_start 0.9 and gan_ramp 0.5"),
        ({"settings": {"guidance": "nothing"}}, "--set guidance=nothing: input should be 'none', 'concat'"),
        ({"preset": "smal"}, "--preset smal: input should be 'tiny', 'small', 'base' or 'seed'"),
        ({"preset_file": "nowhere.yaml"}, "nowhere.yaml: neither one of"),
        ({"export": ["onx"]}, "--export onx: input should be 'torchscript', 'pt2' or 'onnx'"),
        ({"device": "tpu"}, "--device tpu: give auto, cpu, cuda or cuda:N"),
        ({"pairs": []}, "--pairs: "),
        ({"output": None}, "--output: "),
    ],
)
def test_a_slip_is_one_line_that_names_it(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        request(**values)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_preset_with_a_typo_names_the_nearest_setting(tmp_path: Path) -> None:
    file = tmp_path / "typo.yaml"
    file.write_text(yaml.safe_dump({"epoch": 3}))
    with pytest.raises(InvalidSettings, match="did you mean epochs"):
        request(preset_file=str(file))


def test_overrides_as_text() -> None:
    texts = ["epochs=20", "losses.style=0", "losses.x=a=b", "whole_bands=true", "widths=[4, 8]"]
    assert nested_overrides(texts) == {
        "epochs": 20, "losses": {"style": 0, "x": "a=b"}, "whole_bands": True, "widths": [4, 8]
    }  # fmt: skip
    # YAML takes 2e-4 for text; the field makes it a number.
    assert request(settings=nested_overrides(["rate=2e-4"])).train_settings().rate == pytest.approx(2e-4)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["epochs"], "give NAME=VALUE"),
        (["=3"], "give NAME=VALUE"),
        (["a=[1"], "'a=[1': its value cannot be read"),
        (["losses=1", "losses.style=2"], "--set losses.style: losses is given a value of its own too"),
        (["losses.style=2", "losses=1"], "--set losses: settings inside it are given too"),
        (["losses.=3"], "--set losses:  is no setting"),
    ],
)
def test_overrides_that_are_none(texts: list[str], said: str) -> None:
    with pytest.raises((InvalidSettings, ModelError)) as caught:
        request(settings=nested_overrides(texts))
    assert said in str(caught.value)


def test_the_command_line_names_a_preset_or_a_file(tmp_path: Path) -> None:
    given = {"pairs": ["a", "b"], "output": tmp_path, "splits": None, "vgg_weights": None, "device": None}
    made = build_train_request(given, "tiny", ["epochs=2"], "pt2, onnx")
    assert (made.preset, made.preset_file, made.export, made.pairs) == ("tiny", None, ("pt2", "onnx"), ("a", "b"))
    assert made.train_settings().epochs == 2
    assert build_train_request(given, None, (), "none").export == ()
    (tmp_path / "mine.yaml").write_text("epochs: 9\n")
    made = build_train_request(given, str(tmp_path / "mine.yaml"), (), None)
    assert made.train_settings().epochs == 9
    with pytest.raises(InvalidSettings, match="preset smal: neither one of base, seed, small, tiny"):
        build_train_request(given, "smal", (), None)
