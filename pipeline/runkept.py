"""`Kept`: what an earlier report.html holds of products that have not changed since.

A page follows every run. Pictures cost about half a second a product, and a mean NDVI, which every product has however many there are,
reads four of its layers. So what the page of the run before holds is taken from there, and a page costs what is new. Nothing is trusted
that does not carry the mark of the very files it was made of; a page that is damaged, or of another version, costs time and nothing else.
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
"""Number of the way in which pictures and means are made: another number, and all are made anew."""
_OPEN, _CLOSE = '<script type="application/json" id="{}">', "</script>"
_KINDS = {"before": "webp", "after": "webp"}


@dataclass(frozen=True)
class Kept:
    """Pictures and means of one product."""

    mark: str
    """What they were made of, see `mark_of`."""
    vegetation: Vegetation | None
    longest: int = 0
    """Pixels that the longer side of its pictures may have; 0 where the page held none of it."""
    pictures: ViewPictures = field(default_factory=ViewPictures, repr=False)


def mark_of(view: ProductView) -> str:
    """What pictures and means of a product depend on: its files, and the program. Empty where its item lists no checksums."""
    return f"{LOOK} {software_version()} {view.manifest}" if view.manifest else ""


def pictures_script(number: int, entry: RunEntry) -> str:
    """The element that holds the pictures of the scene `number`."""
    pictures = {"after": entry.pictures.after, "before": entry.pictures.before, **entry.pictures.layers}
    shown = {name: _uri(blob, _KINDS.get(name, "png")) for name, blob in pictures.items() if blob}
    return f"{_OPEN.format(f'pictures-{number}')}{script_json(shown)}{_CLOSE}\n"


def kept_script(entries: Sequence[RunEntry], seen: Sequence[RunEntry]) -> str:
    """The element that says what the page was made of; `seen`: those of the `entries` that have pictures, in their order."""
    numbers = {entry.id: number for number, entry in enumerate(seen)}
    told = [
        {
            "id": entry.id,
            "mark": mark_of(entry.view),
            "vegetation": None if entry.vegetation is None else asdict(entry.vegetation),
            **(_shown(entry, numbers[entry.id]) if entry.id in numbers else {}),
        }
        for entry in entries
        # What could not be shown in full is looked at again.
        if entry.view is not None and mark_of(entry.view) and not entry.problems
    ]
    return f"{_OPEN.format('kept')}{script_json(told)}{_CLOSE}"


def kept_in(page: Path) -> dict[str, Kept]:
    """What the page of an earlier run holds, by product; nothing where there is none, or one that cannot be used."""
    try:
        text = page.read_text(encoding="utf-8")
        return {str(entry["id"]): _kept(entry, text) for entry in _json_in(text, "kept")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _shown(entry: RunEntry, number: int) -> dict[str, object]:
    return {
        "number": number,
        "longest": entry.longest,
        "thumbnail": base64.b64encode(entry.pictures.thumbnail).decode("ascii"),
        "size": entry.pictures.size,
    }


def _json_in(text: str, name: str) -> Any:
    opening = _OPEN.format(name)
    start = text.index(opening) + len(opening)
    return json.loads(text[start : text.index(_CLOSE, start)])


def _kept(entry: dict[str, Any], text: str) -> Kept:
    said = entry["vegetation"]
    mark, means = str(entry["mark"]), None if said is None else Vegetation(**said)
    if "number" not in entry:
        return Kept(mark, means)
    uris = _json_in(text, f"pictures-{entry['number']}")
    blobs = {name: base64.b64decode(uri.partition(",")[2], validate=True) for name, uri in uris.items()}
    width, height = entry["size"]
    pictures = ViewPictures(
        before=blobs.pop("before", b""),
        after=blobs.pop("after"),
        thumbnail=base64.b64decode(entry["thumbnail"], validate=True),
        layers=blobs,
        size=(int(width), int(height)),
    )
    return Kept(mark, means, int(entry["longest"]), pictures)


def _uri(blob: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(blob).decode('ascii')}"
