from __future__ import annotations

import math
import re
from xml.etree.ElementTree import Element

import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InvalidSettings
from pipeline.plots import HEIGHT, WIDTH, Axis, Series, axis_around, chart, marker

X, Y = Axis("cover, %", 0, 100), Axis("RMSE (reflectance)", 0.01, 1, log=True)
SVG = re.compile(r'<svg viewBox="0 0 480 300".*?</svg>', re.DOTALL)


def drawing(html: str) -> Element:
    """The plot itself, read by a parser of XML."""
    (found,) = SVG.findall(html)
    tree: Element = fromstring(found)
    return tree


def dots(html: str, style: int) -> list[tuple[float, float]]:
    """Centres of the round marks of a series."""
    (group,) = (g for g in drawing(html).iter("g") if g.get("data-series") == str(style))
    paths = "".join(path.get("d", "") for path in group.iter("path") if path.get("class") == "dot")
    starts = re.findall(r"M([-\d.]+) ([-\d.]+)a([-\d.]+)", paths)
    return [(float(x) + float(radius), float(y)) for x, y, radius in starts]


def test_points_lie_where_the_ticks_say() -> None:
    html = chart([Series("model", [(0, 0.01), (100, 1.0), (50, 0.1)])], X, Y, title="t")
    lines = drawing(html)
    texts = {text.text: (float(text.get("x", "")), float(text.get("y", ""))) for text in lines.iter("text")}
    (left, bottom), (right, top), (middle, centre) = dots(html, 0)
    assert (left, right) == pytest.approx((texts["0"][0], texts["100"][0]), abs=0.2)
    assert (bottom + 4, top + 4) == pytest.approx((texts["0.01"][1], texts["1"][1]), abs=0.2)
    assert (middle, centre) == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=0.2)
    assert 0 < left < right < WIDTH
    assert 0 < top < bottom < HEIGHT


def test_points_without_a_place_are_left_out() -> None:
    points = [(10, 0.1), (math.nan, 0.1), (20, math.inf), (30, 0.0), (40, -1.0), (50, 0.2)]
    assert len(dots(chart([Series("model", points)], X, Y, title="t"), 0)) == 2


def test_names_stand_below_their_points() -> None:
    axis = Axis("band", names=("B02", "B03", "B8A"))
    html = chart([Series("model", [(0, 0.1), (2, 0.1)])], axis, Y, title="t")
    texts = {text.text: float(text.get("x", "")) for text in drawing(html).iter("text")}
    assert [x for x, _ in dots(html, 0)] == pytest.approx([texts["B02"], texts["B8A"]], abs=0.2)


def test_axes_legend_and_title_are_there_and_escaped() -> None:
    evil = '<b onclick="x">&'
    html = chart(
        [Series(evil, [(1, 0.1)], 0, titles=[evil], keys=[evil]), Series("b", [(1, 0.2)], 1, shown=False)],
        Axis(evil, 0, 2),
        Y,
        title=evil,
        note=evil,
    )
    assert "<b" not in html
    # Label and axis, title and caption, a point and its key, legend, note.
    assert html.count("&lt;b onclick=&quot;x&quot;&gt;&amp;") == 8
    tree = fromstring(html)
    boxes = list(tree.iter("input"))
    assert [box.get("class") for box in boxes] == ["t0", "t1"]
    assert ["checked" in box.attrib for box in boxes] == [True, False]
    labels = [text.text for text in tree.iter("text") if text.get("class") == "axis"]
    assert labels == [evil, "RMSE (reflectance)"]


def test_the_first_series_is_drawn_on_top() -> None:
    html = chart([Series(name, [(1, 0.1)], style) for style, name in enumerate("abc")], X, Y, title="t")
    assert [group.get("data-series") for group in drawing(html).iter("g")] == ["2", "1", "0"]


def test_lines_join_their_points_and_sizes_change_marks() -> None:
    points = [(0, 0.1), (50, 0.2), (100, 0.1)]
    html = chart([Series("a", points, kind="both", sizes=(1, 4, 0))], X, Y, title="t")
    (line,) = (path.get("d", "") for path in drawing(html).iter("path") if path.get("class") == "line")
    assert len(re.findall(r"[-\d.]+ [-\d.]+", line)) == 3
    radii = [float(radius) for radius in re.findall(r"a([\d.]+)", html)][::2]
    assert radii[1] == pytest.approx(2 * radii[0], abs=0.1)
    assert radii[2] == 0


@pytest.mark.parametrize("style", range(7))
def test_marks_are_closed_and_near_their_place(style: int) -> None:
    path = marker(style, 100, 50)
    assert path.endswith("z")
    x, y = map(float, re.match(r"M([-\d.]+) ([-\d.]+)", path).groups())  # type: ignore[union-attr]
    steps = [
        (float(a), float(b)) for a, b in re.findall(r"(?<=l)([-\d.]+) ([-\d.]+)", path)
    ]  # triangles, diamonds and crosses
    for dx, dy in steps:
        x, y = x + dx, y + dy
        assert math.hypot(x - 100, y - 50) < 6


@given(st.lists(st.floats(1e-6, 1e3), min_size=1), st.booleans())
def test_an_axis_around_values_holds_them_all(values: list[float], log: bool) -> None:
    axis = axis_around("x", values, log=log)
    assert all(0 <= axis.place(value) <= 1 for value in values)
    ticks = [value for value, _ in axis.ticks()]
    assert ticks == sorted(ticks)
    assert all(-1e-6 <= axis.place(value) <= 1 + 1e-6 for value in ticks)
    assert 2 <= len(ticks) <= 10


@pytest.mark.parametrize("values", [[], [math.nan], [0.0], [-0.0, math.inf]])
@pytest.mark.parametrize("log", [True, False])
def test_an_axis_around_nothing_is_an_axis(values: list[float], log: bool) -> None:
    assert axis_around("x", values, log=log).ticks()


def test_axes_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidSettings, match="'x' from 1 to 1: low must be below high"):
        Axis("x", 1, 1)
    with pytest.raises(InvalidSettings, match="starts above 0"):
        Axis("x", 0, 1, log=True)
    with pytest.raises(InvalidSettings, match="from nan"):
        Axis("x", math.nan, 1)
