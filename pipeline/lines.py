"""Files of JSON lines and documents that are written while processes may be killed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.parts import write_whole


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append a record as a line of its own and flush it to the disk; folders are made where they are missing. Raises OSError.

    A line that was cut by a crash does not take this one with it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        cut = file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
        file.write(b"\n" * bool(cut) + json.dumps(record).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document beside `path` and move it there once it is on the disk. Raises OSError, and leaves nothing then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(document, indent=2) + "\n").encode())
