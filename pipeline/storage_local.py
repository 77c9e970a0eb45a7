"""`LocalStorage`: products in a folder of this machine or of a file system that it has mounted.

Order: checksums and manifest, everything to the disk, the folder renamed to its place, and last the item. A folder without a valid
item is no product: the next run replaces it. A product that is replaced changes places with the new one in a single step. Where the system
cannot do that, it waits in a hidden folder until the new item is there, and whoever publishes next brings it back if that was cut short.
The catalogue and the renames are written under a lock of the output, so that any number of processes may publish at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.catalogue import CATALOG, as_text, catalogue, linked, up_to_date
from pipeline.checksums import MANIFEST, DigestCache, seal, verify
from pipeline.durable import exchange, flush, flush_tree, remove_tree, turn
from pipeline.errors import ReadFailed, WriteFailed
from pipeline.parts import write_whole
from pipeline.sink import write_failed

_log = logging.getLogger(__name__)
_ASIDE = ".replaced"
_LOCK = ".lock"


@dataclass(frozen=True)
class LocalStorage:
    """The products of one folder."""

    output: Path

    def check(self) -> None:
        """A folder is looked at by whoever writes to it first."""

    def publish(
        self, staged: Path, item: Mapping[str, Any], *, overwrite: bool, threads: int, cache: Path | None
    ) -> None:
        """Make the sealed folder `staged`, which lies on the same disk, the product `item["id"]`."""
        output, name = self.output, str(item["id"])
        target = output / name
        try:
            sealed, digests = seal(staged, item, threads=threads)
            flush_tree(staged)
            with _lock(output):
                _recover(output)
                if overwrite or not self.is_published(name, check=True, threads=threads, cache=cache):
                    _swap(staged, target, sealed)
                    if cache is not None:
                        for file, digest in digests.items():
                            DigestCache(cache).remember(target / file, digest)
                self._link(name)
        except OSError as error:
            raise write_failed(error, target) from error

    def read_item(self, name: str) -> dict[str, Any] | None:
        """The item of a product, or None where there is no complete one. Raises ReadFailed."""
        return _item_in(self.output / name)

    def is_published(self, name: str, *, check: bool, threads: int, cache: Path | None) -> bool | None:
        """None where there is no product, False where it is damaged."""
        item = self.read_item(name)
        if item is None:
            return None
        return not (check and verify(self.output / name, item, threads=threads, cache=cache))

    def names(self) -> list[str]:
        """Folders that may hold a product, sorted."""
        try:
            with os.scandir(self.output) as found:
                return sorted(entry.name for entry in found if entry.is_dir() and not entry.name.startswith("."))
        except FileNotFoundError:
            return []

    def rebuild_catalog(self) -> None:
        """Write `catalog.json` from all folders."""
        self._write_catalog(None)

    def see_linked(self, name: str) -> None:
        """See that the catalogue links the product `name`; it is read, and written only where it does not."""
        if name in (self._linked() or ()):
            return
        try:
            with _lock(self.output):
                self._link(name)
        except OSError as error:
            raise write_failed(error, self.output / CATALOG) from error

    def keep(self, path: Path) -> None:
        """Journals and records are written where they stay."""

    def bring(self) -> bool:
        """Whether the folder is there: journals and records are in it."""
        return self.output.is_dir()

    def _link(self, name: str) -> None:
        """See that the catalogue links the product `name`, which was just looked at."""
        known = self._linked()
        self._write_catalog(None if known is None else known - {name})

    def _linked(self) -> set[str] | None:
        with contextlib.suppress(OSError):
            return linked((self.output / CATALOG).read_bytes())
        return None

    def _write_catalog(self, known: set[str] | None) -> None:
        names = up_to_date(known, self.names(), self._holds_item)
        _write_json(self.output / CATALOG, catalogue(names))

    def _holds_item(self, name: str) -> bool:
        """Whether the catalogue is to link a folder; one that cannot be read keeps no other product from being published."""
        try:
            return self.read_item(name) is not None
        except ReadFailed as error:
            _log.warning("%s; the catalogue does not link it", error)
            return False


def _item_in(folder: Path) -> dict[str, Any] | None:
    try:
        text = (folder / f"{folder.name}.json").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None
    except OSError as error:
        # Not knowing is not the same as not being there: the folder must not be replaced.
        raise ReadFailed(f"{folder}: item cannot be read: {error.strerror or error}") from error
    return complete_item(text, folder.name)


def complete_item(text: str | bytes, name: str) -> dict[str, Any] | None:
    """The item of the product `name` in `text`; None where it is none."""
    try:
        item = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(item, dict) or (item.get("type"), item.get("id")) != ("Feature", name):
        return None
    assets = item.get("assets")
    complete = isinstance(assets, dict) and all(
        isinstance(asset, dict) and isinstance(asset.get("href"), str) for asset in assets.values()
    )
    return item if complete else None


def _swap(staged: Path, target: Path, item: Mapping[str, Any]) -> None:
    """Put `staged` and its item in the place of `target`; on any failure `target` is what it was."""
    aside = target.parent / _ASIDE / target.name
    whole = _item_in(target) is not None
    # A publication that was cut short: the manifest is written before the folder gets its name.
    if whole or (target / MANIFEST).is_file():
        if _exchanged(staged, target, item):
            return
        if whole:
            aside.parent.mkdir(exist_ok=True)
            target.rename(aside)
        else:
            # Out of the way in one step: were its removal cut short as well, nothing would tell what the rest had been.
            rest = staged.with_name(f"{staged.name}.cut-short")
            remove_tree(rest)
            target.rename(rest)
            # What cannot be removed now goes with the rest of the staging.
            shutil.rmtree(rest, ignore_errors=True)
    elif target.exists():
        raise WriteFailed(f"{target}: is there already and is no product: move it away, or choose another --output")
    try:
        staged.rename(target)
        flush(target.parent)
        _write_json(target / f"{target.name}.json", item)
    except BaseException:
        if target.exists() and not staged.exists():
            target.rename(staged)
        if aside.exists():
            aside.rename(target)
        raise
    _discard(aside)


def _exchanged(staged: Path, target: Path, item: Mapping[str, Any]) -> bool:
    """Let `staged` and the product `target` change places: who looks meanwhile finds the one or the other. False where the system cannot."""
    written = staged / f"{target.name}.json"
    _write_json(written, item)
    if not exchange(staged, target):
        written.unlink()
        return False
    try:
        flush(target.parent)
    except OSError:
        exchange(staged, target)
        raise
    return True


def _recover(output: Path) -> None:
    """Bring back what a process that was killed had moved aside, unless its replacement is complete."""
    for aside in (output / _ASIDE).glob("*"):
        target = output / aside.name
        if _item_in(target) is None:
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
    """Hold the lock of `output`, which is made where it is missing."""
    output.mkdir(parents=True, exist_ok=True)
    with turn(output / _LOCK):
        yield


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees the old content or the new one, and nothing in between; untouched where it is the same."""
    text = as_text(content)
    with contextlib.suppress(OSError):
        if path.read_text(encoding="utf-8") == text:
            return
    # Under the lock of the output, or in a folder of this run's own.
    write_whole(path, text.encode(), path.with_name(f".{path.name}.part"))
    flush(path.parent)
