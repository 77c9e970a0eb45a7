"""`whole_page`: a template of `pipeline/page` filled to one file, for the report of an evaluation and that of a run.

Style and script are inside the page, and its content policy names their digests: no other script runs, so that a name in a catalogue, or
of a file, can do no more than be read.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files


def whole_page(template: str, styles: Sequence[str], scripts: Sequence[str], parts: Mapping[str, str]) -> str:
    """The file `template` with its marks `<!--name-->` replaced by `parts`, which are HTML; `styles` and `scripts` name files, in order.

    In one pass: what is put in is not looked at again, whatever it holds.
    """
    style, script = ("".join(map(_file, names)) for names in (styles, scripts))
    named = {"style": style, "style-hash": _digest(style), "script": script, "script-hash": _digest(script), **parts}
    first, *pieces = _file(template).split("<!--")
    return first + "".join(_filled(piece, named) for piece in pieces)


def hex_colour(colour: Iterable[float]) -> str:
    """Red, green and blue, 0..255, as HTML writes them.

    >>> hex_colour((0, 114, 178))
    '#0072b2'
    """
    return "#" + "".join(f"{round(value):02x}" for value in colour)


def _filled(piece: str, parts: Mapping[str, str]) -> str:
    name, rest = piece.split("-->", 1)
    return parts[name] + rest


def _digest(content: str) -> str:
    """As a content policy names a script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode('utf-8')).digest()).decode('ascii')}"


def _file(name: str) -> str:
    return (files("pipeline") / "page" / name).read_text(encoding="utf-8")
