"""Tables of scores in Markdown, from report.json alone. What a report does not hold reads "not measured"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.model_card.inputs import Report
from pipeline.baselines import BASELINES, TEMPORAL
from pipeline.cases import KINDS as SKIES
from pipeline.cases import PROTOCOLS
from pipeline.ground import GROUND
from pipeline.report_methods import ANCHORS, ANCHORS_POOLED, FIRST_GUESS, METRICS, REGIONS, overall, settings_of
from srgan.card import UNKNOWN

_BY_KEY = {metric.key: metric for metric in METRICS}
PROTOCOL_NAMES = {
    "pair": "real clouds, no other date",
    "pair+1 date": "real clouds, one other date",
    "pair+dates": "real clouds, up to two other dates",
    "synthetic": "made clouds, no other date",
    "synthetic+dates": "made clouds, up to two other dates",
    "seed": "the seed's protocol: made clouds, 256 x 256",
}
_SUMMARY = ("psnr", "ssim_valid", "ssim_same", "cc", "rmse", "sam", "mae")
_AGAINST = ("rmse", "sam", "ssim_valid", "psnr")
_FEW = 5  # groups


def cell(value: Any) -> str:
    """Text that cannot break a table or hold HTML.

    >>> cell("a|b <i>")
    'a\\\\|b &lt;i>'
    """
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, words: bool = False) -> Iterator[str]:
    """A table with a blank line after it: figures to the right, `words` to the left."""
    yield f"| {' | '.join(map(cell, columns))} |"
    yield f"|---|{('---|' if words else '---:|') * (len(columns) - 1)}"
    yield from (f"| {' | '.join(map(cell, row))} |" for row in rows)
    yield ""


def figure(row: Mapping[str, Any] | None, metric: str) -> str:
    """Mean and interval of a row: `0.0498 (0.0392 to 0.0657)`."""
    if row is None:
        return UNKNOWN
    text = _BY_KEY[metric].text(row["mean"])
    ends = [row[side].get(metric) for side in ("low", "high")]
    if row["groups"] < 2 or None in ends:
        return text
    low, high = (_BY_KEY[metric].text({metric: end}) for end in ends)
    return f"{text} ({low} to {high})"


def widest(document: Mapping[str, Any], protocol: str) -> str | None:
    """The set of most bands by which a protocol was scored."""
    sets = [bands for name, bands in settings_of(document) if name == protocol]
    return max(sets, key=lambda bands: int((re.match(r"\d+", bands) or ["0"])[0]), default=None)


def row_of(
    document: Mapping[str, Any], protocol: str, bands: str | None, region: str, method: str
) -> Mapping[str, Any] | None:
    """The row over all covers, skies and grounds; None where it was not measured."""
    rows = overall(document, protocol, bands, region) if bands else []
    return next((row for row in rows if row["method"] == method), None)


def summary(report: Report) -> Iterator[str]:
    """The model by every protocol, on all and on cloudy pixels, then region by region."""
    document, subject = report.document, report.methods.subject
    for region in ("all", "cloudy"):
        yield f"**{REGIONS[region].capitalize()}**"
        yield ""
        rows = []
        for protocol in PROTOCOLS:
            bands = widest(document, protocol)
            row = row_of(document, protocol, bands, region, subject)
            count = f"{row['images']} / {row['groups']}" if row else UNKNOWN
            rows.append(
                (PROTOCOL_NAMES[protocol], bands or UNKNOWN, count, *(figure(row, metric) for metric in _SUMMARY))
            )
        yield from table(("protocol", "bands", "images / groups", *_names(_SUMMARY)), rows)
    counts = [row["groups"] for row in document["rows"]]
    if max(counts, default=0) < _FEW:
        yield f"The intervals are over {max(counts, default=0)} groups: with so few they are a rough guide; a single figure is of one group."
        yield ""


def regions(report: Report) -> Iterator[str]:
    """RMSE of the model in every region."""
    document = report.document
    shown = [protocol for protocol in PROTOCOLS if widest(document, protocol)]
    rows = [
        (
            name,
            *(figure(row_of(document, p, widest(document, p), region, report.methods.subject), "rmse") for p in shown),
        )
        for region, name in REGIONS.items()
    ]
    yield from table(("RMSE", *shown), rows)


def goals(report: Report, wanted: Mapping[str, float]) -> Iterator[str]:
    """What was asked for on cloudy pairs beside what was reached."""
    row = row_of(report.document, "pair", "13", "all", report.methods.subject)
    rows = []
    for key, goal in wanted.items():
        metric = _BY_KEY["ssim_valid" if key == "ssim" else key]
        value = None if row is None else row["mean"].get(metric.key)
        met = UNKNOWN if value is None else "yes" if (value <= goal) == (metric.better == "low") else "no"
        rows.append((f"{metric.name} {metric.unit}".strip(), figure(row, metric.key), f"{goal:g}", met))
    yield from table(("real clouds, all pixels, 13 bands", "reached", "asked for", "met"), rows)


def seed(report: Report) -> Iterator[str]:
    """The seed's protocol in every band set, beside the seed's own scores."""
    document, subject = report.document, report.methods.subject
    anchor = document["settings"].get("seed_anchor", {**ANCHORS, "psnr_pooled": ANCHORS_POOLED["psnr"]})
    rows = []
    sets: list[str | None] = [bands for protocol, bands in settings_of(document) if protocol == "seed"]
    for bands in sets or [None]:
        row = row_of(document, "seed", bands, "all", subject)
        pooled = UNKNOWN if row is None else _BY_KEY["psnr"].text(row["pooled"])
        name = f"{subject}, {bands} bands" if bands else subject
        rows.append((name, *(figure(row, key) for key in ("psnr", "ssim_same", "ssim_valid", "cc", "rmse")), pooled))
    own = [anchor.get(key) for key in ("psnr", "ssim", "ssim", "cc", "rmse", "psnr_pooled")]
    rows.append(("the seed's reproduction, RGB", *(UNKNOWN if value is None else f"{value:g}" for value in own)))
    yield from table(
        ("256 x 256, made clouds", "PSNR dB", "SSIM same", "SSIM valid", "CC", "RMSE", "PSNR pooled"), rows
    )
    yield "Which variant of SSIM the seed used is not known; its truth may hold clouds, and its images are others."
    yield ""


def by_bands(report: Report) -> Iterator[str]:
    """The one checkpoint with fewer bands."""
    document = report.document
    rows = []
    for protocol in PROTOCOLS[:-1]:
        sets = [bands for name, bands in settings_of(document) if name == protocol]
        for bands in [*("13", "12", "4"), *(name for name in sets if name not in ("13", "12", "4"))] if sets else []:
            row = row_of(document, protocol, bands, "cloudy", report.methods.subject)
            whole = row_of(document, protocol, bands, "all", report.methods.subject)
            rows.append((PROTOCOL_NAMES[protocol], bands, figure(row, "rmse"), figure(row, "sam"), figure(row, "ssim_valid"), figure(whole, "psnr")))  # fmt: skip
    yield from table(("protocol", "bands", "RMSE, cloudy", "SAM, cloudy", "SSIM valid, cloudy", "PSNR, all"), rows)


def by_kind(report: Report) -> Iterator[str]:
    """RMSE of cloudy pixels by class of cover, kind of sky and ground."""
    document = report.document
    shown = [protocol for protocol in PROTOCOLS[:-1] if widest(document, protocol)]
    covers = document["settings"].get("cover_classes", [])
    for field, values in (
        ("cover", covers),
        ("sky", list(SKIES)),
        ("ground", [name for name in GROUND if name != "unknown"]),
    ):
        rows = []
        for value in values:
            cells = []
            for protocol in shown:
                row = _part(document, protocol, field, value, report.methods.subject)
                cells.append(UNKNOWN if row is None else f"{figure(row, 'rmse')} [{row['images']}]")
            rows.append((value, *cells))
        yield from table((f"{field}: RMSE of cloudy pixels [images]", *shown), rows)


def against(report: Report) -> Iterator[str]:
    """The model against what needs no network, and against the other checkpoints, on cloudy pixels."""
    document, methods = report.document, report.methods
    plain = [entry["name"] for entry in document["compared"] if entry["guidance"] == "none"]
    names = {methods.subject: f"{methods.subject} (this model)"}
    names |= {one: f"{one} (unguided U-Net)" if one in plain else one for one in methods.compared}
    names |= {} if plain else {"": "unguided U-Net"}
    names |= {name: name for name in (FIRST_GUESS, *BASELINES, *methods.baselines)}
    for protocol in PROTOCOLS:
        bands = widest(document, protocol)
        yield f"**{PROTOCOL_NAMES[protocol]}**" + (f", {bands} bands" if bands else f": {UNKNOWN}")
        yield ""
        if not bands:
            continue
        found = {name: row_of(document, protocol, bands, "cloudy", name) for name in names}
        own = found[methods.subject]
        # Who says nothing of the hard images is not better than who does.
        alike = {name: row for name, row in found.items() if row and own and row["images"] == own["images"]}
        best = {metric: _best(alike, metric) for metric in _AGAINST}
        rows = []
        for name, title in names.items():
            row = found[name]
            if row is None and name in TEMPORAL and "date" not in protocol:
                continue
            fewer = f" [{row['images']} images only]" if row and name not in alike else ""
            cells = (f"**{figure(row, m)}**" if name == best[m] else figure(row, m) for m in _AGAINST)
            rows.append((title + fewer, *cells))
        yield from table(("cloudy pixels", *_names(_AGAINST)), rows)
        yield from _verdict(alike, methods.subject)


def scenes(report: Report, trained: Sequence[str]) -> Iterator[str]:
    """Whole scenes under another date's clouds."""
    rows = []
    for scene in report.document["scenes"]:
        near = any(group in scene["truth"] for group in trained)
        for method in dict.fromkeys(row["method"] for row in scene["rows"]):
            values = {row["region"]: row["mean"] for row in scene["rows"] if row["method"] == method}
            cells = [_BY_KEY[key].text(values[region]) if region in values else UNKNOWN for region, key in (("cloudy", "rmse"), ("cloudy", "sam"), ("cloudy", "ssim_valid"), ("all", "psnr"))]  # fmt: skip
            rows.append(
                (
                    f"`{scene['truth']}` under `{scene['clouds_of']}`",
                    f"{scene['cover']:.0%}",
                    "yes" if near else "no",
                    method,
                    *cells,
                )
            )
    if rows:
        yield from table(
            (
                "scene",
                "cover",
                "tile trained on",
                "method",
                "RMSE, cloudy",
                "SAM, cloudy",
                "SSIM valid, cloudy",
                "PSNR, all",
            ),
            rows,
        )
    else:
        yield from ("Whole scenes: not measured.", "")


def _part(document: Mapping[str, Any], protocol: str, field: str, value: str, method: str) -> Mapping[str, Any] | None:
    wanted = {"cover": "any", "sky": "any", "ground": "any", field: value}
    fixed = (protocol, widest(document, protocol), "cloudy", method)
    for row in document["rows"]:
        if (row["protocol"], row["bands"], row["region"], row["method"]) == fixed and all(
            (row[name] or "any") == one for name, one in wanted.items()
        ):
            return row  # type: ignore[no-any-return]
    return None


def _best(found: Mapping[str, Mapping[str, Any]], metric: str) -> str | None:
    values = {name: row["mean"][metric] for name, row in found.items() if row["mean"].get(metric) is not None}
    sign = 1 if _BY_KEY[metric].better == "low" else -1
    return min(values, key=lambda name: sign * values[name], default=None)


def _verdict(found: Mapping[str, Mapping[str, Any]], subject: str) -> Iterator[str]:
    """How the model stands to the best of the simple fills."""
    best = _best({name: row for name, row in found.items() if name in BASELINES}, "rmse")
    own = found[subject]["mean"]["rmse"] if subject in found else None
    if best and own is not None and (other := found[best]["mean"]["rmse"]):
        yield f"The RMSE of the model is {own / other:.2f} times that of the best simple fill, {best}."
        yield ""


def _names(keys: Sequence[str]) -> list[str]:
    return [f"{_BY_KEY[key].name} {_BY_KEY[key].unit if key == 'psnr' else ''}".strip() for key in keys]
