"""`Bucket`: the objects below one `s3://bucket/prefix`, with every failure as one of our errors.

An upload is compared with its file before it counts. The ETag of most stores is an MD5 of what they hold, of its parts where it
came in parts; where it is none (other encryption, other stores) the object is read back instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from catalogs.errors import CatalogError, SourceUnavailable
from catalogs.objects import code_of, failure, failures, is_absent, s3
from pipeline.checksums import sha256_of
from pipeline.errors import InvalidSettings, PipelineError, ReadFailed, WriteFailed

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PART = 16 << 20
"""Bytes of a part of a large object; twice that is sent at once, and two parts are in memory."""
_TYPES = {".json": "application/json", ".jsonl": "application/x-ndjson", ".tif": "image/tiff", ".png": "image/png"}


class Changed(WriteFailed):
    """Somebody else has written the object since it was read."""


@dataclass(frozen=True)
class Stored:
    """What a store says of an object."""

    size: int
    """Bytes."""
    tag: str
    """ETag without quotes: another content has another one."""


@dataclass(frozen=True)
class Bucket:
    """The objects below `url`; names are relative to it."""

    url: str

    def read(self, name: str) -> bytes | None:
        """Content of an object, None where it is not there. Raises ReadFailed, InvalidSettings."""
        with self._reading(name) as store:
            try:
                content: bytes = store.cat_file(self._at(name))
            except FileNotFoundError as error:
                if is_absent(error):
                    return None
                raise
            return content

    def stored(self, name: str) -> Stored | None:
        """What the store says of an object, None where it is not there. Raises ReadFailed, InvalidSettings."""
        with self._reading(name) as store:
            try:
                info = store.info(self._at(name))
            except FileNotFoundError as error:
                if is_absent(error):
                    return None
                raise
            return _stored(info) if info["type"] == "file" else None

    def digest(self, name: str) -> str:
        """SHA-256 of an object, read piece by piece. Raises ReadFailed, InvalidSettings."""
        found = hashlib.sha256()
        with self._reading(name) as store, store.open(self._at(name), "rb", block_size=PART) as file:
            while piece := file.read(PART):
                found.update(piece)
        return found.hexdigest()

    def objects(self, folder: str) -> dict[str, Stored]:
        """All objects below `folder/`, by name relative to it. Raises ReadFailed, InvalidSettings."""
        start = f"{self._key(folder)}/"
        with self._reading(folder) as store:
            found = store.find(self._at(folder), detail=True)
        return {name[len(start) :]: _stored(info) for name, info in sorted(found.items()) if name.startswith(start)}

    def folders(self) -> list[str]:
        """What stands before a slash right below the prefix, sorted. Raises ReadFailed, InvalidSettings."""
        with self._reading("") as store:
            try:
                found = store.ls(self._at(""), detail=True, refresh=True)
            except FileNotFoundError as error:
                if is_absent(error):
                    return []
                raise
        return sorted(info["name"].rpartition("/")[2] for info in found if info["type"] == "directory")

    def write(self, name: str, content: bytes, *, after: Stored | None = None, only_if_same: bool = False) -> None:
        """Put an object; with `only_if_same` only where it still is `after`, or not there where that is None.

        Raises Changed where it is not, WriteFailed, InvalidSettings.
        """
        condition: dict[str, str] = {}
        if only_if_same:
            condition = {"IfNoneMatch": "*"} if after is None else {"IfMatch": after.tag}
        with self._writing(name) as store:
            try:
                store.pipe_file(self._at(name), content, ContentType=_type_of(name), **condition)
            except failures() as error:
                code = code_of(error)
                if code in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409"):
                    raise Changed(f"{self.url}/{name}: written by somebody else meanwhile; run again") from error
                if not condition or code not in ("NotImplemented", "501"):
                    raise
                # A store that knows no conditions: the last one wins, and the next publication mends the catalogue.
                store.pipe_file(self._at(name), content, ContentType=_type_of(name))

    def upload(self, name: str, path: Path, digest: str) -> Stored:
        """Put a file, whose SHA-256 is `digest`, and see that it has arrived as it is. Raises WriteFailed, InvalidSettings."""
        with self._writing(name) as store:
            store.put_file(str(path), self._at(name), chunksize=PART, max_concurrency=2, ContentType=_type_of(name))
            arrived = _stored(store.info(self._at(name)))
        same = arrived.size == path.stat().st_size
        if not same or (arrived.tag != tag_of(path) and self.digest(name) != digest):
            raise WriteFailed(f"{self.url}/{name}: has arrived with another content ({arrived.size} bytes); run again")
        if sha256_of(path) != digest:
            raise WriteFailed(f"{path}: was changed while it was sent; run again")
        return arrived

    def remove(self, names: Iterable[str]) -> None:
        """Delete objects; those that are not there count as deleted. Raises WriteFailed, InvalidSettings."""
        listed = [self._at(name) for name in names]
        if listed:
            with self._writing("") as store:
                store.rm(listed)

    def _at(self, name: str) -> str:
        return f"{self.url}/{name}" if name else self.url

    def _key(self, name: str) -> str:
        parts = urlsplit(self._at(name))
        return f"{parts.netloc}{parts.path}"

    @contextmanager
    def _reading(self, name: str) -> Iterator[AbstractFileSystem]:
        with _translated(self._at(name), ReadFailed) as store:
            yield store

    @contextmanager
    def _writing(self, name: str) -> Iterator[AbstractFileSystem]:
        with _translated(self._at(name), WriteFailed) as store:
            yield store


def tag_of(path: Path) -> str:
    """The ETag of a file that `Bucket.upload` has sent, in stores that make it of MD5.

    MD5 of the content; of the digests of its parts, and their number, where it goes in parts.
    """
    with path.open("rb") as file:
        if path.stat().st_size < 2 * PART:
            return hashlib.md5(file.read(), usedforsecurity=False).hexdigest()
        parts = [hashlib.md5(piece, usedforsecurity=False).digest() for piece in iter(lambda: file.read(PART), b"")]
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"


@contextmanager
def _translated(url: str, kind: type[PipelineError]) -> Iterator[AbstractFileSystem]:
    """The store; what goes wrong with it as `kind` where it may pass, else as InvalidSettings."""
    try:
        yield s3()
    except CatalogError as error:
        raise InvalidSettings(str(error)) from None
    except failures() as error:
        told = failure(error, url)
        raise (kind(str(told)) if isinstance(told, SourceUnavailable) else InvalidSettings(str(told))) from None


def _stored(info: dict[str, Any]) -> Stored:
    return Stored(int(info["size"] or 0), str(info.get("ETag", "")).strip('"'))


def _type_of(name: str) -> str:
    return _TYPES.get(Path(name).suffix, "application/octet-stream")
