"""The targets of `tests.hostile.fuzz`, for some thousand inputs each time; for hours: by hand."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

RUNS = int(os.environ.get("DECLOUD_FUZZ_RUNS", "4000"))


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this machine")
def test_parsers_under_a_fuzzer(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.hostile.fuzz", "all", f"-runs={RUNS}", "-seed=1", "-rss_limit_mb=4096"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (count,) = re.findall(r"^Done (\d+) runs", done.stderr, re.MULTILINE)
    assert int(count) >= RUNS
    assert not list(tmp_path.glob("crash-*"))
