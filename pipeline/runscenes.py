"""The scenes of a run report: a card with picture and numbers each, and the table of those without a product."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

from pipeline.hrefs import without_credentials
from pipeline.itemvalues import number
from pipeline.layers import PROVENANCE, PROVENANCE_COLOURS
from pipeline.page_parts import hex_colour
from pipeline.productview import ProductView, ReferenceView
from pipeline.runentry import MISSING, RunEntry, percent

_COLOURS = {name: hex_colour(PROVENANCE_COLOURS[value][:3]) for value, name in PROVENANCE.items() if name != "nodata"}
_SETTINGS = (
    "format",
    "bands",
    "tile",
    "overlap",
    "references",
    "window_days",
    "max_generated",
    "grow",
    "feather",
    "clip",
)


def scene_section(entries: Sequence[RunEntry]) -> str:
    """The cards of all scenes that have a product; empty without any."""
    cards = "".join(_card(entry) for entry in entries if entry.view is not None)
    if not cards:
        return ""
    return f'<section id="scenes" aria-labelledby="scenes-title"><h2 id="scenes-title">Scenes</h2>{cards}</section>'


def not_done_section(entries: Sequence[RunEntry], strange: Mapping[str, str]) -> str:
    """Scenes without a (good) product and folders that are none, with their reasons; empty where all is well."""
    rows = [
        _reason(entry.scene, entry.line.state, entry.line.time, entry.line.reason or "no product yet", entry.look)
        for entry in entries
        if entry.look != "done"
    ]
    rows += [
        _reason(name, "not shown", "", reason.removeprefix(f"{name}: "), "other")
        for name, reason in sorted(strange.items())
    ]
    if not rows:
        return ""
    return (
        '<section id="not-done" aria-labelledby="not-done-title"><h2 id="not-done-title">Not done, or not shown</h2><div class="wide">'
        '<table class="reasons"><thead><tr><th>Scene or folder</th><th>State</th><th>Why</th><th>Time (UTC)</th></tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div><p class="note">Another try for what failed or was interrupted: '
        "<code>decloud status DIR --retry-failed</code>. An invalid scene stays so until its input or a setting is changed.</p></section>"
    )


def bar(shares: Mapping[str, float], label: str) -> str:
    """A stacked bar of the classes of provenance, with its legend in words."""
    x, parts = 0.0, []
    for name in _COLOURS:
        width = 100 * shares.get(name, 0.0)
        if width > 0:
            parts.append(f'<rect x="{x:.3f}" y="0" width="{width:.3f}" height="10" fill="{_COLOURS[name]}"/>')
            x += width
    words = "".join(
        f'<li><svg class="sw" viewBox="0 0 11 11" aria-hidden="true"><rect width="11" height="11" fill="{_COLOURS[name]}"/></svg>{name} <b>{percent(shares[name])}</b></li>'
        for name in _COLOURS
        if name in shares and (shares[name] > 0 or name != "refused")
    )
    told = ", ".join(f"{name} {percent(shares[name])}" for name in _COLOURS if name in shares)
    return (
        f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{escape(f"{label}: {told}")}">{"".join(parts)}</svg>'
        f'<ul class="parts">{words}</ul>'
    )


def seconds(value: float) -> str:
    """A time as a reader says it.

    >>> seconds(0.02), seconds(9.33), seconds(151)
    ('<0.1 s', '9.3 s', '2 min 31 s')
    """
    if value < 0.05:
        return "<0.1 s" if value > 0 else "0 s"
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _card(entry: RunEntry) -> str:
    view = entry.view
    assert view is not None  # noqa: S101 - the section asks for those that have one
    warnings = "".join(f'<div class="warning">{escape(line)}</div>' for line in _warnings(entry))
    chip = f'<span class="chip st-{entry.look}">{escape(entry.line.state)}</span>'
    provenance = (
        bar(view.provenance, "Provenance")
        if view.provenance
        else '<p class="note">Nothing says where its pixels come from.</p>'
    )
    return (
        f'<article class="scene" id="product-{escape(view.id)}"><div>{_look(entry)}</div><div><h3>{escape(entry.title)} {chip}</h3>'
        f'<p class="of">{escape(view.id)}</p>{warnings}{provenance}{_listed(_numbers(view))}'
        f"<details><summary>Times, references, settings</summary>{_listed(_more(view))}</details></div></article>"
    )


def _warnings(entry: RunEntry) -> list[str]:
    lines = [] if entry.look == "done" else [f"{entry.line.state}: {entry.line.reason or 'no reason is written down'}"]
    return [*lines, *(problem.removeprefix(f"{entry.id}: ") for problem in entry.problems)]


def _look(entry: RunEntry) -> str:
    pictures = entry.pictures
    if not pictures.thumbnail:
        words = "no picture can be shown" if entry.longest else "the page holds pictures of the newest scenes only"
        return f'<div class="nothing">{words}</div>'
    source = base64.b64encode(pictures.thumbnail).decode("ascii")
    words = "before and after" if pictures.before else "after"
    image = f'<img alt="{escape(entry.title)}, {words}" loading="lazy" src="data:image/webp;base64,{source}">'
    return (
        f'<button type="button" class="look" data-open="{escape(entry.id)}">{image}'
        f'<span><span>{"before" if pictures.before else ""}</span><span class="open">open at full screen</span><span>after</span></span></button>'
    )


def _numbers(view: ProductView) -> list[tuple[str, str]]:
    claimed = "" if view.claimed is None else f" (cloud by its catalogue: {percent(view.claimed)})"
    after = "not known" if view.cover_after is None else percent(view.cover_after)
    refused = view.provenance.get("refused")
    seam = MISSING if view.seam is None else f"{view.seam:.2f} (1: tile borders are as smooth as elsewhere)"
    sure = ", ".join(f"{escape(name)} {value:.0f} %" for name, value in view.confidence.items())
    used = "<br>".join(_reference(one) for one in view.references) or "none: no other date was used"
    return [
        ("Cloud and shadow", f"{percent(view.cover_before)} before{claimed}, <b>{after}</b> after"),
        ("Refused; left cloudy", f"{percent(refused)}; {percent(view.left_cloudy)}"),
        ("Mean confidence", sure or "not known: the checkpoint says nothing of it"),
        ("Seam score", seam),
        ("References", used),
        ("Checkpoint", _checkpoint(view)),
    ]


def _checkpoint(view: ProductView) -> str:
    digest = "" if view.digest == view.model else f' <span class="digest">{escape(view.digest[:12])}</span>'
    return f"{escape(view.model) or MISSING}{digest}"


def _reference(one: ReferenceView) -> str:
    days = "" if one.days is None else f"{one.days:+.0f} d"
    share = "" if one.share is None else f"clear in {percent(one.share)} of what is cloudy here"
    not_harmonised = f"not harmonised: {', '.join(one.not_harmonised)}" if one.not_harmonised else ""
    told = "; ".join(part for part in (days, share, not_harmonised) if part)
    return escape(f"{one.id} ({told})" if told else one.id)


def _more(view: ProductView) -> list[tuple[str, str]]:
    skipped = _lines(view.skipped) or "none was passed over"
    chosen = {name: view.settings[name] for name in _SETTINGS if name in view.settings}
    tiles, seen = (number(view.settings.get(name)) for name in ("tiles", "tiles_restored"))
    network = MISSING if tiles is None or seen is None else f"{seen:,.0f} of {tiles:,.0f} needed the network"
    return [
        ("Time", _times(view)),
        ("Other dates, not used", skipped),
        ("Bands left out", _lines(_turned(view.left_out)) or "none"),
        (
            "Mask",
            ", ".join(
                (
                    escape(view.mask_method) or MISSING,
                    *(f"{escape(name)} {percent(share)}" for name, share in view.mask.items()),
                )
            ),
        ),
        ("Tiles", network),
        (
            "Settings",
            "; ".join(f"{escape(name.replace('_', ' '))} {escape(_said(value))}" for name, value in chosen.items())
            or MISSING,
        ),
        ("Made", escape(f"{view.created[:19].replace('T', ' ')} UTC" if view.created else MISSING)),
        ("By", escape(f"declouder {view.software}")),
        ("Source", escape(without_credentials(view.source)) or MISSING),
    ]


def _times(view: ProductView) -> str:
    if not view.seconds:
        return "not measured"
    total = f"{seconds(view.total)} in all" if view.total is not None else "total not measured"
    limit = f"; {escape(view.limit)} took the largest share" if view.limit else ""
    stages = ", ".join(f"{escape(name)} {seconds(value)}" for name, value in view.seconds.items())
    return f"{total}{limit}{_time_bar(view)}{stages}. Stages overlap: their sum may exceed the total."


def _time_bar(view: ProductView) -> str:
    sizes = [*view.seconds.values()]
    whole = sum(sizes)
    if whole <= 0:
        return ""
    edges = [0.0]
    for size in sizes:
        edges.append(edges[-1] + 100 * size / whole)
    parts = "".join(
        f'<rect{" class=" + chr(34) + "limit" + chr(34) if name == view.limit else ""} x="{left:.2f}" width="{right - left:.2f}" height="10"><title>{escape(name)} {seconds(size)}</title></rect>'
        for (left, right), (name, size) in zip(pairwise(edges), view.seconds.items(), strict=True)
        if right > left
    )
    return f'<svg class="times" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{parts}</svg>'


def _turned(values: Mapping[str, str]) -> dict[str, str]:
    """What has one reason on one line: names joined -> reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in values.items():
        by_reason.setdefault(reason, []).append(name)
    return {", ".join(names): reason for reason, names in by_reason.items()}


def _lines(values: Mapping[str, str]) -> str:
    return "<br>".join(f"{escape(name)}: {escape(reason)}" for name, reason in values.items())


def _said(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_said, value))
    nothing = value is None or (isinstance(value, float) and number(value) is None)
    return MISSING if nothing else str(value)


def _listed(facts: Sequence[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in facts)}</dl>"


def _reason(name: str, state: str, time: str, reason: str, look: str) -> str:
    return (
        f'<tr><th>{escape(name)}</th><td class="state"><span class="chip st-{look}">{escape(state)}</span></td>'
        f'<td>{escape(reason)}</td><td class="when">{escape(time[:19].replace("T", " "))}</td></tr>'
    )
