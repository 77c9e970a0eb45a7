"""What lies in a folder and is no product, or one whose item says nonsense: it is named, and costs nothing but itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shapely

from pipeline.runentry import SceneLine
from pipeline.runpage import write_run_page
from pipeline.survey import survey
from tests.pipeline.made_run import HOSTILE, made_run_product, told
from tests.pipeline.test_runpage import Page, edited

LONG = "n" * 300
NAMES = {
    "markup": HOSTILE,
    "newline": "one\ntwo\r\nthree",
    "long": LONG,
    "empty": "",
    "not UTF-8": "\udcff",
    "right to left": "\u202eabc",
    "bell": "\x07\x1b[2J",
}


def item_of(folder: Path) -> Path:
    return folder / f"{folder.name}.json"


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    """A good product, and one to spoil."""
    return made_run_product(tmp_path, "S2A_33TWL_20230810_0_L2A"), made_run_product(
        tmp_path, "S2A_33TWL_20230812_0_L2A"
    )


def nested(folder: Path) -> None:
    item_of(folder).write_text("[" * 200_000)


def as_folder(folder: Path) -> None:
    item_of(folder).unlink()
    item_of(folder).mkdir()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: item_of(folder).write_bytes(b""), "is damaged: it is no JSON"),
        (lambda folder: item_of(folder).write_bytes(bytes(1000)), "is damaged: it is no JSON"),
        (lambda folder: item_of(folder).write_text("null"), "is no STAC item"),
        (lambda folder: item_of(folder).write_text('{"type": "Collection", "id": "x"}'), "is no STAC item"),
        (nested, "is damaged: it is no JSON"),
        (as_folder, "item cannot be read: Is a directory"),
        (lambda folder: edited(folder, {"assets": {"B04": {"href": 5}}}), "lists assets that are none"),
        (lambda folder: edited(folder, {"assets": []}), "lists assets that are none"),
        (
            lambda folder: edited(folder, {"properties": {"platform": "sentinel-2a", "datetime": "2023-08-12"}}),
            "an item of another program",
        ),
    ],
)
def test_a_folder_that_holds_no_product_is_named(
    both: tuple[Path, Path], spoil: Callable[[Path], object], reason: str
) -> None:
    good, bad = both
    spoil(bad)
    page = Page(write_run_page(good.parent))
    assert reason in page.text
    assert bad.name in page.text
    assert "1 folder in this output cannot be shown" in page.text
    assert [entry["id"] for entry in page.data()] == [good.name]


@pytest.mark.parametrize(
    ("version", "shown"),
    [("1.0.0", False), ("99", False), ("", False), ("two", False), ("9" * 5000, False), ("0.0.1", True), ("0", True)],
    ids=["1.0.0", "99", "empty", "word", "digits", "0.0.1", "0"],
)
def test_a_product_of_another_version_is_shown_or_named(both: tuple[Path, Path], version: str, shown: bool) -> None:
    good, other = both
    properties = json.loads(item_of(other).read_text())["properties"]
    edited(other, {"properties": properties | {"processing:software": {"declouder": version}}})
    page = Page(write_run_page(good.parent))
    assert ([entry["id"] for entry in page.data()] == [good.name, other.name]) == shown
    assert (f"{other.name} not shown" in page.text) != shown


def test_no_product_at_all_is_a_page_that_says_so(both: tuple[Path, Path]) -> None:
    good, bad = both
    item_of(good).write_bytes(b"")
    shutil.rmtree(bad)
    page = Page(write_run_page(good.parent))
    assert "No scene was ever run here." in page.text
    assert "There is no product to show yet." in page.text
    assert "is damaged: it is no JSON" in page.text


NUMBERS = ("NaN", "Infinity", "-Infinity", "-1", "1e308", "-1e308", "0", '"12"', '""', "null", "[1, 2]", "9" * 400)


@pytest.mark.parametrize("number", NUMBERS, ids=lambda text: text[:12])
def test_numbers_of_an_item_may_be_anything(both: tuple[Path, Path], number: str) -> None:
    def replaced(value: Any) -> Any:
        """Every number in it, however deep."""
        if isinstance(value, dict):
            return {name: replaced(part) for name, part in value.items()}
        if isinstance(value, list):
            return [replaced(part) for part in value]
        return "\0number\0" if isinstance(value, int | float) and not isinstance(value, bool) else value

    good, bad = both
    text = json.dumps(replaced(json.loads(item_of(bad).read_text())))
    item_of(bad).write_text(text.replace(json.dumps("\0number\0"), number))
    page = Page(write_run_page(good.parent))
    assert [entry["id"] for entry in page.data()] == [good.name, bad.name]
    assert "2 scenes of 2023-08-10: 2 done." in page.text
    for word in ("nan", "inf", "None"):
        assert f">{word}" not in page.html
        assert f" {word} " not in page.text


@pytest.mark.parametrize(
    "shape", [[0, 0], [-60, 60], [60], [60, 60, 60], ["60", "60"], [1, 10**12], [10**9, 10**9], [60.5, 60]], ids=str
)
def test_the_size_that_an_item_states_may_be_absurd(both: tuple[Path, Path], shape: list[object]) -> None:
    good, bad = both
    assets = json.loads(item_of(bad).read_text())["assets"]
    for asset in assets.values():
        asset["proj:shape"] = shape
    edited(bad, {"assets": assets})
    page = Page(write_run_page(good.parent))
    assert [entry["id"] for entry in page.data()] == [good.name, bad.name]


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"<svg/>", bytes(5000), b"\x89PNG\r\n\x1a\n" + bytes(100)], ids=range(5)
)
def test_a_preview_that_is_no_picture_is_told_and_made_up_for(both: tuple[Path, Path], content: bytes) -> None:
    good, bad = both
    (bad / "preview.png").write_bytes(content)
    page = Page(write_run_page(good.parent))
    assert "preview.png cannot be shown: it is damaged, or no picture" in page.text
    assert [entry["id"] for entry in page.data()] == [good.name, bad.name]


def test_a_preview_of_another_kind_is_no_preview_of_ours(both: tuple[Path, Path]) -> None:
    from PIL import Image

    good, bad = both
    Image.new("RGB", (61, 60)).save(bad / "preview.png")
    assert "a preview 61 pixels wide is no pair of pictures" in Page(write_run_page(good.parent)).text
    Image.new("L", (20_000, 3)).save(bad / "preview.png")
    assert "a picture of 20000 x 3 is no preview of ours" in Page(write_run_page(good.parent)).text


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_may_hold_anything(both: tuple[Path, Path], name: str) -> None:
    def renamed(value: Any) -> Any:
        """Every text in it, however deep, but what makes it an item of ours and names its files."""
        if isinstance(value, dict):
            kept = ("type", "id", "href", "declouder", "stac_version")
            return {key: part if key in kept else renamed(part) for key, part in value.items()}
        if isinstance(value, list):
            return [renamed(part) for part in value]
        return name if isinstance(value, str) else value

    good, bad = both
    item = renamed(json.loads(item_of(bad).read_text()))
    item["properties"]["declouder:source"] = name or "x"
    item_of(bad).write_text(json.dumps(item))
    lines = [SceneLine(name, "failed", name, name), SceneLine("x", name, name, name)]
    page = Page(write_run_page(good.parent, told(*lines)))
    assert bad.name in page.text
    kinds = [tag for tag, _ in page.tags]
    assert kinds.count("script") == 3 + len(page.data())
    assert not any(attribute.startswith("on") for _, attributes in page.tags for attribute in attributes)


@pytest.mark.parametrize(
    "name", [f"half {HOSTILE}".replace("/", ""), "one\ntwo", "n" * 250], ids=["markup", "newline", "long"]
)
def test_names_of_folders_may_hold_anything(both: tuple[Path, Path], name: str) -> None:
    good, bad = both
    item_of(bad).unlink()
    bad.rename(bad.with_name(name))
    page = Page(write_run_page(good.parent))
    assert " ".join(name.split()) in page.text
    assert "1 folder in this output cannot be shown" in page.text


GEOMETRIES: dict[str, tuple[object, bool]] = {
    "bow-tie": ({"type": "Polygon", "coordinates": [[[15, 46], [16, 47], [16, 46], [15, 47], [15, 46]]]}, True),
    "spike": ({"type": "Polygon", "coordinates": [[[15, 46], [16, 46], [18, 46], [16, 46], [16, 47], [15, 46]]]}, True),
    "three dimensions": ({"type": "Polygon", "coordinates": [[[15, 46, 1], [16, 46, 2], [16, 47, 3], [15, 46, 1]]]}, True),
    "line": ({"type": "LineString", "coordinates": [[15, 46], [16, 47]]}, False),
    "point": ({"type": "Point", "coordinates": [15, 46]}, False),
    "not a number": ({"type": "Polygon", "coordinates": [[[15, float("nan")], [16, 46], [16, 47], [15, float("nan")]]]}, False),
    "metres": ({"type": "Polygon", "coordinates": [[[499980, 5100000], [600000, 5100000], [600000, 5200000], [499980, 5100000]]]}, False),
    "collection": ({"type": "GeometryCollection", "geometries": []}, False),
    "open ring of two": ({"type": "Polygon", "coordinates": [[[15, 46], [16, 47]]]}, False),
}  # fmt: skip


@pytest.mark.parametrize(("geometry", "own"), GEOMETRIES.values(), ids=GEOMETRIES)
def test_a_geometry_that_is_no_good_outline_breaks_no_map(both: tuple[Path, Path], geometry: object, own: bool) -> None:
    good, bad = both
    edited(bad, {"geometry": geometry})
    views = {view.id: view for view in survey(good.parent).products}
    outline = views[bad.name].outline
    assert outline is not None
    assert outline.is_valid
    # Else the item's own box is drawn.
    assert shapely.equals_exact(outline, views[good.name].outline, 0.01) != own
    page = Page(write_run_page(good.parent))
    assert page.html.count('class="outline') == 1
    assert "2 scenes" in page.text


@pytest.mark.parametrize(
    "bounds", [None, [], [1, 2], ["w", "s", "e", "n"], [16, 47, 15, 46], [float("nan")] * 4], ids=str
)
def test_a_scene_that_is_nowhere_is_named_beside_the_map(both: tuple[Path, Path], bounds: object) -> None:
    good, bad = both
    item = json.loads(item_of(bad).read_text())
    source, tile = "a place that nobody knows", {"grid:code": None}
    edited(
        bad, {"geometry": None, "bbox": bounds, "properties": item["properties"] | tile | {"declouder:source": source}}
    )
    assert f"Not on the map, because nothing says where: {source}" in Page(write_run_page(good.parent)).text


@pytest.mark.parametrize(
    "time",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-14:00",
        "1969-12-31T23:59:59Z",
        "2200-01-01T00:00:00Z",
        "20230812",
        "12 August",
        "",
    ],
)
def test_dates_at_the_edge_of_calendars_are_none(both: tuple[Path, Path], time: str) -> None:
    """Charts and axes count in seconds since 1970, and calendars end; the name of the scene says when it was."""
    good, bad = both
    properties = json.loads(item_of(bad).read_text())["properties"]
    edited(bad, {"properties": properties | {"datetime": time, "start_datetime": time}})
    page = Page(write_run_page(good.parent))
    assert "2 scenes from 2023-08-10 to 2023-08-12: 2 done." in page.text
    # Nor has one whose name says nothing either: it stands on the page without a date.
    edited(bad, {"properties": properties | {"datetime": time, "declouder:source": "x"}})
    without = Page(write_run_page(good.parent))
    assert bad.name in without.text
    assert ("2 scenes of 2023-08-10: 2 done." in without.text) == (time != "20230812")


@pytest.mark.parametrize("time", ["1970-01-01T00:00:00Z", "2199-12-31T23:59:59Z"])
def test_the_first_and_the_last_date_that_count(both: tuple[Path, Path], time: str) -> None:
    good, bad = both
    properties = json.loads(item_of(bad).read_text())["properties"]
    edited(bad, {"properties": properties | {"datetime": time}})
    page = Page(write_run_page(good.parent))
    assert time[:10] in page.text
    assert "Mean NDVI through the gaps" in page.text
