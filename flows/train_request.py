"""`TrainRequest`: everything that a training was asked for; the command line and the form in Prefect make the same one.

`TrainSettings` decides what is computed. What a request holds of it are the values that differ from the preset, so the
fields of `Overrides` are its fields without their defaults: one that is left empty is as the preset says.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    create_model,
    model_serializer,
    model_validator,
)

from flows.request import DeviceName
from pipeline.errors import InvalidSettings
from srgan.archive import Format
from srgan.errors import ModelError
from srgan.settings import TrainSettings, load_settings, parse_overrides

Preset = Literal["tiny", "small", "base", "seed"]
PRESETS: tuple[Preset, ...] = typing.get_args(Preset)


class Overrides(BaseModel):
    """Settings that differ from the preset's; base of one model for `TrainSettings` and each model inside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, values: Any) -> Any:
        """Refuse an unknown name with the nearest known one; empty fields of a form are none."""
        if not isinstance(values, dict):
            return values
        for name in values:
            if name not in cls.model_fields:
                near = difflib.get_close_matches(str(name), cls.model_fields, 1, 0.4)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(cls.model_fields)}"
                raise ValueError(f"{name} is no setting: {hint}")
        return {
            name: value
            for name, value in values.items()
            if value is not None or type(None) in typing.get_args(cls.model_fields[name].annotation)
        }

    @model_serializer(mode="wrap")
    def _given_only(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if name in self.model_fields_set}


def overrides_of(model: type[BaseModel]) -> type[Overrides]:
    """The fields of `model`, none of them required, without defaults in the schema, each with the same bounds."""

    def without_default(schema: dict[str, Any]) -> None:
        schema.pop("default", None)

    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        default: dict[str, Any] = {"default": None}
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = overrides_of(kind)
            default = {"default_factory": kind}
        if field.metadata:
            kind = Annotated[kind, *field.metadata]
        fields[name] = (kind, Field(description=field.description, json_schema_extra=without_default, **default))
    return create_model(f"{model.__name__}Overrides", __base__=Overrides, __doc__=model.__doc__, **fields)


SettingsOverrides: Any = overrides_of(TrainSettings)
"""`TrainSettings` as a form. Any: it is made of another model, which a type checker cannot follow."""


class TrainRequest(BaseModel):
    """A training: from what, into which folder, with which settings, and what is made of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: tuple[str, ...] = Field(
        min_length=1,
        description="Pair tables (.parquet, as `decloud pairs` writes them), or the folder of one chip store",
    )
    output: Path = Field(description="Folder of chips, training state, checkpoint, exports; made where it is missing")
    preset: Preset = Field("small", description="Settings to begin with: tiny (tests), small, base (GPU), seed")
    preset_file: str | None = Field(None, description="YAML file of settings to begin with, instead of a preset")
    settings: SettingsOverrides = Field(
        default_factory=SettingsOverrides, description="Settings that differ from the preset; empty: as the preset says"
    )
    splits: str | None = Field(
        None, description="YAML or JSON file {group: train|val|test|other}, instead of the tables' own splits"
    )
    vgg_weights: str | None = Field(
        None, description="VGG-16 weights (.safetensors or .pth); else $DECLOUD_VGG_WEIGHTS, torch's cache, a download"
    )
    device: DeviceName = Field("auto", description="auto, cpu, cuda or cuda:N")
    export: tuple[Format, ...] = Field(
        ("torchscript", "pt2"), description="Formats that the best checkpoint is exported to; onnx needs its extra"
    )

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        try:
            self.train_settings()
        except ModelError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def preset_named(self) -> str:
        """The preset, or the path of the file that stands for one."""
        return self.preset_file or self.preset

    def train_settings(self) -> TrainSettings:
        """The preset with what differs from it. Raises ModelError for values that do not fit together."""
        return load_settings(self.preset_named, self.settings.model_dump())


def make_train_request(values: dict[str, Any]) -> TrainRequest:
    """A request from plain values. Raises InvalidSettings, one line that names the option or the setting."""
    try:
        return TrainRequest.model_validate(values)
    except ValidationError as error:
        raise InvalidSettings(one_line(error)) from None


def one_line(error: ValidationError) -> str:
    """What is wrong with the first value that does not fit, named as on the command line.

    >>> try: TrainRequest(pairs=("a",), output="o", settings={"losses": {"styl": 0}})
    ... except ValidationError as error: print(one_line(error))
    --set losses: styl is no setting: did you mean style?
    """
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"] if not isinstance(part, int)]
    reason = first["msg"].removeprefix("Value error, ")
    reason = f"{reason[:1].lower()}{reason[1:]}"
    value = first.get("input") if isinstance(first.get("input"), str | int | float) else ""
    if not place:
        return reason
    if place[0] != "settings":
        return f"--{place[0].replace('_', '-')} {value}".rstrip() + f": {reason}"
    name = ".".join(place[1:])
    if first["type"] == "model_type":
        reason = f"it holds settings: write {name}.NAME=VALUE"
    return f"--set {name}{'=' if value != '' else ''}{value}".rstrip() + f": {reason}"


def nested_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Nested settings of `--set` options, values in YAML. Raises ModelError for a text that is none, InvalidSettings for two that clash.

    >>> nested_overrides(["losses.style=0", "losses.perceptual=0", "widths=[16, 32]"])
    {'losses': {'style': 0, 'perceptual': 0}, 'widths': [16, 32]}
    """
    nested: dict[str, Any] = {}
    for name, value in parse_overrides(texts).items():
        *outer, last = name.split(".")
        inner = nested
        for part in outer:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise InvalidSettings(f"--set {name}: {part} is given a value of its own too")
        if isinstance(inner.get(last), dict):
            raise InvalidSettings(f"--set {name}: settings inside it are given too")
        inner[last] = value
    return nested
