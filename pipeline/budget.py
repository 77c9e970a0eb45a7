"""Memory, planned before the start: how large a block may be so that a scene stays within `max_memory`.

What is held at once, in bytes:
    the libraries, the weights and GDAL's block cache (`BASE`, or `PLAIN` without a network);
    the network's activations for each tile computed on a CPU (`ACTIVATIONS`, and `ACTIVATIONS_A_DATE` for each reference);
    the tiles ahead of the network, with their answers; for each GPU, whose activations are its own, the pinned memory of its passes as well;
    one byte a pixel for the cloud mask, for the target and for each reference's mask;
    for each block in flight: its window at 16 bit for the scene and each reference, and its sums at 32 bit, those of the
    expected errors included;
    the finished blocks of two stripes: the one that is written, and the one whose blocks are made meanwhile;
    decoded chunks that the next stripe needs again, as far as there is room: they save time, not more.
Where nobody says how many tiles a CPU computes side by side, it is as many as fit: `tiles_abreast`.
With `--dask` the network is elsewhere: this process holds no activations, but an eighth of `max_memory` may be parts of blocks and
answers on their way. The processes of `local:N` count in full, each with the libraries, the weights, one worker's activations and a
part with its answer, so that all together stay within `max_memory`. Workers of a cluster have limits of their own.
The constants are measured: resident memory of the default network, two workers, 256 x 256 tiles (392 MiB loaded, 686 MiB
without, 757 MiB with two and 871 MiB with four references).
"""

from __future__ import annotations

import sys
from math import lcm
from pathlib import Path

from pipeline.batches import fitting
from pipeline.devices import pick_device
from pipeline.errors import InvalidSettings
from pipeline.scene import Scene
from pipeline.settings import Resources
from pipeline.turns import ON_A_CPU, ON_A_GPU
from srgan.spec import GROUPS

BASE = 450 * 2**20
PLAIN = 260 * 2**20
ACTIVATIONS = 150 * 2**20
ACTIVATIONS_A_DATE = 25 * 2**20
IN_FLIGHT = 2
"""Blocks at once, at least: one is read while the other is computed."""
_MOST_IN_FLIGHT = 4
"""Where there are more cores, so many blocks are prepared and composed at once; a GPU is fed by no fewer."""
PROCESS = 480 * 2**20
"""A worker process of `local:N` with its network loaded, and a part on its way; a bound. Measured with the default checkpoint, four bands
and two references on a CPU: 340 MiB loaded, 475 MiB at its peak, the activations of one tile, which are counted apart, included (526 MiB with four)."""
EXCHANGE = 8
"""One part in so many of `max_memory` is for what is on its way to a cluster and back."""
STRIPES = 2
"""Stripes whose blocks are held: the one that is written, and the one whose blocks are made."""
_EDGES = (256, 384, 512, 768, 1024, 1152, 1280, 1536)
"""Beyond the last a larger block saves nothing but costs work when a run is killed."""
_SMALL = 768
_SLOTS = 3
"""Passes that a GPU has in hand, each with pinned memory of its own; see `srgan.port`."""
_GPU_FILES = ("nvidiactl", "dxg", "kfd")
"""What a machine with a GPU that torch may know has in /dev: without any of them, torch need not be asked, nor imported."""
_CHUNK = 1024
"""Edge of a file's chunks, pixels: the largest in use (JPEG 2000 tiles, COGs of Earth Search)."""


def block_edge(
    scene: Scene, references: int, tile: int, resources: Resources, *, network: bool = True, tiles: bool = True
) -> int:
    """The largest block edge, in pixels of the work grid, that fits `resources.max_memory`.

    references: number of other dates. tile: edge of a tile. network: False where there is none (`identity`). tiles: False where no tile of the
    scene needs it. The edge is a multiple of the coarsest band's pixel. Raises InvalidSettings where even the smallest does not fit, or a
    given one does not nest.
    """
    cell = lcm(*(band.factor for band in scene.bands))
    if resources.block is not None:
        if resources.block < 1 or resources.block % cell:
            raise InvalidSettings(f"block {resources.block} must be a multiple of {cell}, the coarsest band's pixel")
        return resources.block
    edges = [edge for edge in _EDGES if edge % cell == 0]
    held = {edge: _held(scene, references, tile, edge, resources, network=network, tiles=tiles) for edge in edges}
    fitting = [edge for edge in edges if held[edge] <= resources.max_memory]
    if fitting:
        # A smaller block with room for what its neighbours need again is better than a large one without, down to where most tiles
        # lie across blocks.
        spare = resources.max_memory - carried(scene, references, tile)
        return max(edge for edge in fitting if held[edge] <= spare or edge <= max(_SMALL, fitting[0]))
    least = held[edges[0]]
    if resources.dask:
        # What is on its way grows with the whole.
        least = (least - exchange(resources)) * EXCHANGE // (EXCHANGE - 1) + 1
    beside = f" and {resources.processes} processes beside this one" if resources.processes else ""
    raise InvalidSettings(
        f"{scene.id}: --max-memory {resources.max_memory / 2**20:.0f}MiB is too small for {scene.shape[0]} x "
        f"{scene.shape[1]} pixels in {len(scene.bands)} bands{beside}: give at least {-(-least // 2**20)}MiB"
    )


def tiles_abreast(scene: Scene, references: int, tile: int, resources: Resources, *, network: bool = True) -> int:
    """Tiles computed side by side in this process; parameters as for `block_edge`.

    As many as `resources` asks for. Where it leaves the choice, on a CPU: as many as there are cores and as fit `max_memory`, at least 1.
    """
    if resources.workers or resources.dask or not network or gpus(resources):
        return resources.threads
    edge = resources.block or _smallest(scene)
    blocks = in_flight(resources)
    for threads in range(resources.threads, 1, -1):
        if needed(scene, references, tile, edge, threads, blocks) <= resources.max_memory:
            return threads
    return 1


def gpus(resources: Resources) -> int:
    """GPUs that this process uses; 0 on a CPU. torch is imported only where there may be one, and its name is left open."""
    if resources.device == "cpu":
        return 0
    if resources.device != "auto":
        return len(resources.device.split(","))
    if "torch" not in sys.modules and not any(Path("/dev", name).exists() for name in _GPU_FILES):
        return 0
    return 0 if pick_device("auto") == "cpu" else 1


def planned_memory(
    scene: Scene,
    references: int,
    tile: int,
    edge: int,
    resources: Resources,
    *,
    network: bool = True,
    tiles: bool = True,
) -> int:
    """Bytes that a scene is planned to hold with blocks of this edge, in all processes of this machine; parameters as for `block_edge`."""
    held = _held(scene, references, tile, edge, resources, network=network, tiles=tiles)
    return held + decoded_room(scene, references, tile, edge, resources, network=network, tiles=tiles)


def decoded_room(
    scene: Scene,
    references: int,
    tile: int,
    edge: int,
    resources: Resources,
    *,
    network: bool = True,
    tiles: bool = True,
) -> int:
    """Bytes of decoded chunks that may be kept with blocks of this edge; parameters as for `block_edge`."""
    left = resources.max_memory - _held(scene, references, tile, edge, resources, network=network, tiles=tiles)
    return max(0, min(left, 2 * carried(scene, references, tile)))


def carried(scene: Scene, references: int, tile: int) -> int:
    """Bytes of the chunks that a stripe leaves to the next one, all bands and dates."""
    rows = min(2 * tile + _CHUNK, scene.shape[0])
    return int(rows * scene.shape[1] * 2 * _per_pixel(scene) * (1 + references))


def _held(
    scene: Scene, references: int, tile: int, edge: int, resources: Resources, *, network: bool, tiles: bool
) -> int:
    """What is needed without any chunk kept, in all processes of this machine."""
    if resources.dask:
        # Nothing is computed here, or by one thread in each of so many processes.
        busy = resources.processes if tiles else 0
        elsewhere = resources.processes * PROCESS + exchange(resources)
        return needed(scene, references, tile, edge, busy, network=network) + elsewhere
    blocks = in_flight(resources)
    devices = gpus(resources) if network and tiles else 0
    threads = tiles_abreast(scene, references, tile, resources, network=network) if tiles and not devices else 0
    held = needed(scene, references, tile, edge, threads, blocks, network=network)
    # Batches in a GPU's slots, those that wait for it, and one more for each block.
    batches = devices * (_SLOTS + ON_A_GPU) + blocks if devices else 0
    return held + batches * _pass(scene, references, tile)


def in_flight(resources: Resources) -> int:
    """Blocks at once."""
    return IN_FLIGHT if resources.dask else min(max(IN_FLIGHT, resources.threads // 2), _MOST_IN_FLIGHT)


def exchange(resources: Resources) -> int:
    """Bytes of blocks' parts and answers that may be on their way to a cluster and back."""
    return resources.max_memory // EXCHANGE


def needed(
    scene: Scene, references: int, tile: int, edge: int, threads: int, blocks: int = IN_FLIGHT, *, network: bool = True
) -> int:
    """Bytes held at once with blocks of this edge. threads: tiles computed at a time on a CPU within this memory. blocks: those at once."""
    height, width = scene.shape
    per_pixel, bands = _per_pixel(scene), len(scene.bands)
    each = (ACTIVATIONS + ACTIVATIONS_A_DATE * references) * (tile / 256) ** 2
    # Each block may have one under way beyond those that they share, see `pipeline.turns`.
    ahead = (ON_A_CPU * threads + blocks) * _tile_bytes(scene, references, tile, 4) if threads else 0
    activations = threads * each + ahead if network else 0
    masks = height * width * (2 + references)
    block = min(edge, height) * min(edge, width)
    window = min(edge + 2 * tile, height) * min(edge + 2 * tile, width)
    sums = 4 * (bands + (len(GROUPS) if network else 0))
    under_way = blocks * (window * (2 * per_pixel * (1 + references) + 2 + references) + block * (sums + 24))
    # Of each pixel the bands, three of them before as well, provenance and confidence.
    finished = STRIPES * min(edge, height) * width * (2 * per_pixel + 8)
    return int((BASE if network else PLAIN) + activations + masks + under_way + finished)


def _per_pixel(scene: Scene) -> float:
    """Pixels of all bands to a pixel of the work grid."""
    return sum(1 / band.factor**2 for band in scene.bands)


def _tile_bytes(scene: Scene, references: int, tile: int, number: int) -> int:
    """Bytes of a tile on its way to the network, `number` a value, and of its answer: the bands, and the errors to expect of each group."""
    bands = len(scene.bands)
    return tile**2 * (number * (bands * (1 + references) + 1) + 1 + references + 4 * (bands + len(GROUPS)))


def _pass(scene: Scene, references: int, tile: int) -> int:
    """Bytes of the host that a GPU's pass takes at most, where its batch is chosen by the memory."""
    each = _tile_bytes(scene, references, tile, 2)
    return each * fitting(0, 1, each)


def _smallest(scene: Scene) -> int:
    cell = lcm(*(band.factor for band in scene.bands))
    return next(edge for edge in _EDGES if edge % cell == 0)
