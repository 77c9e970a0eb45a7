"""`rasters_in`: the raster files of a folder tree, in one order whatever the file system, and what could not be looked at.

Links to folders are followed, for data sets are often assembled of links; each folder is visited once, so that a loop ends.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from catalogs.errors import InvalidQuery
from catalogs.places import Reject

SUFFIXES = (".tif", ".tiff")
"""Anything else in a tree of patches (notes, JSON, `.aux.xml`) is none of our business."""


def rasters_in(root: str) -> tuple[list[Path], list[Reject]]:
    """The files below the folder `root` that are called like GeoTIFFs, sorted, hidden ones left out; and rejects.

    Rejected: a folder that cannot be read, a link that leads nowhere, back to a folder above it, or to one already
    visited, anything called like a GeoTIFF that is no file. Raises InvalidQuery for a root that is no readable folder.
    """
    if not os.path.isdir(root):  # noqa: PTH112 - text in, text out; False for a name that is too long
        raise InvalidQuery(f"{root}: no such folder: name the root of the data set's tree")
    walk = _Walk()
    walk.visit(root)
    if root in walk.unread:
        raise InvalidQuery(f"{root}: cannot be read: {walk.unread[root]}")
    rejects = [Reject(path, f"folder cannot be read: {reason}") for path, reason in walk.unread.items()]
    return sorted(walk.files), rejects + walk.rejects


class _Walk:
    """One walk over a tree, without recursion: links can make it deep."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.rejects: list[Reject] = []
        self.unread: dict[str, str] = {}
        self._visited: dict[tuple[int, int], str] = {}

    def visit(self, root: str) -> None:
        waiting = [root]
        while waiting:
            folder = waiting.pop()
            below = []
            for name in self._names(folder):
                path = os.path.join(folder, name)  # noqa: PTH118
                if not name.startswith(".") and self._is_folder(path):
                    below.append(path)
            waiting.extend(reversed(below))

    def _names(self, folder: str) -> list[str]:
        """What is in `folder`, sorted; nothing where it was visited before or cannot be read, which is noted."""
        try:
            status = os.stat(folder)  # noqa: PTH116
            first = self._visited.setdefault((status.st_dev, status.st_ino), folder)
            if first != folder:
                self.rejects.append(Reject(folder, f"leads to a folder that is read already: {first}"))
                return []
            return sorted(os.listdir(folder))  # noqa: PTH208
        except OSError as error:
            self.unread[folder] = error.strerror or str(error)
            return []

    def _is_folder(self, path: str) -> bool:
        """Whether `path` is a folder; a raster file is noted, and what only looks like one."""
        _, suffix = os.path.splitext(path)  # noqa: PTH122
        is_raster = suffix.lower() in SUFFIXES
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116
        except OSError as error:
            # A link without a suffix was meant to be a folder; a broken link to notes is nothing to us.
            if is_raster or not suffix:
                self.rejects.append(Reject(path, f"leads nowhere: {error.strerror}"))
            return False
        if is_raster and stat.S_ISREG(mode):
            self.files.append(Path(path))
        elif is_raster and not stat.S_ISDIR(mode):
            self.rejects.append(Reject(path, "is no file"))
        return stat.S_ISDIR(mode)
