"""docs/MODEL_CARD.md of a checkpoint, from files alone: no figure in it is typed by hand.

    python -m benchmarks.model_card --checkpoint srgan/weights/default.safetensors --report REPORT --log TRAINING/log.jsonl \
        --draft captions.yaml
    python -m benchmarks.model_card --checkpoint srgan/weights/default.safetensors --report REPORT --log TRAINING/log.jsonl

`--report` is a folder of `decloud evaluate` and may be given again (another split, whole scenes); `--log` as well, as LABEL=FILE: the
model's own first. The first command writes the pictures of the gallery, and a file of captions to fill in and copy into
benchmarks/model_card.yaml; the second writes the card, and ends with 1 where a caption is missing or is of another image.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.model_card.curves import curves
from benchmarks.model_card.gallery import (
    KINDS,
    captions,
    choose,
    encoded,
    find,
    images_of,
    strip,
    write_folder,
)
from benchmarks.model_card.inputs import read_inputs
from benchmarks.model_card.page import draft, page
from catalogs.errors import CatalogError
from pipeline.errors import InvalidSettings, PipelineError
from srgan.errors import ModelError

SCENE_EDGE = 256
"""Pixels of a part of a scene's strip: more is to be seen in it."""


def make(arguments: argparse.Namespace) -> None:
    """Write the card with its pictures, or the draft of its captions."""
    inputs = read_inputs(arguments.checkpoint, arguments.report, arguments.log, arguments.words, arguments.splits)
    images = images_of(inputs.reports)
    shown = {kind: choose(kind, images) for kind in KINDS}
    places = [one for chosen, _ in shown.values() for one in chosen]
    folder = arguments.output.parent / "card"
    strips = {one.file: strip(one.held) for one in places}
    if arguments.draft is not None:
        write_folder(folder, {**encoded(strips), "curves.svg": curves(inputs.logs).encode()})
        arguments.draft.write_text(draft(places, inputs.words), encoding="utf-8")
        print(f"{arguments.draft}: {len(places)} captions to fill in; their pictures are in {folder}")
        return
    said = captions(places, inputs.words)
    others = {
        scene["id"]: f"scene-{number}.webp"
        for number, scene in enumerate((s for report in inputs.reports for s in report.document["scenes"] if s["pictures"]), 1)
    }  # fmt: skip
    for number, failure in enumerate(inputs.words.failures, 1):
        others.setdefault(failure.image, f"failure-{number}.webp")
    strips |= {
        file: strip(find(inputs.reports, name), *([SCENE_EDGE] if file.startswith("scene") else []))
        for name, file in others.items()
    }
    files = {**encoded(strips), "curves.svg": curves(inputs.logs).encode()}
    text = page(inputs, shown, said, folder.name, others)
    write_folder(folder, files)
    arguments.output.write_text(text, encoding="utf-8")
    print(f"{arguments.output}: {len(text.splitlines())} lines; {folder}: {sum(map(len, files.values())) / 1e6:.2f} MB")


def labelled(text: str) -> tuple[str, Path]:
    """LABEL=FILE, or a file alone."""
    label, equals, path = text.partition("=")
    return (label, Path(path)) if equals else ("this model", Path(text))


def main(given: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 with a line that says what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("srgan/weights/default.safetensors"))
    parser.add_argument("--report", type=Path, action="append", required=True, metavar="DIR")
    parser.add_argument("--log", type=labelled, action="append", required=True, metavar="[LABEL=]FILE")
    parser.add_argument("--words", type=Path, default=Path("benchmarks/model_card.yaml"))
    parser.add_argument("--splits", type=Path, default=Path("benchmarks/public_splits.yaml"))
    parser.add_argument("--output", type=Path, default=Path("docs/MODEL_CARD.md"))
    parser.add_argument("--draft", type=Path, metavar="FILE")
    try:
        make(parser.parse_args(given))
    except (InvalidSettings, PipelineError, ModelError, CatalogError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
