"""`report_page`: report.html, one file that shows a whole evaluation and asks nothing of any network.

Style, script, figures and pictures are inside it, and its content policy lets nothing else in: only the very script that ships with the
package runs, so that a file name can do no more than be read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

from pipeline.page_parts import hex_colour, whole_page
from pipeline.pictures import COLOURS, ERROR_FULL
from pipeline.report_data import SHOWN, Encoded, page_data, picture_data, script_json
from pipeline.report_figures import Figure, band_figures, calibration_figure, cover_figures, risk_figure
from pipeline.report_methods import MISSING, REGIONS, Methods, bands_name
from pipeline.report_tables import glance_table, score_table


def report_page(document: Mapping[str, Any], encoded: Encoded, limit: int = SHOWN) -> str:
    """The page of `document` (as in report.json), with the pictures of at most `limit` images."""
    methods = Methods.of(document)
    data = page_data(document, methods, encoded, limit)
    scenes = _scenes(document, methods)
    parts = {
        "title": escape(f"{document['checkpoint']['name']}: Declouder evaluation"),
        "name": escape(document["checkpoint"]["name"]),
        "lead": f'<p class="lead">{escape(_lead(document))}</p>',
        "scenes-link": '<a href="#scenes">Scenes</a>' if scenes else "",
        "glance": _trained_on(document) + glance_table(document, methods) + _left_out(document["chips"]),
        "score-notes": _score_notes(document, methods),
        "plots": _plots(document, methods),
        "scenes": scenes,
        "gallery": _gallery(document, len(data["cards"])),
        "facts": _facts(document),
        "data": script_json(data),
        "pictures": script_json(picture_data(data, encoded)),
    }
    return whole_page("page.html", ("page.css",), ("page.js", "gallery.js"), parts)


def when(created: str) -> str:
    """A time of ISO 8601 to the minute, in UTC; one without a zone is in UTC already.

    >>> when("2026-11-22T19:25:40+01:00")
    '2026-11-22 18:25 UTC'
    """
    time = datetime.fromisoformat(created)
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return f"{time:%Y-%m-%d %H:%M} UTC"


def duration(seconds: float | None) -> str:
    """Seconds as a reader says them.

    >>> duration(42.4), duration(151), duration(7265), duration(None)
    ('42 s', '2 min 31 s', '2 h 1 min', '-')
    """
    if seconds is None:
        return MISSING
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _lead(document: Mapping[str, Any]) -> str:
    images, groups = len(document["images"]), len({image["group"] for image in document["images"]})
    chips = document["chips"]
    return (
        f"{_count(images, 'image')} of {_count(groups, 'ROI')} in split {document['split']} ({chips['used']:,} of {_count(chips['rows'], 'row')} used), "
        f"{_described(document['checkpoint'])}. Made {when(document['created'])} in {duration(document['seconds'])}."
    )


def _described(checkpoint: Mapping[str, Any]) -> str:
    parameters = checkpoint["parameters"]
    known = (
        f"{parameters / 1e6:.1f} million parameters" if parameters else "",
        f"size {checkpoint['size']}" if checkpoint["size"] else "",
        f"guidance {checkpoint['guidance']}" if checkpoint["guidance"] else "",
    )
    return ", ".join(part for part in known if part) or "size not known"


def _count(number: int, noun: str) -> str:
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else many}"


def _trained_on(document: Mapping[str, Any]) -> str:
    """What was trained on the ground that it is scored on."""
    return "".join(f'<div class="warning">{escape(line)}</div>' for line in leaks(document))


def leaks(document: Mapping[str, Any]) -> tuple[str, ...]:
    """A line for each checkpoint of a report that was trained on groups on which it is scored."""
    return tuple(
        f"{entry['name']} was trained on {', '.join(groups)}: scores there say nothing of ground that it has not seen"
        for entry in (document["checkpoint"], *document["compared"])
        if (groups := entry.get("trained_on"))
    )


def _left_out(chips: Mapping[str, Any]) -> str:
    """What was not scored, by reason, with its names."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for entry in chips["left_out"]:
        reasons[entry["reason"]].append(entry["id"])
    if not reasons:
        return ""
    total = sum(map(len, reasons.values()))
    lists = "".join(
        f"<details><summary>{len(ids):,}: {escape(reason)}</summary><ul>{''.join(f'<li>{escape(name)}</li>' for name in ids)}</ul></details>"
        for reason, ids in sorted(reasons.items(), key=lambda item: -len(item[1]))
    )
    return f'<div class="warning">Left out, {_count(total, "entry")}:{lists}</div>'


def _score_notes(document: Mapping[str, Any], methods: Methods) -> str:
    variants = "; ".join(f"{name.replace('_', ' ')}: {text}" for name, text in document["ssim"].items())
    compared = f" Compared with {', '.join(methods.compared)}." if methods.compared else ""
    return (
        f'<p class="note">SSIM variants: {escape(variants)}. A value that is not defined is written {MISSING} and counted, as are images that equal '
        f"their truth: they would have an infinite PSNR. Cloud masks by {escape(', '.join(document['mask']) or 'nobody')}.{escape(compared)}</p>"
    )


def _plots(document: Mapping[str, Any], methods: Methods) -> str:
    confidence = [calibration_figure(document["confidence"]), risk_figure(document["confidence"])]
    drawn = [
        *_choosable(cover_figures(document, methods)),
        *_choosable(band_figures(document, methods)),
        *(f"<div>{html}</div>" for html in confidence if html),
    ]
    if not any(confidence):
        drawn.append('<p class="note">The checkpoint says nothing of its confidence.</p>')
    return "".join(drawn)


def _choosable(figures: Iterable[Figure]) -> Iterable[str]:
    for number, figure in enumerate(figures):
        part = " ".join(f'data-{name}="{escape(getattr(figure, name))}"' for name in ("protocol", "bands", "region"))
        yield f"<div {part}{' hidden' if number else ''}>{figure.html}</div>"


def _scenes(document: Mapping[str, Any], methods: Methods) -> str:
    parts = []
    for number, scene in enumerate(document["scenes"]):
        bands = bands_name(scene["bands"]) if isinstance(scene["bands"], str) else " ".join(scene["bands"])
        cover = MISSING if scene["cover"] is None else f"{scene['cover']:.0%}"
        regions = list(dict.fromkeys(row["region"] for row in scene["rows"]))
        by_region = {
            REGIONS.get(region, region): _ranked(row for row in scene["rows"] if row["region"] == region)
            for region in regions
        }
        parts.append(
            f'<h3>{escape(scene["id"])}</h3><p class="note">Truth {escape(scene["truth"])}, clouds of {escape(scene["clouds_of"])}, cover {cover}, '
            f'{escape(bands)}, {duration(scene["seconds"])}. {escape(_more(scene))}</p><div data-scene="{number}"></div>'
            + score_table(by_region, methods, f"Scores of {scene['id']}")
        )
    if not parts:
        return ""
    return (
        '<section id="scenes" aria-labelledby="scenes-title"><h2 id="scenes-title">Scenes</h2><p class="note">A clear scene under the clouds of another '
        f"date, declouded by the whole pipeline and scored against itself.</p>{''.join(parts)}</section>"
    )


def _more(scene: Mapping[str, Any]) -> str:
    """What else a scene's entry may say of its making."""
    parts = []
    if scene.get("references"):
        parts.append(f"Restored with {', '.join(scene['references'])}.")
    if scene.get("unseen") is not None:
        parts.append(f"{scene['unseen']:.1%} of the masked pixels are clear on no other date.")
    if scene.get("clear_changed") is not None:
        parts.append(f"Values outside the mask that are not those of the input: {scene['clear_changed']:,}.")
    parts += [f"Without {name}: {reason}." for name, reason in scene.get("left_out", {}).items()]
    return " ".join(parts)


def _ranked(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """By RMSE, lowest first; what has none comes last."""
    return sorted(rows, key=lambda row: (row["mean"].get("rmse") is None, row["mean"].get("rmse")))


def _gallery(document: Mapping[str, Any], shown: int) -> str:
    """What the pictures mean."""
    stops = "".join(
        f'<stop offset="{i / (len(COLOURS) - 1):.4f}" stop-color="{hex_colour(colour)}"/>'
        for i, colour in enumerate(COLOURS)
    )
    ticks = "".join(
        f'<text x="{20 + 220 * i / 4:.0f}" y="31" text-anchor="middle">{ERROR_FULL * i / 4:.3g}{"+" if i == 4 else ""}</text>'
        for i in range(5)
    )
    total = len(document["images"])
    cut = (
        f'<p class="note">This page holds {shown} of {total:,} images: of every protocol, band set and class of cover the worst, some around the median, '
        "and the best. The others are in report.json and the folder pictures.</p>"
        if shown < total
        else ""
    )
    return (
        f'{cut}<div class="keys"><div>Error and expected error: mean of |prediction &minus; truth| over the bands, reflectance'
        f'<svg viewBox="0 0 260 34" role="img" aria-label="Colours of the error: black none, bright {ERROR_FULL} or more"><defs>'
        f'<linearGradient id="scale">{stops}</linearGradient></defs><rect x="20" y="2" width="220" height="15" fill="url(#scale)"/>{ticks}</svg></div>'
        '<div><span class="swatch"></span> truth not known</div></div>'
        '<p class="note">Input, prediction and truth show B04, B03, B02 in one stretch, which the truth decides. Structure: the network\'s edge-preserving '
        "smoothing of SWIR, NIR and visible bands as red, green and blue, each stretched by itself (without SWIR the near infrared stands in). Opacity: "
        "black leaves the input, white replaces it.</p>"
    )


def _facts(document: Mapping[str, Any]) -> str:
    checkpoint, chips = document["checkpoint"], document["chips"]
    tables = "".join(
        f'<li>{escape(table["file"])} ({escape(table["layout"])}, split hash <span class="digest">{escape(table["split_hash"] or MISSING)}</span>)</li>'
        for table in document["tables"]
    )
    compared = "".join(
        f'<li>{escape(one["name"])}, {escape(_described(one))} <span class="digest">{escape(one["digest"] or MISSING)}</span></li>'
        for one in document["compared"]
    )
    software = document["software"]
    facts = (
        ("Checkpoint", f"{escape(checkpoint['name'])}, {escape(_described(checkpoint))}"),
        ("Digest", f'<span class="digest">{escape(checkpoint["digest"] or MISSING)}</span>'),
        ("Compared with", f"<ul>{compared}</ul>" if compared else MISSING),
        ("Split", f"{escape(document['split'])}, by {escape(document.get('splits_from') or 'the tables')}"),
        ("Split hash", f'<span class="digest">{escape(document["split_hash"] or MISSING)}</span>'),
        ("Tables", f"<ul>{tables}</ul>" if tables else MISSING),
        ("Cloud masks", escape(", ".join(document["mask"])) or MISSING),
        ("SSIM", "<br>".join(f"{escape(name)}: {escape(text)}" for name, text in document["ssim"].items())),
        ("Rows", f"{chips['used']:,} of {chips['rows']:,} used"),
        ("Settings", _listed(document["settings"])),
        ("Software", escape(software) if isinstance(software, str) else _listed(software)),
        ("Made", f"{when(document['created'])}, {duration(document['seconds'])}"),
    )
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in facts)}</dl>"


def _listed(values: Mapping[str, Any]) -> str:
    return (
        "<br>".join(f"{escape(name.replace('_', ' '))}: {escape(_said(value))}" for name, value in values.items())
        or MISSING
    )


def _said(value: Any) -> str:
    """A setting in words: lists and what is below them on one line."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {_said(one)}" for name, one in value.items())
    if isinstance(value, list):
        return " ".join(map(_said, value))
    return MISSING if value is None else str(value)
