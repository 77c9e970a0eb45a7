"""The exceptions of `srgan`: one base, one line a subclass."""

from __future__ import annotations


class ModelError(Exception):
    """Base of every error that `srgan` raises on purpose."""


class InvalidSpec(ModelError):
    """A model specification or a setting holds a bad value."""


class InvalidCheckpoint(ModelError):
    """A checkpoint is missing, damaged, unsafe or of another architecture."""
