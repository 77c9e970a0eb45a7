"""What the page's script reads: the rows of the table, and the images and scenes of the gallery with their pictures.

A page must stay small enough to be opened and mailed: it holds every row, but the pictures of at most `SHOWN` images. Pictures that
several images share (the input of one chip in two protocols) are in it once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.pictures import PICTURES
from pipeline.report_methods import ANCHORS, ANCHORS_POOLED, FIRST_GUESS, METRICS, REGIONS, SEED_PROTOCOL, Methods

SHOWN = 200
"""Images in the gallery of one page."""
FIELDS = ("protocol", "bands", "cover", "sky", "ground", "region", "method")
"""What tells one row from another, in the order in which the page's script has them."""
_COUNTS = ("images", "groups", "not_finite", "identical", "undefined")

Encoded = Mapping[str, Mapping[str, bytes]]
"""Id of an image or scene > name of the picture > WebP."""


def rank(image: Mapping[str, Any], method: str) -> float:
    """RMSE by which images are put in order: of the cloudy pixels, else of all; minus infinity where there is none."""
    regions = image["scores"].get(method, {})
    for region in ("cloudy", "all"):
        value: float | None = regions.get(region, {}).get("rmse")
        if value is not None:
            return value
    return -math.inf


def chosen(
    images: Sequence[Mapping[str, Any]], method: str, has: Callable[[Mapping[str, Any]], bool], limit: int = SHOWN
) -> list[int]:
    """Positions of the images that a page shows, in the order of `images`.

    Of those for which `has` says that there are pictures (of all, if of none). More than `limit` of them: from each protocol, band set and class
    of cloud cover, in equal parts, the worst by `method`, the ones around the median and the best.
    """
    candidates = [i for i, image in enumerate(images) if has(image)] or list(range(len(images)))
    if len(candidates) <= limit:
        return candidates
    parts: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i in sorted(candidates, key=lambda i: (-rank(images[i], method), images[i]["id"])):
        parts[tuple(images[i][name] for name in ("protocol", "bands", "cover_class"))].append(i)
    taken: list[int] = []
    # Small parts first: what they leave of their share goes to the others.
    ordered = sorted(parts.items(), key=lambda part: (len(part[1]), part[0]))
    for number, (_, part) in enumerate(ordered):
        share = (limit - len(taken)) // (len(ordered) - number)
        taken += _spread(part, share)
    return sorted(taken)


def page_data(document: Mapping[str, Any], methods: Methods, encoded: Encoded, limit: int = SHOWN) -> dict[str, Any]:
    """Everything that the page's script reads but the pictures, which it names by their key in `picture_data`."""
    images = document["images"]
    shown = chosen(images, methods.subject, lambda image: bool(encoded.get(image["id"])), limit)
    return {
        "metrics": [asdict(metric) for metric in METRICS],
        "regions": REGIONS,
        "methods": list(methods.order),
        "compared": list(methods.compared),
        "baselines": list(methods.baselines),
        "first_guess": FIRST_GUESS if FIRST_GUESS in methods.baselines else None,
        "seed": SEED_PROTOCOL,
        "anchors": {"mean": ANCHORS, "pooled": ANCHORS_POOLED},
        "pictures": list(PICTURES),
        "fields": {name: list(dict.fromkeys(row[name] for row in document["rows"])) for name in FIELDS},
        "rows": _rows(document),
        "images": len(images),
        "cards": [_card(images[i], i, methods, encoded) for i in shown],
        "scenes": [
            {"id": scene["id"], "pics": _keys(encoded.get(scene["id"], {})), "scores": _scene_scores(scene, methods)}
            for scene in document["scenes"]
        ],
    }


def picture_data(data: Mapping[str, Any], encoded: Encoded) -> dict[str, str]:
    """Key > base64 of the WebP of every picture that `data` (of `page_data`) names, each once."""
    held: dict[str, str] = {}
    for card in (*data["cards"], *data["scenes"]):
        for name, key in card["pics"].items():
            if key not in held:
                held[key] = base64.b64encode(encoded[card["id"]][name]).decode("ascii")
    return held


def script_json(value: Any) -> str:
    r"""JSON that may stand in a `<script>`: nothing in it ends the element or opens another.

    >>> script_json({"id": "</script>"})
    '{"id":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _spread(part: Sequence[int], share: int) -> list[int]:
    """`share` of `part` (worst first): half from its start, a quarter around its middle, a quarter from its end."""
    if len(part) <= share:
        return list(part)
    best = share // 4
    middle = share // 4
    worst = share - best - middle
    start = max(worst, (len(part) - middle) // 2)
    start = min(start, len(part) - best - middle)
    return [*part[:worst], *part[start : start + middle], *part[len(part) - best :]]


def _card(image: Mapping[str, Any], index: int, methods: Methods, encoded: Encoded) -> dict[str, Any]:
    names = ("id", "chip", "group", "protocol", "also", "bands", "cover", "cover_class", "sky", "ground")
    return {
        "index": index,
        **{name: image[name] for name in names if name in image},
        "pics": _keys(encoded.get(image["id"], {})),
        "scores": {
            str(methods.order.index(method)): {region: _values(scores) for region, scores in regions.items()}
            for method, regions in image["scores"].items()
        },
    }


def _scene_scores(scene: Mapping[str, Any], methods: Methods) -> dict[str, dict[str, list[float | None]]]:
    scores: dict[str, dict[str, list[float | None]]] = defaultdict(dict)
    for row in scene["rows"]:
        if row["method"] in methods.order:
            scores[str(methods.order.index(row["method"]))][row["region"]] = _values(row["mean"])
    return scores


def _keys(pictures: Mapping[str, bytes]) -> dict[str, str]:
    return {
        name: hashlib.sha256(pictures[name]).hexdigest()[:16]
        for name in sorted(pictures, key=lambda name: PICTURES.index(name) if name in PICTURES else len(PICTURES))
    }


def _rows(document: Mapping[str, Any]) -> list[list[Any]]:
    """Rows as lists: a number for each of `FIELDS`, then the counts, then mean, low, high and pooled in the order of `METRICS`."""
    numbers: dict[str, dict[str, int]] = {name: {} for name in FIELDS}
    rows = []
    for row in document["rows"]:
        fields = [numbers[name].setdefault(row[name], len(numbers[name])) for name in FIELDS]
        scores = [_values(row[name]) for name in ("mean", "low", "high", "pooled")]
        rows.append([*fields, *(row[name] for name in _COUNTS), *scores])
    return rows


def _values(scores: Mapping[str, float | None]) -> list[float | None]:
    """The metrics in order, with five digits: more than the page shows."""
    values = (scores.get(metric.key) for metric in METRICS)
    return [None if value is None else float(f"{value:.5g}") for value in values]
