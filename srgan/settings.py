"""`TrainSettings`: everything that decides what a training computes, and the presets that come with the package."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from srgan.errors import InvalidSettings
from srgan.spec import SIZES, ModelSpec

LARGEST = 10**9
"""Of counts: more is a slip of the hand, and no machine's integer need hold it."""
PRESETS = Path(__file__).parent / "presets"
"""Folder of the YAML files that come with the package: tiny, small, base, seed."""


class LossWeights(BaseModel):
    """Weight of each of the six terms; 0 leaves a term out, and then it costs nothing either."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    reconstruction: float = Field(1.0, ge=0, description="Mean absolute error, twice under clouds")
    perceptual: float = Field(0.1, ge=0, description="L1 between VGG-16 features")
    style: float = Field(250.0, ge=0, description="L1 between Gram matrices of VGG-16 features")
    structural: float = Field(1.0, ge=0, description="Structure map, and half of 1 - MS-SSIM")
    gradient_consistency: float = Field(1.0, ge=0, description="Gradient maps, and Sobel of each band")
    adversarial: float = Field(0.01, ge=0, description="The discriminator's opinion, after its ramp")
    uncertainty: float = Field(
        0.02, ge=0, description="Likelihood of the expected error; the image is the same without it"
    )

    @property
    def needs_vgg(self) -> bool:
        """Whether a term looks through VGG-16."""
        return self.perceptual > 0 or self.style > 0


class SkyShares(BaseModel):
    """How often each kind of synthetic sky is drawn; the sum need not be 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    haze: float = Field(0.4, ge=0, le=1000, description="Thin cloud and haze: the ground is seen")
    broken: float = Field(0.35, ge=0, le=1000, description="Cumulus with gaps and shadows")
    overcast: float = Field(0.1, ge=0, le=1000, description="Nothing but cloud")
    cirrus: float = Field(0.15, ge=0, le=1000, description="High thin ice cloud")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not any(self.model_dump().values()):
            raise ValueError("every sky has share 0: at least one must be drawn")
        return self


class TrainSettings(BaseModel):
    """Everything that decides what a run computes. Frozen; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: Literal["tiny", "small", "base"] = Field("small", description="Size of the generator")
    guidance: Literal["none", "concat", "error_feedback"] = Field("error_feedback", description="How the branches act")
    widths: tuple[int, ...] | None = Field(None, description="Channels of each level instead of the size's own")
    depths: tuple[int, ...] | None = Field(None, description="Blocks of each level instead of the size's own")
    discriminator_width: int = Field(64, ge=4, le=1024, description="Channels of the discriminator's first layer")
    start: str = Field("", description="Checkpoint to start from; it must have this architecture")

    epochs: int = Field(100, ge=1, le=LARGEST, description="Length of the run, and of the schedule")
    epoch_steps: int | None = Field(
        None, ge=1, le=LARGEST, description="Steps of an epoch; left out: each clear date once"
    )
    batch: int = Field(4, ge=1, le=4096, description="Synthetic samples a step, on each device")
    real_batch: int | None = Field(
        None, ge=0, le=4096, description="Real cloudy samples a step; left out: as many as synthetic"
    )
    crop: int = Field(256, ge=64, multiple_of=64, description="Edge of a training crop, pixels")
    seed: int = Field(0, ge=0, lt=2**63, description="Of weights, order, clouds and everything else that is drawn")

    skies: SkyShares = Field(default_factory=SkyShares, description="How often each kind of synthetic sky is drawn")
    transplants: float = Field(
        0.15, ge=0, le=1, description="Share of synthetic samples under a real, transplanted cloud"
    )
    paired: float = Field(0.8, ge=0, le=1, description="Share of real samples compared with their clear date")
    whole_bands: bool = Field(default=False, description="Never leave bands out (what is left out is drawn at random)")
    hold_guess: bool = Field(default=True, description="Ask for the first guess where the ground cannot be seen")

    rate: float = Field(2e-4, gt=0, le=1, description="Learning rate of the generator at its highest")
    discriminator_share: float = Field(
        0.5, gt=0, le=1, description="Learning rate of the discriminator, as a share of that"
    )
    beta1: float = Field(0.5, ge=0, lt=1, description="Decay of Adam's mean of the gradient")
    beta2: float = Field(0.999, ge=0, lt=1, description="Decay of Adam's mean of the squared gradient")
    decay: float = Field(0.0, ge=0, description="Weight decay, decoupled (AdamW)")
    warmup: int = Field(0, ge=0, description="Steps over which the rate rises")
    schedule: Literal["constant", "cosine"] = Field("cosine", description="How the rate goes on")
    clip: float = Field(1.0, gt=0, description="Norm to which a gradient is cut")
    average: float = Field(0.999, ge=0, lt=1, description="Moving average of the weights; shorter at the start")
    losses: LossWeights = Field(default_factory=LossWeights, description="Weight of each term of the loss")
    gan: Literal["lsgan", "hinge"] = Field(
        "lsgan", description="Loss of the discriminator: lsgan (least squares) or hinge"
    )
    gan_start: float = Field(0.1, ge=0, le=1, description="Share of the steps before the adversarial term begins")
    gan_ramp: float = Field(0.1, ge=0, le=1, description="Share of the steps over which it rises to its weight")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 trunk on CUDA, else fp32")

    validation_samples: int = Field(
        24, ge=1, le=LARGEST, description="Half of them synthetic, half real where there are such"
    )
    margin_samples: int = Field(8, ge=1, description="Scenes on which the margin of the finished model is measured")
    save_every: int | None = Field(None, ge=1, description="Steps between saves of `last`; left out: each epoch")
    shares_every: int = Field(100, ge=1, description="Steps between looks at each term's share of the gradient")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.gan_start + self.gan_ramp > 1:
            raise ValueError(f"gan_start {self.gan_start} and gan_ramp {self.gan_ramp} go beyond the end of the run")
        self.spec  # noqa: B018 - raises where widths and depths do not fit
        if self.crop % self.spec.multiple:
            raise ValueError(f"crop {self.crop}: {self.spec.levels} levels need a multiple of {self.spec.multiple}")
        return self

    @property
    def spec(self) -> ModelSpec:
        """The generator to train."""
        own = SIZES[self.model](self.guidance)
        changes = {name: value for name in ("widths", "depths") if (value := getattr(self, name)) is not None}
        return ModelSpec.model_validate(own.model_dump() | changes) if changes else own


def load_settings(preset: str | Path = "small", overrides: Mapping[str, Any] | None = None) -> TrainSettings:
    """Settings of a preset (`tiny`, `small`, `base`, `seed`, or a YAML file), with `overrides` on top.

    Overrides are nested, or have dots: `{"losses.style": 0}`. Raises InvalidSettings, naming the nearest known name, where a key is
    unknown or a value is out of range.
    """
    file, where = _preset_file(preset), f"preset {preset}"
    try:
        content = yaml.safe_load(file.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InvalidSettings(f"{where}: {file} is no readable YAML file ({reason:.120})") from error
    if not isinstance(content, dict):
        raise InvalidSettings(f"{where}: {file} holds no names and values")
    for key, value in (overrides or {}).items():
        _put(content, str(key).split("."), value, where)
    return make_settings(content, where)


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """`["losses.style=0"]` to `{"losses.style": 0}`, values read as YAML. Raises InvalidSettings for one without `=`."""
    overrides = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise InvalidSettings(f"setting {pair!r}: give NAME=VALUE, like losses.style=0")
        try:
            overrides[name.strip()] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InvalidSettings(f"setting {pair!r:.120}: its value cannot be read") from error
    return overrides


def make_settings(content: Mapping[str, Any], where: str = "settings") -> TrainSettings:
    """Checked settings; InvalidSettings says in one line what is wrong."""
    try:
        return TrainSettings.model_validate(content)
    except ValidationError as error:
        raise InvalidSettings(f"{where}: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """The first fault of a validation in one line; for an unknown name, the nearest that is known."""
    fault = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        model: type[BaseModel] = TrainSettings
        for part in fault["loc"][:-1]:
            annotation = model.model_fields[str(part)].annotation
            model = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else model
        near = difflib.get_close_matches(str(fault["loc"][-1]), model.model_fields, 1, 0.4)
        hint = f": did you mean {near[0]}?" if near else f": known are {', '.join(model.model_fields)}"
        return f"{place} is no setting{hint}"
    return (
        f"{place}: {fault['msg']} (given: {reprlib.repr(fault['input']):.60})"
        if place
        else str(fault["msg"]).removeprefix("Value error, ")
    )


def _preset_file(preset: str | Path) -> Path:
    packaged = PRESETS / f"{preset}.yaml"
    if isinstance(preset, str) and preset.isidentifier() and packaged.is_file():
        return packaged
    file = Path(preset)
    if not file.is_file():
        known = ", ".join(sorted(entry.stem for entry in PRESETS.glob("*.yaml")))
        raise InvalidSettings(f"preset {preset}: neither one of {known} nor a YAML file")
    return file


def _put(content: dict[str, Any], path: list[str], value: Any, where: str) -> None:
    """Set a nested value."""
    for name in path[:-1]:
        inner = content.setdefault(name, {})
        if not isinstance(inner, dict):
            raise InvalidSettings(f"{where}: {'.'.join(path)} is no setting: {name} has no parts")
        content = inner
    if isinstance(value, Mapping) and isinstance(content.get(path[-1]), dict):
        content[path[-1]] = {**content[path[-1]], **value}
    else:
        content[path[-1]] = value
