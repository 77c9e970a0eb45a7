from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report_data import chosen, page_data, picture_data, rank, script_json
from pipeline.report_figures import band_figures, calibration_figure, cover_figures, risk_figure
from pipeline.report_methods import METRICS, Methods, bands_name
from pipeline.report_page import duration, report_page, when
from pipeline.report_tables import score_table
from tests.pipeline.made_report import FEWER, HOSTILE, REGIONS, made_document

NETWORK = re.compile(r"(?:https?:)?//[a-z0-9]|url\s*\(|@import|\bimport\s*\(|fetch\s*\(|XMLHttp|WebSocket|sendBeacon")


class Page(HTMLParser):
    """Elements with their attributes, and the text of each script, style and other element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.style, self.text, self._inside = "", "", ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else self._inside
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self._inside == "style":
            self.style += data
        else:
            self.text += data

    def json(self, name: str) -> Any:
        (text,) = (text for attributes, text in self.scripts if attributes.get("id") == name)
        return json.loads(text)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return made_document(16)


def blobs(document: dict[str, Any]) -> dict[str, dict[str, bytes]]:
    return {image["id"]: {"input": b"shared", "truth": image["id"].encode()} for image in document["images"]}


@pytest.fixture(scope="module")
def page(document: dict[str, Any]) -> Page:
    return Page(report_page(document, blobs(document)))


def test_names_from_files_are_never_markup(page: Page) -> None:
    assert HOSTILE in page.text
    assert [attributes.get("type") for attributes, _ in page.scripts] == ["application/json", "application/json", None]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.json("data")["cards"][0]["chip"] == HOSTILE
    assert not any("<" in text for attributes, text in page.scripts if attributes.get("type"))


def test_every_text_of_a_document_is_escaped() -> None:
    evil = "\"'><img src=x onerror=alert(1)>&amp;"
    document = made_document(4)

    def spoiled(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: spoiled(one, key) for key, one in value.items()}
        if isinstance(value, list):
            return [spoiled(one, name) for one in value]
        kept = ("region", "created", "kind", "protocol", "bands", "method", "cover", "ground", "sky")
        return value if not isinstance(value, str) or name in kept else value + evil

    wild = spoiled(document)
    wild["rows"] = [row | {"protocol": row["protocol"] + evil, "bands": row["bands"] + evil} for row in wild["rows"]]
    wild["rows"] += [row | {"method": evil} for row in wild["rows"][:5]]
    wild["per_band"] = [row | {"band": row["band"] + evil} for row in wild["per_band"]]
    wild["confidence"]["groups"] = {name + evil: group for name, group in wild["confidence"]["groups"].items()}
    wild["settings"] = {evil: {evil: [evil]}}
    read = Page(report_page(wild, {}))
    plain_elements = Counter(tag for tag, _ in Page(report_page(document, {})).elements)
    assert "img" in plain_elements  # the viewer's own
    assert Counter(tag for tag, _ in read.elements)["img"] == plain_elements["img"]
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
    assert len(read.scripts) == 3


def test_the_content_policy_lets_only_its_own_script_and_style_run(page: Page) -> None:
    (policy,) = (a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    (script,) = (text for attributes, text in page.scripts if "type" not in attributes)
    assert parts == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": digest(page.style),
        "script-src": digest(script),
    }
    # A policy by digest forbids these.
    assert not [attributes for _, attributes in page.elements if "style" in attributes]


def test_the_page_asks_nothing_of_a_network(document: dict[str, Any], page: Page) -> None:
    text = report_page(document, blobs(document))
    assert NETWORK.findall(re.sub(r'fill="url\(#scale\)"', "", text)) == []
    for tag, attributes in page.elements:
        assert not {"src", "srcset", "action", "data", "poster"} & set(attributes), tag
        assert attributes.get("href", "#").startswith("#"), tag  # type: ignore[union-attr]
        assert tag not in ("link", "iframe", "object", "embed", "base")


def test_sections_labels_and_anchors_agree(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("href", "aria-labelledby"):
            if name in attributes:
                assert (attributes[name] or "").removeprefix("#") in ids
    assert [tag for tag, _ in page.elements].count("h1") == 1
    assert ("html", {"lang": "en"}) in page.elements


def test_the_head_says_what_was_evaluated(document: dict[str, Any], page: Page) -> None:
    for wanted in (
        "2026-11-22 19:25 UTC",
        "2 min 31 s",
        "16 of 18 rows used",
        "6.1 million parameters",
        document["checkpoint"]["digest"],
        document["split_hash"],
        document["tables"][0]["split_hash"],
        "s2cloudless, scl",
        "Gaussian 11 x 11, sigma 1.5, zero padding",
        "band B10 is missing",
        "public_splits.yaml",
        "torch: 2.13.0",
    ):
        assert wanted in page.text, wanted


def test_times_are_in_utc() -> None:
    assert when("2026-01-01T00:30:00+02:00") == "2025-12-31 22:30 UTC"
    assert when("2026-01-01T00:30:00Z") == when("2026-01-01T00:30") == "2026-01-01 00:30 UTC"
    assert duration(59.6) == "1 min 0 s"
    assert duration(3599.7) == "1 h 0 min"


def test_pictures_that_images_share_are_in_the_page_once(document: dict[str, Any], page: Page) -> None:
    held, cards = page.json("pictures"), page.json("data")["cards"]
    assert len(held) == 1 + len(document["images"])
    assert [base64.b64decode(held[card["pics"]["truth"]]) for card in cards] == [card["id"].encode() for card in cards]
    assert {base64.b64decode(held[card["pics"]["input"]]) for card in cards} == {b"shared"}


def test_rows_reach_the_page_as_they_are(document: dict[str, Any], page: Page) -> None:
    data = page.json("data")
    assert len(data["rows"]) == len(document["rows"])
    for row, packed in zip(document["rows"], data["rows"], strict=True):
        names = dict(zip(data["fields"], packed, strict=False))
        assert {name: data["fields"][name][number] for name, number in names.items()} == {n: row[n] for n in names}
        assert packed[7] == row["images"]
        for kind, values in zip(("mean", "low", "high", "pooled"), packed[12:], strict=True):
            wanted = [row[kind][metric.key] for metric in METRICS]
            assert [value is None for value in values] == [value is None for value in wanted]
            assert [v or 0 for v in values] == pytest.approx([w or 0 for w in wanted], rel=5e-5)


def test_a_large_evaluation_says_what_is_not_shown() -> None:
    document = made_document(60)
    text = report_page(document, blobs(document), limit=12)
    read = Page(text)
    assert "This page holds 12 of 60 images" in read.text
    shown = {card["id"] for card in read.json("data")["cards"]}
    assert len(shown) == 12
    assert read.json("data")["images"] == 60
    for protocol in ("pair", "seed"):
        of_protocol = [image for image in document["images"] if image["protocol"] == protocol]
        assert len(shown & {image["id"] for image in of_protocol}) >= 4


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1), st.booleans()), max_size=60), st.integers(1, 30))
def test_chosen_images_are_the_worst_the_middle_and_the_best(made: list[tuple[str, float, bool]], limit: int) -> None:
    images = [
        {
            "id": f"{number}",
            "protocol": protocol,
            "bands": "13",
            "cover_class": "",
            "scores": {"m": {"all": {"rmse": value}}},
            "has": has,
        }
        for number, (protocol, value, has) in enumerate(made)
    ]
    found = chosen(images, "m", lambda image: bool(image["has"]), limit)
    candidates = [i for i, image in enumerate(images) if image["has"]] or list(range(len(images)))
    assert len(found) == min(limit, len(candidates))
    assert found == sorted(set(found))
    assert set(found) <= set(candidates)
    for protocol in "abc":
        group = [i for i in candidates if images[i]["protocol"] == protocol]
        taken = [i for i in found if i in group]
        if taken:
            assert max(rank(images[i], "m") for i in taken) == max(rank(images[i], "m") for i in group)
        if len(taken) >= 4:
            assert min(rank(images[i], "m") for i in taken) == min(rank(images[i], "m") for i in group)


def test_images_without_a_score_come_last() -> None:
    assert rank({"scores": {}}, "m") == float("-inf")
    assert rank({"scores": {"m": {"cloudy": {"rmse": None}, "all": {"rmse": 0.0}}}}, "m") == 0
    assert rank({"scores": {"m": {"cloudy": {"rmse": 0.2}, "all": {"rmse": 0.1}}}}, "m") == 0.2


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_in_a_script_reads_back_and_ends_nothing(value: Any) -> None:
    text = script_json(value)
    assert json.loads(text) == value
    assert text.isascii()
    assert not set("<>&") & set(text)


def test_methods_in_their_order() -> None:
    document = made_document(2)
    methods = Methods.of(document)
    assert methods.subject == "default"
    assert methods.compared == ("unguided",)
    assert methods.order[:2] == ("default", "unguided")
    assert set(methods.order) == set(document["images"][0]["scores"])
    nameless = document | {"checkpoint": document["checkpoint"] | {"name": "unheard of"}}
    assert Methods.of(nameless).subject == "unheard of"


def test_methods_of_fewer_images_are_not_compared() -> None:
    document = made_document(2)
    methods = Methods.of(document)
    rows = [r for r in document["rows"] if r["region"] == "cloudy" and r["cover"] == r["ground"] == "any"][:12]
    ranked = methods.best_baselines(rows)
    errors = {row["method"]: row["mean"]["rmse"] for row in rows}
    assert ranked == sorted(ranked, key=errors.__getitem__)
    assert FEWER in methods.baselines
    assert FEWER not in ranked
    table = score_table({"t": rows}, methods, "label")
    (line,) = (line for line in table.split("<tr") if FEWER in line)
    assert "best" not in line
    (winner,) = (
        line for line in table.split("<tr") if f">{min(errors.keys() - {FEWER}, key=errors.__getitem__)}<" in line
    )
    assert f'<td class="best">{min(v for k, v in errors.items() if k != FEWER):.4f}' in winner
    assert methods.comparable([]) == []


def test_the_table_at_the_top_gives_the_checkpoint_and_what_to_beat(document: dict[str, Any], page: Page) -> None:
    rows = [
        row
        for row in document["rows"]
        if (row["protocol"], row["bands"], row["region"]) == ("pair", "13 bands", "cloudy")
        and row["cover"] == row["ground"] == "any"
    ]
    (own,) = (row for row in rows if row["method"] == "default")
    others = [row for row in rows if row["method"] not in ("default", "unguided", FEWER)]
    mean, low, high = (own[name]["rmse"] for name in ("mean", "low", "high"))
    best = min(row["mean"]["rmse"] for row in others)
    assert f"{mean:.4f}{low:.4f} to {high:.4f}baseline {best:.4f}" in page.text
    assert "student reproduction" in page.text


def test_the_protocol_of_the_seed_alone_has_the_anchors() -> None:
    assert "student reproduction" not in Page(report_page(made_document(2, protocols=("pair",)), {})).text


def test_figures_for_every_part_that_was_scored(document: dict[str, Any]) -> None:
    methods = Methods.of(document)
    wanted = [(p, b, r) for p in ("pair", "seed") for b in ("13 bands", "4 bands") for r in ("cloudy", "all")]
    for figures in (cover_figures(document, methods), band_figures(document, methods)):
        assert [(figure.protocol, figure.bands, figure.region) for figure in figures] == wanted
    first = cover_figures(document, methods)[0].html
    shown = [i for i in document["images"] if (i["protocol"], i["bands"]) == ("pair", "13 bands")]
    assert first.count("<title>") == len(shown)
    assert "cloud and shadow, % of the image" in first
    assert "RMSE, cloudy pixels (reflectance)" in first
    assert f"{FEWER} (only 2 images)" in band_figures(document, methods)[0].html


def test_an_image_that_stands_for_two_protocols_is_in_the_plots_of_both(document: dict[str, Any]) -> None:
    images = [image | {"also": ["seed"]} if image["protocol"] == "pair" else image for image in document["images"]]
    methods = Methods.of(document)
    counts = {
        (figure.protocol, figure.bands): figure.html.count("<title>")
        for figure in cover_figures(document | {"images": images}, methods)
    }
    assert counts == {("pair", "13 bands"): 4, ("pair", "4 bands"): 4, ("seed", "13 bands"): 8, ("seed", "4 bands"): 8}


def test_confidence_figures_with_gaps() -> None:
    assert calibration_figure(None) == risk_figure(None) == ""
    assert calibration_figure({"groups": {}}) == risk_figure({"risk_coverage": []}) == ""
    bins = [{"said": 0.5, "found": None, "share": 0.0}, {"said": 0.7, "found": 0.6, "share": None}]
    group = {"reliability": bins, "expected_error": None, "found_error": 0.1}
    html = calibration_figure({"near": 0.02, "groups": {"VIS": group}})
    assert "for an error below 0.02" in html
    assert html.count("M") > 0
    assert "Mean absolute error" not in html
    point = {"coverage": 0.5, "rmse_by_confidence": 0.1, "rmse_oracle": None, "rmse_random": 0.2}
    assert "in any order" in risk_figure({"risk_coverage": [point]})


def test_words_for_values_that_are_none() -> None:
    by_key = {metric.key: metric for metric in METRICS}
    assert by_key["psnr"].text({"psnr": float("inf")}) == "identical"
    assert by_key["psnr"].text({"psnr": None, "rmse": 0.0}) == "identical"
    assert by_key["psnr"].text({"psnr": None, "rmse": None}) == by_key["cc"].text({"cc": float("nan")}) == "-"
    assert by_key["sam"].text({}) == "-"
    assert bands_name("12") == "12 bands"
    assert set(REGIONS) == {"all", "cloudy", "clear_input", "clear_target", "shadow"}


def test_a_scene_has_its_table_and_its_pictures() -> None:
    document = made_document(2, scenes=2)
    scene = document["scenes"][1]
    scene |= {"references": ["S2A_1"], "unseen": 0.125, "clear_changed": 0, "left_out": {"telea": "too slow"}}
    encoded = {scene["id"]: {"error": b"e", "input": b"i"}}
    read = Page(report_page(document, encoded))
    assert "Restored with S2A_1. 12.5% of the masked pixels are clear on no other date." in read.text
    assert "Without telea: too slow." in read.text
    data = page_data(document, Methods.of(document), encoded)
    assert list(data["scenes"][1]["pics"]) == ["input", "error"]
    assert len(picture_data(data, encoded)) == 2
    assert [a["data-scene"] for _, a in read.elements if "data-scene" in a] == ["0", "1"]
