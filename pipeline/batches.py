"""`BatchSize`: how many tiles a GPU is given at a time, by the memory that it has left, and what is done where that was too much.

A batch is measured, not looked up: one pass of one tile shows what a tile takes at its peak. Networks, tiles, bands and dates differ by a factor of
a hundred. Powers of two, and at most `MOST`: beyond a million pixels a pass no kernel gets better, and a block's last batch is filled up with
copies. Where memory runs out all the same (others use the device too), the batch is halved and the run goes on, once; a second time is an error.
"""

from __future__ import annotations

import logging
import threading

from pipeline.errors import DeviceFailed

MOST = 16
"""Tiles of a pass."""
SHARE = 0.8
"""Part of the free memory that is counted on."""
PINNED = 64 * 2**20
"""Bytes of the host that a pass may hold, answers included; a GPU has three in hand."""
_log = logging.getLogger(__name__)


def fitting(tile: int, room: int, host: int = 0) -> int:
    """The largest batch, a power of two from 1 to `MOST`, for `room` free bytes where a tile takes `tile`, and `host` bytes of the host.

    >>> fitting(100, 1000), fitting(100, 10**6), fitting(100, 90), fitting(100, 10**6, 9 * 2**20)
    (8, 16, 1, 4)
    """
    size = MOST
    while size > 1 and (size * tile > SHARE * room or size * host > PINNED):
        size //= 2
    return size


class BatchSize:
    """The number of tiles of a pass, the same for all devices of a run."""

    def __init__(self, size: int, *, fixed: bool = False) -> None:
        """Start with `size`. fixed: it belongs to an exported network, and cannot be another."""
        self.now, self._fixed, self._halved = size, fixed, False
        self._lock = threading.Lock()

    def halve(self, tried: int, device: str, tile: int) -> None:
        """Go on with half of `tried` tiles of edge `tile`, which were too many for `device`.

        Where another thread has done so meanwhile, that was it. Raises DeviceFailed where it was done before, or cannot be done.
        """
        with self._lock:
            if tried > self.now:
                return
            if self._fixed:
                raise DeviceFailed(
                    f"--device {device}: out of memory with the {tried} tiles a pass that the network was exported with; free memory on it, export with "
                    "a smaller --batch, or give --device cpu"
                )
            if self._halved or tried == 1:
                after = f" after {2 * tried}" if self._halved else ""
                raise DeviceFailed(
                    f"--device {device}: out of memory with {tried} {'tile' if tried == 1 else 'tiles'} of {tile} pixels a pass{after}; free memory on it, "
                    "or give a smaller --tile, or --device cpu; finished blocks are kept"
                )
            self.now, self._halved = tried // 2, True
        _log.warning("%s: out of memory with %d tiles a pass; going on with %d", device, tried, tried // 2)
