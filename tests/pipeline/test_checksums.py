"""Checksums: those of coreutils, remembered only while the file is the same."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import checksums
from pipeline.checksums import DigestCache, digests, multihash, product_files, seal, sha256_of, source_digest, verify
from pipeline.errors import ReadFailed


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file that was written a minute ago."""
    path = tmp_path / "B02.tif"
    path.write_bytes(b"pixels" * 1000)
    age(path)
    return path


def age(path: Path, seconds: float = 60) -> None:
    past = time.time() - seconds
    os.utime(path, (past, past))


@pytest.fixture
def reads(monkeypatch) -> list[Path]:
    """Every file whose content is read."""
    read: list[Path] = []

    def noted(path: Path) -> str:
        read.append(path)
        return sha256_of(path)

    monkeypatch.setattr(checksums, "sha256_of", noted)
    return read


def test_digest_is_that_of_sha256sum(source):
    out = subprocess.run(["sha256sum", source], capture_output=True, text=True, check=True).stdout
    assert sha256_of(source) == out[:64]
    assert multihash(out[:64]) == "1220" + out[:64]


def test_many_files_keep_their_order(tmp_path):
    paths = []
    for number in range(20):
        paths.append(tmp_path / f"{number}")
        paths[-1].write_text(str(number) * (5000 * (20 - number)))
    found = digests(paths, threads=4)
    assert list(found) == paths
    assert found == {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.mark.parametrize("path", ["nowhere.tif", "."])
def test_what_cannot_be_read_is_one_line(tmp_path, path):
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(ReadFailed, match="cannot be read") as caught:
            source_digest(tmp_path / path, cache)
        assert "\n" not in str(caught.value)


def test_an_unchanged_file_is_read_once(source, tmp_path, reads):
    first = source_digest(source, tmp_path / "cache")
    assert source_digest(source, tmp_path / "cache") == first == hashlib.sha256(source.read_bytes()).hexdigest()
    assert reads == [source]


def test_a_changed_file_is_read_again(source, tmp_path, reads):
    cache = tmp_path / "cache"
    source_digest(source, cache)
    changes = {
        "content and time": lambda: (source.write_bytes(b"PIXELS" * 1000), age(source, 30)),
        "size only": lambda: (os.truncate(source, 10), os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))),
        "another file of the same size and time": lambda: (
            (other := source.with_name("other")).write_bytes(b"x" * status.st_size),
            os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns)),
            other.rename(source),
        ),
    }
    for what, change in changes.items():
        status = source.stat()
        change()
        assert source_digest(source, cache) == hashlib.sha256(source.read_bytes()).hexdigest(), what
    assert len(reads) == 4


def test_a_file_that_was_just_written_is_not_remembered(source, tmp_path, reads):
    """Within one tick of the clock it could change again and look the same."""
    source.write_bytes(b"new")
    source_digest(source, tmp_path / "cache")
    source_digest(source, tmp_path / "cache")
    assert len(reads) == 2


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"path": 3}',
        json.dumps({"path": "/elsewhere", "identity": [], "sha256": "0" * 64}).encode(),
        json.dumps({"path": "{path}", "identity": [1, 2, 3], "sha256": "0" * 64}).encode(),
        json.dumps({"path": "{path}", "identity": None, "sha256": "0" * 64}).encode(),
        json.dumps({"path": "{path}", "identity": "{identity}", "sha256": "guess"}).encode(),
        json.dumps({"path": "{path}", "identity": "{identity}", "sha256": 5}).encode(),
    ],
)
def test_a_damaged_entry_is_not_believed(source, tmp_path, damage):
    cache = tmp_path / "cache"
    right = source_digest(source, cache)
    (entry,) = cache.iterdir()
    identity = json.loads(entry.read_text())["identity"]
    text = damage.replace(b"{path}", str(source).encode()).replace(b'"{identity}"', json.dumps(identity).encode())
    entry.write_bytes(text)
    assert source_digest(source, cache) == right
    assert json.loads(entry.read_text())["sha256"] == right


def test_a_cache_that_cannot_be_written_costs_only_time(source, tmp_path, reads):
    (tmp_path / "file").write_text("")
    for _ in range(2):
        assert source_digest(source, tmp_path / "file" / "cache") == hashlib.sha256(source.read_bytes()).hexdigest()
    assert len(reads) == 2


def test_many_writers_of_one_cache(source, tmp_path):
    cache = DigestCache(tmp_path / "cache")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(cache.digest, [source] * 64))
    assert set(found) == {hashlib.sha256(source.read_bytes()).hexdigest()}
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_manifest_covers_everything_but_itself_and_the_item(tmp_path):
    folder = tmp_path / "product"
    (folder / "a.zarr" / "c").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name in ("b.tif", "B.tif", "a.zarr/c/0", "x y.png", "item.json", ".hidden/x", ".part"):
        (folder / name).write_text(name)
    assets = {
        "blue": {"href": "./b.tif"},
        "picture": {"href": "x%20y.png"},
        "zarr": {"href": "./a.zarr"},
        "far": {"href": "https://example.com/b.tif"},
        "out": {"href": "../b.tif"},
    }
    item = {"id": "item", "assets": assets}
    sealed, listed = seal(folder, item)
    names = [line[66:] for line in (folder / "manifest.sha256").read_text().splitlines()]
    assert names == sorted(names) == ["B.tif", "a.zarr/c/0", "b.tif", "x y.png"]
    assert set(listed) == {*names, "manifest.sha256"}
    assert (
        subprocess.run(["sha256sum", "-c", "--strict", "--quiet", "manifest.sha256"], cwd=folder, check=True).returncode
        == 0
    )
    assert item["assets"] is assets
    assert "manifest" not in assets
    with_size = {key for key, asset in sealed["assets"].items() if "file:size" in asset}
    assert with_size == {"blue", "picture", "manifest"}
    assert sealed["assets"]["blue"]["file:checksum"] == multihash(hashlib.sha256(b"b.tif").hexdigest())
    assert verify(folder, sealed) == []
    assert verify(folder, item)[0].startswith("b.tif: content differs from the checksum in the item")
    assert [path.name for path in product_files(folder, "other")] == ["B.tif", "0", "b.tif", "item.json", "x y.png"]
