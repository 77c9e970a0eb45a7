"""The hidden folders of an output, beside its products."""

from __future__ import annotations

STAGING = ".staging"
"""Scenes in the making: their blocks, shared tiles, files and locks; one folder and one lock file a product."""
CACHE = ".cache"
"""Remembered checksums of large files."""
