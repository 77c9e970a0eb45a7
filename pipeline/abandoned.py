"""What runs that never came back have left: the next run that ends removes what nobody will ask for.

The blocks of a scene are worth keeping while somebody may run it again with the same inputs and parameters: until its product is made, or
until they are old. With other inputs they are never asked for again. A folder that a process works on is locked by it, and is never touched.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from datetime import datetime
from pathlib import Path

from pipeline.errors import PipelineError, WriteFailed
from pipeline.folders import BACKFILLS, CACHE, RUNS, STAGING
from pipeline.lock import locked
from pipeline.parts import remove_parts
from pipeline.storage import storage_of

KEPT_DAYS = 7.0
"""Days since anything was last written in a folder, after which its blocks are given up."""

_log = logging.getLogger(__name__)
_LOCK = ".lock"


def remove_abandoned(output: Path, days: float = KEPT_DAYS) -> list[str]:
    """Remove what is in the making below `output`, belongs to no running process, and is older than `days` or than the product that it was to become;
    and files that were being written by processes that are gone.

    Returns the ids of the products whose blocks were given up. What cannot be removed stays for the next time.
    """
    for below in (RUNS, CACHE, BACKFILLS):
        remove_parts(output / below)
    staging = output / STAGING
    try:
        names = sorted({entry.name.removesuffix(_LOCK) for entry in os.scandir(staging)})
    except OSError:
        return []
    before = time.time() - days * 86400
    removed = []
    for name in names:
        folder, lock = staging / name, staging / f"{name}{_LOCK}"
        old = max(_last_change(folder), _last_change(lock)) < before
        if not old and not _superseded(output, name):
            continue
        try:
            # Taking the lock makes its file anew and removes it afterwards, so that a lone old one goes too.
            with locked(lock, patience=0):
                if folder.is_dir() and (_last_change(folder) < before if old else _superseded(output, name)):
                    shutil.rmtree(folder, ignore_errors=True)
                    removed.append(name)
        except WriteFailed:
            continue
    if removed:
        _log.info("%s: removed what nobody will ask for: %s", staging, ", ".join(removed))
    return removed


def _superseded(output: Path, name: str) -> bool:
    """Whether the product is there and newer than all blocks: its run was killed between its publication and the end.

    Newer blocks are of a run that was making it once more, and goes on from them.
    """
    try:
        item = storage_of(output).read_item(name)
        made = datetime.fromisoformat(str(item["properties"]["created"])) if item else None
    except (PipelineError, ValueError, KeyError, TypeError):
        return False
    if made is None or made.tzinfo is None:
        return False
    below = output / STAGING / name
    # Not the folders, which change when a product is moved out of them, and not the files of a product, which are written anew in any case.
    return max(_last_change(below / each, folders=False) for each in ("blocks", "tiles")) < made.timestamp()


def _last_change(path: Path, *, folders: bool = True) -> float:
    """When anything in `path` was last written, seconds since 1970; 0 where it is not there. folders: they count too."""
    newest = 0.0
    # `os.walk` passes over a folder that its owner removes meanwhile.
    below = (Path(root, name) for root, names, files in os.walk(path) for name in (*(names if folders else ()), *files))
    for each in (*([path] if folders else []), *below):
        with contextlib.suppress(OSError):
            newest = max(newest, each.stat().st_mtime)
    return newest
