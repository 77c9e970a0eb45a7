"""The pace of this machine as it is now, measured for plans: of a network over tiles side by side, of reading a scene's own files, of a core."""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.inference import TileInput, TorchRestorer, open_restorer, pick_device
from srgan.tile import Bringing, RawTile

if TYPE_CHECKING:
    from pipeline.scene import Scene, SceneBand

_SPAN = 1.0
"""Seconds over which a network is timed at least, where a round of it is shorter."""
_ROUNDS = 4
"""Rounds at most: a large network is not kept busy for a plan."""
_CUDA = 64
"""Tiles of a round on each GPU: some batches."""
_WINDOW = 1024
"""Edge of the window that is read, pixels of the band: a tile of a JPEG 2000 of ESA's, four blocks of a COG."""
_BANDS = 4
"""Bands that are read, at most."""
_PROBE = 0.010
"""Seconds that a core takes for `_probe` on the machine on which the constants of `pipeline.cost` were measured, while it does nothing else."""
_PROBES = 9


@dataclass(frozen=True)
class NetworkPace:
    """How fast a network is."""

    load: float
    """Seconds of each scene until it is at this pace: its weights read, its first tiles."""
    tile: float
    """Wall seconds a tile, of many: those that are computed side by side, or in a batch, share it."""
    elsewhere: bool
    """True where it is on a device of its own and leaves the cores to others."""


def library_seconds() -> float:
    """Seconds that it takes to import the network's libraries: what a process spends once, 0 from then on."""
    if "torch" in sys.modules:
        return 0.0
    start = time.perf_counter()
    import torch  # noqa: F401

    return time.perf_counter() - start


@lru_cache(maxsize=32)
def network_pace(
    checkpoint: str, bands: tuple[str, ...], dates: int, size: int, device: str, abreast: int, *, bf16: bool = False
) -> NetworkPace:
    """Measure a network on tiles as a run gives it, after a first round that does not count.

    bands: ESA names. dates: number of references. size: edge of the tile, pixels. abreast: tiles side by side on a CPU, as the run will
    have: two are slower than one alone, but faster than one after the other. bf16: in that precision, which the scene's own tiles may forbid.
    Raises as `open_restorer` does, and InvalidSettings where the device has no bf16.
    """
    start = time.perf_counter()
    restorer = open_restorer(checkpoint, bands, device, abreast)
    load = time.perf_counter() - start
    try:
        if bf16 and isinstance(restorer, TorchRestorer):
            restorer.require_bf16()
            restorer.precision = "bf16"
        chosen = pick_device(device)
        elsewhere = chosen != "cpu"
        plain, raw = _tile(len(bands), dates, size), _raw_tile(len(bands), dates, size)

        def timed(count: int) -> float:
            # A GPU is sent what the files hold.
            if elsewhere and isinstance(restorer, TorchRestorer):
                return _timed(restorer.restore(repeat(raw, count)))
            return _timed(restorer.restore(repeat(plain, count)))

        around = _CUDA * len(chosen.split(",")) if elsewhere else abreast
        first = timed(around)
        rounds = int(min(max(_SPAN // max(first, 1e-6), 1), _ROUNDS))
        later = timed(around * rounds) / rounds
        return NetworkPace(load + max(first - later, 0.0), later / around, elsewhere)
    finally:
        restorer.close()


def _tile(bands: int, dates: int, size: int) -> TileInput:
    clear = np.ones((size, size), np.bool_)
    return TileInput(
        np.full((bands, size, size), 0.2, np.float32),
        clear.astype(np.float32),
        clear,
        np.full((dates, bands, size, size), 0.1, np.float32),
        np.ones((dates, size, size), np.bool_),
        _days(dates),
    )


def _raw_tile(bands: int, dates: int, size: int) -> RawTile:
    """The same as it is sent to a GPU, in DN of 0.0001."""
    clear = np.ones((size, size), np.bool_)
    levels = np.repeat(np.array([[1e-4], [0.0]], np.float32), bands, axis=1)
    one, nothing = np.ones(bands, np.float32), np.zeros(bands, np.float32)
    bringing = Bringing(one, nothing, np.zeros((bands, bands), np.float32), nothing, nothing, nothing)
    return RawTile(
        np.full((bands, size, size), 2000, np.uint16),
        levels,
        clear,
        clear,
        np.full((dates, bands, size, size), 1000, np.uint16),
        np.broadcast_to(levels, (dates, *levels.shape)),
        (bringing,) * dates,
        np.ones((dates, size, size), np.bool_),
        _days(dates),
    )


def _days(dates: int) -> tuple[float, ...]:
    return tuple(float(day + 1) for day in range(dates))


def _timed(answers: Iterable[NDArray[np.float32]]) -> float:
    start = time.perf_counter()
    for _ in answers:
        pass
    return time.perf_counter() - start


def slowness(threads: int) -> float:
    """How many times as long as where the constants of `pipeline.cost` were measured work takes here and now, on so many threads at once.

    A slower machine counts, and one that others keep busy.
    """
    pixels = np.linspace(0, 1, 2**20, dtype=np.float32).reshape(1024, 1024)
    with ThreadPoolExecutor(threads) as pool:
        # The threads are there, and their memory is, before it counts.
        list(pool.map(_probe, repeat(pixels, threads)))
        rounds = []
        for _ in range(_PROBES):
            start = time.perf_counter()
            list(pool.map(_probe, repeat(pixels, threads)))
            rounds.append(time.perf_counter() - start)
        # Others come and go: what is usual counts, not the mean with its outliers.
        return median(rounds) / _PROBE


def _probe(pixels: NDArray[np.float32]) -> int:
    """Some arithmetic over a few megabytes, and a checksum: what composing and writing are made of."""
    mixed = pixels * np.float32(0.7) + pixels.T[::-1] * np.float32(0.3)
    return zlib.crc32(np.rint(mixed * 10000).astype(np.uint16))


@dataclass(frozen=True)
class SourcePace:
    """What a sample of a scene's files says of all of them."""

    pixel: float
    """Seconds of one thread to fetch and decode a pixel of a band."""
    packed: float
    """Bytes of a band's pixels after compression over before, as a product compresses them."""


def source_pace(scene: Scene) -> SourcePace:
    """Read a window of some of the bands of `scene`, each at another place, with files opened anew, and compress it.

    Raises InvalidScene for damaged pixels, ReadFailed where a retry may help.
    """
    from pipeline.reader import BandReader

    chosen = scene.bands[:: -(-len(scene.bands) // _BANDS)]
    reader = BandReader()
    seconds, pixels, before, after = 0.0, 0, 0, 0
    try:
        for number, band in enumerate(chosen, 1):
            rows, cols = (_window(length, number / (len(chosen) + 1)) for length in band.shape)
            reader.header(band.href)
            start = time.perf_counter()
            window = reader.read(band.href, band.index, rows, cols)
            seconds += time.perf_counter() - start
            pixels += window.size
            before += window.nbytes
            after += _compressed(window, band)
    finally:
        reader.close()
    return SourcePace(seconds / pixels, after / before)


def _window(length: int, at: float) -> slice:
    """A window about the part `at` of an axis, on the lattice of windows.

    >>> _window(10980, 0.5), _window(915, 0.2)
    (slice(5120, 6144, None), slice(0, 915, None))
    """
    start = int(length * at) // _WINDOW * _WINDOW
    return slice(start, min(start + _WINDOW, length))


def _compressed(pixels: NDArray[np.uint16], band: SceneBand) -> int:
    """Bytes of `pixels` in a GeoTIFF with the blocks and the compression of a product's."""
    from rasterio.io import MemoryFile

    from pipeline.cog import BLOCK, PROFILE

    height, width = pixels.shape
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=width, height=height, count=1, dtype="uint16", crs=band.geobox.crs, transform=band.geobox.transform,
            tiled=True, blockxsize=BLOCK, blockysize=BLOCK, compress=PROFILE["COMPRESS"], zstd_level=int(PROFILE["LEVEL"]), predictor=2,
        ) as file:  # fmt: skip
            file.write(pixels, 1)
        return len(memory.getbuffer())
