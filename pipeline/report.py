"""`write_report`: report.json, report.html and the folder `pictures` of an evaluation.

report.json holds everything and follows the JSON Schema that ships with the package (`schema`). report.html shows it without a network.
The pictures are written first, the two files last and together: a report that is there is whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import numpy as np

from pipeline.errors import InvalidSettings
from pipeline.pictures import Picture, encode
from pipeline.report_data import SHOWN
from pipeline.report_page import report_page
from pipeline.sink import write_failed
from srgan.atomic import write_together

KIND, SCHEMA_VERSION = "declouder evaluation", 1
"""What report.json says that it is."""
REPORT_JSON, REPORT_HTML = "report.json", "report.html"
PICTURES_FOLDER = "pictures"
_LONGEST_NAME = 120

Pictures = Mapping[str, Mapping[str, "Picture | bytes"]]
"""Id of an image or scene > name of the picture > uint8 (H, W) or (H, W, 3), or what `pipeline.pictures.encode` made of it."""


def schema() -> dict[str, Any]:
    """The JSON Schema of report.json."""
    text = (files("pipeline") / "page" / "report.schema.json").read_text(encoding="utf-8")
    return cast("dict[str, Any]", json.loads(text))


def write_report(
    document: Mapping[str, Any], pictures: Pictures, folder: Path, *, limit: int = SHOWN
) -> tuple[Path, Path]:
    """Write `document` and `pictures` into `folder`, which is made where it is missing: paths of report.json and report.html.

    The document's `pictures` entries are filled in here. Scores that are not finite become null. Pictures are asked for one image at a time,
    so `pictures` may read them from a disk; of at most `limit` images they are in the page as well. Raises InvalidSettings for a document of another
    kind or without a part, for two images or scenes of one id, and for pictures of none; WriteFailed.
    """
    plain_document = plain(document)
    _check(plain_document, pictures)
    encoded: dict[str, dict[str, bytes]] = {}
    try:
        (folder / PICTURES_FOLDER).mkdir(parents=True, exist_ok=True)
        for entry in (*plain_document["images"], *plain_document["scenes"]):
            given = pictures.get(entry["id"], {})
            encoded[entry["id"]] = {name: _encoded(picture) for name, picture in given.items()}
            entry["pictures"] = {}
            for name, blob in encoded[entry["id"]].items():
                path = f"{PICTURES_FOLDER}/{file_stem(entry['id'])}.{file_stem(name)}.webp"
                _write(folder / path, blob)
                entry["pictures"][name] = path
    except OSError as error:
        raise write_failed(error, folder / PICTURES_FOLDER) from error
    page = report_page(plain_document, encoded, limit)
    text = _lines(plain_document)
    targets = folder / REPORT_JSON, folder / REPORT_HTML
    # Names of files that are not UTF-8 hold halves of characters: JSON escapes them, and so does the page.
    try:
        write_together({targets[0]: text.encode(), targets[1]: page.encode(errors="xmlcharrefreplace")})
    except OSError as error:
        raise write_failed(error, targets[0]) from error
    return targets


def plain(value: Any) -> Any:
    """`value` as JSON knows it: numpy's scalars and arrays as Python's, tuples as lists, paths as text, NaN and infinity as None.

    >>> plain({"psnr": float("inf"), "n": np.int64(3), "bands": ("B02", "B03")})
    {'psnr': None, 'n': 3, 'bands': ['B02', 'B03']}
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int):
        return value
    raise InvalidSettings(f"report: {value!r} of type {type(value).__name__} has no place in JSON")


def file_stem(name: str) -> str:
    """`name` as part of a file name: other signs than letters, digits, `.`, `_` and `-` go, and a digest keeps such names apart.

    >>> file_stem("ROIs1158_spring_39_p12"), file_stem("a/b")
    ('ROIs1158_spring_39_p12', 'a_b-c14cddc033')
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:_LONGEST_NAME]
    if safe == name and name and not name.startswith("."):
        return name
    return f"{safe.strip('.') or '_'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"


def _lines(document: Mapping[str, Any]) -> str:
    """JSON with a line for each part, and one for each entry of its lists: as fast as without lines, and two reports can be compared."""
    parts = []
    for name, value in document.items():
        if isinstance(value, list) and value:
            entries = ",\n  ".join(json.dumps(entry, allow_nan=False) for entry in value)
            parts.append(f"{json.dumps(name)}: [\n  {entries}\n ]")
        else:
            parts.append(f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"


def _encoded(picture: Picture | bytes) -> bytes:
    return picture if isinstance(picture, bytes) else encode(picture)


def _write(path: Path, blob: bytes) -> None:
    """By way of a file beside it, but without waiting for the disk each of thousands of times: the report itself does that, once."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(blob)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _check(document: dict[str, Any], pictures: Pictures) -> None:
    """The schema is for readers and tests; here only what would make a page that cannot be read."""
    missing = [name for name in schema()["required"] if name not in document]
    if missing:
        raise InvalidSettings(f"report: the document has no {', '.join(missing)}")
    if document["schema_version"] != SCHEMA_VERSION or document["kind"] != KIND:
        raise InvalidSettings(
            f"report: {document['kind']!r} of version {document['schema_version']}, not an evaluation of version {SCHEMA_VERSION}"
        )
    seen: set[str] = set()
    for entry in (*document["images"], *document["scenes"]):
        if entry["id"] in seen:
            raise InvalidSettings(f"report: two images or scenes have the id {entry['id']!r}")
        seen.add(entry["id"])
    strangers = sorted(set(pictures) - seen)
    if strangers:
        raise InvalidSettings(f"report: pictures of {strangers[0]!r}, which the document does not have")
