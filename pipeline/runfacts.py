"""What a run report says of a run as a whole: its first lines, the figures at a glance, the keys of the layers, how it was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from pipeline.address import address
from pipeline.checkpoints import IDENTITY
from pipeline.layers import CLOUD_CLASSES, PROVENANCE
from pipeline.page_parts import hex_colour
from pipeline.product import software_version
from pipeline.productview import ProductView
from pipeline.runentry import MISSING, RunEntry, counted, mean, percent
from pipeline.runscenes import bar, seconds
from pipeline.survey import Survey
from pipeline.viewpictures import OVER_CLOUDMASK, OVER_PROVENANCE, STEPS, Colour, shade

_LAYERS = (
    ("", "No layer", "0"),
    ("provenance", "Provenance", "P"),
    ("confidence", "Confidence", "C"),
    ("cloudmask", "Cloud mask", "M"),
)


def lead(entries: Sequence[RunEntry]) -> str:
    """How many scenes of when, and how they ended."""
    if not entries:
        return "No scene was ever run here."
    dates = sorted(entry.time for entry in entries if entry.time is not None)
    span = ""
    if dates:
        first, last = f"{dates[0]:%Y-%m-%d}", f"{dates[-1]:%Y-%m-%d}"
        span = f" of {first}" if first == last else f" from {first} to {last}"
    states = Counter("done" if entry.look == "done" else entry.line.state for entry in entries)
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return f"{counted(len(entries), 'scene')}{span}: {told}."


def glance(entries: Sequence[RunEntry], found: Survey, problems: Sequence[str]) -> str:
    """Tiles of figures, the shares of provenance over all scenes, and what a reader must know first."""
    warnings = "".join(f'<div class="warning">{escape(line)}</div>' for line in _warnings(entries, found, problems))
    views = [entry.view for entry in entries if entry.view is not None]
    if not views:
        return warnings + '<p class="note">There is no product to show yet.</p>'
    seams = [
        (view.seam, entry.title) for entry in entries if (view := entry.view) is not None and view.seam is not None
    ]
    worst = max(seams, default=None)
    spent = [view.total for view in views if view.total is not None]
    limits = Counter(view.limit for view in views if view.limit).most_common(1)
    tiles = (
        (f"{sum(entry.look == 'done' for entry in entries)} of {len(entries)}", "scenes done"),
        _cover(views),
        (
            percent(mean(view.provenance.get("observed") for view in views)),
            "left exactly as observed, mean of the scenes",
        ),
        (
            MISSING if worst is None else f"{worst[0]:.2f}",
            "highest seam score, of tiles, not of dates" + ("" if worst is None else f" ({escape(worst[1])})"),
        ),
        (
            seconds(sum(spent)) if spent else MISSING,
            "for all scenes" + (f"; the limit was mostly {escape(limits[0][0])}" if limits else ""),
        ),
    )
    figures = "".join(f"<div><dt>{words}</dt><dd>{figure}</dd></div>" for figure, words in tiles)
    shares = {
        name: value
        for name in PROVENANCE.values()
        if name != "nodata" and (value := mean(view.provenance.get(name) for view in views)) is not None
    }
    return f'{warnings}<dl class="tiles">{figures}</dl>{bar(shares, "Provenance, mean of the scenes") if shares else ""}{_KEY}'


def _cover(views: Sequence[ProductView]) -> tuple[str, str]:
    before, after = mean(view.cover_before for view in views), mean(view.cover_after for view in views)
    if after is None:
        return percent(before), "cloud and shadow before, mean of the scenes"
    return f"{percent(before)} &rarr; {percent(after)}", "cloud and shadow before and after, mean of the scenes"


_KEY = (
    '<p class="note">Observed: every band as in the source, bit for bit. Blended: the rim of a cloud, part source, part restored. Restored: replaced, '
    "with a clear other date to go by. Generated: replaced without one, from what surrounds it. Refused: not replaced, because too much would have been made up.</p>"
    '<noscript><p class="warning">The full-screen pictures need scripts; all numbers are below.</p></noscript>'
)


def _warnings(entries: Sequence[RunEntry], found: Survey, problems: Sequence[str]) -> list[str]:
    lines = list(problems)
    if any(entry.view is not None and entry.view.model == IDENTITY for entry in entries):
        lines.append(
            "Made with the checkpoint identity, which tries the pipeline without a network: what is cloudy in the pictures is left as it was."
        )
    bad = [entry for entry in entries if entry.look != "done"]
    if bad:
        states = Counter(entry.line.state for entry in bad)
        lines.append(
            f"Not done: {', '.join(f'{count} {state}' for state, count in sorted(states.items()))}. The reasons are below."
        )
    if any(entry.view is not None and entry.view.out_of_reach for entry in entries):
        lines.append(
            "Layers and NDVI of Zarr products in a bucket are not shown: a picture of a layer would need all of its pixels fetched."
        )
    if found.strange:
        lines.append(f"{counted(len(found.strange), 'folder')} in this output cannot be shown. The reasons are below.")
    return lines


def layer_tabs() -> str:
    """The buttons of the layers."""
    return "".join(
        f'<button type="button" data-layer="{name}" aria-pressed="{"false" if name else "true"}">{text}<kbd>{key}</kbd></button>'
        for name, text, key in _LAYERS
    )


def layer_keys() -> str:
    """What the colours of each layer mean."""
    scale = "".join(
        f'<rect x="{8 * number}" width="8.4" height="12" fill="{hex_colour(shade(round(100 * number / (STEPS - 1))))}"/>'
        for number in range(STEPS)
    )
    confidence = (
        '<div data-layer="confidence" hidden>0 %<svg class="shades" viewBox="0 0 160 12" preserveAspectRatio="none" role="img" '
        f'aria-label="From bright, 0 %, to dark, 99 %">{scale}</svg>99 % likely within 0.02 of the ground\'s reflectance; observed: not coloured</div>'
    )
    return (
        f'<ul data-layer="provenance" hidden>{_classes(OVER_PROVENANCE, PROVENANCE)}<li>observed: not coloured</li></ul>{confidence}'
        f'<ul data-layer="cloudmask" hidden>{_classes(OVER_CLOUDMASK, CLOUD_CLASSES)}<li>clear: not coloured</li></ul>'
    )


def _classes(colours: Mapping[int, Colour], names: Mapping[int, str]) -> str:
    sign = '<svg class="sw" viewBox="0 0 11 11" aria-hidden="true"><rect width="11" height="11" fill="{}"/></svg>'
    return "".join(f"<li>{sign.format(hex_colour(colour))}{names[value]}</li>" for value, colour in colours.items())


def facts_list(output: Path, entries: Sequence[RunEntry], found: Survey, more: Mapping[str, str]) -> str:
    """Where, by what, and when."""
    views = [entry.view for entry in entries if entry.view is not None]
    models = sorted(
        {
            view.model if view.digest == view.model else f"{view.model} ({view.digest[:12]})"
            for view in views
            if view.model
        }
    )
    makers = sorted({view.software for view in views})
    older = ", ".join(view.id for view in found.older)
    facts = (
        ("Output", address(output)),
        *more.items(),
        ("Checkpoint", ", ".join(models) or MISSING),
        ("Products by", ", ".join(f"declouder {version}" for version in makers) or MISSING),
        *((("Older products of the same scenes", older),) if older else ()),
        ("This page", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, declouder {software_version()}"),
        ("Source of the images", "contains modified Copernicus Sentinel data"),
    )
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(text)}</dd>' for name, text in facts)}</dl>"
