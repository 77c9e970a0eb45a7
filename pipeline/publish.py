"""Publishing: a staged folder becomes a product of the output's static catalogue, completely or not at all.

Done means a valid item and files that have the checksums that it states. Where the products are, a folder or a bucket, is
`pipeline.storage`'s business; an output is a `Path` here as everywhere (`pipeline.address`).
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catalogs.errors import CatalogError, SourceUnavailable
from catalogs.objects import read_object
from pipeline.address import address, is_url
from pipeline.errors import InvalidScene, PipelineError, ReadFailed, WriteFailed
from pipeline.storage import storage_of

_log = logging.getLogger(__name__)
_KEY = re.compile(r"[0-9a-f]{10}")


def publish(
    staged: Path,
    output: Path,
    item: Mapping[str, Any],
    *,
    overwrite: bool = False,
    threads: int = 2,
    cache: Path | None = None,
) -> Path:
    """Make the folder `staged` the product `item["id"]` of `output`; return its folder (`pipeline.address.address` shows it).

    `staged` must lie on the same disk as `output`; it is gone afterwards, whatever happens. A complete product of that id whose files
    are what they were is kept, unless `overwrite`. The digests are remembered in `cache`. Raises WriteFailed: in a folder the former
    state is then in place, in a bucket the product is absent or complete.
    """
    name = str(item["id"])
    try:
        if not name or name.startswith(".") or Path(name).name != name:
            raise WriteFailed(f"{address(output)}: item id {name!r} cannot be the name of a folder")
        storage_of(output).publish(staged, item, overwrite=overwrite, threads=threads, cache=cache)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return output / name


def read_item(output: Path, item_id: str) -> dict[str, Any] | None:
    """The item of a product as a dictionary, or None where there is no complete one. Raises ReadFailed."""
    return storage_of(output).read_item(item_id)


def is_published(
    output: Path, item_id: str, *, check: bool = True, threads: int = 2, cache: Path | None = None
) -> bool | None:
    """Whether `output` holds the product: None if not, False if it is damaged, True if it is there.

    `check` compares every file with its checksum; files that `cache` knows and that did not change since are not read again.
    """
    return storage_of(output).is_published(item_id, check=check, threads=threads, cache=cache)


def published_items(output: Path) -> list[str]:
    """Ids of the products in `output`, sorted; their files are not checked. Reads every item."""
    storage = storage_of(output)
    return [name for name in storage.names() if storage.read_item(name) is not None]


def products_of(output: Path, scene: str) -> list[str]:
    """Ids of the products of the source item `scene`, oldest first. Reads the items of that scene alone."""
    storage, found = storage_of(output), []
    for name in storage.names():
        # The id of a product is that of its source and ten digits of the run key.
        if name.startswith(f"{scene}_") and _KEY.fullmatch(name, len(scene) + 1):
            properties = (storage.read_item(name) or {}).get("properties", {})
            if properties.get("declouder:source") == scene:
                found.append((str(properties.get("created", "")), name))
    return [name for _, name in sorted(found)]


def see_linked(output: Path, item_id: str) -> None:
    """See that the catalogue links a product that is there. One that cannot be written stays as it is, which is logged."""
    try:
        storage_of(output).see_linked(item_id)
    except PipelineError as error:
        _log.warning("%s: the product %s is there, but not in the catalogue", error, item_id)


def read_file(place: str) -> bytes:
    """Content of a product's file, by path or `s3://` URL.

    Raises InvalidScene where it is not there or not ours to read, ReadFailed where it may be had later.
    """
    try:
        return read_object(place) if is_url(place) else Path(place).read_bytes()
    except SourceUnavailable as error:
        raise ReadFailed(str(error)) from None
    except CatalogError as error:
        raise InvalidScene(str(error)) from None
    except FileNotFoundError:
        raise InvalidScene(f"{place}: no such file") from None
    except OSError as error:
        raise ReadFailed(f"{place}: cannot be read: {error.strerror or error}") from error


def rebuild_catalog(output: Path) -> None:
    """Make `catalog.json` anew from the folders that hold a complete item, as a repair; publishing only adds its own link."""
    storage_of(output).rebuild_catalog()
