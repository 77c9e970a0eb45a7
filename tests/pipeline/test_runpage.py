"""report.html of a product folder: what it says, what it does with what is damaged or strange, and that it is one file."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import rasterio
from shapely.geometry import box

from pipeline import runentries, runpage
from pipeline.errors import InvalidSettings, WriteFailed
from pipeline.runentry import RunEntry, SceneLine
from pipeline.runmap import run_map
from pipeline.runpage import write_run_page
from pipeline.survey import survey
from tests.pipeline.made_run import HOSTILE, made_layers, made_run_product, made_series, told


class Page(HTMLParser):
    """Text of a page as a reader has it, and its elements."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._inside: list[str] = []
        self.feed(self.html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.words.append(data)

    def data(self) -> list[dict[str, object]]:
        found = re.search(r'<script type="application/json" id="data">(.*?)</script>', self.html, re.DOTALL)
        assert found is not None
        entries: list[dict[str, object]] = json.loads(found[1])
        return entries


def test_a_page_says_what_the_items_say(tmp_path: Path) -> None:
    folders = made_series(tmp_path)
    page = Page(write_run_page(tmp_path))
    assert "3 scenes from 2023-08-10 to 2023-08-15: 3 done." in page.text
    for expected in (
        "66.7 % before (cloud by its catalogue: 61.5 %), 0 % after",
        "1.06 (1: tile borders",
        "S2A_33TWL_20230815_0_L2A (+5 d; clear in 87.5 % of what is cloudy here)",
        "S2A_33TWL_20230818_0_L2A: cloudy where it is needed",
        "24.5 s in all; network took the largest share",
        "3 of 4 needed the network",
        "restored 80 %, generated 20 %",
        "B01: remote asset of a local item",
        "default b4b4c50bee6d",
    ):
        assert expected in page.text, expected
    assert [entry["id"] for entry in page.data()] == [folder.name for folder in folders]
    assert all(entry["layers"] == ["provenance", "confidence", "cloudmask"] for entry in page.data())


def test_nothing_is_claimed_of_what_a_run_without_a_network_left(tmp_path: Path) -> None:
    identity = {"name": "identity", "sha256": "identity"}
    made_run_product(tmp_path, edit=lambda item: item["properties"].update({"declouder:model": identity}))
    page = Page(write_run_page(tmp_path))
    assert "Made with the checkpoint identity, which tries the pipeline without a network" in page.text
    assert "66.7 % before (cloud by its catalogue: 61.5 %), not known after" in page.text
    assert "cloud and shadow before, mean of the scenes 66.7 %" in page.text
    (entry,) = page.data()
    assert entry["facts"] == "cloud and shadow 66.7\xa0% before; 66.7\xa0% made up"


def test_a_page_is_one_file_and_names_nothing_outside_it(tmp_path: Path) -> None:
    made_series(tmp_path)
    page = Page(write_run_page(tmp_path))
    outside = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "srcset", "action") and not (value or "").startswith(("#", "data:"))
    ]
    assert outside == []
    assert "url(" not in page.html
    assert "@import" not in page.html
    policy = next(attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv"))
    assert "default-src 'none'" in (policy or "")
    assert "unsafe" not in (policy or "")
    # A style attribute would be refused by that policy.
    assert [tag for tag, attributes in page.tags if "style" in attributes] == []


def test_scenes_without_a_product_stand_there_with_their_reasons(tmp_path: Path) -> None:
    made_run_product(tmp_path)
    lines = [
        SceneLine("S2A_33TWL_20230812_0_L2A", "failed", "2026-11-23T06:37:21.789+00:00", f"HTTP 503 {HOSTILE}"),
        SceneLine("S2A_33TWL_20230814_0_L2A", "invalid", "", "B04 is truncated"),
        SceneLine("S2A_11SKA_20230816_0_L2A", "interrupted"),
    ]
    page = Page(write_run_page(tmp_path, told(*lines)))
    assert "4 scenes from 2023-08-10 to 2023-08-16: 1 done, 1 failed, 1 interrupted, 1 invalid." in page.text
    assert f"HTTP 503 {HOSTILE}" in page.text
    assert "B04 is truncated" in page.text
    assert "2026-11-23 06:37:21" in page.text
    assert "Not on the map, because nothing says where: S2A_11SKA_20230816_0_L2A" in page.text
    assert [attributes for tag, attributes in page.tags if tag == "img" and attributes.get("onerror")] == []


def test_a_run_of_which_nothing_came_is_a_page_too(tmp_path: Path) -> None:
    page = Page(write_run_page(tmp_path, told(SceneLine("S2A_33TWL_20230812_0_L2A", "failed", reason="no network"))))
    assert "1 scene of 2023-08-12: 1 failed." in page.text
    assert "no network" in page.text
    assert "There is no product to show yet." in page.text


def test_an_empty_folder_has_nothing_to_report(tmp_path: Path) -> None:
    (tmp_path / "holidays").mkdir()
    (tmp_path / "holidays" / "beach.jpg").write_bytes(b"")
    with pytest.raises(InvalidSettings, match="holds no run and no product"):
        write_run_page(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holidays"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda folder: (folder / f"{folder.name}.json").unlink(),
            "half a product: its files are there, its item is not",
        ),
        (lambda folder: (folder / f"{folder.name}.json").write_text('{"type": "Fea'), "is damaged: it is no JSON"),
        (lambda folder: (folder / f"{folder.name}.json").write_bytes(b"\xff\xfe{}"), "is damaged: it is no JSON"),
        (lambda folder: (folder / f"{folder.name}.json").write_text("[]"), "is no STAC item"),
        (
            lambda folder: folder.rename(folder.with_name("elsewhere")),
            "half a product: its files are there, its item is not",
        ),
        (lambda folder: stranger(folder), "it is no product of declouder, or half of one"),
        (lambda folder: edited(folder, {"id": HOSTILE}), "is the item of"),
        (lambda folder: edited(folder, {"assets": {"B04": "B04.tif"}}), "lists assets that are none"),
        (lambda folder: edited(folder, {"properties": {}}), "an item of another program"),
        (lambda folder: edited(folder, {"properties": None}), "an item of another program"),
        (
            lambda folder: edited(
                folder, {"properties": {"processing:software": {"declouder": "99.1"}, "declouder:source": "S2"}}
            ),
            "made by declouder 99.1, this is",
        ),
    ],
)
def test_what_is_no_product_is_named(tmp_path: Path, spoil, reason: str) -> None:
    good, bad = (
        made_run_product(tmp_path, "S2A_33TWL_20230810_0_L2A"),
        made_run_product(tmp_path, "S2A_33TWL_20230812_0_L2A"),
    )
    spoil(bad)
    page = Page(write_run_page(tmp_path))
    assert reason in page.text
    assert "1 folder in this output cannot be shown" in page.text
    assert [entry["id"] for entry in page.data()] == [good.name]
    # Alone it is worth a page as well.
    shutil.rmtree(good)
    assert reason in Page(write_run_page(tmp_path)).text


def stranger(folder: Path) -> None:
    """A folder of another program, with an item of another name."""
    (folder / "item.json").write_text((folder / f"{folder.name}.json").read_text())
    for name in (f"{folder.name}.json", "manifest.sha256"):
        (folder / name).unlink()


def edited(folder: Path, changes: dict[str, object]) -> None:
    path = folder / f"{folder.name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


NONSENSE = (None, True, "many", [], {"a": "b"}, -5, 1e300)


@pytest.mark.parametrize("value", NONSENSE, ids=str)
def test_an_item_may_say_any_nonsense(tmp_path: Path, value: object) -> None:
    def spoil(item: dict[str, object]) -> None:
        properties = item["properties"]
        assert isinstance(properties, dict)
        for name in properties:
            if name not in ("processing:software", "declouder:source"):
                properties[name] = value
        item |= {"geometry": value, "bbox": value, "links": value}
        assets = item["assets"]
        assert isinstance(assets, dict)
        for asset in assets.values():
            asset |= {name: value for name in asset if name != "href"}

    folder = made_run_product(tmp_path, edit=spoil)
    page = Page(write_run_page(tmp_path))
    assert folder.name in page.text
    assert "1 scene of 2023-08-10: 1 done." in page.text  # from its name


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "https://example.com/x.png", "a\0b"])
def test_an_item_names_no_file_outside_its_folder(tmp_path: Path, name: str) -> None:
    folder = made_run_product(
        tmp_path, edit=lambda item: [asset.update(href=name) for asset in item["assets"].values()]
    )
    (view,) = survey(tmp_path).products
    assert (view.rasters, view.preview) == ({}, "")
    page = Page(write_run_page(tmp_path))
    assert "its item names no preview" in page.text
    assert page.data() == []
    assert folder.name in page.text


def test_markup_in_an_item_is_text(tmp_path: Path) -> None:
    def hostile(item: dict[str, object]) -> None:
        properties = item["properties"]
        assert isinstance(properties, dict)
        properties |= {
            "declouder:limit": HOSTILE,
            "declouder:mask_method": HOSTILE,
            "declouder:mask": {HOSTILE: 0.5},
            "declouder:confidence": {HOSTILE: 50.0},
            "declouder:seconds": {HOSTILE: 1.0, "total": 2.0},
            "declouder:references": [{"id": HOSTILE, "days": 1, "share": 0.5, "not_harmonised": [HOSTILE]}],
            "declouder:references_skipped": {HOSTILE: HOSTILE},
            "declouder:bands_left_out": {HOSTILE: HOSTILE},
            "declouder:settings": {"tile": HOSTILE, "bands": [HOSTILE], "tiles": HOSTILE, "tiles_restored": HOSTILE},
            "declouder:model": {"name": HOSTILE, "sha256": HOSTILE},
            "declouder:source": HOSTILE,
            "created": HOSTILE,
            "processing:software": {"declouder": f"0.{HOSTILE}"},
        }
        item["links"] = [{"rel": "derived_from", "href": HOSTILE}]

    made_run_product(tmp_path, edit=hostile)
    lines = [SceneLine(HOSTILE, HOSTILE, HOSTILE, HOSTILE)]
    page = Page(write_run_page(tmp_path, told(*lines, problems=(HOSTILE,), facts={HOSTILE: HOSTILE})))
    assert page.text.count(HOSTILE) > 15
    kinds = [tag for tag, _ in page.tags]
    assert kinds.count("script") == 3 + len(page.data())
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert [attributes for tag, attributes in page.tags if tag == "img" and attributes.get("src") == "x"] == []


def test_markup_in_the_names_of_folders_is_text(tmp_path: Path) -> None:
    name = '"><img src=x onerror=alert(1)>&amp;'
    output = tmp_path / "<b>out"
    folder = made_run_product(output, edit=lambda item: item.update(id=name))
    (folder / f"{folder.name}.json").rename(folder / f"{name}.json")
    folder.rename(output / name)
    strange = made_run_product(output, "S2B_33TWL_20230813_0_L2A", day=3)
    (strange / f"{strange.name}.json").unlink()
    strange.rename(output / f"half {name}")
    page = Page(write_run_page(output))
    assert "<b>out" in page.text
    assert page.text.count(name) >= 2
    assert [entry["id"] for entry in page.data()] == [name]
    assert [attributes["id"] for tag, attributes in page.tags if tag == "article"] == [f"product-{name}"]
    assert not any(attributes.get("src") == "x" for tag, attributes in page.tags if tag == "img")


def test_a_damaged_preview_is_told_and_made_up_for(tmp_path: Path) -> None:
    folder = made_run_product(tmp_path)
    (folder / "preview.png").write_bytes((folder / "preview.png").read_bytes()[:300])
    page = Page(write_run_page(tmp_path))
    assert "preview.png cannot be shown: it is damaged" in page.text
    assert '"before"' not in pictures_of(page)[0]
    assert len(page.data()) == 1  # the bands themselves give the picture after


def test_damaged_and_missing_rasters_are_told(tmp_path: Path) -> None:
    folder = made_run_product(tmp_path)
    (folder / "provenance.tif").write_bytes(b"II*\0")
    (folder / "confidence.tif").unlink()
    page = Page(write_run_page(tmp_path))
    assert "provenance.tif is missing or damaged" in page.text
    assert "confidence.tif is missing or damaged" in page.text
    (entry,) = page.data()
    assert entry["layers"] == ["cloudmask"]


def test_zarr_products_have_the_same_pictures(tmp_path: Path) -> None:
    cog, zarr = made_run_product(tmp_path / "cog"), made_run_product(tmp_path / "zarr", format_="zarr")
    pages = [Page(write_run_page(folder.parent)) for folder in (cog, zarr)]
    blobs = [pictures_of(page) for page in pages]
    assert len(blobs[0]) == 1
    assert blobs[0] == blobs[1]


def test_the_newest_product_of_a_scene_is_shown(tmp_path: Path) -> None:
    old, new = made_run_product(tmp_path), made_run_product(tmp_path, version=1)
    page = Page(write_run_page(tmp_path))
    assert [entry["id"] for entry in page.data()] == [new.name]
    assert f"Older products of the same scenes {old.name}" in page.text


def test_only_so_many_scenes_have_pictures(tmp_path: Path) -> None:
    folders = made_series(tmp_path, (0, 1, 2, 3))
    page = Page(write_run_page(tmp_path, pictured=2))
    assert [entry["id"] for entry in page.data()] == [folder.name for folder in folders[2:]]
    assert page.text.count("the page holds pictures of the newest scenes only") == 2
    assert all(folder.name in page.text for folder in folders)


def test_a_page_after_a_run_takes_over_what_has_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = made_series(tmp_path)
    write_run_page(tmp_path)
    before = Page(tmp_path / "report.html")
    # Files that only an own look would miss: what is taken over needs none of them.
    for folder in (first, second):
        (folder / "preview.png").unlink()
    made = []
    whole = runentries.view_pictures
    monkeypatch.setattr(runentries, "view_pictures", lambda view, longest: made.append(view.id) or whole(view, longest))
    new = made_run_product(tmp_path, "S2B_33TWL_20230820_0_L2A", day=10)
    edited(
        third,
        {
            "assets": json.loads((third / f"{third.name}.json").read_text())["assets"]
            | {"manifest": {"href": "x", "file:checksum": "other"}}
        },
    )
    lines = [SceneLine(second.name[:-11], "damaged", product=second.name)]
    after = Page(write_run_page(tmp_path, told(*lines), anew=False))
    # The damaged one, the one with other files, and the new one.
    assert set(made) == {second.name, third.name, new.name}
    assert pictures_of(after)[0] == pictures_of(before)[0]
    assert after.text.count("preview.png: no such file") == 1
    made.clear()
    write_run_page(tmp_path, anew=True)
    assert len(made) == 4


@pytest.mark.parametrize(
    "old",
    [
        "",
        "<html>",
        '<script type="application/json" id="kept">[{"id": 1}]</script>',
        '<script type="application/json" id="kept">{</script>',
    ],
)
def test_an_earlier_page_of_another_kind_is_no_help_and_no_harm(tmp_path: Path, old: str) -> None:
    made_run_product(tmp_path)
    fresh = pictures_of(Page(write_run_page(tmp_path)))
    (tmp_path / "report.html").write_text(old)
    assert pictures_of(Page(write_run_page(tmp_path, anew=False))) == fresh


def pictures_of(page: Page) -> list[str]:
    return re.findall(r'id="pictures-\d+">(.*?)</script>', page.html)


def test_a_product_of_few_bands_has_no_ndvi(tmp_path: Path) -> None:
    for day in (0, 5):
        made_run_product(
            tmp_path, f"S2A_33TWL_2023081{day}_0_L2A", day=day, layers=made_layers(bands=("B02", "B03", "B04"))
        )
    page = Page(write_run_page(tmp_path))
    assert "No mean NDVI: no product holds both B04 and B08" in page.text


def test_runs_that_end_at_once_leave_one_whole_page(tmp_path: Path) -> None:
    made_run_product(tmp_path)
    threads = [threading.Thread(target=write_run_page, args=(tmp_path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Page(tmp_path / "report.html").html.rstrip().endswith("</html>")
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


HOLDER = """
import os, signal, sys
from pathlib import Path
from pipeline.durable import turn
with turn(Path(sys.argv[1])):
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_a_process_that_was_stopped_while_it_wrote_the_page_blocks_no_later_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_series(tmp_path, (0,))
    lock = tmp_path / ".cache" / "report.lock"
    lock.parent.mkdir()
    monkeypatch.setattr(runpage, "PATIENCE", 0.2)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        # Without an end to our patience the page would be written when it is killed.
        late = threading.Timer(30, holder.kill)
        late.start()
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(
                WriteFailed, match=r"report\.html: another process is writing it, or was stopped"
            ) as told:
                write_run_page(tmp_path)
            assert "\n" not in str(told.value)
        finally:
            late.cancel()
            holder.kill()
    assert not (tmp_path / "report.html").exists()
    assert write_run_page(tmp_path).is_file()


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    made_run_product(tmp_path)
    (tmp_path / "report.html").mkdir()
    with pytest.raises(WriteFailed, match=r"report\.html: cannot be written: "):
        write_run_page(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_the_map_is_drawn_to_scale(tmp_path: Path) -> None:
    made_run_product(tmp_path)
    (view,) = survey(tmp_path).products
    assert view.outline is not None
    html = run_map([RunEntry(SceneLine(view.scene, "done"), view)], box(14, 45, 16, 47))
    area = re.search(r'class="area" d="M([^"]+)Z"', html)
    assert area is not None
    points = np.array([[float(value) for value in pair.split()] for pair in area[1].split("L")])
    width, height = np.ptp(points, axis=0)
    # Two degrees each way, at 46 degrees north.
    assert width / height == pytest.approx(np.cos(np.radians(46)), rel=0.02)
    assert 'href="#product-' in html


def test_the_map_goes_across_the_180th_meridian(tmp_path: Path) -> None:
    made_run_product(tmp_path, edit=lambda item: item.update(geometry=box(179, -18, 180, -17).__geo_interface__))
    (view,) = survey(tmp_path).products
    area = box(179, -18, 180, -16).union(box(-180, -18, -178, -16))
    html = run_map([RunEntry(SceneLine(view.scene, "done"), view)], area)
    numbers = [float(value) for path in re.findall(r' d="(M[^"]+)Z"', html) for value in re.findall(r"-?\d+\.\d", path)]
    assert min(numbers) >= 0
    assert max(numbers) <= 640
    assert "179° E" in html or "179° W" in html


@pytest.mark.parametrize(
    "skipped", [{"S2X": "too far away"}, [{"id": "S2X", "reason": "too far away"}]], ids=["mapping", "list"]
)
def test_why_other_dates_were_not_used_is_read_from_items_of_both_kinds(tmp_path: Path, skipped: object) -> None:
    made_run_product(tmp_path, edit=lambda item: item["properties"].update({"declouder:references_skipped": skipped}))
    assert "S2X: too far away" in Page(write_run_page(tmp_path)).text


@pytest.mark.slow
def test_five_real_dates_make_a_page_of_less_than_10_mb(shared_data: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for folder in sorted((shared_data / "stac" / "earth-search" / "sentinel-2-l2a").glob("S2*")):
        layers = {}
        for band in ("B02", "B03", "B04", "B08", "SCL"):
            with rasterio.open(folder / f"{band}.tif") as dataset:
                layers[band] = dataset.read(1)
        scl = layers.pop("SCL")
        cloudy, nodata = np.isin(scl, (3, 8, 9, 10)), layers["B04"] == 0
        layers["provenance"] = np.select([nodata, cloudy], [0, 3], 1).astype(np.uint8)
        layers["cloudmask"] = np.select([nodata, scl == 3, cloudy], [0, 4, 3], 1).astype(np.uint8)
        # Noise packs worse than any confidence of a network.
        layers["confidence"] = np.where(cloudy, rng.integers(0, 100, scl.shape), 100).astype(np.uint8)
        made_run_product(tmp_path, folder.name, layers=layers)
    page = write_run_page(tmp_path)
    assert len(Page(page).data()) == 5
    assert page.stat().st_size < 10_000_000
