"""Checksums of files: the manifest of a product, its verification, and the digests of sources, remembered between runs."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pipeline.errors import ReadFailed
from pipeline.parts import part_of

MANIFEST = "manifest.sha256"
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
# A file that is written again within one tick of the clock keeps its time stamp; two seconds is the coarsest clock in use.
_RACY_NS = 2_000_000_000


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content. Raises ReadFailed."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ReadFailed(f"{path}: cannot be read: {error.strerror or error}") from error


def multihash(digest: str) -> str:
    """The digest as STAC's `file:checksum`: multihash code 0x12 (SHA-256), length 0x20, digest.

    >>> multihash("ab" * 32)[:8]
    '1220abab'
    """
    return "1220" + digest


@dataclass(frozen=True)
class DigestCache:
    """SHA-256 of files that did not change, without reading them again.

    An entry holds while path, size, time of modification and inode are the same. A damaged entry, or a folder that cannot be written,
    costs time but never gives a wrong answer. Safe for concurrent processes: an entry is one file, replaced as a whole.
    """

    folder: Path

    def digest(self, path: Path) -> str:
        """SHA-256 of `path`. Raises ReadFailed."""
        before = _identity(path)
        known = self._load(path)
        if known is not None and known[0] == before:
            return known[1]
        found = sha256_of(path)
        if _identity(path) == before:
            self.remember(path, found)
        return found

    def remember(self, path: Path, digest: str) -> None:
        """Note that `path`, as it is now, has this digest."""
        identity = _identity(path)
        if time.time_ns() - identity[1] < _RACY_NS:
            return
        entry = {"path": str(path.absolute()), "identity": identity, "sha256": digest}
        # The cache saves time; a run must not fail for the lack of it.
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            part = part_of(self._entry(path))
            try:
                part.write_text(json.dumps(entry), encoding="utf-8")
                part.replace(self._entry(path))
            finally:
                part.unlink(missing_ok=True)

    def _load(self, path: Path) -> tuple[list[int], str] | None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            entry = json.loads(self._entry(path).read_text(encoding="utf-8"))
            if entry["path"] == str(path.absolute()) and re.fullmatch("[0-9a-f]{64}", entry["sha256"]):
                return list(entry["identity"]), entry["sha256"]
        return None

    def _entry(self, path: Path) -> Path:
        return self.folder / (hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:40] + ".json")


def source_digest(path: Path, cache: Path | None = None) -> str:
    """SHA-256 of a source file, remembered in the folder `cache` where there is one. Raises ReadFailed."""
    return sha256_of(path) if cache is None else DigestCache(cache).digest(path)


def digests(paths: Iterable[Path], *, threads: int = 2, cache: Path | None = None) -> dict[Path, str]:
    """SHA-256 of many files, in their order; hashing releases the interpreter's lock. Raises ReadFailed."""
    listed = list(paths)
    with ThreadPoolExecutor(threads, thread_name_prefix="sha256") as pool:
        return dict(zip(listed, pool.map(lambda path: source_digest(path, cache), listed), strict=True))


def product_files(folder: Path, item_id: str) -> list[Path]:
    """Every file of a product but its manifest and its item, by relative name; hidden ones (`.name`) are no part of it."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in names if not name.startswith(".")]
    left_out = {folder / MANIFEST, folder / f"{item_id}.json"}
    return sorted(
        (path for path in found if path not in left_out), key=lambda path: path.relative_to(folder).as_posix()
    )


def seal(folder: Path, item: Mapping[str, Any], *, threads: int = 2) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the manifest of `folder`; return the item with size and checksum at every asset that is a file, and all digests.

    The manifest is an asset of its own, so that the item vouches for every file, also for those inside a Zarr store.
    """
    found = digests(product_files(folder, item["id"]), threads=threads)
    listed = {path.relative_to(folder).as_posix(): digest for path, digest in found.items()}
    (folder / MANIFEST).write_text("".join(f"{digest}  {name}\n" for name, digest in listed.items()), encoding="utf-8")
    sealed = copy.deepcopy(dict(item))
    sealed["assets"]["manifest"] = {
        "href": f"./{MANIFEST}",
        "type": "text/plain",
        "title": "SHA-256 of every file, for `sha256sum --check`",
        "roles": ["metadata"],
    }
    listed[MANIFEST] = sha256_of(folder / MANIFEST)
    for asset in sealed["assets"].values():
        name = _local(asset["href"])
        if name in listed:
            asset["file:size"] = (folder / name).stat().st_size
            asset["file:checksum"] = multihash(listed[name])
    return sealed, listed


def verify(folder: Path, item: Mapping[str, Any], *, threads: int = 2, cache: Path | None = None) -> list[str]:
    """What is wrong with the files of the product in `folder`: missing, changed, or not its own; empty where all is well."""
    present = {path.relative_to(folder).as_posix(): path for path in product_files(folder, item["id"])}
    manifest = folder / MANIFEST
    readable = [*present.values(), *([manifest] if manifest.is_file() else [])]
    found = {
        path.relative_to(folder).as_posix(): digest
        for path, digest in digests(readable, threads=threads, cache=cache).items()
    }
    return differences(item, found, manifest.read_bytes() if MANIFEST in found else None)


def incomplete(folder: Path, item: Mapping[str, Any]) -> list[str]:
    """Files of the product in `folder` that are missing or of another size than its item says: what a look finds without reading them."""
    problems = []
    for asset in item["assets"].values():
        name, size = _local(asset["href"]), asset.get("file:size")
        if name is None:
            continue
        path = folder / name
        # A name that no disk can hold is missing too; `Path.exists` would raise.
        if not os.path.exists(path):  # noqa: PTH110
            problems.append(f"{name} is missing")
        elif size is not None and path.is_file() and path.stat().st_size != size:
            problems.append(f"{name} has {path.stat().st_size} of {size} bytes")
    return problems


def differences(item: Mapping[str, Any], found: Mapping[str, str], manifest: bytes | None) -> list[str]:
    """What is wrong with the files of a product, wherever they are; empty where all is well.

    found: digest of each of its files that is there, the manifest's among them, by name relative to the product.
    """
    problems = []
    for key, asset in item["assets"].items():
        name = _local(asset["href"])
        if name is None:
            continue
        if name not in found and not any(file.startswith(f"{name}/") for file in found):
            problems.append(f"{name}: missing, though it is asset {key}")
        elif name in found and asset.get("file:checksum") != multihash(found[name]):
            problems.append(f"{name}: content differs from the checksum in the item")
    if manifest is None:
        return sorted({*problems, f"{MANIFEST}: missing"})
    present = set(found) - {MANIFEST}
    listed, odd = listed_in(manifest)
    problems += [f"{MANIFEST}: line {line!r} is not `checksum  name`" for line in odd]
    problems += [f"{name}: missing, though the manifest lists it" for name in listed if name not in present]
    problems += [f"{name}: not in the manifest" for name in present if name not in listed]
    problems += [
        f"{name}: content differs from the manifest" for name in present if listed.get(name, found[name]) != found[name]
    ]
    return sorted(set(problems))


def listed_in(manifest: bytes) -> tuple[dict[str, str], list[str]]:
    """Name -> digest as a manifest lists them, and its lines that are none."""
    listed, odd = {}, []
    for line in manifest.decode("utf-8", "replace").splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            odd.append(line)
        else:
            listed[match[2]] = match[1]
    return listed, odd


def _identity(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError as error:
        raise ReadFailed(f"{path}: cannot be read: {error.strerror or error}") from error
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _local(href: str) -> str | None:
    """Path below the product's folder that a relative href names; None for an absolute one or one that leaves the folder."""
    name = os.path.normpath(unquote(href))
    return None if "://" in href or Path(name).is_absolute() or Path(name).parts[:1] == ("..",) else name
