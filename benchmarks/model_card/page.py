"""`page`: the lines of docs/MODEL_CARD.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.model_card import tables
from benchmarks.model_card.gallery import KINDS, Shown
from benchmarks.model_card.inputs import Inputs, Report
from benchmarks.model_card.tables import cell, table
from benchmarks.model_card.words import Caption, Words
from pipeline.pictures import ERROR_FULL
from srgan.card import UNKNOWN

_SAID_STEP = 0.2


def page(
    inputs: Inputs,
    shown: Mapping[str, tuple[Sequence[Shown], str]],
    captions: Mapping[str, Caption],
    folder: str,
    others: Mapping[str, str],
) -> str:
    """The whole card.

    shown: kind -> its places and what is said of them. captions: by file. folder: of the pictures, from the card. others: id of a failure's image or a
    scene -> its file.
    """
    words = inputs.words
    lines = [f"# {cell(words.title)}", "", words.description.strip(), ""]
    lines += ["Every figure below comes from the checkpoint's card, the log of its training and reports of `decloud evaluate`, by `python -m benchmarks.model_card`.", ""]  # fmt: skip
    lines += [*_identity(inputs), *_uses(inputs), *_data(inputs), *_training(inputs, folder)]
    lines += [*_scores(inputs), *_confidence(inputs), *_gallery(shown, captions, folder)]
    lines += [*_scene_pictures(inputs, folder, others), *_failures(inputs, folder, others), *_licence(inputs)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _identity(inputs: Inputs) -> Iterator[str]:
    card, spec = inputs.card, inputs.spec
    parameters = card.get("parameters")
    yield from ("## What it is", "")
    yield from table(
        ("", ""),
        [
            ("network", f"SRG-GAN generator, size `{spec.name}`, guidance `{spec.guidance}`, {spec.levels} levels"),
            ("parameters", f"{parameters:,}" if isinstance(parameters, int) else UNKNOWN),
            ("weights", f"`{inputs.weights.name}`, {inputs.size / 2**20:.1f} MiB, sha256 `{card['sha256']}`"),
            ("bands", f"{' '.join(spec.bands)}; any of them may be absent"),
            ("references", f"0 to {spec.max_references} other dates"),
            ("margin", f"{card.get('margin', UNKNOWN)} pixels"),
            ("tiles", f"edges are multiples of {spec.multiple} pixels, they start on multiples of {spec.grid}"),
        ],
        words=True,
    )  # fmt: skip
    yield "How much of the learned correction counts, as calibrated on the validation split (0: the first guess alone, 1: all of it):"
    yield ""
    strength = card.get("calibration", {}).get("strength of the correction")
    if isinstance(strength, Mapping):
        yield from table(("pixels", "strength"), [(name, f"{value:.2f}") for name, value in strength.items()])
    else:
        yield from (f"Strength of the correction: {UNKNOWN}.", "")


def _uses(inputs: Inputs) -> Iterator[str]:
    for title, entries in (
        ("Intended use", inputs.words.intended_use),
        ("Not intended use", inputs.words.not_intended),
    ):
        yield from (f"## {title}", "", *(f"- {entry}" for entry in entries), "")


def _data(inputs: Inputs) -> Iterator[str]:
    words, training = inputs.words, inputs.card.get("training", {})
    yield from ("## Data and split", "", *(f"- {entry}" for entry in words.data), "")
    yield f"In the store of the training: {cell(training.get('data', UNKNOWN))}."
    yield ""
    yield "Whole groups (regions of interest, tiles) are held out:"
    yield ""
    groups = {image["group"] for report in inputs.reports for image in report.document["images"]}
    held = {name: split for name, split in inputs.splits.groups.items() if split != "train"}
    held |= {name: inputs.splits.of(name) for name in sorted(groups - set(held))}
    yield from table(
        ("group", "split", "what it shows", "scored below"),
        [
            (f"`{name}`", split, words.groups.get(name, ""), "yes" if name in groups else "no")
            for name, split in held.items()
        ],
        words=True,
    )
    yield f"Split: sha256 `{training.get('split_hash', UNKNOWN)}` of who belongs to which split in the store of the training."
    for name in words.never_trained:
        yield f"{name} was never trained on."
    if words.never_trained and not inputs.seen:
        yield "The checkpoint's card does not list the groups of its training: this is what the splits file says."
    yield ""


def _training(inputs: Inputs, folder: str) -> Iterator[str]:
    training = inputs.card.get("training", {})
    taken = " of ".join(str(training[name]) for name in ("step", "steps") if training.get(name) is not None)
    yield from ("## Training", "", "```sh", *(command.strip() for command in inputs.words.commands), "```", "")
    yield f"Step of these weights, a moving average: {taken or UNKNOWN}. It was chosen by the validation split."
    yield ""
    yield f"![Validation and losses over the steps of the training]({folder}/curves.svg)"
    yield ""
    logged = inputs.logs[0]
    ends = [(name, points[0], points[-1]) for name in ("rmse_cloudy", "psnr_cloudy", "cc_cloudy", "sam_cloudy", "ssim") if (points := logged.points(f"validation/{name}"))]  # fmt: skip
    yield from table(
        ("validation during training", "first", "last", "in the released weights"),
        [
            (name, f"{first[1]:.4f} (step {first[0]})", f"{last[1]:.4f} (step {last[0]})", _score(inputs, name))
            for name, first, last in ends
        ],
    )
    settings = training.get("settings")
    if isinstance(settings, Mapping):
        yield from ("<details><summary>All settings</summary>", "")
        yield from table(("setting", "value"), list(_flat(settings)), words=True)
        yield from ("</details>", "")


def _score(inputs: Inputs, name: str) -> str:
    value = inputs.card.get("scores", {}).get("validation", {}).get(name)
    return f"{value:.4f}" if isinstance(value, int | float) else UNKNOWN


def _flat(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{within}{name}.")
        else:
            # A path says something of a machine, not of the model.
            shown = Path(value).name if isinstance(value, str) and "/" in value else value
            yield f"{within}{name}", f"`{shown}`"


def _scores(inputs: Inputs) -> Iterator[str]:
    yield from ("## Scores", "")
    yield "Means over images, in brackets the 95 % interval of a bootstrap over groups. Scored is what a product would hold: the input where it is clear, the restored image below cloud and shadow. Metrics in reflectance 0..1, SAM in degrees, PSNR with a peak of 1."
    yield ""
    for report in inputs.reports:
        document, chips = report.document, report.document["chips"]
        yield from (f"### Split {cell(report.title)}", "")
        yield f"{chips['used']} of {chips['rows']} rows used, {len(chips['left_out'])} entries left out, each with its reason in the report. Masks by {cell(', '.join(document['mask']) or UNKNOWN)}. Split hash `{document['split_hash']}`, evaluated {document['created'][:10]}."
        yield ""
        yield from _chapter("By protocol", tables.summary(report))
        if inputs.words.goals:
            yield from _chapter("What was asked for", tables.goals(report, inputs.words.goals))
        yield from _chapter("The seed's protocol", tables.seed(report))
        yield from _chapter("With 13, 12 and 4 bands", tables.by_bands(report))
        yield from _chapter("By region", tables.regions(report))
        yield from _chapter("By cover, sky and ground", tables.by_kind(report))
        yield from _chapter("Against other methods", tables.against(report))
        yield from _chapter("Whole scenes", tables.scenes(report, inputs.seen.get("train", ())))
    if inputs.words.limits:
        yield from ("### What limits it", "", *(f"- {entry}" for entry in inputs.words.limits), "")


def _chapter(title: str, lines: Iterator[str]) -> Iterator[str]:
    yield from (f"#### {title}", "")
    yield from lines


def _confidence(inputs: Inputs) -> Iterator[str]:
    yield from ("## Confidence", "")
    if not any(report.document["confidence"] for report in inputs.reports):
        yield from ("Not measured.", "")
        return
    yield "The network says an expected absolute error for each band group. How often a value lies within the stated error, as said and as found, in parts of the probability said:"
    yield ""
    for report in inputs.reports:
        if confidence := report.document["confidence"]:
            yield from _reliability(report, confidence)


def _reliability(report: Report, confidence: Mapping[str, Any]) -> Iterator[str]:
    near = confidence.get("near")
    yield f"**Split {cell(report.title)}**, within {UNKNOWN if near is None else format(near, 'g')}: said / found (share of the values)"
    yield ""
    groups = confidence["groups"]
    rows: list[list[str]] = []
    for step in range(round(1 / _SAID_STEP)):
        low, high = step * _SAID_STEP, (step + 1) * _SAID_STEP
        rows.append([f"{low:.0%} to {high:.0%}"])
        for group in groups.values():
            bins = [one for one in group["reliability"] if one["share"] and low <= min(one["said"], 1 - 1e-9) < high]
            share = sum(one["share"] for one in bins)
            said, found = (
                sum(one[key] * one["share"] for one in bins) / share if share else 0 for key in ("said", "found")
            )
            rows[-1].append(f"{said:.0%} / {found:.0%} ({share:.0%})" if share else "none")
    errors = (("expected", "expected_error"), ("found", "found_error"))
    for name, key in errors:
        values = (group[key] for group in groups.values())
        rows.append([f"mean error {name}", *(UNKNOWN if value is None else f"{value:.4f}" for value in values)])
    yield from table(("said", *groups), rows)
    points = [point for point in confidence["risk_coverage"] if round(point["coverage"], 2) in (0.25, 0.5, 0.75, 1)]
    yield from table(
        ("masked pixels kept, surest first", "RMSE by confidence", "by the true error", "by chance"),
        [(f"{p['coverage']:.0%}", *(UNKNOWN if p[k] is None else f"{p[k]:.4f}" for k in ("rmse_by_confidence", "rmse_oracle", "rmse_random"))) for p in points],
    )  # fmt: skip


def _gallery(
    shown: Mapping[str, tuple[Sequence[Shown], str]], captions: Mapping[str, Caption], folder: str
) -> Iterator[str]:
    yield from ("## Gallery", "")
    yield f"Input, prediction, truth and error, from left to right; the error is black where there is none and brightest from {ERROR_FULL:g} of reflectance, grey where the truth is not known. Best, median and worst by the RMSE of cloudy pixels among the images scored above."
    yield ""
    for kind, (places, said) in shown.items():
        yield from (f"### {kind.capitalize()}", "", f"{KINDS[kind].what.capitalize()}. {said}", "")
        for one in places:
            yield from _picture(f"{cell(kind)}, {one.rank}", folder, one.file)
            yield f"**{one.rank.capitalize()}.** {cell(captions[one.file].text)} ({cell(one.line)})"
            yield ""


def _scene_pictures(inputs: Inputs, folder: str, others: Mapping[str, str]) -> Iterator[str]:
    scenes = {scene["id"]: scene for report in inputs.reports for scene in report.document["scenes"]}
    drawn = [name for name in scenes if name in others]
    if drawn:
        yield from ("### Whole scenes", "")
    for name in drawn:
        yield from _picture("Whole scene", folder, others[name])
        yield f"`{cell(scenes[name]['truth'])}` under the clouds of `{cell(scenes[name]['clouds_of'])}`."
        yield ""


def _picture(what: str, folder: str, file: str) -> tuple[str, str]:
    return f"![{what}: input, prediction, truth, error]({folder}/{file})", ""


def _failures(inputs: Inputs, folder: str, others: Mapping[str, str]) -> Iterator[str]:
    yield from ("## Known failures", "")
    for failure in inputs.words.failures:
        yield from (f"### {cell(failure.title)}", "", failure.text.strip(), "")
        yield from _picture(cell(failure.title), folder, others[failure.image])
    if not inputs.words.failures:
        yield from ("None written down yet.", "")


def _licence(inputs: Inputs) -> Iterator[str]:
    words = inputs.words
    yield from ("## Licence and attribution", "", *(f"- {entry}" for entry in (*words.licence, *words.attribution)), "")


def draft(shown: Sequence[Shown], words: Words) -> str:
    """YAML of captions to fill in, each place with what is known of it; captions whose image is still the same are kept."""
    lines = ["captions:"]
    for kind in KINDS:
        places = [one for one in shown if one.kind == kind]
        lines += [f"  {kind}:"] if places else []
        for one in places:
            before = words.captions.get(kind, {}).get(one.rank)
            kept = f" {json.dumps(before.text)}" if before and before.image == one.held.id else ""
            lines += [f"    {one.rank}:", f"      # {one.line}", f"      image: {json.dumps(one.held.id)}"]
            lines += [f"      text:{kept}"]
    return "\n".join(lines) + "\n"
