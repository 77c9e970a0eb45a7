"""The tables of a report that need no script: the one at its top, and those of its scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pipeline.report_methods import (
    ANCHORS,
    METRICS,
    MISSING,
    REGIONS,
    SEED_PROTOCOL,
    Methods,
    Metric,
    bands_name,
    overall,
    settings_of,
)

_GLANCE = ("cloudy", "all")


def glance_table(document: Mapping[str, Any], methods: Methods) -> str:
    """The checkpoint by each protocol in its first band set: each score with its interval, and the best that a baseline reached in it."""
    first: dict[str, str] = {}
    for protocol, bands in settings_of(document):
        first.setdefault(protocol, bands)
    lines = [
        line
        for protocol, bands in first.items()
        for region in _GLANCE
        for line in _glance_lines(document, methods, protocol, bands, region)
    ]
    if not lines:
        return '<p class="warning">The checkpoint has no score: see what was left out.</p>'
    table = f'<table class="glance">{_head("Protocol, bands, pixels")}<tbody>{"".join(lines)}</tbody></table>'
    return (
        f'<div class="wide" tabindex="0" role="region" aria-labelledby="glance-title">{table}</div>'
        '<p class="note">Means of the images over every cloud cover, with the interval of 95 % (drawn by ROI), and the best mean that any baseline '
        "without a network reaches in that column on the same images, not always the same one. Bold with a dot: the checkpoint is ahead.</p>"
    )


def score_table(parts: Mapping[str, Sequence[Mapping[str, Any]]], methods: Methods, label: str) -> str:
    """Rows of methods below the titles `parts`, the best of each column of a part marked."""
    bodies = "".join(_body(title, rows, methods) for title, rows in parts.items())
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table>{_head('Method')}{bodies}</table></div>"
    )


def best(metric: Metric, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The best mean of a metric among rows; None where none has one."""
    values = [value for row in rows if (value := row["mean"].get(metric.key)) is not None]
    return (min if metric.better == "low" else max)(values, default=None)


def _glance_lines(document: Mapping[str, Any], methods: Methods, protocol: str, bands: str, region: str) -> list[str]:
    rows = {row["method"]: row for row in overall(document, protocol, bands, region)}
    if methods.subject not in rows:
        return []
    own = rows[methods.subject]
    others = [row for row in methods.comparable(list(rows.values())) if row["method"] in methods.baselines]
    cells = []
    for metric in METRICS:
        value, other = own["mean"].get(metric.key), best(metric, others)
        ahead = value is not None and other is not None and (value < other if metric.better == "low" else value > other)
        small = "" if other is None else f"<small>baseline {other:.{metric.digits}f}</small>"
        cells.append(_cell(metric, own, marked=ahead, more=small))
    count = f"{own['images']:,} image{'' if own['images'] == 1 else 's'}"
    title = f"{escape(protocol)}<small>{escape(bands_name(bands))}, {escape(REGIONS[region])}, {count}</small>"
    lines = [f'<tr><th scope="row">{title}</th>{"".join(cells)}</tr>']
    if protocol == SEED_PROTOCOL and region == "all":
        lines.append(_anchors())
    return lines


def _anchors() -> str:
    cells = {"rmse": f"{ANCHORS['rmse']:.3f}", "psnr": f"{ANCHORS['psnr']:.2f}", "cc": f"{ANCHORS['cc']:.3f}"}
    row = "".join(
        f'<td colspan="2">{ANCHORS["ssim"]:.3f}<small>variant not said</small></td>'
        if metric.key == "ssim_same"
        else f"<td>{cells.get(metric.key, MISSING)}</td>"
        for metric in METRICS
        if metric.key != "ssim_valid"
    )
    title = "student reproduction<small>as published: RGB, all pixels, 14 images, other protocol</small>"
    return f'<tr class="anchor"><th scope="row">{title}</th>{row}</tr>'


def _head(first: str) -> str:
    columns = "".join(
        f'<th scope="col">{escape(metric.name)}<small>{escape(metric.unit)}</small></th>' for metric in METRICS
    )
    return f'<thead><tr><th scope="col">{escape(first)}</th>{columns}</tr></thead>'


def _body(title: str, rows: Sequence[Mapping[str, Any]], methods: Methods) -> str:
    compared = methods.comparable(rows)
    leading = {metric.key: best(metric, compared) for metric in METRICS if _differ(metric, compared)}
    lines = [f'<tr class="block"><th scope="rowgroup" colspan="{len(METRICS) + 1}">{escape(title)}</th></tr>']
    for row in rows:
        subject = ' class="subject"' if row["method"] == methods.subject else ""
        cells = "".join(
            _cell(
                metric,
                row,
                marked=row in compared
                and (value := row["mean"].get(metric.key)) is not None
                and value == leading.get(metric.key),
            )
            for metric in METRICS
        )
        lines.append(f'<tr{subject}><th scope="row">{escape(row["method"])}</th>{cells}</tr>')
    return f"<tbody>{''.join(lines)}</tbody>"


def _differ(metric: Metric, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there is a best: two values at least that are not the same."""
    return len({row["mean"].get(metric.key) for row in rows} - {None}) > 1


def _cell(metric: Metric, row: Mapping[str, Any], *, marked: bool, more: str = "") -> str:
    low, high = (row.get(end, {}).get(metric.key) for end in ("low", "high"))
    interval = (
        "" if low is None or high is None else f"<small>{low:.{metric.digits}f} to {high:.{metric.digits}f}</small>"
    )
    mark = ' class="best"' if marked else ""
    return f"<td{mark}>{metric.text(row['mean'])}{interval}{more}</td>"
