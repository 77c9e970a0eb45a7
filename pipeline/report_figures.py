"""The plots of a report: error against cloud cover, error by band, calibration of the confidence, risk against coverage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.plots import Axis, Series, axis_around, chart
from pipeline.report_methods import FIRST_GUESS, REGIONS, Methods, bands_name, overall, settings_of
from srgan.spec import BANDS

PLOTTED = ("cloudy", "all")
"""Regions that have plots; the table has all of them."""
_BASELINES_SHOWN = 2


@dataclass(frozen=True)
class Figure:
    """One plot, and for which part of the evaluation it stands."""

    protocol: str
    bands: str
    region: str
    html: str


def cover_figures(document: Mapping[str, Any], methods: Methods) -> list[Figure]:
    """RMSE of every image against its cloud cover, one dot an image, for each protocol, band set and region with a score."""
    figures = []
    for protocol, bands, region in _parts(document):
        images = [
            (index, image)
            for index, image in enumerate(document["images"])
            if protocol in (image["protocol"], *image.get("also", ()))
            and image["bands"] == bands
            and image["cover"] is not None
        ]
        shown = _shown(document, methods, protocol, bands, region)
        series = []
        for style, method in enumerate(methods.order):
            dots = [(index, image, value) for index, image in images if (value := _rmse(image, method, region))]
            own = method == methods.subject
            series.append(
                Series(
                    method,
                    [(100 * image["cover"], value) for _, image, value in dots],
                    style,
                    shown=method in shown,
                    titles=[
                        f"{image['id']}: cover {image['cover']:.0%}, RMSE {value:.4f}"
                        for _, image, value in dots
                        if own
                    ],
                    keys=[str(index) for index, _, _ in dots if own],
                )
            )
        values = [value for one in series for _, value in one.points]
        if values:
            html = chart(
                [one for one in series if one.points],
                Axis("cloud and shadow, % of the image", 0, 100),
                axis_around(f"RMSE, {REGIONS[region]} (reflectance)", values, log=True),
                title=f"Error against cloud cover: {protocol}, {bands_name(bands)}",
                note="One dot an image. The scale of the error is logarithmic; images without any error have no dot.",
            )
            figures.append(Figure(protocol, bands, region, html))
    return figures


def band_figures(document: Mapping[str, Any], methods: Methods) -> list[Figure]:
    """RMSE of every band, a line a method, for each protocol, band set and region that has them."""
    figures = []
    for protocol, bands, region in _parts(document):
        rows = [
            row
            for row in document["per_band"]
            if (row["protocol"], row["bands"], row["region"]) == (protocol, bands, region) and row["rmse"]
        ]
        names = sorted({row["band"] for row in rows}, key=lambda name: (*_place(name), name))
        if not names:
            continue
        shown = _shown(document, methods, protocol, bands, region)
        fewer = _fewer(document, methods, protocol, bands, region)
        series = [
            Series(
                f"{method}{fewer.get(method, '')}",
                [(float(names.index(row["band"])), row["rmse"]) for row in _by_band(rows, method, names)],
                style,
                kind="both",
                shown=method in shown,
            )
            for style, method in enumerate(methods.order)
        ]
        html = chart(
            [one for one in series if one.points],
            Axis("band", names=tuple(names)),
            axis_around(f"RMSE, {REGIONS[region]} (reflectance)", [row["rmse"] for row in rows], log=True),
            title=f"Error by band: {protocol}, {bands_name(bands)}",
            note="The scale of the error is logarithmic.",
        )
        figures.append(Figure(protocol, bands, region, html))
    return figures


def calibration_figure(confidence: Mapping[str, Any] | None) -> str:
    """How often the error stays below a bound against how often the network says so; "" without a confidence."""
    groups = (confidence or {}).get("groups", {})
    series, notes = [], []
    for style, (name, group) in enumerate(groups.items()):
        bins = [one for one in group["reliability"] if one["said"] is not None and one["found"] is not None]
        largest = max((one["share"] or 0.0 for one in bins), default=0.0) or 1.0
        series.append(
            Series(
                name,
                [(one["said"], one["found"]) for one in bins],
                style,
                kind="both",
                sizes=[0.3 + 1.7 * (one["share"] or 0.0) / largest for one in bins],
            )
        )
        if group["expected_error"] is not None and group["found_error"] is not None:
            notes.append(f"{name} {group['expected_error']:.4f} expected, {group['found_error']:.4f} found")
    if not any(one.points for one in series):
        return ""
    near = (confidence or {}).get("near")
    within = "" if near is None else f" for an error below {near:g}"
    errors = f" Mean absolute error (reflectance): {'; '.join(notes)}." if notes else ""
    return chart(
        series,
        Axis(f"probability said{within}", 0, 1),
        Axis(f"share found{within}", 0, 1),
        title="Calibration of the confidence",
        note="On the thin line the confidence is right; above it, it is too careful. Larger marks hold more pixels."
        + errors,
        diagonal=True,
    )


def risk_figure(confidence: Mapping[str, Any] | None) -> str:
    """RMSE of the pixels kept against the share kept, least sure dropped first; "" without a confidence."""
    points = (confidence or {}).get("risk_coverage", [])
    curves = (
        ("by confidence", "rmse_by_confidence"),
        ("by true error (the best order)", "rmse_oracle"),
        ("in any order", "rmse_random"),
    )
    series = [
        Series(
            name,
            [(100 * point["coverage"], point[key]) for point in points if _number(point[key], point["coverage"])],
            style,
            kind="line",
        )
        for style, (name, key) in enumerate(curves)
    ]
    values = [value for one in series for _, value in one.points]
    if not values:
        return ""
    return chart(
        series,
        Axis("pixels kept, %", 0, 100),
        axis_around("RMSE of the pixels kept (reflectance)", values),
        title="Risk against coverage",
        note="The nearer to the lower line, the better the confidence tells good pixels from bad ones.",
    )


def _parts(document: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    return ((protocol, bands, region) for protocol, bands in settings_of(document) for region in PLOTTED)


def _shown(document: Mapping[str, Any], methods: Methods, protocol: str, bands: str, region: str) -> set[str]:
    """Methods that a plot shows from the start: all would hide each other."""
    best = methods.best_baselines(overall(document, protocol, bands, region))
    return {methods.subject, *methods.compared, FIRST_GUESS, *best[:_BASELINES_SHOWN]}


def _fewer(document: Mapping[str, Any], methods: Methods, protocol: str, bands: str, region: str) -> dict[str, str]:
    """What to add to the names of methods whose means are over fewer images."""
    rows = overall(document, protocol, bands, region)
    same = {row["method"] for row in methods.comparable(rows)}
    return {row["method"]: f" (only {row['images']} images)" for row in rows if row["method"] not in same}


def _rmse(image: Mapping[str, Any], method: str, region: str) -> float | None:
    value: float | None = image["scores"].get(method, {}).get(region, {}).get("rmse")
    return value


def _by_band(rows: Sequence[Mapping[str, Any]], method: str, names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The rows of a method in the order of `names`."""
    return sorted((row for row in rows if row["method"] == method), key=lambda row: names.index(row["band"]))


def _place(band: str) -> tuple[int, ...]:
    return (BANDS.index(band),) if band in BANDS else (len(BANDS),)


def _number(*values: float | None) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)
