"""Decoded chunks: each decoded once while somebody needs it, bounded, and the same pixels as without them."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.decoded import Chunk, Decoded, Layout
from pipeline.engine import decloud_scene
from pipeline.errors import InvalidScene
from pipeline.reader import BandReader
from pipeline.settings import Resources

from .made import write_raster
from .test_engine import IDENTITY, pixels_of, scene

ONE, TWO = Chunk("a.tif", 1, 0, 0), Chunk("a.tif", 1, 0, 1)


def pixels(value: int = 7) -> np.ndarray:
    return np.full((10, 10), value, np.uint16)


def test_a_chunk_is_decoded_once_for_all_who_ask_at_the_same_time():
    decoded, gate, calls = Decoded(10**6), threading.Barrier(4), []
    decoded.expect([ONE] * 4)

    def decode() -> np.ndarray:
        calls.append(1)
        return pixels()

    def ask() -> np.ndarray:
        gate.wait()
        return decoded.get(ONE, decode)

    with ThreadPoolExecutor(4) as pool:
        answers = [future.result() for future in [pool.submit(ask) for _ in range(4)]]
    assert len(calls) == 1
    assert all(answer is answers[0] for answer in answers)
    with pytest.raises(ValueError, match="read-only"):
        answers[0][0, 0] = 1


def test_what_nobody_needs_any_more_is_forgotten_and_makes_room():
    decoded, calls = Decoded(250), Counter()

    def get(chunk: Chunk) -> None:
        def decode() -> np.ndarray:
            calls[chunk] += 1
            return pixels()

        decoded.get(chunk, decode)

    decoded.expect([ONE, ONE, TWO, TWO])
    get(ONE)
    get(TWO)
    get(TWO)
    # Both are kept (200 bytes were held when the second one came: room is looked at before), a third would not be.
    assert calls == {ONE: 1, TWO: 1}
    assert not decoded.wanted(TWO)
    decoded.done([ONE])
    get(ONE)
    assert calls[ONE] == 1
    decoded.done([ONE, TWO, TWO])
    get(ONE)
    assert calls[ONE] == 2


def test_beyond_its_room_nothing_is_kept_and_what_nobody_expects_neither():
    decoded, calls = Decoded(0), []
    decoded.expect([ONE, ONE])
    for _ in range(2):
        decoded.get(ONE, lambda: calls.append(1) or pixels())
    assert len(calls) == 2
    wide = Decoded(10**6)
    for _ in range(2):
        wide.get(TWO, lambda: calls.append(1) or pixels())
    assert len(calls) == 4
    assert not wide.wanted(TWO)


def test_an_error_reaches_who_asked_and_the_next_one_tries_again():
    decoded = Decoded(10**6)
    decoded.expect([ONE, ONE])

    def broken() -> np.ndarray:
        raise InvalidScene("a.tif: damaged")

    with pytest.raises(InvalidScene, match="damaged"):
        decoded.get(ONE, broken)
    np.testing.assert_array_equal(decoded.get(ONE, pixels), pixels())


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.tuples(st.integers(1, 1200), st.integers(1, 1200)),
    st.data(),
)
def test_chunks_cover_every_window_and_are_whole_blocks(shape, block, data):
    layout = Layout.of(shape, block, "uint16")
    rows, cols = (
        (lambda start, length: slice(start, data.draw(st.integers(start + 1, length))))(
            data.draw(st.integers(0, length - 1)), length
        )
        for length in shape
    )
    places = [layout.window(row, col) for row in layout.down(rows) for col in layout.across(cols)]
    assert min(place[0].start for place in places) <= rows.start
    assert max(place[0].stop for place in places) >= rows.stop
    assert min(place[1].start for place in places) <= cols.start
    assert max(place[1].stop for place in places) >= cols.stop
    for place in places:
        for window, size, length, wanted in zip(place, block, shape, (rows, cols), strict=True):
            assert window.start % size == 0
            assert window.stop % size == 0 or window.stop == length
            assert window.start < wanted.stop
            assert window.stop > wanted.start


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"tiled": True, "blockxsize": 256, "blockysize": 128},
        {"driver": "JP2OpenJPEG", "BLOCKXSIZE": 512, "BLOCKYSIZE": 512},
    ],
    ids=["strips", "tiles", "jp2"],
)
def test_windows_by_chunks_are_those_of_the_file(tmp_path: Path, profile) -> None:
    rng = np.random.default_rng(3)
    whole = rng.integers(1, 9000, (1300, 1100), dtype=np.uint16)
    path = str(write_raster(tmp_path / "a.tif", whole, **profile))
    reader = BandReader()
    decoded = Decoded(10**8)
    reader.keep(decoded)
    for _ in range(25):
        top, left = rng.integers(0, 1200), rng.integers(0, 1000)
        rows = slice(int(top), int(rng.integers(top + 1, 1301)))
        cols = slice(int(left), int(rng.integers(left + 1, 1101)))
        decoded.expect(reader.chunks(path, 1, rows, cols))
        np.testing.assert_array_equal(reader.read(path, 1, rows, cols), whole[rows, cols])
    with pytest.raises(ValueError, match="not inside"):
        reader.read(path, 1, slice(0, 1301), slice(0, 10))
    reader.close()


def test_each_chunk_of_a_scene_is_decoded_once_and_without_room_the_product_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.decoded._CHUNK", 64)
    item = scene(tmp_path / "S2A_33TWL_20230810_0_L2A", 240)
    resources = Resources(block=60)
    reads: Counter[tuple] = Counter()
    plain = BandReader._read

    def counted(self, href, index, rows, cols):
        reads[href, rows.start, cols.start, self._decoded is None] += 1
        return plain(self, href, index, rows, cols)

    monkeypatch.setattr(BandReader, "_read", counted)
    kept = decloud_scene(item, tmp_path / "kept", IDENTITY, resources=resources)
    streamed = {key: count for key, count in reads.items() if not key[3] and "SCL" not in key[0]}
    assert streamed
    assert set(streamed.values()) == {1}
    reads.clear()
    monkeypatch.setattr("pipeline.engine.decoded_room", lambda *_, **__: 0)
    again = decloud_scene(item, tmp_path / "again", IDENTITY, resources=resources)
    assert max(count for key, count in reads.items() if not key[3]) > 1
    assert pixels_of(kept.path) == pixels_of(again.path)
