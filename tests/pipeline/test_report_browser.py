"""report.html in a real browser: it sorts, filters, enlarges, fits its window, and asks nothing of any network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from pipeline.pictures import PICTURES, encode
from pipeline.report import write_report
from tests.pipeline.browser import Browser, chromium
from tests.pipeline.made_report import FEWER, HOSTILE, made_document

IDS = '[...document.querySelectorAll("#cards article h3")].map((node) => node.textContent)'
METHODS = """[...document.querySelectorAll("#table-place tbody")].map((body) => [
  body.querySelector(".block").textContent, [...body.querySelectorAll("tr:not(.block) th")].map((node) => node.textContent)])"""
IMAGE = 'document.getElementById("viewer-image")'
SHOWN = 'document.querySelector("#viewer-tabs [aria-pressed=true]").dataset.name'


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return made_document(30)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]) -> Path:
    chromium()
    pictures = {
        entry["id"]: {
            name: encode(np.full((8, 8, 3), 5 * number + 10 * place, np.uint8)) for place, name in enumerate(PICTURES)
        }
        for number, entry in enumerate((*document["images"], *document["scenes"]))
    }
    return write_report(document, pictures, tmp_path_factory.mktemp("report"))[1]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


def rmse(image: dict[str, Any], method: str = "default") -> float:
    value: float = image["scores"][method]["cloudy"]["rmse"]
    return value


def complaints(browser: Browser) -> list[dict[str, Any]]:
    kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening")
    return [event for event in browser.events if event.get("method") in kinds]


def test_worst_images_come_first_and_nothing_else_is_asked_for(
    browser: Browser, page: Path, document: dict[str, Any]
) -> None:
    browser.open(page)
    worst = sorted(document["images"], key=rmse, reverse=True)
    assert browser.value(IDS) == [image["id"] for image in worst[:20]]
    assert browser.value('document.getElementById("gallery-note").textContent') == "30 of the 30 images in this page."
    browser.value('document.getElementById("more").click()')
    assert browser.value(IDS) == [image["id"] for image in worst]
    assert browser.value('document.getElementById("more").hidden')

    requests = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert requests
    assert {url.split(":")[0] for url in requests} <= {"file", "data"}
    assert complaints(browser) == []


def test_an_id_of_markup_is_text(browser: Browser, page: Path, document: dict[str, Any]) -> None:
    browser.open(page, f"image={quote(document['images'][0]['id'], safe='')}")
    assert HOSTILE in document["images"][0]["id"]
    assert browser.value('document.getElementById("viewer").open')
    assert browser.value('document.getElementById("viewer-title").textContent') == document["images"][0]["id"]
    assert browser.value('document.querySelectorAll("script").length') == 3
    listed = browser.value('[...document.querySelectorAll(".warning li")].map((node) => node.textContent)')
    assert HOSTILE in listed
    assert complaints(browser) == []


@pytest.mark.parametrize(
    ("sort", "key", "worst_first"),
    [
        ("psnr", lambda image: image["scores"]["default"]["cloudy"]["psnr"], False),
        ("ssim", lambda image: image["scores"]["default"]["cloudy"]["ssim_valid"], False),
        ("sam", lambda image: image["scores"]["default"]["cloudy"]["sam"], True),
        ("gain", lambda image: 1 - rmse(image) / rmse(image, "first guess"), False),
        ("cover", lambda image: image["cover"], True),
    ],
)
def test_the_gallery_sorts(
    browser: Browser, page: Path, document: dict[str, Any], sort: str, key: Any, worst_first: bool
) -> None:
    browser.open(page, f"gallery.sort={sort}")
    values = {image["id"]: key(image) for image in document["images"]}
    found = [values[name] for name in browser.value(IDS)]
    np.testing.assert_allclose(found, sorted(values.values(), reverse=worst_first)[:20], rtol=1e-4)
    choose(browser, "gallery-pickers", "end", "best")
    found = [values[name] for name in browser.value(IDS)]
    np.testing.assert_allclose(found, sorted(values.values(), reverse=not worst_first)[:20], rtol=1e-4)


def test_the_gallery_filters(browser: Browser, page: Path, document: dict[str, Any]) -> None:
    browser.open(page)
    choose(browser, "gallery-pickers", "protocol", "seed")
    choose(browser, "gallery-pickers", "ground", "water")
    wanted = {i["id"] for i in document["images"] if i["protocol"] == "seed" and i["ground"] == "water"}
    assert set(browser.value(IDS)) == wanted
    assert browser.value("location.hash") == "#gallery.protocol=seed&gallery.ground=water"


def choose(browser: Browser, form: str, name: str, value: str) -> None:
    """Choose an option as a reader does."""
    browser.value(
        f'(() => {{ const select = document.querySelector("#{form} select[name={name}]"); select.value = {json.dumps(value)};'
        ' select.dispatchEvent(new Event("change", {bubbles: true})); })()'
    )


def means(document: dict[str, Any], protocol: str, region: str, metric: str, kind: str = "mean") -> dict[str, float]:
    return {
        row["method"]: row[kind][metric]
        for row in document["rows"]
        if (row["protocol"], row["bands"], row["region"]) == (protocol, "13 bands", region)
        and row["cover"] == row["ground"] == "any"
    }


def in_order(values: dict[str, float], *, down: bool = False) -> list[str]:
    """Methods by value, the one with fewer images last."""
    return sorted(values, key=lambda name: (name == FEWER, -values[name] if down else values[name]))


def test_the_table_sorts_by_a_click_on_its_head(browser: Browser, page: Path, document: dict[str, Any]) -> None:
    browser.open(page)
    by_rmse = means(document, "pair", "cloudy", "rmse")
    title, methods = browser.value(METHODS)[0]
    assert title == "pair · 13 bands · cloudy pixels"
    # A method with a score for only some of the images may look best: it comes last, and has no mark.
    assert min(by_rmse, key=by_rmse.__getitem__) == FEWER
    assert methods == in_order(by_rmse)
    skipped = f'[...document.querySelectorAll("#table-place tr")].find((row) => row.cells[0].textContent === "{FEWER}")'
    assert browser.value(f"{skipped}.cells[1].firstChild.textContent") == "only 2"
    assert browser.value(f'{skipped}.querySelectorAll(".best").length') == 0
    click = (
        '[...document.querySelectorAll("#table-place thead button")].find((node) => node.textContent === "SAM").click()'
    )
    by_sam = means(document, "pair", "cloudy", "sam")
    for down in (False, True):
        browser.value(click)
        assert browser.value(METHODS)[0][1] == in_order(by_sam, down=down)
        assert browser.value('document.querySelector("#table-place [aria-sort]").getAttribute("aria-sort")') == (
            "descending" if down else "ascending"
        )
    # Reached by the keyboard as well: the focus stays on the head.
    browser.press("Enter")
    assert browser.value(METHODS)[0][1] == in_order(by_sam)
    assert complaints(browser) == []


def test_the_table_filters_and_marks_the_best(browser: Browser, page: Path, document: dict[str, Any]) -> None:
    browser.open(page, "table.protocol=seed&table.region=all&table.value=pooled&table.sort=rmse-")
    ((title, methods),) = browser.value(METHODS)
    pooled = means(document, "seed", "all", "rmse", "pooled")
    assert title == "seed · 13 bands · all pixels"
    assert methods == [*in_order(pooled, down=True), "student reproduction (published)"]
    best = browser.value(
        '[...document.querySelectorAll("#table-place td.best")].map((cell) => [cell.cellIndex, cell.parentNode.cells[0].textContent])'
    )
    assert (2, in_order(pooled)[0]) in {tuple(pair) for pair in best}
    anchors = browser.value('[...document.querySelectorAll("tr.anchor")].map((row) => row.textContent)')
    assert all(number in anchors[0] for number in ("30.14", "0.809", "0.799", "0.064"))
    assert "17.80" in anchors[1]
    choose(browser, "table-pickers", "value", "mean")
    assert " to " in browser.value('document.querySelector("#table-place tr.subject").textContent')


def test_identical_and_missing_values_have_words(browser: Browser, page: Path) -> None:
    browser.open(page, "table.region=clear_input&table.protocol=pair")
    cells = browser.value(
        '[...document.querySelectorAll("#table-place tbody tr")].map((row) => [...row.cells].map((cell) => cell.firstChild?.textContent))'
    )
    (identity,) = (row for row in cells if row[0] == "identity")
    assert identity[3] == "identical"
    assert identity[6] == "-"
    assert identity[-1] == "6 identical"


def test_a_picture_is_enlarged_flipped_and_left_by_keys(browser: Browser, page: Path, document: dict[str, Any]) -> None:
    browser.open(page)
    worst = sorted(document["images"], key=rmse, reverse=True)
    browser.value('document.querySelector("#cards article .thumbs button").focus()')
    browser.press("Enter")
    assert browser.value('document.getElementById("viewer").open')
    assert browser.value(SHOWN) == "input"
    assert browser.value(f"{IMAGE}.decode().then(() => {IMAGE}.naturalWidth)") == 8
    for shown in ("prediction", "truth", "input"):
        browser.press(" ")
        assert browser.value(SHOWN) == shown
    browser.press("ArrowLeft")
    assert browser.value(SHOWN) == "confidence"
    browser.press("4")
    assert browser.value(SHOWN) == "error"
    browser.press("ArrowDown")
    assert browser.value('document.getElementById("viewer-title").textContent') == worst[1]["id"]
    assert browser.value(SHOWN) == "error"
    browser.press("Escape")
    assert not browser.value('document.getElementById("viewer").open')
    # The event of closing comes a moment later.
    gone = "new Promise((done) => { const look = () => location.hash ? setTimeout(look, 10) : done(true); look(); })"
    assert browser.value(gone)


def test_a_dot_of_the_plot_opens_its_image(browser: Browser, page: Path, document: dict[str, Any]) -> None:
    browser.open(page)
    browser.value(
        'document.querySelector("#plots div:not([hidden]) .dot[data-key=\\"12\\"]").dispatchEvent(new MouseEvent("click", {bubbles: true}))'
    )
    assert browser.value('document.getElementById("viewer-title").textContent') == document["images"][12]["id"]


def test_plots_are_chosen_and_their_series_hidden(browser: Browser, page: Path) -> None:
    browser.open(page, "plots.protocol=seed&plots.bands=4 bands&plots.region=all")
    titles = '[...document.querySelectorAll("#plots figure")].filter((node) => node.checkVisibility()).map((node) => node.firstChild.textContent)'
    assert browser.value(titles) == [
        "Error against cloud cover: seed, 4 bands",
        "Error by band: seed, 4 bands",
        "Calibration of the confidence",
        "Risk against coverage",
    ]
    seen = '[...document.querySelectorAll("#plots div:not([hidden]) figure")[0].querySelectorAll("g.series")].filter((node) => getComputedStyle(node).display !== "none").length'
    before = browser.value(seen)
    browser.value('document.querySelector("#plots div:not([hidden]) figure .t0").click()')
    assert browser.value(seen) == before - 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_its_window_and_can_be_read(browser: Browser, page: Path, width: int, scheme: str) -> None:
    browser.open(page, "table.protocol=seed", width=width, scheme=scheme)
    # The bar of scrolling takes a little of the width.
    assert width - 20 < browser.value("document.documentElement.clientWidth") <= width
    assert browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    for selector in (".lead", "#table-place td", "#table-place td small", "td.best", ".note", ".warning", "nav a"):
        assert contrast(browser, selector) >= 4.5, selector
    for number in range(12):
        assert contrast(browser, f".legend .s{number} .dot", "fill") >= 3, number
    dark = sum(colours(browser, "section", "backgroundColor")) < 300
    assert dark == (scheme == "dark")


def colours(browser: Browser, selector: str, style: str) -> list[float]:
    text = browser.value(f"getComputedStyle(document.querySelector({json.dumps(selector)})).{style}")
    return [float(part) for part in text.partition("(")[2].rstrip(")").split(",")[:3]]


def contrast(browser: Browser, selector: str, style: str = "color") -> float:
    """WCAG 2.1 contrast of a colour with the first background below it that is not see-through."""
    behind = browser.value(
        f"(() => {{ let node = document.querySelector({json.dumps(selector)}); for (; node; node = node.parentElement) {{"
        " const colour = getComputedStyle(node).backgroundColor;"
        ' if (colour !== "rgba(0, 0, 0, 0)") return colour; } })()'
    )
    pair = (
        colours(browser, selector, style),
        [float(part) for part in behind.partition("(")[2].rstrip(")").split(",")[:3]],
    )
    levels = []
    for colour in pair:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (part / 255 for part in colour)]
        levels.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(levels) + 0.05) / (min(levels) + 0.05)
