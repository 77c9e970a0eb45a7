"""Two runs never hold one product."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from pipeline.errors import WriteFailed
from pipeline.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from pipeline.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_told_and_a_killed_holder_lets_go(tmp_path):
    path = tmp_path / ".staging" / "scene_1.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WriteFailed, match="scene_1: another run is working on it"), locked(path):
            pass
        holder.kill()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            with locked(path):
                break
        except WriteFailed:
            time.sleep(0.05)
    else:
        pytest.fail("the lock of a dead process was not freed")
    assert not path.exists()


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteFailed, match=r"not writable .*--output"), locked(tmp_path / "file" / "x.lock"):
        pass
