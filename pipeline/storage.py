"""`Storage`: the place of an output's products, a folder or a bucket; both keep the same promises.

- A product is there when its item is: the item is written last, everything else before it with its checksum compared.
- `catalog.json` follows the items, never the other way.
- Blocks, files in the making and locks are always local; journals and records are written locally too, and a bucket gets a copy
  of them (`runs/`) after each change, so that another machine can look at the output.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pipeline.address import output_url
from pipeline.storage_local import LocalStorage


class Storage(Protocol):
    """What an output can do, wherever it is."""

    def check(self) -> None:
        """Raise where nothing can be read from here, or made: InvalidSettings for what must be changed (the folder of work, the bucket,
        credentials), ReadFailed where a store does not answer. Asks the network for a bucket.
        """
        ...

    def publish(
        self, staged: Path, item: Mapping[str, Any], *, overwrite: bool, threads: int, cache: Path | None
    ) -> None:
        """Make the folder `staged` the product `item["id"]`, as `pipeline.publish.publish` says. Raises WriteFailed."""
        ...

    def read_item(self, name: str) -> dict[str, Any] | None:
        """The item of a product, or None where there is no complete one. Raises ReadFailed."""
        ...

    def is_published(self, name: str, *, check: bool, threads: int, cache: Path | None) -> bool | None:
        """None where there is no product, False where it is damaged. Raises ReadFailed."""
        ...

    def names(self) -> list[str]:
        """Folders that may hold a product, sorted; nothing in them is read. Raises ReadFailed."""
        ...

    def rebuild_catalog(self) -> None:
        """Make `catalog.json` anew from all items. Raises ReadFailed, WriteFailed."""
        ...

    def see_linked(self, name: str) -> None:
        """See that the catalogue links the product `name`, which is there. Raises ReadFailed, WriteFailed."""
        ...

    def keep(self, path: Path) -> None:
        """Keep a copy of a journal or record that was written locally. Raises WriteFailed."""
        ...

    def bring(self) -> bool:
        """Fetch the journals and records of other machines; whether there is an output at all.

        Raises ReadFailed, also where they cannot be kept here (a full disk), and InvalidSettings as `check` does.
        """
        ...


def storage_of(output: Path) -> Storage:
    """The storage that `output` stands for (`pipeline.address`); touches neither disk nor network."""
    url = output_url(output)
    if url is None:
        return LocalStorage(output)
    # Its client takes half a second to import.
    from pipeline.storage_object import ObjectStorage

    return ObjectStorage(url, output)
