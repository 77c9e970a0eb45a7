"""The folders of an output that are no products."""

from __future__ import annotations

STAGING = ".staging"
"""Scenes in the making: their blocks, shared tiles, files and locks; one folder and one lock file a product."""
RUNS = "runs"
"""Journals and records of runs."""
CACHE = ".cache"
"""Remembered checksums of large files."""
BACKFILLS = "backfills"
"""What became of the windows of backfills."""
