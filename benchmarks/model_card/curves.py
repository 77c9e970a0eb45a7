"""`curves`: the curves of a training as one SVG file, which is drawn alike wherever it is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from statistics import fmean

from benchmarks.model_card.inputs import Log
from pipeline.errors import InvalidSettings
from pipeline.plots import HEIGHT, WIDTH, Axis, Series, axis_around, chart

POINTS = 40
"""Of a curve of losses, at most: each the mean of as many steps."""
_NO_LOSS = ("train/norm", "train/rate")
_COLOURS = ("#0072b2", "#c2500a", "#00805c", "#a5458a", "#b07c00", "#3a9bd4", "#6b6f76", "#7a4fc0")
_TITLE, _LEGEND = 30, 22  # heights
_STYLE = (
    "text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#3b4650}.title{font-weight:600;font-size:15px;fill:#1b232b}"
    ".grid{stroke:#e6eaee;fill:none}.base{stroke:#586470;fill:none}.line{fill:none;stroke-width:1.8;stroke-linejoin:round}"
    ".line.s1,.line.s4{stroke-dasharray:7 4}.line.s2,.line.s5{stroke-dasharray:2 4}"
)
_VALIDATED = (
    ("RMSE of the validation", "reflectance", {"cloudy pixels": "rmse_cloudy", "all pixels": "rmse"}),
    ("PSNR of the validation", "dB", {"cloudy pixels": "psnr_cloudy", "all pixels": "psnr"}),
    ("Likeness of the validation", "", {"CC, cloudy pixels": "cc_cloudy", "SSIM, all pixels": "ssim"}),
)


def curves(logs: Sequence[Log]) -> str:
    """Validation of every log, and the losses of the first. Raises InvalidSettings for a log without a validation."""
    panels = [panel for panel in (*(_validated(logs, *one) for one in _VALIDATED), _losses(logs[0])) if panel]
    if not logs[0].points("validation/rmse"):
        raise InvalidSettings("log: no validation in it")
    return "".join(_drawing(panels)) + "\n"


def _validated(logs: Sequence[Log], title: str, unit: str, names: dict[str, str]) -> tuple[str, list[Series]] | None:
    series: list[Series] = []
    for log in logs:
        for label, name in names.items():
            points = log.points(f"validation/{name}")
            shown = label if len(logs) == 1 else f"{log.label}, {label}"
            series.append(Series(shown, points, len(series) % len(_COLOURS), kind="line"))
    series = [one for one in series if one.points]
    return _panel(title, unit, series) if series else None


def _losses(log: Log) -> tuple[str, list[Series]] | None:
    names = sorted({name for line in log.lines for name in line if name.startswith("train/")} - {*_NO_LOSS})
    # The sum first: it is drawn on top.
    names.sort(key=lambda name: name != "train/total")
    series = [
        Series(name.removeprefix("train/").replace("_", " "), thinned(log.points(name)), style % len(_COLOURS), "line")
        for style, name in enumerate(names)
    ]
    series = [one for one in series if any(value > 0 for _, value in one.points)]
    return _panel("Losses of the training", "", series, log=True) if series else None


def thinned(points: Sequence[tuple[float, float]], most: int = POINTS) -> list[tuple[float, float]]:
    """Means of as many neighbours as leave at most `most` points.

    >>> thinned([(0, 1.0), (1, 3.0), (2, 5.0)], 2)
    [(0.5, 2.0), (2.0, 5.0)]
    """
    step = -(-len(points) // most) or 1
    parts = (points[start : start + step] for start in range(0, len(points), step))
    return [(fmean(x for x, _ in part), fmean(y for _, y in part)) for part in parts]


def _panel(title: str, unit: str, series: list[Series], *, log: bool = False) -> tuple[str, list[Series]]:
    """Title with a drawing, and what its legend names."""
    values = [value for one in series for _, value in one.points]
    last = max(x for one in series for x, _ in one.points)
    label = unit or ("loss" if log else "0..1")
    y = axis_around(label, values, log=log)
    if not log and min(values) > 0:
        # How a curve runs is what it is for: the axis need not begin at 0.
        room = 0.1 * (max(values) - min(values)) or 0.1 * max(values)
        y = Axis(label, min(values) - room, max(values) + room)
    return chart(series, Axis("step", 0, last or 1), y, title=title), series


def _drawing(panels: Sequence[tuple[str, list[Series]]]) -> Iterator[str]:
    rows = max(len(series) for _, series in panels)
    cell = _TITLE + HEIGHT + _LEGEND * -(-rows // 2) + 16
    size = 2 * WIDTH + 40, cell * -(-len(panels) // 2) + 8
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" height="{size[1]}">'
    own = "".join(f".s{i} .line{{stroke:{c}}}.line.s{i}{{stroke:{c}}}" for i, c in enumerate(_COLOURS))
    yield f"<style>{_STYLE}{own}</style>"
    yield f'<rect width="{size[0]}" height="{size[1]}" fill="#ffffff"/>'
    for number, (html, series) in enumerate(panels):
        title = re.search(r"<figcaption>(.*?)</figcaption>", html, re.DOTALL)
        drawing = re.search(r"<svg (viewBox.*?</svg>)", html, re.DOTALL)
        if title is None or drawing is None:
            raise InvalidSettings("plots: a chart without a title or a drawing")
        x, y = (number % 2) * (WIDTH + 24) + 8, (number // 2) * cell
        yield f'<text class="title" x="{x + 8}" y="{y + 21}">{title[1]}</text>'
        yield f'<svg x="{x}" y="{y + _TITLE}" width="{WIDTH}" height="{HEIGHT}" {drawing[1]}'
        for place, one in enumerate(series):
            across, up = (
                x + 20 + (place % 2) * (WIDTH - 20) // 2,
                y + _TITLE + HEIGHT + 6 + _LEGEND * (place // 2),
            )
            yield f'<path class="line s{one.style}" d="M{across} {up + 4}h24"/>'
            yield f'<text x="{across + 30}" y="{up + 9}">{escape(one.name)}</text>'
    yield "</svg>"
