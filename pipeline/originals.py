"""`Originals`: the local files that a scene is made from, as they were before the first of them was read.

A run key says what they held then. One that is replaced while the scene is being made would give a product that is half of the one and half
of the other, under the key of the first: so what is kept or published is kept only while all of them are what they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from catalogs.item import SceneItem
from pipeline.errors import ReadFailed
from pipeline.reader import local_path
from pipeline.settings import DecloudSettings

_ARCHIVES = ("/vsizip/", "/vsitar/", "/vsigzip/")
Identity = tuple[int, int, int]


@dataclass(frozen=True)
class Originals:
    """Files, and size, time of modification and inode of each; None for one that was not there."""

    seen: Mapping[Path, Identity | None]

    @classmethod
    def of(cls, item: SceneItem, candidates: Sequence[SceneItem], settings: DecloudSettings) -> Originals:
        """Look at the files of a scene, of the other dates, and at the mask. Those on another machine are not looked at."""
        assets = (asset for one in (item, *candidates) for asset in (*one.bands.values(), *filter(None, [one.scl])))
        files = {path for href in (*(asset.href for asset in assets), settings.mask) for path in _local(href)}
        return cls({path: _identity(path) for path in sorted(files)})

    def check(self) -> None:
        """Raise ReadFailed where one of them is not what it was."""
        for path, before in self.seen.items():
            if _identity(path) != before:
                raise ReadFailed(
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
