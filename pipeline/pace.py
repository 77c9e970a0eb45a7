"""The pace of a network on this machine, measured, for plans: machines differ by more than scenes do."""

from __future__ import annotations

import time
from functools import lru_cache

import numpy as np

from pipeline.inference import TileInput, open_restorer, pick_device


@lru_cache(maxsize=32)
def measured_seconds(checkpoint: str, bands: tuple[str, ...], dates: int, size: int, device: str) -> float:
    """Wall seconds of one tile on one worker of a CPU, or of one tile on its own on CUDA: the second of two runs.

    bands: ESA names. dates: number of references. size: edge of the tile, pixels. Raises as `open_restorer` does.
    """
    shape = (len(bands), size, size)
    clear = np.ones(shape[1:], np.bool_)
    tile = TileInput(
        np.full(shape, 0.2, np.float32),
        clear.astype(np.float32),
        clear,
        np.full((dates, *shape), 0.1, np.float32),
        np.ones((dates, *shape[1:]), np.bool_),
        tuple(float(day + 1) for day in range(dates)),
    )
    restorer = open_restorer(checkpoint, bands, device)
    try:
        for _ in range(2):
            start = time.perf_counter()
            list(restorer.restore([tile]))
            seconds = time.perf_counter() - start
    finally:
        restorer.close()
    return seconds


def network_seconds(tiles: int, seconds_a_tile: float, threads: int, device: str) -> float:
    """Expected wall time of `tiles` tiles; workers count on a CPU only."""
    if tiles == 0:
        return 0.0
    return tiles * seconds_a_tile / (threads if pick_device(device) == "cpu" else 1)
