"""Publishing: complete or absent, whatever happens in between."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pystac
import pytest

from pipeline import storage_local
from pipeline.checksums import verify
from pipeline.errors import ReadFailed, WriteFailed
from pipeline.publish import is_published, publish, published_items, read_item, rebuild_catalog


def make_item(name: str) -> dict:
    box = [15.0, 45.0, 15.1, 45.1]
    ring = [[15.0, 45.0], [15.1, 45.0], [15.1, 45.1], [15.0, 45.1], [15.0, 45.0]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": box,
        "properties": {"datetime": "2023-08-10T09:58:11.590000Z"},
        "links": [
            {"rel": "root", "href": "../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../catalog.json", "type": "application/json"},
        ],
        "assets": {"blue": {"href": "./B02.tif", "roles": ["data"]}},
    }


def stage(output: Path, text: str = "pixels") -> Path:
    folder = output / ".staging" / f"{random.getrandbits(64):x}"
    (folder / "a.zarr" / "r10m").mkdir(parents=True)
    (folder / "B02.tif").write_text(text)
    (folder / "a.zarr" / "r10m" / "chunk").write_text(text * 2)
    return folder


def sha256sum(folder: Path) -> bool:
    """The manifest as coreutils read it: an oracle that knows nothing of ours."""
    return (
        subprocess.run(
            ["sha256sum", "--strict", "--quiet", "--check", "manifest.sha256"], cwd=folder, check=False
        ).returncode
        == 0
    )


def test_a_product_is_complete_and_checked_by_others(tmp_path):
    staged = stage(tmp_path)
    target = publish(staged, tmp_path, make_item("S2_A"))
    assert target == tmp_path / "S2_A"
    assert not staged.exists()
    assert sha256sum(target)
    listed = [line.split("  ")[1] for line in (target / "manifest.sha256").read_text().splitlines()]
    assert listed == ["B02.tif", "a.zarr/r10m/chunk"]
    item = pystac.Item.from_file(str(target / "S2_A.json"))
    assert item.assets["blue"].extra_fields["file:size"] == 6
    digest = subprocess.run(["sha256sum", target / "B02.tif"], capture_output=True, text=True, check=True).stdout[:64]
    assert item.assets["blue"].extra_fields["file:checksum"] == "1220" + digest
    assert "manifest" in item.assets
    assert is_published(tmp_path, "S2_A") is True
    assert is_published(tmp_path, "S2_B") is None


def test_the_output_is_a_static_catalogue_that_can_be_moved(tmp_path):
    output = tmp_path / "out"
    for name in ("S2_B", "S2_A", "S2_C"):
        publish(stage(output), output, make_item(name))
    (output / "runs").mkdir()
    (output / "broken").mkdir()
    (output / "broken" / "broken.json").write_text("{")
    before = (output / "catalog.json").read_bytes()
    rebuild_catalog(output)
    assert (output / "catalog.json").read_bytes() == before
    moved = tmp_path / "moved"
    output.rename(moved)
    catalog = pystac.Catalog.from_file(str(moved / "catalog.json"))
    assert catalog.validate() == ["https://schemas.stacspec.org/v1.1.0/catalog-spec/json-schema/catalog.json"]
    items = list(catalog.get_items())
    assert [item.id for item in items] == ["S2_A", "S2_B", "S2_C"] == published_items(moved)
    for item in items:
        assert item.get_root() is catalog
        assert Path(item.assets["blue"].get_absolute_href()) == moved / item.id / "B02.tif"
    hrefs = [link["href"] for link in json.loads(before)["links"]]
    assert all(href.startswith("./") for href in hrefs)


def test_a_folder_that_cannot_be_read_keeps_no_other_product_from_being_published(tmp_path, caplog):
    publish(stage(tmp_path), tmp_path, make_item("S2_A"))
    (tmp_path / "theirs" / "theirs.json").mkdir(parents=True)
    publish(stage(tmp_path), tmp_path, make_item("S2_B"))
    hrefs = [link["href"] for link in json.loads((tmp_path / "catalog.json").read_text())["links"]]
    assert [href for href in hrefs if href != "./catalog.json"] == ["./S2_A/S2_A.json", "./S2_B/S2_B.json"]
    assert "theirs: item cannot be read: Is a directory; the catalogue does not link it" in caplog.text
    # One that is linked, and cannot be read now, stays so.
    (tmp_path / "S2_A" / "S2_A.json").unlink()
    (tmp_path / "S2_A" / "S2_A.json").mkdir()
    publish(stage(tmp_path), tmp_path, make_item("S2_C"))
    assert "./S2_A/S2_A.json" in (tmp_path / "catalog.json").read_text()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "B02.tif").write_text("pixelz"), "B02.tif: content differs from the manifest"),
        (lambda f: (f / "B02.tif").unlink(), "B02.tif: missing, though it is asset blue"),
        (lambda f: (f / "a.zarr/r10m/chunk").write_text("x"), "a.zarr/r10m/chunk: content differs from the manifest"),
        (lambda f: (f / "a.zarr/r10m/chunk").unlink(), "a.zarr/r10m/chunk: missing, though the manifest lists it"),
        (lambda f: (f / "extra").write_text(""), "extra: not in the manifest"),
        (lambda f: (f / "manifest.sha256").unlink(), "manifest.sha256: missing"),
        (
            lambda f: (f / "manifest.sha256").write_text("what\n"),
            "manifest.sha256: line 'what' is not `checksum  name`",
        ),
    ],
)
def test_damage_is_found_and_named(tmp_path, damage, reason):
    target = publish(stage(tmp_path), tmp_path, make_item("S2_A"))
    item = read_item(tmp_path, "S2_A")
    assert verify(target, item) == []
    damage(target)
    assert reason in verify(target, item)
    assert is_published(tmp_path, "S2_A") is False


def test_a_second_publication_keeps_the_first_unless_asked(tmp_path):
    publish(stage(tmp_path, "one"), tmp_path, make_item("S2_A"))
    second = stage(tmp_path, "two")
    publish(second, tmp_path, make_item("S2_A"))
    assert not second.exists()
    assert (tmp_path / "S2_A" / "B02.tif").read_text() == "one"
    publish(stage(tmp_path, "two"), tmp_path, make_item("S2_A"), overwrite=True)
    assert (tmp_path / "S2_A" / "B02.tif").read_text() == "two"
    assert is_published(tmp_path, "S2_A") is True
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".lock", ".staging", "S2_A", "catalog.json"]


def test_a_leftover_is_replaced_but_a_users_folder_is_not(tmp_path):
    publish(stage(tmp_path, "one"), tmp_path, make_item("S2_A"))
    (tmp_path / "S2_A" / "S2_A.json").unlink()
    publish(stage(tmp_path, "two"), tmp_path, make_item("S2_A"))
    assert (tmp_path / "S2_A" / "B02.tif").read_text() == "two"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_text("x")
    with pytest.raises(WriteFailed, match="is no product: move it away"):
        publish(stage(tmp_path), tmp_path, make_item("mine"))
    assert (tmp_path / "mine" / "thesis.doc").exists()


@pytest.mark.parametrize("name", ["", ".hidden", "../out", "a/b"])
def test_an_item_id_must_name_a_folder(tmp_path, name):
    with pytest.raises(WriteFailed, match="cannot be the name of a folder"):
        publish(stage(tmp_path), tmp_path, make_item(name))


STEPS = ("rename", "replace", "fsync", "rmtree", "mkdir")


@pytest.mark.parametrize("overwrite", [False, True, "where two folders cannot change places in one step"])
@pytest.mark.parametrize("step", STEPS)
def test_a_failure_at_any_call_leaves_the_former_state(tmp_path, monkeypatch, step, overwrite):
    """Let the n-th call of each system function fail, for every n: the product is the old one, the new one, or absent."""
    if isinstance(overwrite, str):
        monkeypatch.setattr(storage_local, "exchange", lambda *_: False)
    owner, name = {
        "rename": (Path, "rename"),
        "replace": (Path, "replace"),
        "fsync": (os, "fsync"),
        "rmtree": (shutil, "rmtree"),
        "mkdir": (Path, "mkdir"),
    }[step]
    real = getattr(owner, name)
    for failing in range(40):
        output = tmp_path / str(failing)
        if overwrite:
            publish(stage(output, "old"), output, make_item("S2_A"))
        staged, calls = stage(output, "new"), iter(range(1000))

        def broken(*args, calls=calls, failing=failing, **kwargs):
            if next(calls) == failing and not kwargs.get("ignore_errors"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, broken)
            try:
                publish(staged, output, make_item("S2_A"), overwrite=bool(overwrite))
                failed, message = False, ""
            except WriteFailed as error:
                failed, message = True, str(error)
        assert not failed or ("no space left" in message and "\n" not in message)
        assert not staged.exists()
        state = is_published(output, "S2_A")
        if state is None:
            assert failed
            assert not overwrite
        else:
            assert state is True
            assert (output / "S2_A" / "B02.tif").read_text() in (("old", "new") if overwrite else ("new",))
        # Whatever happened, the next run gets there.
        publish(stage(output, "new"), output, make_item("S2_A"), overwrite=True)
        assert is_published(output, "S2_A") is True
        assert [item.id for item in pystac.Catalog.from_file(str(output / "catalog.json")).get_items()] == ["S2_A"]
        if next(calls) <= failing:
            assert not failed
            break
    else:
        pytest.fail("never got through")
    # A product that is there changes places in one step, which is no rename of theirs.
    assert failing > 0 or step in ("rmtree", "mkdir") or (step == "rename" and overwrite is True)


FORKING = """
import os, sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from tests.pipeline.test_publish import make_item, publish, stage
output = Path(sys.argv[1])
for start in sys.stdin:
    child = os.fork()
    if child == 0:
        for round in range(int(start), 10_000):
            publish(stage(output, f"round {round}" * 1000), output, make_item(f"S2_{round % 3}"), overwrite=True)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


def test_kill_9_at_any_moment_leaves_products_complete_or_absent(tmp_path):
    """A process without threads forks one publisher after another, so that only the first pays for its imports."""
    root = Path(__file__).resolve().parents[2]
    rng = np.random.default_rng(4)
    seen: set[str] = set()
    command = [sys.executable, "-c", FORKING, str(tmp_path), str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        for start in range(12):
            print(start, file=process.stdin)
            child = int(process.stdout.readline())
            time.sleep(rng.uniform(0.0, 0.3))
            os.kill(child, signal.SIGKILL)
            assert process.stdout.readline() == "gone\n"
            seen.update(published_items(tmp_path))
            for name in published_items(tmp_path):
                assert is_published(tmp_path, name) is True
                assert sha256sum(tmp_path / name)
            if (tmp_path / "catalog.json").exists():
                json.loads((tmp_path / "catalog.json").read_text())
        process.stdin.close()
    # Once a product was there it never gets lost: what was moved aside comes back with the next publication.
    publish(stage(tmp_path), tmp_path, make_item("S2_9"))
    assert {*seen, "S2_9"} <= set(published_items(tmp_path)) <= {"S2_0", "S2_1", "S2_2", "S2_9"}
    assert seen
    assert not (tmp_path / ".replaced").exists()


KILLED_WHILE_REMOVING = """
import os, shutil, signal, sys
sys.path[:0] = sys.argv[4:]
from pathlib import Path
from pipeline import storage_local
from tests.pipeline.test_publish import make_item, publish, stage
def removed(folder, *_, **__):
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    for file in sorted(files, key=lambda file: (file.name != sys.argv[2], file))[:int(sys.argv[3])]:
        file.unlink()
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[3] != "0":
    shutil.rmtree = removed
else:
    storage_local._write_json = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
storage_local.exchange = lambda *_: False
output = Path(sys.argv[1])
publish(stage(output), output, make_item("S2_A"))
"""


@pytest.mark.parametrize("first", ["manifest.sha256", "chunk"])
def test_a_publication_cut_short_is_replaced_though_its_removal_is_cut_short_too(tmp_path, first):
    """Killed before the item was written; then while what was there is removed, some files of it being gone."""
    root = Path(__file__).resolve().parents[2]
    for files in (1, 3):
        output = tmp_path / str(files)
        for gone in (0, files):
            command = [sys.executable, "-c", KILLED_WHILE_REMOVING, str(output), first, str(gone), str(root)]
            assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
            assert is_published(output, "S2_A") is None
        publish(stage(output), output, make_item("S2_A"))
        assert is_published(output, "S2_A") is True
        assert sha256sum(output / "S2_A")


@pytest.mark.parametrize("exchanging", [True, False])
def test_a_publication_cut_short_is_replaced(tmp_path, monkeypatch, exchanging):
    if not exchanging:
        monkeypatch.setattr(storage_local, "exchange", lambda *_: False)
    target = publish(stage(tmp_path, "old"), tmp_path, make_item("S2_A"))
    (target / "S2_A.json").unlink()
    publish(stage(tmp_path, "new"), tmp_path, make_item("S2_A"))
    assert is_published(tmp_path, "S2_A") is True
    assert (target / "B02.tif").read_text() == "new"
    assert not list((tmp_path / ".staging").iterdir())


def test_concurrent_publications_all_arrive(tmp_path):
    def one(number: int) -> None:
        publish(stage(tmp_path, f"{number % 6}"), tmp_path, make_item(f"S2_{number % 6}"), overwrite=number > 8)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(18)))
    assert published_items(tmp_path) == [f"S2_{n}" for n in range(6)]
    assert all(is_published(tmp_path, f"S2_{n}") for n in range(6))
    catalog = pystac.Catalog.from_file(str(tmp_path / "catalog.json"))
    assert len(list(catalog.get_items())) == 6


def test_a_rerun_reads_no_file_that_did_not_change(tmp_path, monkeypatch):
    staged = stage(tmp_path)
    past = time.time() - 60
    for path in staged.rglob("*"):
        os.utime(path, (past, past))
    cache = tmp_path / ".cache"
    target = publish(staged, tmp_path, make_item("S2_A"), cache=cache)
    os.utime(target / "manifest.sha256", (past, past))
    assert is_published(tmp_path, "S2_A", cache=cache) is True

    def forbidden(path: Path) -> str:
        raise AssertionError(f"{path} was read again")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.checksums.sha256_of", forbidden)
        assert is_published(tmp_path, "S2_A", cache=cache) is True
    (target / "B02.tif").write_text("pixelz")
    assert is_published(tmp_path, "S2_A", cache=cache) is False


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_line(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    staged = stage(tmp_path)
    output.chmod(0o500)
    with pytest.raises(WriteFailed, match="no permission to write: choose another --output"):
        publish(staged, output, make_item("S2_A"))


def test_an_output_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteFailed, match="Not a directory") as caught:
        publish(stage(tmp_path), tmp_path / "file" / "out", make_item("S2_A"))
    assert "\n" not in str(caught.value)
    assert caught.value.transient


def test_an_unreadable_item_is_not_taken_for_an_absent_one(tmp_path, monkeypatch):
    publish(stage(tmp_path), tmp_path, make_item("S2_A"))

    def denied(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(ReadFailed, match="item cannot be read: Permission denied"):
        read_item(tmp_path, "S2_A")


def test_nothing_is_published_in_a_folder_that_is_not_there(tmp_path):
    assert published_items(tmp_path / "nowhere") == []
