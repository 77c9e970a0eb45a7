"""Fuzzing led by coverage (atheris, libFuzzer): `python -m tests.hostile.fuzz items -max_total_time=60`.

Each target takes bytes. What is refused by an error of ours is in order; anything else that is raised ends the program and leaves the
input in a file `crash-...`. libFuzzer's own options may follow the target's name.
"""

from __future__ import annotations

import atexit
import importlib
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Whoever collects doctests imports this too, perhaps where there is no atheris.
MAIN = __name__ == "__main__"
atheris: Any = importlib.import_module("atheris") if MAIN else None
WATCHED = ["catalogs", "flows.lookback", "pipeline.settings", "srgan.settings", "srgan.card"]

with atheris.instrument_imports(include=WATCHED) if MAIN else nullcontext():
    from catalogs.aoi import parse_aoi
    from catalogs.dates import parse_dates
    from catalogs.documents import parse_object
    from catalogs.errors import CatalogError
    from catalogs.hrefs import resolve_href, without_credentials
    from catalogs.names import band_in, common_id, date_in, tile_in
    from catalogs.safe import open_safe
    from catalogs.splits import Splits
    from catalogs.stac import resolve_item
    from flows.lookback import absolute_dates
    from pipeline.errors import PipelineError
    from pipeline.settings import parse_bytes
    from srgan.card import card_spec, read_card
    from srgan.checkpoint import PACKAGED
    from srgan.errors import ModelError
    from srgan.settings import load_settings, parse_overrides
    from tests.hostile.case import item
    from tests.hostile.metadata import safe

OURS = (CatalogError, PipelineError, ModelError)
FOLDER = Path(tempfile.mkdtemp(prefix="decloud-fuzz-") if MAIN else "")
if MAIN:
    atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


def text_of(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def names(content: bytes) -> None:
    text = text_of(content)
    band_in(text), tile_in(text), date_in(text)
    assert common_id([text, text[1:]], text)


def queries(content: bytes) -> None:
    text = text_of(content)
    for parse in (parse_dates, parse_bytes, lambda text: absolute_dates(text, datetime(2023, 8, 10, tzinfo=UTC))):
        with suppress(*OURS):
            parse(text)
    if "/" not in text:
        parse_aoi(text)


def hrefs(content: bytes) -> None:
    text = text_of(content)
    without_credentials(text) if "[" not in text and "]" not in text else None
    found = resolve_href(text, "/data/cat/one/item.json", "/data/cat")
    assert found.startswith(("/data/cat", "http://", "https://", "s3://", "gs://")) or found.lower().startswith(
        ("http", "s3:", "gs:")
    )


def documents(content: bytes) -> None:
    with suppress(ValueError):
        parse_object(text_of(content))


def items(content: bytes) -> None:
    with suppress(ValueError):
        resolve_item(parse_object(text_of(content)), str(FOLDER / "item" / "item.json"))


def metadata(content: bytes) -> None:
    folder = next((FOLDER / "safe").glob("*.SAFE"))
    (folder / "MTD_MSIL1C.xml").write_bytes(content)
    open_safe(folder)


def splits(content: bytes) -> None:
    (FOLDER / "splits.yaml").write_bytes(content)
    Splits.read(FOLDER / "splits.yaml").of("a")


def presets(content: bytes) -> None:
    (FOLDER / "preset.yaml").write_bytes(content)
    with suppress(*OURS):
        parse_overrides([text_of(content)])
    load_settings(FOLDER / "preset.yaml")


def cards(content: bytes) -> None:
    file = FOLDER / "net.safetensors"
    file.with_suffix(".json").write_bytes(content)
    card_spec(read_card(file), file)


def _seeds() -> dict[str, list[bytes]]:
    """Something good for each target to begin with."""
    (FOLDER / "item").mkdir()
    (FOLDER / "safe").mkdir()
    safe()(FOLDER / "safe")
    return {
        "names": [
            b"T33TWL_20230810T100031_B8A_20m",
            b"S2B_MSIL2A_20230810T094549_N0509_R079_T33TWL_20230810T130104.SAFE",
        ],
        "queries": [b"2023-08-01/2023-08-31", b"P7D", b"last 2 weeks", b"15.2,45.2,16.2,45.9", b"2GiB"],
        "hrefs": [b"./B02.tif", b"../x", b"https://me:pw@host/a?sig=x#y", b"/vsicurl/https://host/x"],
        "documents": [b'{"type": "Feature", "n": [1, 2.5, null, true, "\\u00e9"]}'],
        "items": [json.dumps(item(FOLDER / "item")).encode()],
        "metadata": [next((FOLDER / "safe").glob("*.SAFE/MTD_MSIL1C.xml")).read_bytes()],
        "splits": [b"ROIs1158_spring_1: test\n'*': train\n"],
        "presets": [b"epochs: 2\nlosses: {style: 0}\n", b"losses.style=0"],
        "cards": [(PACKAGED / "default.json").read_bytes()],
    }


ALL = "all"
TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (names, queries, hrefs, documents, items, metadata, splits, presets, cards)
}


def main() -> None:
    name, *options = sys.argv[1:]
    seeds = _seeds()
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for number, one in enumerate(TARGETS):
        for place, seed in enumerate(seeds[one] if name in (one, ALL) else ()):
            # Of `all` the first byte says which target the rest is for.
            (corpus / f"{one}{place}").write_bytes((bytes([number]) if name == ALL else b"") + seed)
    warnings.simplefilter("ignore")
    targets = list(TARGETS.values())

    def once(content: bytes) -> None:
        with suppress(*OURS):
            if name != ALL:
                TARGETS[name](content)
            elif content:
                targets[content[0] % len(targets)](content[1:])

    atheris.Setup([sys.argv[0], "-max_len=65536", *options, str(corpus)], once)
    atheris.Fuzz()


if MAIN:
    main()
