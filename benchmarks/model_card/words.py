"""`Words`: what a person says of the model. Figures are not among it: those come from the reports, the card and the log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pipeline.errors import InvalidSettings

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Caption(_Frozen):
    """What goes well or wrong in one picture."""

    image: Text
    """Id of the image that was looked at: for another one the words are not true."""
    text: Text


class Failure(_Frozen):
    """A known failure, with a picture of it."""

    title: Text
    text: Text
    image: Text
    """Id of an image or a scene of one of the reports."""


class Words(_Frozen):
    """The file benchmarks/model_card.yaml."""

    title: Text
    description: Text
    intended_use: list[Text] = Field(min_length=1)
    not_intended: list[Text] = Field(min_length=1)
    data: list[Text] = Field(min_length=1)
    groups: dict[str, Text] = {}
    """Group that is held out -> what it shows."""
    never_trained: list[Text] = []
    """Groups that no training may have seen; checked."""
    commands: list[Text] = Field(min_length=1)
    """Of the training, in their order; the settings of the last are those of the card."""
    goals: dict[str, float] = {}
    """Metric -> what was asked for on real pairs without other dates, all pixels, 13 bands."""
    limits: list[Text] = []
    """What keeps the model from better scores."""
    captions: dict[str, dict[str, Caption]] = {}
    """Kind of image -> rank -> caption."""
    failures: list[Failure] = []
    licence: list[Text] = Field(min_length=1)
    attribution: list[Text] = Field(min_length=1)


def read_words(path: Path) -> Words:
    """The words in a YAML file. Raises InvalidSettings, naming the entry that does not fit."""
    try:
        return Words.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidSettings(f"{path}: no readable YAML ({' '.join(str(error).split()):.160})") from error
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "the file"
        raise InvalidSettings(f"{path}: {place}: {fault['msg']}") from error
