"""Files that a scene is made from are known again, also where a mount numbers them anew; what was made from others is not kept."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from pipeline import originals
from pipeline.errors import ReadFailed
from pipeline.originals import Originals
from pipeline.runkey import run_key
from pipeline.settings import DecloudSettings

from .made import made_item

SETTINGS = DecloudSettings(checkpoint="identity")


@pytest.fixture
def item(tmp_path):
    return made_item(tmp_path / "scene", {"B02": np.arange(900, dtype=np.uint16).reshape(30, 30)})


def seen(item, computed=None):
    def key():
        if computed is not None:
            computed.append(1)
        return run_key(item, SETTINGS)

    return Originals(item, (), SETTINGS, key)


def put_anew(path, content):
    """Another inode, the same time of modification."""
    before = path.stat()
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))
    beside.replace(path)
    assert path.stat().st_ino != before.st_ino


def test_another_inode_alone_is_no_other_file(item, tmp_path):
    path, computed = tmp_path / "scene" / "B02.tif", []
    watched = seen(item, computed)
    for _ in range(3):
        put_anew(path, path.read_bytes())
        watched.check()
    assert len(computed) == 2, "where the number changes by itself, files are read again once and not at each look"


@pytest.mark.parametrize("change", ["content", "size", "time", "gone"])
def test_what_is_another_file_is_refused(item, tmp_path, change):
    path = tmp_path / "scene" / "B02.tif"
    watched, content = seen(item), bytearray(path.read_bytes())
    if change == "content":
        content[-1] ^= 1
        put_anew(path, bytes(content))
    elif change == "size":
        put_anew(path, bytes(content) + b"x")
    elif change == "time":
        os.utime(path, ns=(0, 0))
    else:
        path.unlink()
    with pytest.raises(ReadFailed, match=r"B02\.tif: was replaced while the scene was being made"):
        watched.check()
    with pytest.raises(ReadFailed, match=r"B02\.tif"):
        watched.before(tmp_path / "block")


def test_files_on_a_slow_mount_are_not_looked_at_for_each_block(item, tmp_path, monkeypatch):
    now, looks = [0.0], []
    monkeypatch.setattr(originals.time, "monotonic", lambda: now[0])
    real = originals._identity

    def slow(path):
        now[0] += 0.1
        looks.append(path)
        return real(path)

    watched = seen(item)
    files = len(watched._seen)
    monkeypatch.setattr(originals, "_identity", slow)
    for _ in range(100):
        watched.before(tmp_path / "block")
        now[0] += 0.1
    spent = 0.1 * len(looks)
    assert len(looks) >= 2 * files
    assert spent <= 0.1 * now[0]
    before = len(looks)
    watched.check()
    assert len(looks) == before + files, "before publishing always"


def test_what_was_kept_since_the_last_look_goes_with_files_that_were_replaced(item, tmp_path, monkeypatch):
    path, kept, unsure = tmp_path / "scene" / "B02.tif", tmp_path / "kept", tmp_path / "unsure"
    monkeypatch.setattr(originals.time, "monotonic", lambda: 1.0)
    for replaced in (False, True):
        watched = seen(item)
        watched.before(kept)  # looks
        watched._next = 2.0
        watched.before(unsure)
        kept.touch()
        unsure.touch()
        if replaced:
            shutil.copy(path, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
        watched.settle()
        assert kept.exists()
        assert unsure.exists() == (not replaced)
