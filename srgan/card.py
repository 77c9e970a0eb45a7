"""The card of a release checkpoint: `<name>.json` for programs, `<name>.md` for people. No torch here.

The JSON card says what the model is, what it saw and what it scored; `srgan.checkpoint` writes and checks it. The Markdown card is made
from the JSON card alone (`write_card`), so it holds no figure that the other lacks: what was never recorded reads "not measured".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from pydantic import ValidationError

from srgan.atomic import write_atomic
from srgan.errors import InvalidCheckpoint
from srgan.spec import BANDS, ModelSpec

LARGEST_MARGIN = 1024
"""Pixels, half the largest tile."""
UNKNOWN = "not measured"
_SHOWN_APART = ("data", "split_hash", "step", "steps")


class Card(TypedDict, total=False):
    """What a JSON card holds. Anything else that JSON holds may stand beside it, and is shown below its section's known entries."""

    description: str
    """One paragraph: what the model is and how far it came."""
    training: Mapping[str, Any]
    """`data` (text), `split_hash`, `settings`, `step` that these weights are from, `steps` of the run, and whatever else describes it."""
    scores: Mapping[str, Any]
    """Figures by name; a mapping of mappings and a list of mappings become tables."""
    limits: Sequence[str]
    """What it cannot do, a sentence each."""
    name: str
    spec: Mapping[str, Any]
    """A `ModelSpec`."""
    bands: Sequence[str]
    margin: int
    """Pixels."""
    parameters: int
    """Number of learned values."""
    sha256: str
    """Of the weights' file, hex."""


def read_card(file: Path) -> dict[str, Any]:
    """The JSON card beside a weights' file. Raises InvalidCheckpoint where there is none that can be read."""
    place = file.with_suffix(".json")
    try:
        card = json.loads(place.read_bytes())
    except FileNotFoundError as error:
        raise InvalidCheckpoint(
            f"checkpoint {file}: its card {place.name} is not beside it: copy both files"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidCheckpoint(
            f"checkpoint {file}: its card {place.name} is not readable JSON: fetch it again"
        ) from error
    if not isinstance(card, dict):
        raise InvalidCheckpoint(f"checkpoint {file}: its card {place.name} is no JSON object")
    return card


def card_spec(card: Mapping[str, Any], file: Path) -> ModelSpec:
    """The `ModelSpec` of a card, checked. Raises InvalidCheckpoint."""
    content = card.get("spec")
    if not isinstance(content, dict):
        raise InvalidCheckpoint(f"checkpoint {file}: its card has no `spec`: it is not a card of this program")
    bands = content.get("bands", list(BANDS))
    if not isinstance(bands, list | tuple):
        raise InvalidCheckpoint(
            f"checkpoint {file}: bad spec, bands: {bands!r:.40} is no list: made by another version?"
        )
    if tuple(bands) != BANDS:
        raise InvalidCheckpoint(
            f"checkpoint {file}: made for the bands {' '.join(map(str, bands))[:80]}, not {' '.join(BANDS)}"
        )
    try:
        spec = ModelSpec.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise InvalidCheckpoint(
            f"checkpoint {file}: bad spec, {place}: {fault['msg']}: made by another version?"
        ) from error
    if spec.margin > LARGEST_MARGIN:
        raise InvalidCheckpoint(
            f"checkpoint {file}: bad spec, margin: {spec.margin} is beyond any tile (0..{LARGEST_MARGIN}): "
            "made by another version?"
        )
    if "version" not in content:
        raise InvalidCheckpoint(f"checkpoint {file}: bad spec, version: it names none: made by another version?")
    return spec


def write_card(checkpoint: Path) -> Path:
    """Write the model card `<name>.md` beside a checkpoint and its JSON card; returns its path.

    Raises InvalidCheckpoint where the JSON card is missing or no card, OSError where the folder cannot be written to.
    """
    card = read_card(checkpoint)
    path = checkpoint.with_suffix(".md")
    write_atomic(path, ("\n".join(card_lines(card, card_spec(card, checkpoint), checkpoint.stem)) + "\n").encode())
    return path


def card_lines(card: Mapping[str, Any], spec: ModelSpec, name: str) -> Iterator[str]:
    """The lines of the Markdown card."""
    training, scores = _mapping(card.get("training")), _mapping(card.get("scores"))
    yield f"# {name}"
    yield ""
    yield _text(
        card.get(
            "description",
            "Generator of SRG-GAN, which restores what clouds and their shadows hide in Sentinel-2 images.",
        )
    )
    yield from _section("What it is")
    parameters = card.get("parameters")
    yield from _table(
        ("", ""),
        [
            ("network", f"SRG-GAN generator, size `{spec.name}`, guidance `{spec.guidance}`, {spec.levels} levels"),
            ("parameters", f"{parameters:,}" if isinstance(parameters, int) else UNKNOWN),
            ("bands", " ".join(spec.bands) + " (any of them may be absent)"),
            ("references", f"0 to {spec.max_references} other dates"),
            ("margin", f"{card.get('margin', spec.margin)} pixels: beyond it a tile's surroundings move the result by less than 1 DN on average"),
            ("tiles", f"edges are multiples of {spec.multiple} pixels, they start on multiples of {spec.grid}"),
            ("weights", f"`{name}.safetensors`, sha256 `{card.get('sha256', UNKNOWN)}`"),
        ],
    )  # fmt: skip
    yield from _section("Data")
    yield _text(training.get("data", f"Data: {UNKNOWN}."))
    yield ""
    yield f"Split: sha256 `{_text(training.get('split_hash', UNKNOWN))}` of who belongs to train, val and test."
    yield from _section("Training")
    step, steps = training.get("step"), training.get("steps")
    taken = " of ".join(_cell(number) for number in (step, steps) if number is not None)
    yield f"Steps: {taken or UNKNOWN}."
    yield from _shown({key: value for key, value in training.items() if key not in _SHOWN_APART})
    yield from _section("Scores")
    if scores:
        yield from _shown(scores)
    else:
        yield f"{UNKNOWN[:1].upper()}{UNKNOWN[1:]}."
    yield from _section("How to use it")
    yield from (
        "```",
        f"decloud run SOURCE --output out --checkpoint {name}.safetensors",
        f"decloud export {name}.safetensors --format pt2 --output {name}.pt2",
        "```",
        "",
        f"`srgan.load_checkpoint` reads `{name}.safetensors` and `{name}.json`, which belong together; nothing is unpickled.",
    )
    yield from _section("Limits")
    own = card.get("limits")
    yield from (f"- {_text(line)}" for line in (own if isinstance(own, list) else []))
    yield f"- Made for Sentinel-2, reflectance 0..1 in the {len(spec.bands)} bands above, 10 m pixels; nothing is known of other sensors."
    yield "- What no reference shows is an estimate from the surroundings, not an observation; products mark it in `provenance.tif`."
    yield f"- Tiles want at least {max(2 * spec.margin, spec.multiple)} pixels, twice the margin; smaller ones may show their borders."


def _section(title: str) -> tuple[str, ...]:
    return ("", f"## {title}", "")


def _shown(values: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """Entries of any shape: single values in one table, then a table for each mapping and each list of mappings."""
    single = [(key, value) for key, value in values.items() if not _nested(value)]
    if single:
        yield from (("", f"**{_cell(within)}**") if within else ())
        yield ""
        yield from _table(("", ""), single)
    for key, value in values.items():
        name = f"{within}, {key}" if within else key
        if isinstance(value, Mapping) and value and not all(isinstance(row, Mapping) for row in value.values()):
            yield from _shown(value, name)
        elif _nested(value):
            rows = [{"": key, **row} for key, row in value.items()] if isinstance(value, Mapping) else value
            yield from ("", f"**{_cell(name)}**", "")
            yield from _grid(rows)


def _grid(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Mappings as a table with a column for each key; of a mapping inside a cell its first figure stands for all."""
    flat = [dict(_first_figure(key, value) for key, value in row.items()) for row in rows]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    yield from _table(columns, [[row.get(column, "") for column in columns] for row in flat])


def _first_figure(key: str, value: Any) -> tuple[str, Any]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(inner, int | float):
                return f"{key}, {name}", inner
    return key, value


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(map(_cell, columns))} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _nested(value: Any) -> bool:
    """Whether a value is a table of its own: a mapping, or a list of them."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(row, Mapping) for row in value)
    return isinstance(value, Mapping) and bool(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _cell(value: Any) -> str:
    """One cell: a number short, anything else as text that cannot break the table."""
    if isinstance(value, float):
        return f"{value:.5g}"
    text = value if isinstance(value, str) else json.dumps(value)
    return _text(text).replace("|", "\\|")


def _text(value: Any) -> str:
    return " ".join(str(value).split())
