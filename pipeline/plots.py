"""`chart`: a plot as inline SVG that takes its colours from the page, so that it suits a light page and a dark one.

Nothing is drawn by a script. A series has a colour and a shape, so that it is told from the others without colours; which series are shown
is up to check boxes in the legend and a rule of CSS (`figure:has(...)`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

from pipeline.errors import InvalidSettings

WIDTH, HEIGHT = 480, 300
STYLES = 24
"""Styles that the page's style sheet knows: class s0 to s23, of twelve colours and five shapes. Series beyond them begin again."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 10, 42
_RADIUS = 3.4  # of a marker, in the units of the drawing
_ENOUGH_TICKS = 4
_SHAPES = ("circle", "square", "triangle", "diamond", "cross")


@dataclass(frozen=True)
class Axis:
    """One axis: values `low` to `high`, or names at 0, 1, 2, ..."""

    label: str
    """With its unit."""
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    names: tuple[str, ...] = ()
    """Labels of 0, 1, ...; `low` and `high` are then not used."""

    def __post_init__(self) -> None:
        if not self.names and not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InvalidSettings(f"axis {self.label!r} from {self.low} to {self.high}: low must be below high")
        if self.log and self.low <= 0:
            raise InvalidSettings(f"axis {self.label!r} from {self.low}: a logarithmic axis starts above 0")

    def place(self, value: float) -> float:
        """Where on the axis `value` lies: 0 at its start, 1 at its end."""
        if self.names:
            return (value + 0.5) / len(self.names)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Values with their labels, about five, at 1, 2 and 5 times powers of ten.

        >>> [label for _, label in Axis("RMSE", 0.004, 0.3, log=True).ticks()]
        ['0.005', '0.01', '0.02', '0.05', '0.1', '0.2']
        """
        if self.names:
            return [(float(index), name) for index, name in enumerate(self.names)]
        values = self._log_ticks() if self.log else self._even_ticks()
        return [(value, f"{value:.6g}") for value in values]

    def _even_ticks(self) -> list[float]:
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [step * index for index in range(first, last + 1)]

    def _log_ticks(self) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for steps in ((1,), (1, 2, 5), range(1, 10)):
            every = [step * 10.0**power for power in powers for step in steps]
            values = [value for value in every if -1e-9 <= self.place(value) <= 1 + 1e-9]
            if len(values) >= _ENOUGH_TICKS:
                return values[:: math.ceil(len(values) / 10)]
        # Less than a factor of two or so: even steps are as good.
        return self._even_ticks()


@dataclass(frozen=True)
class Series:
    """Points of one name and look. Points with a value that is not finite are left out."""

    name: str
    points: Sequence[tuple[float, float]]
    style: int = 0
    """Number of the colour; the shape follows from it."""
    kind: Literal["dots", "line", "both"] = "dots"
    shown: bool = True
    """Whether it is seen before the reader asks for it."""
    titles: Sequence[str] = field(default=())
    """What a pointer over each point reads; then each point is an element of its own."""
    keys: Sequence[str] = field(default=())
    """What a click on each point hands to the page's script (`data-key`)."""
    sizes: Sequence[float] = field(default=())
    """Area of each marker as a multiple of the usual one."""


def axis_around(label: str, values: Sequence[float], *, log: bool = False) -> Axis:
    """An axis that holds all finite `values` (above 0 if `log`), with some room; a linear one starts at 0."""
    used = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    if not used:
        return Axis(label, 0.01 if log else 0.0, 1.0, log)
    low, high = min(used), max(used)
    if log:
        return Axis(label, low / 1.25, high * 1.25, log=True)
    return Axis(label, min(0.0, low), high * 1.05 if high > 0 else 1.0)


def chart(series: Sequence[Series], x: Axis, y: Axis, *, title: str, note: str = "", diagonal: bool = False) -> str:
    """A `<figure>` with title, drawing, legend and `note`.

    All text is escaped. With `diagonal` a thin line joins equal values of both axes.
    """
    label = f"{title}: {y.label} against {x.label}"
    parts = [
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>',
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">',
        *_frame(x, y),
    ]
    if diagonal:
        ends = [(value, value) for value in (max(x.low, y.low), min(x.high, y.high))]
        parts.append(f'<path class="diagonal" d="M{" L".join(_at(x, y, *end) for end in ends)}"/>')
    # The first series is what the reader came for: it is drawn last, on top.
    parts += [_drawn(one, x, y) for one in reversed(series)]
    parts.append("</svg>")
    if len(series) > 1:
        parts += ['<div class="legend">', *(_entry(one) for one in series), "</div>"]
    if note:
        parts.append(f'<p class="note">{escape(note)}</p>')
    return "".join(parts) + "</figure>"


def marker(style: int, x: float, y: float, radius: float = _RADIUS) -> str:
    """The path of a marker's outline around (x, y), in the units of the drawing."""
    shape, r = _SHAPES[style % len(_SHAPES)], radius
    if shape == "circle":
        return f"M{x - r:.1f} {y:.1f}a{r:.1f} {r:.1f} 0 1 0 {2 * r:.1f} 0a{r:.1f} {r:.1f} 0 1 0 {-2 * r:.1f} 0z"
    if shape == "square":
        s = 0.88 * r
        return f"M{x - s:.1f} {y - s:.1f}h{2 * s:.1f}v{2 * s:.1f}h{-2 * s:.1f}z"
    if shape == "triangle":
        return f"M{x:.1f} {y - 1.2 * r:.1f}l{1.1 * r:.1f} {1.9 * r:.1f}h{-2.2 * r:.1f}z"
    if shape == "diamond":
        s = 1.25 * r
        return f"M{x:.1f} {y - s:.1f}l{s:.1f} {s:.1f}l{-s:.1f} {s:.1f}l{-s:.1f} {-s:.1f}z"
    t, u = 0.4 * r, 0.8 * r  # a plus
    corners = [(-t, -t - u), (2 * t, 0), (0, u), (u, 0), (0, 2 * t), (-u, 0), (0, u), (-2 * t, 0), (0, -u), (-u, 0)]
    steps = [*corners[1:], (0, -2 * t), (u, 0)]
    start = corners[0]
    return f"M{x + start[0]:.1f} {y + start[1]:.1f}" + "".join(f"l{dx:.1f} {dy:.1f}" for dx, dy in steps) + "z"


def _frame(x: Axis, y: Axis) -> list[str]:
    """Grid, ticks and labels of both axes."""
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    lines, texts = [], []
    for value, text in y.ticks():
        height = _y(y, value)
        lines.append(f"M{_LEFT} {height:.1f}H{right}")
        texts.append(f'<text x="{_LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    for value, text in x.ticks():
        across = _x(x, value)
        if not x.names:
            lines.append(f"M{across:.1f} {_TOP}V{bottom}")
        texts.append(f'<text x="{across:.1f}" y="{bottom + 16}" text-anchor="middle">{escape(text)}</text>')
    middle, centre = (_TOP + bottom) / 2, (_LEFT + right) / 2
    texts.append(f'<text class="axis" x="{centre}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x.label)}</text>')
    texts.append(
        f'<text class="axis" x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(y.label)}</text>'
    )
    return [f'<path class="grid" d="{"".join(lines)}"/>', f'<path class="base" d="M{_LEFT} {bottom}H{right}"/>', *texts]


def _drawn(series: Series, x: Axis, y: Axis) -> str:
    fits = [i for i, point in enumerate(series.points) if _fits(point, x, y)]
    style = series.style % STYLES
    parts = [f'<g class="series s{style}" data-series="{style}">']
    if series.kind != "dots" and len(fits) > 1:
        # Lines without marks differ by their dashes as well.
        own = f" s{style}" if series.kind == "line" else ""
        parts.append(f'<path class="line{own}" d="M{"L".join(_at(x, y, *series.points[i]) for i in fits)}"/>')
    if series.kind != "line":
        outlines = {
            i: marker(
                style,
                _x(x, series.points[i][0]),
                _y(y, series.points[i][1]),
                _RADIUS * math.sqrt(series.sizes[i]) if series.sizes else _RADIUS,
            )
            for i in fits
        }
        if series.titles:
            keys = {i: f' data-key="{escape(series.keys[i])}"' if series.keys else "" for i in fits}
            parts += [
                f'<path class="dot"{keys[i]} d="{outline}"><title>{escape(series.titles[i])}</title></path>'
                for i, outline in outlines.items()
            ]
        elif outlines:
            parts.append(f'<path class="dot" d="{"".join(outlines.values())}"/>')
    return "".join(parts) + "</g>"


def _entry(series: Series) -> str:
    """A line of the legend: check box, marker, name."""
    style = series.style % STYLES
    checked = ' checked=""' if series.shown else ""
    own = f" s{style}" if series.kind == "line" else ""
    sign = f'<path class="line{own}" d="M1 8H25"/>' if series.kind != "dots" else ""
    sign += f'<path class="dot" d="{marker(style, 13, 8, 4)}"/>' if series.kind != "line" else ""
    return (
        f'<label><input type="checkbox" class="t{style}"{checked}/><svg class="s{style}" viewBox="0 0 26 16" width="26" height="16" '
        f'aria-hidden="true">{sign}</svg>{escape(series.name)}</label>'
    )


def _fits(point: tuple[float, float], x: Axis, y: Axis) -> bool:
    return all(math.isfinite(value) and (value > 0 or not axis.log) for value, axis in zip(point, (x, y), strict=True))


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.place(value) * (WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - axis.place(value) * (HEIGHT - _TOP - _BOTTOM)


def _at(x: Axis, y: Axis, across: float, up: float) -> str:
    return f"{_x(x, across):.1f} {_y(y, up):.1f}"
