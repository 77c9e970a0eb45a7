"""Staged blocks come back whole or not at all."""

from __future__ import annotations

import resource
import signal
from dataclasses import replace

import numpy as np
import pytest

from pipeline.block import BlockResult
from pipeline.errors import WriteFailed
from pipeline.staging import Staging

ROWS, COLS = slice(0, 12), slice(6, 18)


def result() -> BlockResult:
    bands = {"B02": np.arange(144, dtype=np.uint16).reshape(12, 12), "B09": np.full((2, 2), 7, np.uint16)}
    return BlockResult(ROWS, COLS, bands, np.full((12, 12), 3, np.uint8))


def test_a_block_comes_back_as_it_went(tmp_path):
    staging = Staging(tmp_path / "blocks")
    assert staging.load(ROWS, COLS) is None
    staging.save(result())
    back = staging.load(ROWS, COLS)
    assert back is not None
    assert set(back.bands) == {"B02", "B09"}
    assert all(np.array_equal(back.bands[name], pixels) for name, pixels in result().bands.items())
    assert np.array_equal(back.provenance, result().provenance)
    assert back.confidence is None
    assert [path.suffix for path in staging.folder.iterdir()] == [".npz"]


def test_confidence_comes_back_beside_the_bands(tmp_path):
    confidence = np.arange(144, dtype=np.uint8).reshape(12, 12)
    Staging(tmp_path).save(replace(result(), confidence=confidence))
    back = Staging(tmp_path).load(ROWS, COLS)
    assert back is not None
    assert np.array_equal(back.confidence, confidence)
    assert back.confidence.dtype == np.uint8
    assert set(back.bands) == {"B02", "B09"}


@pytest.mark.parametrize("keep", [0, 1, 100, -1, -200])
def test_a_truncated_block_is_computed_again(tmp_path, keep):
    staging = Staging(tmp_path)
    staging.save(result())
    path = staging.path(ROWS, COLS)
    path.write_bytes(path.read_bytes()[:keep])
    assert staging.load(ROWS, COLS) is None
    assert not path.exists()


def test_a_flipped_bit_is_noticed(tmp_path):
    staging = Staging(tmp_path)
    staging.save(result())
    path = staging.path(ROWS, COLS)
    data = bytearray(path.read_bytes())
    at = data.index(np.arange(144, dtype="<u2").tobytes()) + 50
    data[at] ^= 4
    path.write_bytes(data)
    assert staging.load(ROWS, COLS) is None


def test_a_full_disk_leaves_no_half_block(tmp_path):
    staging = Staging(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        with pytest.raises(WriteFailed, match=r"block not written .*free space and run again"):
            staging.save(result())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
