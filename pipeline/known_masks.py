"""`KnownMasks`: the masks of a run's dates, so that a date is masked once and not again for each scene that it may serve.

In a series every date is a scene itself and a candidate for its neighbours: without this, N dates cost up to N times N masks. What is kept is
compressed, bounded, and forgotten with the run; a mask depends on nothing but its scene, so products do not depend on what was kept.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from pipeline.cloudmask import CloudMask, make_cloud_mask
from pipeline.growth import GROW
from pipeline.originals import identities
from pipeline.scene import Scene

LIMIT = 64 * 2**20
"""Bytes kept at most; a full-size mask of 10,980 pixels an edge takes one to five million."""


@dataclass(eq=False)
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while the mask is made: who wants the same one waits for it."""
    packed: bytes | None = None
    shape: tuple[int, int] = (0, 0)
    method: str = ""


class KnownMasks:
    """Masks by what they were made from; those not asked for longest are forgotten first. Safe in threads."""

    def __init__(self, limit: int = LIMIT) -> None:
        """limit: bytes kept at most."""
        self._limit = limit
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def mask(self, scene: Scene, method: str, grow_m: float, threads: int = 1) -> CloudMask:
        """As `make_cloud_mask` gives it and raises; one that failed is tried again when it is asked for again."""
        key = _key(scene, method, grow_m)
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
        with entry.lock:
            if entry.packed is not None:
                classes = np.frombuffer(zlib.decompress(entry.packed), np.uint8).reshape(entry.shape)
                return CloudMask(classes, entry.method)
            made = make_cloud_mask(scene, method, grow_m, threads=threads)
            entry.packed = zlib.compress(np.ascontiguousarray(made.classes).data, 1)
            entry.shape, entry.method = made.shape, made.method
        with self._lock:
            self._forget()
        return made

    @property
    def size(self) -> int:
        """Bytes kept."""
        with self._lock:
            return self._size()

    def _size(self) -> int:
        return sum(len(entry.packed) for entry in self._entries.values() if entry.packed is not None)

    def _forget(self) -> None:
        while self._entries and self._size() > self._limit:
            self._entries.popitem(last=False)


def _key(scene: Scene, method: str, grow_m: float) -> Hashable:
    """All that a mask depends on: what is said of the scene, and size, time and inode of its files on this machine."""
    item = scene.item
    files = identities([item], method)
    return (
        item.id, item.level, item.baseline, item.sun_azimuth, item.sun_elevation, tuple(item.bands.items()), item.scl,
        scene.bands, scene.geobox, method, grow_m, tuple(files.items()),
    )  # fmt: skip


_users = 0
_known: KnownMasks | None = None
_guard = threading.Lock()


@contextmanager
def masks_kept() -> Iterator[None]:
    """Within, in any thread, `mask_of` keeps masks; they are forgotten when the last of those who asked for it has ended."""
    global _users, _known  # Scenes of one run meet in no object, only in the process: Prefect runs them in threads of its own.
    with _guard:
        _users += 1
        _known = _known or KnownMasks()
    try:
        yield
    finally:
        with _guard:
            _users -= 1
            if _users == 0:
                _known = None


def mask_of(scene: Scene, method: str = "auto", grow_m: float = GROW, *, threads: int = 1) -> CloudMask:
    """The mask of `scene`, see `make_cloud_mask`: one that is kept, where masks are."""
    known = _known
    if known is None:
        return make_cloud_mask(scene, method, grow_m, threads=threads)
    return known.mask(scene, method, grow_m, threads)
