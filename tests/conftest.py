"""Fixtures that more than one package's tests need."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A shell has what it starts in the background ignore ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real Sentinel-2 data, or a skip that says what is missing."""
    folder = Path(os.environ.get("DECLOUD_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip(f"real data not found at {folder}: set DECLOUD_TEST_DATA")
    return folder
