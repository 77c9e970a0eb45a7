"""Publishing: a staged folder becomes a product of the output's static catalogue, completely or not at all.

Order: checksums and manifest, everything to the disk, the folder renamed to its place, and last the item. A folder without a valid
item is no product: the next run replaces it. A product that is being replaced waits in a hidden folder until the new item is there;
whoever publishes next brings it back if the replacement was cut short. The catalogue is rebuilt from the folders, so it needs no
history; it and the renames happen under a lock of the output, so that any number of processes may publish at once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.checksums import MANIFEST, DigestCache, seal, verify
from pipeline.errors import ReadFailed, WriteFailed
from pipeline.sink import write_failed

CATALOG = "catalog.json"
_ASIDE = ".replaced"
_LOCK = ".lock"


def publish(
    staged: Path,
    output: Path,
    item: Mapping[str, Any],
    *,
    overwrite: bool = False,
    threads: int = 2,
    cache: Path | None = None,
) -> Path:
    """Make the folder `staged` the product `item["id"]` of `output`; return its folder.

    `staged` must lie on the same disk as `output`; it is gone afterwards, whatever happens. A complete product of that id whose files
    are what they were is kept, unless `overwrite`. The digests are remembered in `cache`. Raises WriteFailed, with the former state in place.
    """
    name = str(item["id"])
    if not name or name.startswith(".") or Path(name).name != name:
        raise WriteFailed(f"{output}: item id {name!r} cannot be the name of a folder")
    target = output / name
    try:
        sealed, listed = seal(staged, item, threads=threads)
        _sync_tree(staged)
        with _lock(output):
            _recover(output)
            if overwrite or not is_published(output, name, threads=threads, cache=cache):
                _swap(staged, target, sealed)
                if cache is not None:
                    for file, digest in listed.items():
                        DigestCache(cache).remember(target / file, digest)
            rebuild_catalog(output)
    except OSError as error:
        raise write_failed(error, target) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return target


def read_item(output: Path, item_id: str) -> dict[str, Any] | None:
    """The item of a product as a dictionary, or None where there is no complete one. Raises ReadFailed."""
    try:
        item = json.loads((output / item_id / f"{item_id}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        # Not knowing is not the same as not being there: the folder must not be replaced.
        raise ReadFailed(f"{output / item_id}: item cannot be read: {error.strerror or error}") from error
    if not isinstance(item, dict) or (item.get("type"), item.get("id")) != ("Feature", item_id):
        return None
    assets = item.get("assets")
    complete = isinstance(assets, dict) and all(
        isinstance(asset, dict) and isinstance(asset.get("href"), str) for asset in assets.values()
    )
    return item if complete else None


def is_published(
    output: Path, item_id: str, *, check: bool = True, threads: int = 2, cache: Path | None = None
) -> bool | None:
    """Whether `output` holds the product: None if not, False if it is damaged, True if it is there.

    `check` compares every file with its checksum; files that `cache` knows and that did not change since are not read again.
    """
    item = read_item(output, item_id)
    if item is None:
        return None
    return not (check and verify(output / item_id, item, threads=threads, cache=cache))


def published_items(output: Path) -> list[str]:
    """Ids of the products in `output`, sorted; their files are not checked."""
    try:
        names = sorted(entry.name for entry in os.scandir(output) if entry.is_dir() and not entry.name.startswith("."))
    except FileNotFoundError:
        return []
    return [name for name in names if read_item(output, name) is not None]


def rebuild_catalog(output: Path) -> None:
    """Write `catalog.json` from the folders that hold a complete item; the same products give the same bytes."""
    links: list[dict[str, str]] = [
        {"rel": "root", "href": f"./{CATALOG}", "type": "application/json", "title": "Cloud-free scenes"}
    ]
    links += [
        {"rel": "item", "href": f"./{name}/{name}.json", "type": "application/geo+json", "title": name}
        for name in published_items(output)
    ]
    catalog = {
        "type": "Catalog",
        "stac_version": "1.1.0",
        "id": "declouder",
        "title": "Cloud-free scenes",
        "description": "Sentinel-2 scenes from which clouds were removed; where each pixel comes from is in their asset `provenance`.",
        "links": links,
    }
    _write_json(output / CATALOG, catalog)


def _swap(staged: Path, target: Path, item: Mapping[str, Any]) -> None:
    """Put `staged` and its item in the place of `target`; on any failure `target` is what it was."""
    aside = target.parent / _ASIDE / target.name
    if read_item(target.parent, target.name) is not None:
        aside.parent.mkdir(exist_ok=True)
        target.rename(aside)
    elif (target / MANIFEST).is_file():
        # A publication that was cut short: the manifest is written before the folder gets its name.
        shutil.rmtree(target)
    elif target.exists():
        raise WriteFailed(f"{target}: is there already and is no product: move it away, or choose another --output")
    try:
        staged.rename(target)
        _sync(target.parent)
        _write_json(target / f"{target.name}.json", item)
    except BaseException:
        if target.exists() and not staged.exists():
            target.rename(staged)
        if aside.exists():
            aside.rename(target)
        raise
    _discard(aside)


def _recover(output: Path) -> None:
    """Bring back what a process that was killed had moved aside, unless its replacement is complete."""
    for aside in (output / _ASIDE).glob("*"):
        target = output / aside.name
        if read_item(output, aside.name) is None:
            if target.exists():
                shutil.rmtree(target)
            aside.rename(target)
        else:
            _discard(aside)


def _discard(aside: Path) -> None:
    # The product is in place: rubbish that cannot be removed now is removed by the next run.
    if aside.exists():
        shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(OSError):
        aside.parent.rmdir()


@contextlib.contextmanager
def _lock(output: Path) -> Iterator[None]:
    """Hold the lock of `output`; the system frees it when the process ends, however it ends."""
    output.mkdir(parents=True, exist_ok=True)
    with (output / _LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees the old content or the new one, and nothing in between; untouched where it is the same."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with contextlib.suppress(OSError):
        if path.read_text(encoding="utf-8") == text:
            return
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    _sync(path.parent)


def _sync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            _sync(Path(root, name))
        _sync(Path(root))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot flush a folder by itself, and do it with its files.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(handle)
