"""`Inputs`: the files that a model card is made from, read and held against each other.

A card whose parts are not of one model is worse than none. So the weights must be those of the JSON card, every report must be of these weights,
no scored group may have been trained on, and the training command must say what the card's settings say.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from benchmarks.model_card.words import Words, read_words
from catalogs.splits import Splits
from pipeline.errors import InvalidSettings
from pipeline.report import KIND, REPORT_JSON, SCHEMA_VERSION
from pipeline.report_methods import Methods
from srgan.card import card_spec, read_card
from srgan.spec import ModelSpec

_SEEN = re.compile(r"(\w+): (\d+) clear dates of (.+)")


@dataclass(frozen=True, eq=False)
class Report:
    """A folder that `decloud evaluate` wrote."""

    folder: Path
    document: Mapping[str, Any]

    @property
    def title(self) -> str:
        """The split and the tables, without folders."""
        tables = ", ".join(Path(table["file"]).stem for table in self.document["tables"])
        return f"{self.document['split']} ({tables})"

    @property
    def methods(self) -> Methods:
        """Who is compared."""
        return Methods.of(self.document)

    def picture(self, entry: Mapping[str, Any], name: str) -> Path:
        """The file of a picture. Raises InvalidSettings where the report has none or it is gone."""
        path = entry["pictures"].get(name)
        if path is None or not (self.folder / path).is_file():
            raise InvalidSettings(f"report {self.folder}: no picture {name!r} of {entry['id']}: evaluate anew")
        return self.folder / str(path)


@dataclass(frozen=True, eq=False)
class Log:
    """log.jsonl of a training."""

    label: str
    lines: Sequence[Mapping[str, Any]]

    def points(self, name: str) -> list[tuple[float, float]]:
        """(step, value) of a figure, where it was written as a number."""
        return [(line["step"], line[name]) for line in self.lines if isinstance(line.get(name), int | float)]


@dataclass(frozen=True, eq=False)
class Inputs:
    """Everything, consistent."""

    words: Words
    card: Mapping[str, Any]
    spec: ModelSpec
    weights: Path
    size: int
    """Bytes of the weights."""
    reports: Sequence[Report]
    logs: Sequence[Log]
    """The model's own first."""
    splits: Splits

    @property
    def seen(self) -> dict[str, tuple[str, ...]]:
        """Split -> groups that the store of the training held; empty where the card does not say."""
        training = self.card.get("training", {})
        parts = (_SEEN.fullmatch(part.strip()) for part in str(training.get("data", "")).split(";"))
        found = {part[1]: tuple(part[3].split(", ")) for part in parts if part}
        if not found and isinstance(training.get("chips_by_group"), Mapping):
            found = {"train": tuple(training["chips_by_group"])}
        return found


def read_inputs(
    weights: Path, reports: Sequence[Path], logs: Sequence[tuple[str, Path]], words: Path, splits: Path
) -> Inputs:
    """Read and check everything. Raises InvalidSettings, ModelError or CatalogError, which name the file and the fault."""
    card = read_card(weights)
    spec = card_spec(card, weights)
    try:
        blob = weights.read_bytes()
    except OSError as error:
        raise InvalidSettings(f"checkpoint {weights}: {error.strerror}") from error
    if hashlib.sha256(blob).hexdigest() != card.get("sha256"):
        raise InvalidSettings(f"checkpoint {weights}: its card is of other weights: copy both files again")
    inputs = Inputs(
        words=read_words(words),
        card=card,
        spec=spec,
        weights=weights,
        size=len(blob),
        reports=[read_report(folder) for folder in reports],
        logs=[read_log(label, path) for label, path in logs],
        splits=Splits.read(splits),
    )
    _check(inputs)
    return inputs


def read_report(folder: Path) -> Report:
    """The report in a folder. Raises InvalidSettings."""
    path = folder / REPORT_JSON
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidSettings(f"{path}: no readable report of `decloud evaluate` ({error})") from error
    kind = (document.get("kind"), document.get("schema_version")) if isinstance(document, dict) else None
    if kind != (KIND, SCHEMA_VERSION):
        raise InvalidSettings(f"{path}: no evaluation of version {SCHEMA_VERSION}")
    return Report(folder, document)


def read_log(label: str, path: Path) -> Log:
    """A log of the trainer. Raises InvalidSettings for a line that is none, and for a log without a line."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not lines or not all(isinstance(line["step"], int) for line in lines):
            raise ValueError("lines without a step, or none at all")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidSettings(f"{path}: no log of a training ({error})") from error
    return Log(label, lines)


def _check(inputs: Inputs) -> None:
    if not inputs.reports or not inputs.logs:
        raise InvalidSettings("a model card needs a report and a log")
    for report in inputs.reports:
        _check_report(report, inputs)
    seen = {name for groups in inputs.seen.values() for name in groups}
    for group in inputs.words.never_trained:
        if group in seen or inputs.splits.of(group) != "other":
            raise InvalidSettings(f"{group}: said never to be trained on, but it is in the data or not split `other`")
    settings = inputs.card.get("training", {}).get("settings")
    if isinstance(settings, Mapping):
        for name, said in command_settings(inputs.words.commands[-1]).items():
            if _at(settings, name) != said:
                raise InvalidSettings(f"training command: {name}={said}, but the card says {_at(settings, name)}")


def _check_report(report: Report, inputs: Inputs) -> None:
    document, seen = report.document, inputs.seen
    digest, wanted = str(document["checkpoint"]["digest"]), inputs.card["sha256"]
    if digest != wanted:
        raise InvalidSettings(f"report {report.folder}: of the weights {digest[:12]}, not {wanted[:12]}: evaluate anew")
    if not seen and document["split"] in ("train", "all"):
        raise InvalidSettings(f"report {report.folder}: of the split {document['split']!r}: nothing is held out")
    for group in sorted({image["group"] for image in document["images"]} & {*seen.get("train", ())}):
        raise InvalidSettings(f"report {report.folder}: scores {group}, which the model was trained on")


def command_settings(command: str) -> dict[str, Any]:
    """What the `--set NAME=VALUE` of a command line set.

    >>> command_settings("decloud train --set rate=0.0007 --set losses.style=0")
    {'rate': 0.0007, 'losses.style': 0}
    """
    words = shlex.split(command.replace("\\\n", " "))
    pairs = [word.partition("=") for flag, word in pairwise(words) if flag == "--set"]
    return {name: _value(text) for name, _, text in pairs}


def _value(text: str) -> Any:
    """YAML knows no 1e-4 without a point: a number is tried first."""
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return yaml.safe_load(text)


def _at(settings: Mapping[str, Any], name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
