"""What a page takes over from the one before, pages written at once, and buckets: one page costs what is new, and is never half."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from pipeline import items, runentries
from pipeline.address import output_path
from pipeline.errors import ReadFailed
from pipeline.productview import product_view
from pipeline.runentries import NOT_ASKED, run_entries
from pipeline.runkept import kept_in
from pipeline.runpage import RunNotes, write_run_page
from pipeline.storage_object import ObjectStorage
from pipeline.survey import Survey
from tests.pipeline.conftest import TestBucket, bucket, s3_endpoint, s3_environment  # noqa: F401 - fixtures
from tests.pipeline.made_run import made_run_product, made_series

MEANS = re.compile(r"<title>\d{4}-\d{2}-\d{2}: [\d.]+\s%[^<]*made up[^<]*</title>")


class Looks:
    """Names of the products of which pictures, or the mean NDVI, were made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pictures: list[str] = []
        self.means: list[str] = []
        real_pictures, real_means = runentries.view_pictures, runentries.vegetation
        monkeypatch.setattr(
            runentries,
            "view_pictures",
            lambda view, longest: self.pictures.append(view.id) or real_pictures(view, longest),
        )
        monkeypatch.setattr(runentries, "vegetation", lambda view: self.means.append(view.id) or real_means(view))

    def since(self) -> tuple[set[str], set[str]]:
        """Both since the last time."""
        found = set(self.pictures), set(self.means)
        self.pictures.clear()
        self.means.clear()
        return found


def test_means_of_products_without_pictures_are_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [folder.name for folder in made_series(tmp_path, (0, 1, 2, 3, 4))]
    looks = Looks(monkeypatch)
    first = MEANS.findall(write_run_page(tmp_path, pictured=2).read_text())
    assert len(first) > 0
    assert looks.since() == (set(names[3:]), set(names))
    again = write_run_page(tmp_path, pictured=2, anew=False)
    assert looks.since() == (set(), set())
    assert MEANS.findall(again.read_text()) == first
    # A new one takes the place of the oldest that had pictures: nothing else is read.
    new = made_run_product(tmp_path, "S2B_33TWL_20230820_0_L2A", day=10).name
    write_run_page(tmp_path, pictured=2, anew=False)
    assert looks.since() == ({new}, {new})
    # More pictures are asked for: of those that had none they are made, and their means are known.
    write_run_page(tmp_path, pictured=4, anew=False)
    assert looks.since() == ({names[2], names[3]}, set())


def test_what_another_version_has_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {folder.name for folder in made_series(tmp_path, (0, 1))}
    write_run_page(tmp_path, pictured=1)
    looks = Looks(monkeypatch)
    monkeypatch.setattr("pipeline.runkept.software_version", lambda: "0.0.0")
    write_run_page(tmp_path, pictured=1, anew=False)
    assert looks.since()[1] == names


def test_what_could_not_be_shown_in_full_is_looked_at_again(tmp_path: Path) -> None:
    whole, broken = made_series(tmp_path, (0, 1))
    (broken / "confidence.tif").unlink()
    assert set(kept_in(write_run_page(tmp_path))) == {whole.name}


PROGRAM = """
import sys
from pathlib import Path
from pipeline.runpage import RunNotes, write_run_page

def notes(found):
    print(len(found.products), flush=True)
    sys.stdin.readline()
    return RunNotes()

write_run_page(Path(sys.argv[1]), notes)
"""


@pytest.fixture
def slow_page(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which has seen one product and is in the middle of its page; a line to it lets it go on."""
    made_run_product(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "1\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("how", ["goes on", "is killed"])
def test_a_page_waits_for_the_one_that_is_being_written(
    slow_page: subprocess.Popen[str], tmp_path: Path, how: str
) -> None:
    new = made_run_product(tmp_path, "S2B_33TWL_20230813_0_L2A", day=3)
    seen: list[int] = []

    def notes(found: Survey) -> RunNotes:
        seen.append(len(found.products))
        return RunNotes()

    ours = threading.Thread(target=write_run_page, args=(tmp_path, notes))
    ours.start()
    ours.join(0.5)
    assert seen == []
    if how == "goes on":
        assert slow_page.stdin is not None
        slow_page.stdin.write("\n")
        slow_page.stdin.flush()
        assert slow_page.wait(60) == 0
    else:
        slow_page.kill()
    ours.join(60)
    assert seen == [2]
    # The page of the one that had seen less does not come last.
    text = (tmp_path / "report.html").read_text()
    assert new.name in text
    assert text.rstrip().endswith("</html>")
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


HALF = """
import os, sys, signal
from pathlib import Path
import pipeline.parts

os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
pipeline.parts.write_whole(Path(sys.argv[1]) / "report.html", b"<html>")
"""


def test_half_a_page_of_a_killed_process_does_not_stay(tmp_path: Path) -> None:
    folder = made_run_product(tmp_path)
    whole = write_run_page(tmp_path).read_bytes()
    assert subprocess.run([sys.executable, "-c", HALF, str(tmp_path)]).returncode == -signal.SIGKILL
    assert len([path for path in tmp_path.iterdir() if path.name.endswith(".part")]) == 1
    assert (tmp_path / "report.html").read_bytes() == whole
    assert folder.name in write_run_page(tmp_path).read_text()
    assert [path for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_who_may_read_the_page_is_the_users_own_choice(tmp_path: Path, mask: int) -> None:
    made_run_product(tmp_path)
    before = os.umask(mask)
    try:
        page = write_run_page(tmp_path)
    finally:
        os.umask(before)
    assert page.stat().st_mode & 0o777 == 0o666 & ~mask


def test_zarr_products_in_a_bucket_are_taken_over_like_others(
    bucket: TestBucket,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders = made_series(tmp_path, (0, 3), format_="zarr")
    for folder in folders:
        bucket.put_tree(folder, f"out/{folder.name}")
    output = output_path(f"{bucket.url}/out")
    page = write_run_page(output).read_text()
    # Once for the page, not once for each layer of each product.
    assert page.count('class="warning"') == 1 + page.count('<noscript><p class="warning"')
    assert "Layers and NDVI of Zarr products in a bucket are not shown" in page
    assert "No mean NDVI: the bands are in Zarr stores of a bucket" in page
    assert page.count('"before":"data:image/webp') == 2
    looks = Looks(monkeypatch)
    write_run_page(output, anew=False)
    assert looks.since() == (set(), set())
    assert (output / "report.html").read_bytes() == bucket.get("out/report.html")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """URL of a server of `tmp_path` that can be told to misbehave, as a process of its own."""
    program = Path(__file__).with_name("flaky_server.py")
    with subprocess.Popen(
        [sys.executable, program, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@pytest.mark.usefixtures("s3_environment")
@pytest.mark.parametrize("silent", ["preview.png", "B08.tif"])
def test_a_bucket_that_does_not_answer_is_asked_once(
    served: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    silent: str,
) -> None:
    folders = made_series(tmp_path / "bucket", (0, 1, 2, 3))
    output = output_path("s3://bucket")
    found = [
        product_view(output / folder.name, json.loads((folder / f"{folder.name}.json").read_text()))
        for folder in folders
    ]
    monkeypatch.setenv("AWS_ENDPOINT_URL", served)
    fault = {"mode": "status", "code": 503, "match": silent}
    urlopen(f"{served}/.faults", json.dumps(fault).encode()).close()  # noqa: S310 - loopback
    entries = run_entries([], Survey(tuple(found)), {}, threads=1)
    log = urlopen(f"{served}/.log").read().decode()  # noqa: S310 - loopback
    assert {folder.name for folder in folders if folder.name in log} == {folders[0].name}
    assert silent in entries[0].problems[0]
    assert [entry.problems for entry in entries[1:]] == [(NOT_ASKED,)] * 3
    # What came before the bucket fell silent is shown.
    assert bool(entries[0].pictures.after) == (silent == "B08.tif")


@pytest.mark.usefixtures("s3_environment")
@pytest.mark.parametrize("missing", ["preview.png", "provenance.tif"])
def test_what_is_missing_in_a_bucket_costs_no_other_product(
    served: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
) -> None:
    folders = made_series(tmp_path / "bucket", (0, 1))
    (folders[0] / missing).unlink()
    output = output_path("s3://bucket")
    found = [
        product_view(output / folder.name, json.loads((folder / f"{folder.name}.json").read_text()))
        for folder in folders
    ]
    monkeypatch.setenv("AWS_ENDPOINT_URL", served)
    first, second = run_entries([], Survey(tuple(found)), {}, threads=1)
    assert all(missing in problem for problem in first.problems)
    assert bool(first.pictures.before) == (missing != "preview.png")
    assert first.pictures.after
    assert (second.problems, bool(second.pictures.before), len(second.pictures.layers)) == ((), True, 3)


@pytest.mark.parametrize("answers", ["never", "at times"])
def test_items_that_a_bucket_does_not_give_are_asked_for_with_patience_that_ends(
    monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    asked: list[str] = []

    class Store(ObjectStorage):
        def names(self) -> list[str]:
            return [f"product-{number}" for number in range(100)]

        def read_item(self, name: str) -> dict[str, object] | None:
            asked.append(name)
            if answers == "at times" and int(name.rpartition("-")[2]) % 3 == 2:
                return {"id": name}
            raise ReadFailed(f"{name}: no answer")

    output = output_path("s3://bucket")
    monkeypatch.setattr(items, "storage_of", lambda output: Store("s3://bucket", output))
    if answers == "never":
        with pytest.raises(ReadFailed, match="product-2: no answer"):
            items.read_items(output)
        # Those that were asked for beside them, and no others.
        assert len(asked) <= 3 + 2 * items._THREADS
    else:
        found = items.read_items(output)
        assert list(found.complete) == [f"product-{number}" for number in range(2, 100, 3)]
        assert len(found.unread) == 67


def test_items_of_a_bucket_are_asked_for_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody is answered before eight have asked: one after another they would wait in vain.
    together = threading.Barrier(8)

    class Store(ObjectStorage):
        def names(self) -> list[str]:
            return [f"product-{number:02d}" for number in range(16)]

        def read_item(self, name: str) -> dict[str, object] | None:
            try:
                together.wait(20)
            except threading.BrokenBarrierError:
                raise ReadFailed(f"{name}: asked for alone") from None
            return {"id": name}

    output = output_path("s3://bucket")
    monkeypatch.setattr(items, "storage_of", lambda output: Store("s3://bucket", output))
    found = items.read_items(output)
    assert (list(found.complete), found.unread) == ([f"product-{number:02d}" for number in range(16)], {})
