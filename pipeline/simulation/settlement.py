"""Settlements, roads and rivers of the simulated landscape, drawn as vectors.

Everything here is drawn four times finer than a pixel and averaged, so that a road 6 m wide covers 0.6 of a 10 m pixel,
as it does in a real picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

FINE = 4
"""Drawing pixels per picture pixel and axis."""


@dataclass(frozen=True)
class Canvas:
    """One coverage layer of `size` x `size` pixels; coordinates are (x, y) in pixels, y downwards."""

    size: int
    image: Image.Image = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", Image.new("L", (self.size * FINE, self.size * FINE)))

    def line(self, points: np.ndarray, width: float) -> None:
        """Draw a polyline (n, 2), `width` pixels wide."""
        fine = [tuple(point) for point in (points * FINE).tolist()]
        ImageDraw.Draw(self.image).line(fine, fill=255, width=max(1, round(width * FINE)), joint="curve")

    def boxes(self, centres: np.ndarray, sides: np.ndarray, angle: float) -> None:
        """Fill rectangles with centres (n, 2) and sides (n, 2), all turned by `angle` radians."""
        draw = ImageDraw.Draw(self.image)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        polygons = (centres[:, None] + (corners * sides[:, None]) @ turn) * FINE
        for polygon in polygons.tolist():
            draw.polygon([tuple(point) for point in polygon], fill=255)

    def coverage(self) -> np.ndarray:
        """Share of each pixel that is drawn over, (rows, cols) float32 in 0..1."""
        return np.asarray(self.image.reduce(FINE), np.float32) / np.float32(255)


@dataclass(frozen=True)
class Settlement:
    """A town or village: rows of houses along a local grid of streets."""

    centre: tuple[float, float]
    """(x, y), pixels."""
    radius: float
    """Pixels within which most houses stand."""
    angle: float
    """Direction of its streets, radians."""


def meander(
    rng: np.random.Generator, size: int, start: tuple[float, float], heading: float, swing: float
) -> np.ndarray:
    """Course of a river (n, 2) in pixels: the sine-generated curve of Langbein and Leopold (1966), its swing varied.

    Starts at `start` and runs for three times `size` along `heading` (radians), bending by up to `swing` radians.
    """
    steps = 3 * size
    distance = np.arange(steps, dtype=np.float64)
    wander = np.cumsum(rng.normal(0, 1, steps)) / 60
    wander -= np.linspace(0, wander[-1], steps)
    strength = swing * (0.75 + 0.35 * np.sin(distance / rng.uniform(130, 190) + rng.uniform(0, 6)))
    direction = heading + strength * np.sin(2 * np.pi * distance / 150 + 1.4 * wander) + 0.25 * wander
    return np.stack([start[0] + np.cumsum(np.cos(direction)), start[1] + np.cumsum(np.sin(direction))], axis=1)


def road(rng: np.random.Generator, start: tuple[float, float], end: tuple[float, float], bend: float) -> np.ndarray:
    """A road (n, 2) in pixels between two places, bent sideways by up to about `bend` of its length."""
    first, last = np.array(start, np.float64), np.array(end, np.float64)
    length = float(np.hypot(*(last - first)))
    along = np.linspace(0, 1, max(8, int(length / 6)))
    side = np.array([first[1] - last[1], last[0] - first[0]])
    shape = sum(rng.normal(0, bend / k) * np.sin(np.pi * k * along) for k in (1, 2, 3, 5))
    course: np.ndarray = first + along[:, None] * (last - first) + np.asarray(shape)[:, None] * side
    return course


def build(
    rng: np.random.Generator, settlement: Settlement, roofs: dict[str, Canvas], streets: Canvas, allowed: np.ndarray
) -> None:
    """Draw the streets and houses of `settlement`.

    `roofs` holds one canvas for each kind of roof: `tile`, `slate` and `hall`. A house stands only where `allowed`,
    bool (rows, cols), and the less likely the further it is from the centre.
    """
    reach = settlement.radius * 1.5
    turn = np.array(
        [
            [np.cos(settlement.angle), np.sin(settlement.angle)],
            [-np.sin(settlement.angle), np.cos(settlement.angle)],
        ]
    )
    centre = np.array(settlement.centre)
    town = settlement.radius > 40
    row_gap, lot = (5.4, 1.75) if town else (6.4, 2.1)
    houses = []
    for row in np.arange(-reach, reach, row_gap):
        row_at = row + rng.normal(0, 0.5)
        half = np.sqrt(max(reach**2 - row_at**2, 0)) * rng.uniform(0.55, 0.95)
        if half > 2 * lot:
            bow = rng.normal(0.05, 0.03) * settlement.radius
            along = np.linspace(-half, half, 12)
            street = np.stack([along, row_at + bow * np.cos(along / max(half, 1) * 1.5)], axis=1)
            _draw_inside(streets, street @ turn + centre, 0.7, allowed)
            lots = np.arange(-half, half, lot) + rng.normal(0, 0.25, len(np.arange(-half, half, lot)))
            for side in (-1.25, 1.25):
                across = row_at + side + bow * np.cos(lots / max(half, 1) * 1.5)
                houses.append(np.stack([lots, across + rng.normal(0, 0.2, len(lots))], axis=1))
    for column in np.arange(-reach, reach, row_gap * 2.4):
        half = np.sqrt(max(reach**2 - column**2, 0)) * 0.8
        street = np.stack([np.full(6, column + rng.normal(0, 1)), np.linspace(-half, half, 6)], axis=1)
        _draw_inside(streets, street @ turn + centre, 0.8, allowed)
    if not houses:
        return
    local = np.concatenate(houses)
    away = np.hypot(local[:, 0], local[:, 1]) / settlement.radius
    place = local @ turn + centre
    keep = (rng.random(len(local)) < 0.93 * np.exp(-((away / 0.95) ** 4))) & _inside(place, allowed)
    place, away = place[keep], away[keep]
    sides = rng.normal((1.45, 1.1), (0.3, 0.2), (len(place), 2)).clip(0.7, 2.4)
    sides[away < 0.3] *= 1.45  # the old centre is built closely
    kind = rng.random(len(place))
    for name, low, high in (("tile", 0.0, 0.66), ("slate", 0.66, 0.97), ("hall", 0.97, 1.0)):
        chosen = (kind >= low) & (kind < high)
        roofs[name].boxes(place[chosen], sides[chosen], settlement.angle)
    if town:
        offset = rng.uniform(0, 2 * np.pi)
        yard = centre + settlement.radius * 1.12 * np.array([np.cos(offset), np.sin(offset)])
        spots = yard + rng.normal(0, settlement.radius * 0.22, (26, 2))
        spots = spots[_inside(spots, allowed)]
        large = rng.uniform((2.5, 2.0), (9.0, 5.0), (len(spots), 2))
        roofs["slate"].boxes(spots, large + 2.5, settlement.angle)
        bright = rng.random(len(spots)) < 0.5
        roofs["hall"].boxes(spots[bright], large[bright], settlement.angle)


def _inside(points: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    size = len(allowed)
    cols, rows = np.floor(points).astype(int).T
    within = (cols >= 0) & (cols < size) & (rows >= 0) & (rows < size)
    inside: np.ndarray = within & allowed[rows.clip(0, size - 1), cols.clip(0, size - 1)]
    return inside


def _draw_inside(canvas: Canvas, points: np.ndarray, width: float, allowed: np.ndarray) -> None:
    good = _inside(points, allowed)
    for start, end, first, second in zip(points, points[1:], good, good[1:], strict=False):
        if first and second:
            canvas.line(np.stack([start, end]), width)
