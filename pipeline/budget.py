"""Memory, planned before the start: how large a block may be so that a scene stays within `max_memory`.

What is held at once, in bytes:
    the libraries, the weights and GDAL's block cache (`BASE`);
    the network's activations for each worker (`ACTIVATIONS`, and `ACTIVATIONS_A_DATE` for each reference);
    one byte a pixel for the cloud mask, for the target and for each reference's mask;
    for each block in flight: its window at 16 bit for the scene and each reference, and its sums at 32 bit, those of the
    expected errors included;
    the stripe being written, before and after.
With `--dask` the network is elsewhere: this process holds no activations, but an eighth of `max_memory` may be parts of blocks and
answers on their way. The processes of `local:N` count in full, each with the libraries, the weights, one worker's activations and a
part with its answer, so that all together stay within `max_memory`. Workers of a cluster have limits of their own.
The constants are measured: resident memory of the default network, two workers, 256 x 256 tiles (392 MiB loaded, 686 MiB
without, 757 MiB with two and 871 MiB with four references).
"""

from __future__ import annotations

from math import lcm

from pipeline.errors import InvalidSettings
from pipeline.scene import Scene
from pipeline.settings import Resources
from srgan.spec import GROUPS

BASE = 450 * 2**20
ACTIVATIONS = 150 * 2**20
ACTIVATIONS_A_DATE = 25 * 2**20
IN_FLIGHT = 2
"""Blocks at once: one is read while the other is computed."""
PROCESS = 480 * 2**20
"""A worker process of `local:N` with its network loaded, and a part on its way; a bound. Measured with the default checkpoint, four bands
and two references on a CPU: 340 MiB loaded, 475 MiB at its peak, the activations of one tile, which are counted apart, included (526 MiB with four)."""
EXCHANGE = 8
"""One part in so many of `max_memory` is for what is on its way to a cluster and back."""
_EDGES = range(256, 2304 + 1, 256)


def block_edge(scene: Scene, references: int, tile: int, resources: Resources) -> int:
    """The largest block edge, in pixels of the work grid, that fits `resources.max_memory`.

    references: number of other dates. tile: edge of a tile. The edge is a multiple of 256 and of the coarsest band's
    pixel. Raises InvalidSettings where even the smallest does not fit, or a given one does not nest.
    """
    cell = lcm(*(band.factor for band in scene.bands))
    if resources.block is not None:
        if resources.block < 1 or resources.block % cell:
            raise InvalidSettings(f"block {resources.block} must be a multiple of {cell}, the coarsest band's pixel")
        return resources.block
    edges = [edge for edge in _EDGES if edge % cell == 0]
    # Nothing is computed here, or by one thread in each of so many processes.
    threads = resources.processes if resources.dask else resources.threads
    elsewhere = resources.processes * PROCESS + exchange(resources) if resources.dask else 0
    room = resources.max_memory - elsewhere
    fitting = [edge for edge in edges if needed(scene, references, tile, edge, threads) <= room]
    if not fitting:
        least = needed(scene, references, tile, edges[0], threads) + elsewhere
        if resources.dask:
            # What is on its way grows with the whole.
            least = (least - exchange(resources)) * EXCHANGE // (EXCHANGE - 1) + 1
        beside = f" and {resources.processes} processes beside this one" if resources.processes else ""
        raise InvalidSettings(
            f"{scene.id}: --max-memory {resources.max_memory / 2**20:.0f}MiB is too small for {scene.shape[0]} x "
            f"{scene.shape[1]} pixels in {len(scene.bands)} bands{beside}: give at least {-(-least // 2**20)}MiB"
        )
    # Beyond this a larger block saves nothing but costs work when a run is killed.
    return max(edge for edge in fitting if edge <= max(1536, fitting[0]))


def planned_memory(scene: Scene, references: int, tile: int, edge: int, resources: Resources) -> int:
    """Bytes that a scene is planned to hold with blocks of this edge, in all processes of this machine; parameters as for `block_edge`."""
    if not resources.dask:
        return needed(scene, references, tile, edge, resources.threads)
    elsewhere = resources.processes * PROCESS + exchange(resources)
    return needed(scene, references, tile, edge, resources.processes) + elsewhere


def exchange(resources: Resources) -> int:
    """Bytes of blocks' parts and answers that may be on their way to a cluster and back."""
    return resources.max_memory // EXCHANGE


def needed(scene: Scene, references: int, tile: int, edge: int, threads: int) -> int:
    """Bytes held at once with blocks of this edge. threads: tiles computed at a time within this memory."""
    height, width = scene.shape
    per_pixel = sum(1 / band.factor**2 for band in scene.bands)
    network = (ACTIVATIONS + ACTIVATIONS_A_DATE * references) * threads * (tile / 256) ** 2
    masks = height * width * (2 + references)
    block = min(edge, height) * min(edge, width)
    window = min(edge + 2 * tile, height) * min(edge + 2 * tile, width)
    blocks = IN_FLIGHT * (
        window * (2 * per_pixel * (1 + references) + 2 + references)
        + block * (4 * (len(scene.bands) + len(GROUPS)) + 48)
    )
    stripe = min(edge, height) * width * (4 * per_pixel + 33)
    return int(BASE + network + masks + blocks + stripe)
