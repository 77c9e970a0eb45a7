"""Every tile is run once, whoever asks, and a failure or a kill leaves nobody waiting."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from pipeline.tilestore import TileStore
from pipeline.tiling import Tile

TILES = [Tile(row, col, 8) for row in (0, 8) for col in (0, 8, 16)]
BLOCKS = [TILES[:4], TILES[1:5], TILES[2:], TILES[::2]]


def answer(tile: Tile) -> np.ndarray:
    return np.full((2, 8, 8), tile.row * 100 + tile.col, np.float32)


class Network:
    def __init__(self, fail_at: Tile | None = None) -> None:
        self.runs: Counter[Tile] = Counter()
        self.lock = threading.Lock()
        self.fail_at = fail_at

    def __call__(self, tiles):
        for tile in tiles:
            with self.lock:
                self.runs[tile] += 1
                if tile == self.fail_at:
                    self.fail_at = None
                    raise RuntimeError("broken once")
            yield answer(tile)


def uses() -> Counter[Tile]:
    return Counter(tile for block in BLOCKS for tile in block)


def ask(store: TileStore, block: list[Tile], network: Network) -> list[np.ndarray]:
    with closing(store.results(block, network)) as results:
        return list(results)


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("attempt", range(5))
def test_each_tile_is_run_once_and_comes_in_order(tmp_path, workers, attempt):
    network, store = Network(), TileStore(tmp_path / "tiles", uses())
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(lambda block: ask(store, block, network), BLOCKS, timeout=30))
    for block, results in zip(BLOCKS, found, strict=True):
        assert all(np.array_equal(result, answer(tile)) for tile, result in zip(block, results, strict=True))
    assert network.runs == Counter(TILES), attempt
    assert not list((tmp_path / "tiles").glob("*"))


@pytest.mark.parametrize("tile", TILES)
def test_a_block_that_fails_leaves_its_tiles_to_the_others(tmp_path, tile):
    network, store = Network(fail_at=tile), TileStore(tmp_path, uses())
    failed = 0
    with ThreadPoolExecutor(2) as pool:
        for block, future in [(block, pool.submit(ask, store, block, network)) for block in BLOCKS]:
            error = future.exception(timeout=30)
            if error is not None:
                assert str(error) == "broken once"
                failed += 1
            else:
                results = future.result()
                assert all(np.array_equal(result, answer(t)) for t, result in zip(block, results, strict=True))
    assert failed == 1


def test_what_a_killed_run_stored_is_used_and_what_is_damaged_is_not(tmp_path):
    first, store = Network(), TileStore(tmp_path, uses())
    ask(store, BLOCKS[0], first)
    stored = sorted(tmp_path.glob("*.npz"))
    assert stored
    stored[0].write_bytes(stored[0].read_bytes()[:100])
    network, again = Network(), TileStore(tmp_path, uses())
    results = ask(again, BLOCKS[0], network)
    assert all(np.array_equal(result, answer(tile)) for tile, result in zip(BLOCKS[0], results, strict=True))
    assert sum(network.runs.values()) == len(BLOCKS[0]) - len(stored) + 1


def test_a_tile_of_one_block_is_never_stored(tmp_path):
    store = TileStore(tmp_path / "tiles", Counter(TILES))
    ask(store, TILES, Network())
    assert not (tmp_path / "tiles").exists()
