"""`Originals`: the local files that a scene is made from, as they were before the first of them was read.

A run key says what they held then. One that is replaced while the scene is being made would give a product that is half of the one and half
of the other, under the key of the first: so what is kept or published is kept only while all of them are what they were.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from catalogs.item import SceneItem
from pipeline.errors import PipelineError, ReadFailed
from pipeline.reader import local_path
from pipeline.runkey import RunKey
from pipeline.settings import DecloudSettings

_ARCHIVES = ("/vsizip/", "/vsitar/", "/vsigzip/")
_SHARE = 20
"""Looking at all files takes at most one part in so many of the time: mounts of a network answer slowly, and there are hundreds of files."""
Identity = tuple[int, int, int | None]


class Originals:
    """Files, and size, time of modification and inode of each. Safe in threads."""

    def __init__(
        self, item: SceneItem, candidates: Sequence[SceneItem], settings: DecloudSettings, key: Callable[[], RunKey]
    ) -> None:
        """Look at the files of a scene, of the other dates, and at the mask; then compute the key of what they hold, by `key`.

        Those on another machine are not looked at. Raises what `key` raises.
        """
        self._seen = identities((item, *candidates), settings.mask)
        self._key_now = key
        self._lock = threading.Lock()
        self._next = 0.0
        self._unsure: list[Path] = []
        self.key = key()
        """Of what they held."""

    def check(self) -> None:
        """Raise ReadFailed where one of them is not what it was."""
        with self._lock:
            self._look()

    def before(self, path: Path) -> None:
        """Asked before a file is kept that was made from them: as `check`, but they are looked at only once in a while.

        What is written between two looks is not certain before the second one, see `settle`.
        """
        with self._lock:
            if time.monotonic() >= self._next:
                start = time.monotonic()
                self._look()
                self._next = time.monotonic() + _SHARE * (time.monotonic() - start)
            else:
                self._unsure.append(path)

    def settle(self) -> None:
        """Remove what was kept since the last look, where they are not what they were; for when nothing is being kept any more."""
        with self._lock:
            if not self._unsure:
                return
            try:
                self._look()
            except ReadFailed:
                for path in self._unsure:
                    with suppress(OSError):
                        path.unlink(missing_ok=True)

    def _look(self) -> None:
        renumbered = []
        for path, before in self._seen.items():
            now = _identity(path)
            if before is None or now is None or now[:2] != before[:2]:
                if now != before:
                    raise _replaced(path)
            elif before[2] not in (None, now[2]):
                renumbered.append((path, before))
        if renumbered and not self._same():
            raise _replaced(renumbered[0][0])
        for path, (size, changed, _) in renumbered:
            # Its mount gives a file another inode now and then (sshfs, s3fs, rclone): there it says nothing.
            self._seen[path] = size, changed, None
        self._unsure.clear()

    def _same(self) -> bool:
        """Whether the files still hold what the key says, where a look at them cannot tell."""
        try:
            return self._key_now() == self.key
        except PipelineError:
            return False


def identities(items: Iterable[SceneItem], mask: str) -> dict[Path, Identity | None]:
    """Size, time of modification and inode of the files of this machine that hold the items' bands, and of a mask's; None where it is not there."""
    assets = (asset for one in items for asset in (*one.bands.values(), *filter(None, [one.scl])))
    files = {path for href in (*(asset.href for asset in assets), mask) for path in _local(href)}
    return {path: _identity(path) for path in sorted(files)}


def _replaced(path: Path) -> ReadFailed:
    return ReadFailed(
        f"{path}: was replaced while the scene was being made, so nothing of it is published; run again once it stays as it is"
    )


def _local(href: str) -> Iterable[Path]:
    """The file of this machine that holds `href`, where there is one."""
    prefix = next((prefix for prefix in _ARCHIVES if href.startswith(prefix)), None)
    if prefix is None:
        path = local_path(href)
        return () if path is None else (path,)
    inside = Path(href.removeprefix(prefix).strip("{}"))
    return (path for path in inside.parents if path.is_file())


def _identity(path: Path) -> Identity | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino
