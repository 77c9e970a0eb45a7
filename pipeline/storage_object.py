"""`ObjectStorage`: products below an `s3://bucket/prefix`, made in a local folder of work and uploaded object by object.

A store knows no rename, so the item does what the rename does in a folder: without it there is no product, whatever else is there.
To publish: everything but the item is uploaded, each object compared with its file; what is there already and the same is left; then
the item; then the catalogue. A product that is replaced first loses its link and its item, so that nobody sees half of each: a run
that is killed then leaves no product, and the next one completes it. The catalogue is written only where nobody else has written it
since it was read, so any number of machines may publish at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.address import scratch
from pipeline.bucket import Bucket, Changed, Stored, tag_of
from pipeline.catalogue import CATALOG, as_text, catalogue, linked, up_to_date
from pipeline.checksums import MANIFEST, differences, listed_in, seal
from pipeline.errors import InvalidSettings, ReadFailed, WriteFailed
from pipeline.folders import RUNS
from pipeline.sink import write_failed
from pipeline.storage_local import complete_item

LEDGER = ".objects.json"
"""Name -> [size, ETag, SHA-256] of the objects of a product, as they were compared: the next run reads none of them again."""
_ATTEMPTS = 20
_UPLOADS = 4


@dataclass(frozen=True)
class ObjectStorage:
    """The products below one URL."""

    url: str
    work: Path
    """The local folder of work."""

    @property
    def _bucket(self) -> Bucket:
        return Bucket(self.url)

    def check(self) -> None:
        """Raise InvalidSettings for a folder of work or a bucket that cannot be used, ReadFailed where the store does not answer."""
        _own_folder(scratch())
        self._bucket.folders()

    def publish(
        self,
        staged: Path,
        item: Mapping[str, Any],
        *,
        overwrite: bool,
        threads: int,
        cache: Path | None,
    ) -> None:
        """Upload the folder `staged` as the product `item["id"]`."""
        name = str(item["id"])
        try:
            sealed, digests = seal(staged, item, threads=threads)
            if not overwrite and self.is_published(name, check=True, threads=threads, cache=cache):
                self._link(name)
                return
            self._withdraw(name)
            self._upload(staged, name, digests, threads)
        except OSError as error:
            raise write_failed(error, staged, option="DECLOUD_SCRATCH") from error
        self._bucket.write(f"{name}/{name}.json", as_text(sealed).encode())
        self._link(name)

    def read_item(self, name: str) -> dict[str, Any] | None:
        """The item of a product, or None where there is no complete one."""
        content = self._bucket.read(f"{name}/{name}.json")
        return None if content is None else complete_item(content, name)

    def is_published(self, name: str, *, check: bool, threads: int, cache: Path | None) -> bool | None:  # noqa: ARG002
        """None where there is no product, False where it is damaged. Objects that the ledger knows are not read again."""
        item = self.read_item(name)
        if item is None:
            return None
        if not check:
            return True
        manifest = self._bucket.read(f"{name}/{MANIFEST}")
        there = {file: stored for file, stored in self._bucket.objects(name).items() if not _hidden(file)}
        there.pop(f"{name}.json", None)
        ledger = self._ledger(name)
        unknown = [file for file, stored in there.items() if ledger.get(file, [])[:2] != [stored.size, stored.tag]]
        if manifest is not None and set(there) - {MANIFEST} != set(listed_in(manifest)[0]):
            return False
        with ThreadPoolExecutor(threads) as pool:
            read = dict(
                zip(unknown, pool.map(self._bucket.digest, (f"{name}/{file}" for file in unknown)), strict=True)
            )
        found = {file: read.get(file) or str(ledger[file][2]) for file in there}
        return not differences(item, found, manifest)

    def names(self) -> list[str]:
        """Folders that may hold a product, sorted."""
        return [name for name in self._bucket.folders() if not name.startswith(".") and name != RUNS]

    def rebuild_catalog(self) -> None:
        """Write `catalog.json` from all items."""
        self._write_catalog(anew=True)

    def see_linked(self, name: str) -> None:
        """See that the catalogue links the product `name`; it is read, and written only where it does not."""
        text = self._bucket.read(CATALOG)
        if text is None or name not in (linked(text) or ()):
            self._link(name)

    def keep(self, path: Path) -> None:
        """Put a copy of a local journal or record into the bucket."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise WriteFailed(f"{path}: cannot be read: {error.strerror or error}") from error
        self._bucket.write(path.relative_to(self.work).as_posix(), content)

    def bring(self) -> bool:
        """Fetch journals and records that are not here, or have grown elsewhere; whether the output holds anything."""
        remote = self._bucket.objects(RUNS)
        for name, stored in remote.items():
            if "/" in name or name.startswith("."):
                continue  # not ours: journals lie side by side, and `..` would lead out of the folder of work
            local = self.work / RUNS / name
            # Lines are only ever added to a journal, and a record is written once: the longer one knows more.
            if not local.exists() or local.stat().st_size < stored.size:
                content = self._bucket.read(f"{RUNS}/{name}") or b""
                _own_folder(scratch())
                _put(local, content)
        return bool(remote) or (self.work / RUNS).is_dir() or self._bucket.stored(CATALOG) is not None

    def _withdraw(self, name: str) -> None:
        """Take a product that is to be replaced out of the catalogue and away; the objects are looked at one by one."""
        if self._bucket.stored(f"{name}/{name}.json") is not None:
            self._write_catalog(without=name)
            self._bucket.remove([f"{name}/{name}.json"])

    def _upload(self, staged: Path, name: str, digests: Mapping[str, str], threads: int) -> None:
        """Bring the objects of a product to what its files are, and note what they are."""
        there = self._bucket.objects(name)
        self._bucket.remove(f"{name}/{file}" for file in there if file not in digests)

        def one(file: str) -> Stored:
            path, stored = staged / file, there.get(file)
            if stored is not None and stored.size == path.stat().st_size and stored.tag == tag_of(path):
                return stored
            return self._bucket.upload(f"{name}/{file}", path, digests[file])

        with ThreadPoolExecutor(max(1, min(threads, _UPLOADS)), thread_name_prefix="upload") as pool:
            stored = dict(zip(digests, pool.map(one, digests), strict=True))
        ledger = {file: [each.size, each.tag, digests[file]] for file, each in stored.items()}
        self._bucket.write(f"{name}/{LEDGER}", as_text(ledger).encode())

    def _ledger(self, name: str) -> dict[str, list[Any]]:
        """What is known of the objects of a product; nothing where the ledger cannot be used, so that they are read."""
        try:
            ledger = json.loads(self._bucket.read(f"{name}/{LEDGER}") or b"{}")
        except ValueError:
            return {}
        if not isinstance(ledger, dict):
            return {}
        return {file: entry for file, entry in ledger.items() if isinstance(entry, list) and len(entry) == 3}

    def _link(self, name: str) -> None:
        self._write_catalog(doubtful=name)

    def _write_catalog(self, *, anew: bool = False, without: str = "", doubtful: str = "") -> None:
        for _ in range(_ATTEMPTS):
            # What is read after the tag is at least as new: if it has changed since, the tag does not fit any more.
            before = self._bucket.stored(CATALOG)
            text = None if before is None else self._bucket.read(CATALOG)
            known = None if text is None or anew else linked(text)
            there = [name for name in self.names() if name != without]
            names = up_to_date(
                None if known is None else known - {doubtful}, there, lambda name: self.read_item(name) is not None
            )
            content = as_text(catalogue(names)).encode()
            if content == text:
                return
            try:
                self._bucket.write(CATALOG, content, after=before, only_if_same=True)
            except Changed:
                continue
            return
        raise WriteFailed(f"{self.url}/{CATALOG}: others write it all the time; run again")


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _put(local: Path, content: bytes) -> None:
    """Write a file that was fetched, whole or not at all. Raises ReadFailed."""
    beside = local.with_name(f".{local.name}.{os.getpid()}.part")
    try:
        local.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(content)
            beside.replace(local)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ReadFailed(str(write_failed(error, local, option="DECLOUD_SCRATCH"))) from error


def _own_folder(folder: Path) -> None:
    """Make the folder of work, where others of this machine do not write. Raises InvalidSettings."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise InvalidSettings(
            f"{folder}: no folder of work can be made ({error.strerror}): name one by DECLOUD_SCRATCH"
        ) from None
    if owner not in (os.geteuid(), 0) or not os.access(folder, os.W_OK):
        raise InvalidSettings(
            f"{folder}: belongs to somebody else, or is read-only: name a folder of yours by DECLOUD_SCRATCH"
        )
