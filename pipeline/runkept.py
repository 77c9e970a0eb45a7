"""`Kept`: what an earlier report.html holds of products that have not changed since.

A page follows every run. Pictures cost about half a second a product, so those that the page of the run before holds are taken from
there, and a page costs what is new. Nothing is trusted that does not carry the mark of the very files it was made of; a page that is
damaged, or of another version, costs time and nothing else.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.product import software_version
from pipeline.productview import ProductView
from pipeline.report_data import script_json
from pipeline.runentry import RunEntry
from pipeline.viewpictures import ViewPictures
from pipeline.viewseries import Vegetation

LOOK = 1
"""Number of the way in which pictures are made: another number, and all are made anew."""
_OPEN, _CLOSE = '<script type="application/json" id="{}">', "</script>"
_KINDS = {"before": "webp", "after": "webp"}


@dataclass(frozen=True)
class Kept:
    """Pictures and means of one product."""

    mark: str
    """What they were made of, see `mark_of`."""
    pictures: ViewPictures = field(repr=False)
    vegetation: Vegetation | None


def mark_of(view: ProductView, longest: int) -> str:
    """What the pictures of a product depend on: its files, their size, and the program."""
    return f"{LOOK} {software_version()} {longest} {view.manifest}"


def pictures_script(number: int, entry: RunEntry) -> str:
    """The element that holds the pictures of the scene `number`."""
    pictures = {"after": entry.pictures.after, "before": entry.pictures.before, **entry.pictures.layers}
    shown = {name: _uri(blob, _KINDS.get(name, "png")) for name, blob in pictures.items() if blob}
    return f"{_OPEN.format(f'pictures-{number}')}{script_json(shown)}{_CLOSE}\n"


def kept_script(seen: Sequence[RunEntry]) -> str:
    """The element that says what the pictures were made of; `seen`: the scenes in the order of their pictures."""
    entries = [
        {
            "number": number,
            "id": entry.id,
            "mark": mark_of(entry.view, entry.longest),
            "thumbnail": base64.b64encode(entry.pictures.thumbnail).decode("ascii"),
            "size": entry.pictures.size,
            "vegetation": None if entry.vegetation is None else asdict(entry.vegetation),
        }
        for number, entry in enumerate(seen)
        # What could not be shown in full is looked at again.
        if entry.view is not None and entry.view.manifest and not entry.problems
    ]
    return f"{_OPEN.format('kept')}{script_json(entries)}{_CLOSE}"


def kept_in(page: Path) -> dict[str, Kept]:
    """What the page of an earlier run holds, by product; nothing where there is none, or one that cannot be used."""
    try:
        text = page.read_text(encoding="utf-8")
        return {
            str(entry["id"]): _kept(entry, _json_in(text, f"pictures-{entry['number']}"))
            for entry in _json_in(text, "kept")
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _json_in(text: str, name: str) -> Any:
    opening = _OPEN.format(name)
    start = text.index(opening) + len(opening)
    return json.loads(text[start : text.index(_CLOSE, start)])


def _kept(entry: dict[str, Any], uris: dict[str, str]) -> Kept:
    blobs = {name: base64.b64decode(uri.partition(",")[2], validate=True) for name, uri in uris.items()}
    width, height = entry["size"]
    means = entry["vegetation"]
    pictures = ViewPictures(
        before=blobs.pop("before", b""),
        after=blobs.pop("after"),
        thumbnail=base64.b64decode(entry["thumbnail"], validate=True),
        layers=blobs,
        size=(int(width), int(height)),
    )
    return Kept(str(entry["mark"]), pictures, None if means is None else Vegetation(**means))


def _uri(blob: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(blob).decode('ascii')}"
