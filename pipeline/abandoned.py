"""What runs that never came back have left in the making: removed by the next run that succeeds, once it is old.

The blocks of a scene are worth keeping while somebody may run it again with the same inputs and parameters. With other ones they are
never asked for again, and lie there. A folder that a process works on is locked by it, and is never touched.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from pathlib import Path

from pipeline.errors import WriteFailed
from pipeline.folders import STAGING
from pipeline.lock import locked

KEPT_DAYS = 7.0
"""Days since anything was last written in a folder, after which its blocks are given up."""

_log = logging.getLogger(__name__)
_LOCK = ".lock"


def remove_abandoned(output: Path, days: float = KEPT_DAYS) -> list[str]:
    """Remove what is in the making below `output`, belongs to no running process and is older than `days`.

    Returns the ids of the products that it belonged to. What cannot be removed stays for the next time.
    """
    staging = output / STAGING
    try:
        names = sorted({entry.name.removesuffix(_LOCK) for entry in os.scandir(staging)})
    except OSError:
        return []
    before = time.time() - days * 86400
    removed = []
    for name in names:
        folder, lock = staging / name, staging / f"{name}{_LOCK}"
        if max(_last_change(folder), _last_change(lock)) >= before:
            continue
        try:
            # Taking the lock makes its file anew and removes it afterwards, so that a lone old one goes too.
            with locked(lock):
                if _last_change(folder) < before and folder.is_dir():
                    shutil.rmtree(folder, ignore_errors=True)
                    removed.append(name)
        except WriteFailed:
            continue
    if removed:
        _log.info("%s: gave up blocks older than %g days: %s", staging, days, ", ".join(removed))
    return removed


def _last_change(path: Path) -> float:
    """When anything in `path` was last written, seconds since 1970; 0 where it is not there."""
    newest = 0.0
    # `os.walk` passes over a folder that its owner removes meanwhile.
    below = (Path(root, name) for root, folders, files in os.walk(path) for name in (*folders, *files))
    for each in (path, *below):
        with contextlib.suppress(OSError):
            newest = max(newest, each.stat().st_mtime)
    return newest
