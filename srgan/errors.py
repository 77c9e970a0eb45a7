"""The exceptions of `srgan`: one base, one line a subclass."""

from __future__ import annotations


class ModelError(Exception):
    """Base of every error that `srgan` raises on purpose."""


class InvalidSpec(ModelError):
    """A model specification or a setting holds a bad value."""


class InvalidSettings(ModelError):
    """A preset or a setting of a training does not exist or holds a bad value."""


class InvalidStore(ModelError):
    """A chip store is missing, damaged, or has no chips of a split."""


class InvalidCheckpoint(ModelError):
    """A checkpoint is missing, damaged, unsafe or of another architecture."""


class NotSaved(ModelError):
    """A training state could not be written; the previous one is as it was."""


class NotFinite(ModelError):
    """The loss was not finite three times in a row."""


class InvalidExport(ModelError):
    """An exported file, or what is asked of an export, cannot be used."""


class ExportFailed(ModelError):
    """An export could not be written, or does not compute what the generator computes; nothing was left behind."""
