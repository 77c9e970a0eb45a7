"""What processes that are gone left behind: known as theirs, and removed; what lives is left alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from pipeline.abandoned import remove_abandoned
from pipeline.folders import CACHE, RUNS, STAGING
from pipeline.journal import Journal, latest
from pipeline.parts import part_of, remove_parts
from pipeline.processes import alive, started
from tests.conftest import ROOT

WRITES = """
import os, sys
from pathlib import Path
from pipeline.parts import part_of
part_of(Path(sys.argv[1])).write_text("half")
os.kill(os.getpid(), 9)
"""


def killed_part(path):
    """A part that its process was killed over."""
    subprocess.run([sys.executable, "-c", WRITES, str(path)], check=False)
    (part,) = path.parent.glob(f".{path.name}.*.part")
    return part


def test_a_process_is_known_by_its_number_and_its_beginning():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        began = started(process.pid)
        assert began >= started() > 0
        assert alive(process.pid)
        assert alive(process.pid, began)
        assert not alive(process.pid, began - 1), "another process had this number before"
        process.kill()
        deadline = time.monotonic() + 20
        # Nobody has asked yet how it ended: its number is still taken.
        while alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, 0)
        assert not alive(process.pid)
    assert started(process.pid) == 0


def test_a_scene_of_a_process_whose_number_was_given_again_is_not_running(tmp_path):
    journal = Journal(tmp_path, "run")
    journal.write("S2_A", "running")
    assert latest(tmp_path)["S2_A"].state == "running"
    text = journal.path.read_text()
    journal.path.write_text(text.replace(f'"began": {started()}', f'"began": {started() - 5}'))
    assert latest(tmp_path)["S2_A"].state == "interrupted"
    # Lines of older versions do not know when their process began.
    journal.path.write_text(text.replace(f', "began": {started()}', ""))
    assert latest(tmp_path)["S2_A"].state == "running"


def test_lines_count_in_their_order_whatever_the_clock_said(tmp_path):
    def said(run, *lines):
        journal = Journal(tmp_path, run)
        for moment, state in lines:
            journal.write("S2_A", state)
            written = journal.path.read_text().splitlines()
            entry = written[-1]
            start = entry.index('"time": "') + len('"time": "')
            written[-1] = entry[:start] + moment + entry[entry.index('"', start) :]
            journal.path.write_text("\n".join(written) + "\n")

    said("20230801T1", ("2023-08-01T10:00:00", "running"), ("2023-07-31T10:00:05", "done"))
    assert latest(tmp_path)["S2_A"].state == "done", "the clock went back during the run"
    said("20230802T1", ("2023-08-02T10:00:00", "running"), ("2999-01-01T00:00:00", "failed"))
    assert latest(tmp_path)["S2_A"].state == "failed"
    said("20230803T1", ("2023-08-03T10:00:00", "done"))
    assert latest(tmp_path)["S2_A"].state == "done", "a line from the future does not hold for ever"


def test_parts_of_those_who_are_gone_are_removed_and_others_are_not(tmp_path):
    runs, cache = tmp_path / RUNS, tmp_path / CACHE
    for folder in (runs, cache):
        folder.mkdir()
    gone = [killed_part(runs / "a.json"), killed_part(cache / "b\nc.json")]
    mine, users = part_of(runs / "d.json"), runs / ".notes.part"
    theirs = runs / f".e.json.{'0' * 8}-{os.getpid()}-1.part"
    old = runs / f".f.json.{'0' * 8}-{os.getpid()}-1.part"
    for path in (mine, users, theirs, old):
        path.write_text("half")
    os.utime(old, (time.time() - 10 * 86400,) * 2)
    remove_abandoned(tmp_path)
    assert [path.exists() for path in (*gone, mine, users, theirs, old)] == [False, False, True, True, True, False]
    remove_parts(tmp_path / "nowhere")


def test_blocks_of_a_product_that_is_there_are_not_kept(tmp_path):
    for name in ("S2_A_0123456789", "S2_B_0123456789"):
        (tmp_path / STAGING / name / "blocks").mkdir(parents=True)
    product = tmp_path / "S2_A_0123456789"
    item_of(product)
    assert remove_abandoned(tmp_path) == [product.name]
    assert [path.name for path in (tmp_path / STAGING).iterdir()] == ["S2_B_0123456789"]


def test_blocks_of_a_product_that_was_being_made_once_more_are_kept(tmp_path):
    product, staged = tmp_path / "S2_A_0123456789", tmp_path / STAGING / "S2_A_0123456789"
    item_of(product)
    (staged / "blocks").mkdir(parents=True)
    block = staged / "blocks" / "0_8_0_8.npz"
    block.write_bytes(b"fresh")
    assert remove_abandoned(tmp_path) == []
    assert block.exists()
    # The manifest is written after the item was made up, and moving the product changes its folder: blocks alone count.
    item_of(product)
    (staged / "product").mkdir()
    (staged / "product" / "manifest.sha256").write_text("later")
    assert remove_abandoned(tmp_path) == [product.name]
    assert not staged.exists()
    # Without a time nothing is known of what came first.
    item_of(product, created="yesterday")
    block.parent.mkdir(parents=True)
    assert remove_abandoned(tmp_path) == []


def item_of(product, created=""):
    product.mkdir(exist_ok=True)
    properties = {"created": created or datetime.now(UTC).isoformat()}
    item = {"type": "Feature", "id": product.name, "assets": {}, "properties": properties}
    (product / f"{product.name}.json").write_text(json.dumps(item))


@pytest.mark.parametrize("number", [0, -1, 2**31, 9_999_999_999, 2**63, 2**80])
def test_a_number_that_no_process_has_is_not_alive(number):
    assert not alive(number)


def test_a_part_of_a_number_that_no_process_has_is_removed(tmp_path):
    (tmp_path / RUNS).mkdir()
    mine = part_of(tmp_path / RUNS / "x.json")
    odd = mine.with_name(mine.name.replace(f"-{os.getpid()}-", "-9999999999-"))
    odd.write_text("half")
    remove_abandoned(tmp_path)
    assert not odd.exists()


def test_a_part_of_another_container_with_the_same_name_stays(tmp_path):
    """Its numbers of processes are others: ours mean nothing there."""
    mine = part_of(tmp_path / "x.json")
    mine.write_text("half")
    program = "import sys, pathlib; from pipeline.parts import remove_parts; remove_parts(pathlib.Path(sys.argv[1]))"
    apart = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a namespace of processes")
    subprocess.run([*apart, sys.executable, "-c", program, str(tmp_path)], check=True, cwd=ROOT)
    assert mine.exists()
