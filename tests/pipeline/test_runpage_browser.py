"""The run report in a real browser: the slider moves, layers switch, it fits its window, and asks nothing of any network."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.color import rgb2lab

from pipeline.runentry import SceneLine
from pipeline.runpage import write_run_page
from pipeline.viewpictures import OVER_CLOUDMASK, OVER_PROVENANCE
from tests.pipeline.browser import Browser, chromium
from tests.pipeline.made_run import HOSTILE, made_run_product, made_series, told
from tests.pipeline.test_report_browser import complaints, contrast

SHARE = 'Number(document.getElementById("handle").getAttribute("aria-valuenow"))'
OPEN = 'document.getElementById("viewer").open'
TITLE = 'document.getElementById("viewer-title").textContent'
LAYER = 'document.querySelector("#layer-tabs [aria-pressed=true]").dataset.layer'
FAILED = "S2A_33TWL_20230812_0_L2A"


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    chromium()
    output = tmp_path_factory.mktemp("out")
    folders = made_series(output, (0, 3))
    # The last one has no confidence, as a product without a network.
    return [
        *folders,
        made_run_product(output, "S2B_33TWL_20230815_0_L2A", day=5, edit=lambda item: item["assets"].pop("confidence")),
    ]


@pytest.fixture(scope="module")
def page(products: list[Path]) -> Path:
    lines = [
        SceneLine(FAILED, "failed", "2026-11-23T06:37:21+00:00", f"HTTP 503 {HOSTILE}"),
        SceneLine(HOSTILE, "invalid"),
    ]
    return write_run_page(products[0].parent, told(*lines))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


def mouse(browser: Browser, kind: str, x: float, y: float, **more: Any) -> None:
    browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)


def box(browser: Browser, selector: str) -> dict[str, float]:
    found: dict[str, float] = browser.value(
        f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect(); return {{x: b.x, y: b.y, width: b.width, height: b.height}}; }})()"
    )
    return found


def seen_before(browser: Browser) -> float:
    """Share of the picture before that its clipping leaves, from the left."""
    clip = browser.value('getComputedStyle(document.getElementById("picture-before")).clipPath')
    inset = clip.removeprefix("inset(").removesuffix(")").split()
    return 100 - float(inset[1].removesuffix("%"))


def test_it_opens_without_a_complaint_and_asks_for_nothing(browser: Browser, page: Path, products: list[Path]) -> None:
    browser.open(page)
    assert browser.value('document.querySelectorAll("article.scene").length') == len(products)
    loaded = '[...document.querySelectorAll("article.scene img")].every((image) => { image.loading = "eager"; return true; })'
    assert browser.value(loaded)
    assert browser.value(
        'Promise.all([...document.querySelectorAll("article.scene img")].map((image) => image.decode())).then(() => true)'
    )
    requests = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert requests
    assert {url.split(":")[0] for url in requests} <= {"file", "data"}
    assert complaints(browser) == []


def test_markup_in_names_is_text(browser: Browser, page: Path, products: list[Path]) -> None:
    browser.open(page)
    assert browser.value('document.querySelectorAll("script").length') == 3 + len(products)
    listed = browser.value('[...document.querySelectorAll(".reasons th")].map((node) => node.textContent)')
    assert HOSTILE in listed
    assert complaints(browser) == []


def test_the_slider_moves_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.value('document.querySelector("article.scene button.look").focus()')
    browser.press("Enter")
    assert browser.value(OPEN)
    assert browser.value(TITLE) == "33TWL 2023-08-10"
    assert browser.value("document.activeElement.id") == "handle"
    assert browser.value(SHARE) == 50
    # The focus can be seen.
    assert browser.value('getComputedStyle(document.querySelector("#handle .grip")).boxShadow').count("rgb") >= 2
    for key, share in (
        ("ArrowRight", 52),
        ("ArrowRight", 54),
        ("ArrowLeft", 52),
        ("End", 100),
        ("ArrowRight", 100),
        ("Home", 0),
    ):
        browser.press(key)
        assert browser.value(SHARE) == share
        assert seen_before(browser) == pytest.approx(share)
    frame, handle = box(browser, "#frame"), box(browser, "#handle")
    assert handle["x"] + handle["width"] / 2 == pytest.approx(frame["x"], abs=1)
    for name in ("before", "after"):
        image = f'document.getElementById("picture-{name}")'
        assert browser.value(f"{image}.decode().then(() => {image}.naturalWidth)") == 60
    assert complaints(browser) == []


def test_the_slider_moves_by_mouse_at_full_screen(browser: Browser, page: Path, products: list[Path]) -> None:
    browser.open(page, f"scene={products[0].name}")
    assert browser.value(OPEN)
    viewer = box(browser, "#viewer")
    assert (viewer["x"], viewer["y"], viewer["width"], viewer["height"]) == (0, 0, 1280, 900)
    frame = box(browser, "#frame")
    assert frame["width"] == pytest.approx(frame["height"], rel=0.01)  # the scene is square
    assert frame["height"] > 0.75 * 900
    y = frame["y"] + frame["height"] / 3
    mouse(browser, "mousePressed", frame["x"] + frame["width"] * 0.5, y, button="left", clickCount=1)
    for share in (40, 25, 80):
        mouse(browser, "mouseMoved", frame["x"] + frame["width"] * share / 100, y, button="left", buttons=1)
        assert browser.value(SHARE) == pytest.approx(share, abs=1)
        assert seen_before(browser) == pytest.approx(share, abs=1)
    mouse(browser, "mouseMoved", frame["x"] - 200, y, button="left", buttons=1)
    assert browser.value(SHARE) == 0
    mouse(browser, "mouseReleased", frame["x"] + frame["width"] * 0.7, y, button="left", clickCount=1)
    mouse(browser, "mouseMoved", frame["x"] + frame["width"] * 0.7, y)
    assert browser.value(SHARE) == 0  # let go is let go
    assert complaints(browser) == []


def test_layers_switch_with_their_keys_and_legends(browser: Browser, page: Path, products: list[Path]) -> None:
    browser.open(page, f"scene={products[0].name}")
    legends = '[...document.querySelectorAll("#layer-keys [data-layer]")].filter((node) => !node.hidden).map((node) => node.dataset.layer)'
    image = 'document.getElementById("picture-layer")'
    assert (browser.value(LAYER), browser.value(legends), browser.value(f"{image}.hidden")) == ("", [], True)
    sources = set()
    for key, name in (("p", "provenance"), ("c", "confidence"), ("m", "cloudmask")):
        browser.press(key)
        assert browser.value(LAYER) == name
        assert browser.value(legends) == [name]
        assert browser.value(f"{image}.decode().then(() => !{image}.hidden && {image}.naturalWidth)") == 60
        sources.add(browser.value(f"{image}.src"))
    assert len(sources) == 3
    browser.press("m")  # again: off
    assert (browser.value(LAYER), browser.value(f"{image}.hidden")) == ("", True)
    button = box(browser, '#layer-tabs [data-layer="provenance"]')
    x, y = button["x"] + button["width"] / 2, button["y"] + button["height"] / 2
    mouse(browser, "mousePressed", x, y, button="left", clickCount=1)
    mouse(browser, "mouseReleased", x, y, button="left", clickCount=1)
    assert browser.value(LAYER) == "provenance"
    browser.value(
        '(() => { const range = document.getElementById("strength"); range.value = 30; range.dispatchEvent(new Event("input")); })()'
    )
    assert browser.value(f"getComputedStyle({image}).opacity") == "0.3"
    dimmed = 'getComputedStyle(document.getElementById("picture-before")).filter'
    assert browser.value(dimmed) == "brightness(0.5)"
    browser.press("0")
    assert (browser.value(LAYER), browser.value(dimmed)) == ("", "none")
    assert complaints(browser) == []


@pytest.mark.parametrize("colours", [OVER_PROVENANCE, OVER_CLOUDMASK], ids=["provenance", "cloudmask"])
def test_no_class_over_a_cloud_looks_like_another_over_dark_ground(
    browser: Browser, page: Path, colours: Mapping[int, tuple[int, int, int]]
) -> None:
    """In CIE Lab, where 2.3 is just visible; the picture shines through a layer, and a white one makes dark colours light."""
    browser.open(page, "scene")
    strength = float(browser.value('getComputedStyle(document.getElementById("picture-layer")).opacity'))
    browser.value('document.getElementById("frame").classList.add("layered")')
    dimmed = browser.value('getComputedStyle(document.getElementById("picture-before")).filter')
    white = 255 * float(dimmed.removeprefix("brightness(").removesuffix(")"))
    for one, other in itertools.permutations(colours.values(), 2):
        over_cloud, over_dark = (
            strength * np.array(colour) + (1 - strength) * base for colour, base in ((one, white), (other, 0))
        )
        apart = np.linalg.norm(np.subtract(*(rgb2lab(colour / 255) for colour in (over_cloud, over_dark))))
        assert apart > 10, (one, other)


@pytest.mark.parametrize("width", [1280, 400])
def test_names_of_any_length_fit_the_window(browser: Browser, tmp_path: Path, width: int) -> None:
    name = "n" * 300

    def renamed(item: dict[str, Any]) -> None:
        properties = item["properties"]
        properties |= {
            "declouder:source": name,
            "declouder:limit": name,
            "declouder:mask_method": name,
            "declouder:model": {"name": name, "sha256": name},
            "declouder:references": [{"id": name, "days": 1, "share": 0.5, "not_harmonised": [name]}],
            "declouder:references_skipped": {name: name},
            "declouder:bands_left_out": {name: name},
            "declouder:settings": {"bands": [name], "clip": name},
            "declouder:confidence": {name: 50.0},
            "declouder:seconds": {name: 1.0, "total": 2.0},
            "processing:software": {"declouder": f"0.{name}"},
            "grid:code": None,
        }

    folder = made_run_product(tmp_path / name[:250], edit=renamed)
    lines = [SceneLine(name, "failed", name, name), SceneLine("S2A_33TWL_20230812_0_L2A", "failed", reason=name)]
    page = write_run_page(folder.parent, told(*lines, problems=(name,), facts={name: name}))
    browser.open(page, width=width)
    browser.value('for (const part of document.querySelectorAll(".scene")) part.style.contentVisibility = "visible"')
    browser.value('for (const part of document.querySelectorAll("details")) part.open = true')
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    # Nothing is cut off inside its part of the page either.
    wide = browser.value(
        '[...document.querySelectorAll("section, header, dd, li, td, th, p")].filter((part) => part.scrollWidth > part.clientWidth + 1 '
        "&& part.clientWidth && getComputedStyle(part).display !== 'inline').map((part) => part.tagName + ' ' + part.className + ' ' + part.textContent.slice(0, 60))"
    )
    assert wide == []
    assert browser.value(overflow) == 0
    browser.open(page, f"scene={folder.name}", width=width)
    assert browser.value(OPEN)
    assert browser.value(overflow) == 0
    assert complaints(browser) == []


def test_another_scene_keeps_slider_and_layer(browser: Browser, page: Path, products: list[Path]) -> None:
    browser.open(page, f"scene={products[0].name}")
    browser.press("c")
    browser.press("End")
    browser.press("ArrowDown")
    assert (browser.value(TITLE), browser.value(LAYER), browser.value(SHARE)) == ("33TWL 2023-08-13", "confidence", 100)
    browser.press("ArrowDown")
    # This one has no confidence: its button says so, and the layer is back with the next scene that has it.
    assert (browser.value(TITLE), browser.value(LAYER)) == ("33TWL 2023-08-15", "")
    assert browser.value("document.querySelector('#layer-tabs [data-layer=\"confidence\"]').disabled")
    assert browser.value('document.getElementById("viewer-after").disabled')
    browser.press("ArrowDown")
    assert browser.value(TITLE) == "33TWL 2023-08-15"
    browser.press("ArrowUp")
    assert (browser.value(TITLE), browser.value(LAYER)) == ("33TWL 2023-08-13", "confidence")
    browser.press("Escape")
    assert not browser.value(OPEN)
    assert complaints(browser) == []


def test_buttons_go_to_the_ends_and_keys_still_work_there(browser: Browser, page: Path, products: list[Path]) -> None:
    browser.open(page, f"scene={products[1].name}")
    browser.value('document.getElementById("viewer-after").focus()')
    browser.press("Enter")
    assert browser.value(TITLE) == "33TWL 2023-08-15"
    browser.press("ArrowUp")
    assert browser.value(TITLE) == "33TWL 2023-08-13"


def test_a_date_of_the_strip_opens_its_scene_and_gets_the_focus_back(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.value('document.querySelector(".strip .absent .state").textContent') == "failed"
    browser.value('document.querySelectorAll(".strip button")[1].focus()')
    browser.press("Enter")
    assert browser.value(TITLE) == "33TWL 2023-08-13"
    browser.press("Escape")
    # The event of closing comes a moment later.
    gone = "new Promise((done) => { const look = () => location.hash ? setTimeout(look, 10) : done(true); look(); })"
    assert browser.value(gone)
    assert browser.value('document.activeElement === document.querySelectorAll(".strip button")[1]')


def test_the_address_of_no_scene_opens_nothing(browser: Browser, page: Path) -> None:
    for fragment in ("scene=elsewhere", "scene=%E0%A4%A", "glance"):
        browser.open(page, fragment)
        assert not browser.value(OPEN)
        assert complaints(browser) == []


def test_a_place_on_the_map_leads_to_its_scene(browser: Browser, page: Path, products: list[Path]) -> None:
    browser.open(page)
    links = browser.value('[...document.querySelectorAll("#map svg a")].map((node) => node.getAttribute("href"))')
    assert f"#product-{products[0].name}" in links
    looks = browser.value('[...document.querySelectorAll("#map .outline")].map((node) => node.getAttribute("class"))')
    assert looks == ["outline st-done", "outline st-failed"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_its_window_and_can_be_read(
    browser: Browser, page: Path, products: list[Path], width: int, scheme: str
) -> None:
    browser.open(page, width=width, scheme=scheme)
    assert width - 20 < browser.value("document.documentElement.clientWidth") <= width
    assert browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    for selector in (
        ".lead",
        ".note",
        ".warning",
        "nav a",
        ".tiles dt",
        ".parts li",
        ".scene dt",
        ".scene .of",
        ".strip button",
        ".reasons td",
        ".look .open",
    ):
        assert contrast(browser, selector) >= 4.5, selector
    for look in ("done", "failed", "invalid"):
        assert contrast(browser, f".chip.st-{look}") >= 4.5, look
        assert (
            contrast(
                browser,
                f".map .outline.st-{look}" if look != "invalid" else ".chip.st-invalid",
                "stroke" if look != "invalid" else "color",
            )
            >= 3
        )
    browser.open(page, f"scene={products[0].name}", width=width, scheme=scheme)
    assert browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    frame = box(browser, "#frame")
    assert frame["width"] > 0.9 * min(width, 650)
    assert frame["x"] >= 0
    assert frame["x"] + frame["width"] <= width
    for selector in ("#viewer-facts", "#layer-tabs button", "#viewer-close"):
        assert contrast(browser, selector) >= 4.5, selector
        there = box(browser, selector)
        assert there["x"] >= 0
        assert there["x"] + there["width"] <= width
        assert there["y"] + there["height"] <= 900
