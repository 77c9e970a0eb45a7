"""`run_map`: where the scenes of a run are, as inline SVG in longitude and latitude; no tiles, no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from pipeline.runentry import Look, RunEntry, counted

WIDTH = 640
_TALLEST = 400
_ROOM = 0.08
"""Of the extent, around it."""
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 45)
_LINES = 8
"""About so many lines of the grid across."""
_WORDS: dict[Look, str] = {
    "done": "with a product",
    "failed": "failed: a retry may help",
    "invalid": "invalid: its input must change",
    "other": "not done yet, interrupted or damaged",
}
_APART = 6
"""Units of the drawing between the outlines of one place."""
_DASHES: dict[str, str] = {"failed": "8 4", "invalid": "2 3", "other": "10 3 2 3", "area": "2 4"}


@dataclass(frozen=True)
class _Place:
    """Scenes of one place and one look."""

    name: str
    look: Look
    outline: BaseGeometry
    entries: list[RunEntry] = field(default_factory=list)


def run_map(entries: Sequence[RunEntry], area: BaseGeometry | None = None) -> str:
    """The map with its legend as HTML; empty where no place is known.

    area: what was asked for, in longitude and latitude. A scene without a product is drawn where others of its tile are.
    """
    places, nowhere = _places(entries)
    shapes = [place.outline for place in places] + ([area] if area is not None and not area.is_empty else [])
    if not shapes:
        return ""
    frame = _Frame.around(shapes)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {frame.height:.0f}" role="group" aria-label="Map of the scenes">',
        *frame.grid(),
    ]
    if area is not None and not area.is_empty:
        parts.append(f'<path class="area" d="{frame.path(area)}"><title>Area that was asked for</title></path>')
    names: dict[str, list[_Place]] = {}
    for place in places:
        names.setdefault(place.name, []).append(place)
        parts.append(_drawn(place, frame, len(names[place.name]) - 1))
    for name, there in names.items():
        x, y = frame.at(there[0].outline.representative_point())
        total = sum(len(place.entries) for place in there)
        parts.append(
            f'<text class="tile" x="{x:.0f}" y="{y:.0f}" text-anchor="middle">{escape(_label(name, total))}</text>'
        )
    parts.append("</svg>")
    return f'<div class="map">{"".join(parts)}{_legend(places, nowhere, area)}</div>'


def _places(entries: Sequence[RunEntry]) -> tuple[list[_Place], list[RunEntry]]:
    """Scenes by tile and look, worst last so that it is drawn on top, and scenes of which the place is not known."""
    of_tile: dict[str, BaseGeometry] = {}
    for entry in entries:
        if entry.view is not None and entry.view.outline is not None:
            name = _name(entry)
            outline = entry.view.outline
            # Every date of a tile has its own rim of nodata: the map shows the place, not the rim.
            of_tile[name] = outline if name not in of_tile else shapely.union(of_tile[name], outline)
    places: dict[tuple[str, Look], _Place] = {}
    nowhere = []
    for entry in entries:
        name = _name(entry)
        if name not in of_tile:
            nowhere.append(entry)
            continue
        key = (name, entry.look)
        places.setdefault(key, _Place(name, entry.look, of_tile[name])).entries.append(entry)
    order: tuple[Look, ...] = ("done", "other", "invalid", "failed")
    return sorted(places.values(), key=lambda place: (order.index(place.look), place.name)), nowhere


def _name(entry: RunEntry) -> str:
    return entry.tile or entry.scene


def _label(name: str, count: int) -> str:
    shown = name if len(name) <= 24 else f"{name[:22]}…"
    return shown if count == 1 else f"{shown} \N{MULTIPLICATION SIGN} {count}"


def _drawn(place: _Place, frame: _Frame, depth: int) -> str:
    """A place of which `depth` other looks are drawn already: inside them, so that each is seen."""
    inner = shapely.buffer(place.outline, -depth * _APART / frame.scale)
    outline = place.outline if shapely.is_empty(inner) else inner
    titles = ", ".join(entry.title for entry in place.entries[:8]) + (" ..." if len(place.entries) > 8 else "")
    path = f'<path class="outline st-{place.look}" d="{frame.path(outline)}"><title>{escape(f"{titles}: {_WORDS[place.look]}")}</title></path>'
    target = next((entry for entry in place.entries if entry.view is not None), None)
    if target is None:
        return path
    return f'<a href="#product-{escape(target.id)}" aria-label="{escape(titles)}">{path}</a>'


def _legend(places: Sequence[_Place], nowhere: Sequence[RunEntry], area: BaseGeometry | None) -> str:
    lines = []
    for look, words in _WORDS.items():
        count = sum(len(place.entries) for place in places if place.look == look)
        if count:
            lines.append(f'<li class="st-{look}">{_line(_DASHES.get(look, ""))}{counted(count, "scene")} {words}</li>')
    if area is not None and not area.is_empty:
        lines.append(f"<li>{_line(_DASHES['area'])}the area that was asked for</li>")
    if nowhere:
        names = ", ".join(escape(entry.scene) for entry in nowhere[:6]) + (" ..." if len(nowhere) > 6 else "")
        lines.append(f"<li>Not on the map, because nothing says where: {names}</li>")
    return f'<ul>{"".join(lines)}<li class="note">Longitude and latitude, WGS 84; a degree is drawn as wide as it is in the middle of the map.</li></ul>'


def _line(dashes: str) -> str:
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<svg class="line" viewBox="0 0 30 12" aria-hidden="true"><path d="M1 6H29"{dash}/></svg>'


@dataclass(frozen=True)
class _Frame:
    """Longitude and latitude to places in the drawing."""

    west: float
    south: float
    east: float
    north: float
    across: bool
    """Whether the 180th meridian is inside: western longitudes then count on from 180."""

    @classmethod
    def around(cls, shapes: Sequence[BaseGeometry]) -> _Frame:
        bounds = shapely.total_bounds(list(shapes))
        across = bounds[2] - bounds[0] > 180
        if across:
            bounds = shapely.total_bounds([shapely.transform(shape, _onward) for shape in shapes])
        west, south, east, north = (float(value) for value in bounds)
        room = max(east - west, north - south, 0.02) * _ROOM
        return cls(west - room, south - room, east + room, north + room, across)

    @property
    def shrink(self) -> float:
        """Length of a degree of longitude in degrees of latitude."""
        return max(math.cos(math.radians((self.south + self.north) / 2)), 0.05)

    @property
    def scale(self) -> float:
        """Units of the drawing per degree of latitude."""
        return min(WIDTH / ((self.east - self.west) * self.shrink), _TALLEST / (self.north - self.south))

    @property
    def height(self) -> float:
        return (self.north - self.south) * self.scale

    def place(self, lon: float, lat: float) -> tuple[float, float]:
        middle = (self.west + self.east) / 2
        return WIDTH / 2 + (lon - middle) * self.shrink * self.scale, (self.north - lat) * self.scale

    def at(self, point: BaseGeometry) -> tuple[float, float]:
        lon, lat = shapely.get_x(point), shapely.get_y(point)
        return self.place(lon + 360 if self.across and lon < 0 else lon, lat)

    def path(self, shape: BaseGeometry) -> str:
        """All rings of a polygon or several."""
        turned = shapely.transform(shape, _onward) if self.across else shape
        polygons = turned.geoms if isinstance(turned, MultiPolygon) else (turned,)
        rings = [
            ring
            for polygon in polygons
            if isinstance(polygon, Polygon)
            for ring in (polygon.exterior, *polygon.interiors)
        ]
        return "".join(
            "M" + "L".join("{:.1f} {:.1f}".format(*self.place(*point[:2])) for point in ring.coords) + "Z"
            for ring in rings
        )

    def grid(self) -> list[str]:
        """Meridians and parallels with their degrees."""
        half = WIDTH / 2 / self.shrink / self.scale
        middle = (self.west + self.east) / 2
        lines, texts = [], []
        for lon in _round_values(middle - half, middle + half):
            x, _ = self.place(lon, self.south)
            lines.append(f"M{x:.1f} 0V{self.height:.0f}")
            if 24 < x < WIDTH - 24:
                texts.append(
                    f'<text x="{x:.0f}" y="{self.height - 5:.0f}" text-anchor="middle">{_degrees(lon, "EW")}</text>'
                )
        for lat in _round_values(self.south, self.north):
            _, y = self.place(self.west, lat)
            lines.append(f"M0 {y:.1f}H{WIDTH}")
            if 14 < y < self.height - 24:
                texts.append(f'<text x="5" y="{y - 3:.0f}">{_degrees(lat, "NS")}</text>')
        return [f'<path class="grid" d="{"".join(lines)}"/>', *texts]


def _onward(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longitudes below zero as more than 180."""
    moved = points.copy()
    moved[:, 0] = np.where(moved[:, 0] < 0, moved[:, 0] + 360, moved[:, 0])
    return moved


def _round_values(low: float, high: float) -> list[float]:
    step = next((step for step in _STEPS if (high - low) / step <= _LINES + 1), _STEPS[-1])
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _degrees(value: float, names: str) -> str:
    """A longitude or latitude in words.

    >>> _degrees(15.5, "EW"), _degrees(-12, "NS"), _degrees(181, "EW"), _degrees(0, "NS")
    ('15.5° E', '12° S', '179° W', '0°')
    """
    if names == "EW":
        value = (value + 180) % 360 - 180
    value = round(value, 6)
    return f"{abs(value):g}°" + (f" {names[0] if value > 0 else names[1]}" if value else "")
