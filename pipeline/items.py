"""`Items`: the items of an output, each read once; one that cannot be read costs no other."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.address import output_url
from pipeline.ahead import in_order
from pipeline.errors import PipelineError, ReadFailed
from pipeline.folders import BACKFILLS, RUNS
from pipeline.storage import storage_of

_NOT_PRODUCTS = (RUNS, BACKFILLS)
_PATIENCE = 3
"""Items one after another that a bucket does not give before nothing more is asked of it: each costs its time-outs."""
_THREADS = 8
"""Items of a bucket that are asked for at once: each is a request of its own, and most of it is waiting."""


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
    """The items of all folders of an output; those in a bucket a few side by side.

    Raises ReadFailed or InvalidSettings where the output itself cannot be looked at.
    """
    storage, remote = storage_of(output), output_url(output) is not None

    def read(name: str) -> Mapping[str, Any] | PipelineError | None:
        try:
            return storage.read_item(name)
        except PipelineError as error:
            return error

    names = [name for name in storage.names() if name not in _NOT_PRODUCTS and not name.endswith(".zarr")]
    complete: dict[str, Mapping[str, Any]] = {}
    unread: dict[str, str] = {}
    none = []
    silent = 0
    with closing(in_order(read, names, _THREADS if remote else 1)) as found:
        for name, item in zip(names, found, strict=True):
            if isinstance(item, PipelineError):
                silent += isinstance(item, ReadFailed)
                if remote and silent >= _PATIENCE:
                    raise item
                unread[name] = str(item)
                continue
            silent = 0
            if item is None:
                none.append(name)
            else:
                complete[name] = item
    return Items(complete, unread, tuple(none))
