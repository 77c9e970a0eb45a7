"""Presets: they load, and a typo in one is named with the word that was meant."""

from __future__ import annotations

import pytest
import yaml

from srgan.errors import InvalidSettings
from srgan.settings import PRESETS, TrainSettings, load_settings, parse_overrides


@pytest.mark.parametrize("name", sorted(file.stem for file in PRESETS.glob("*.yaml")))
def test_every_preset_loads_and_survives_json(name):
    settings = load_settings(name)
    assert TrainSettings.model_validate_json(settings.model_dump_json()) == settings


def test_the_seed_preset_is_what_was_asked_for():
    seed = load_settings("seed")
    assert (seed.epochs, seed.batch, seed.crop, seed.rate, seed.schedule) == (100, 4, 256, 1e-4, "constant")


def test_the_six_weights_are_those_of_the_paper_beside_that_of_the_expected_error():
    assert load_settings("base").losses.model_dump() == {
        "reconstruction": 1, "perceptual": 0.1, "style": 250, "structural": 1, "gradient_consistency": 1, "adversarial": 0.01,
        "uncertainty": 0.02,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"bacth": 3}, "bacth is no setting: did you mean batch"),
        ({"losses.styel": 0}, "losses.styel is no setting: did you mean style"),
        ({"losses": {"styel": 0}}, "losses.styel is no setting: did you mean style"),
        ({"skies.xyzzy": 0}, "known are haze, broken, overcast, cirrus"),
        ({"batch.size": 3}, "batch has no parts"),
        ({"batch": 0}, "batch: .*greater than or equal to 1.*given: 0"),
        ({"crop": 100}, "crop: .*multiple of 64"),
        ({"rate": "fast"}, "rate: .*valid number.*'fast'"),
        ({"rate": float("nan")}, "rate: "),
        ({"rate": float("inf")}, "rate: .*finite"),
        ({"clip": float("inf")}, "clip: .*finite"),
        ({"losses.style": float("inf")}, "losses.style: .*finite"),
        ({"skies.haze": 1e308}, "skies.haze: "),
        ({"seed": -1}, "seed: "),
        ({"seed": 2**64}, "seed: "),
        ({"batch": 10**8}, "batch: "),
        ({"epoch_steps": 10**24}, "epoch_steps: "),
        ({"discriminator_width": 10**9}, "discriminator_width: "),
        ({"widths": [10**9, 16, 16, 16], "depths": [1, 1, 1, 1]}, "at most 16 levels, 4096 channels"),
        ({"widths": [16] * 7, "depths": [1] * 7}, "crop 64: 7 levels need a multiple of 128"),
        ({"gan_start": 0.7, "gan_ramp": 0.7}, "beyond the end"),
        ({"skies": {"haze": 0, "broken": 0, "overcast": 0, "cirrus": 0}}, "every sky has share 0"),
        ({"widths": [16, 32]}, "2 widths and 6 depths"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(overrides, said):
    with pytest.raises(InvalidSettings, match=said) as caught:
        load_settings("tiny", overrides)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("preset tiny: ")


def test_overrides_are_nested_or_dotted():
    dotted = load_settings("tiny", {"losses.style": 3, "epochs": 2})
    assert dotted == load_settings("tiny", {"losses": {"style": 3}, "epochs": 2})
    assert dotted.losses.style == 3
    assert dotted.losses.perceptual == load_settings("tiny").losses.perceptual


def test_widths_change_the_model_and_nothing_else():
    settings = load_settings("tiny", {"widths": [8, 8, 12, 12], "depths": [1, 1, 1, 1]})
    assert settings.spec.widths == (8, 8, 12, 12)
    assert settings.spec.name == "tiny"


def test_a_file_is_a_preset(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"model": "tiny", "batch": 3}))
    assert load_settings(file).batch == 3
    assert load_settings(str(file), {"batch": 5}).batch == 5


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [", "no readable YAML"),
        ("- 1", "no names and values"),
        ("epocs: 3", "did you mean epochs"),
        ("\x00", "YAML"),
    ],
)
def test_a_broken_preset_file(tmp_path, content, said):
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(InvalidSettings, match=said):
        load_settings(file)


def test_an_unknown_preset():
    with pytest.raises(InvalidSettings, match="neither one of base, seed, small, tiny nor a YAML file"):
        load_settings("huge")


def test_values_of_the_command_line_are_yaml():
    assert parse_overrides(["batch=3", "losses.style=1.5", "guidance=none", "save_every=null"]) == {
        "batch": 3, "losses.style": 1.5, "guidance": "none", "save_every": None,
    }  # fmt: skip
    for wrong in ("batch", "=3", "batch=[", ""):
        with pytest.raises(InvalidSettings, match="setting"):
            parse_overrides([wrong])
