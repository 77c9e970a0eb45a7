"""`Items`: the items of an output, each read once; one that cannot be read costs no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.address import output_url
from pipeline.errors import PipelineError, ReadFailed
from pipeline.folders import RUNS
from pipeline.storage import storage_of

_NOT_PRODUCTS = (RUNS, "backfills")
_PATIENCE = 3
"""Items one after another that a bucket does not give before nothing more is asked of it: each costs its time-outs."""


@dataclass(frozen=True)
class Items:
    """What was found in the folders of an output."""

    complete: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    """Name of the folder -> its item."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Name of the folder -> why nobody knows whether there is an item in it."""
    none: tuple[str, ...] = ()
    """Folders without a complete item."""


def read_items(output: Path) -> Items:
    """The items of all folders of an output.

    Raises ReadFailed or InvalidSettings where the output itself cannot be looked at.
    """
    storage = storage_of(output)
    complete: dict[str, Mapping[str, Any]] = {}
    unread: dict[str, str] = {}
    none = []
    silent = 0
    for name in storage.names():
        if name in _NOT_PRODUCTS or name.endswith(".zarr"):
            continue
        try:
            item = storage.read_item(name)
        except PipelineError as error:
            silent += isinstance(error, ReadFailed)
            if output_url(output) is not None and silent >= _PATIENCE:
                raise
            unread[name] = str(error)
            continue
        silent = 0
        if item is None:
            none.append(name)
        else:
            complete[name] = item
    return Items(complete, unread, tuple(none))
