"""`write_store`: the chips of pair tables as plain arrays, which `srgan` reads with numpy alone.

A store is a folder with `manifest.json` and, a chip, `<id>/images.npy`, `<id>/masks.npy` and `<id>/source.json`, a
fingerprint of what it was made from: rows, file sizes and times. A chip whose fingerprint still holds is kept.

Order matters, so that at any moment the store is one that can be read. Chips that are new or changed are written below
`.writing`, which survives an interruption; then the new manifest beside the old one. From there on nothing is written any
more, only renamed: the chips into their places, the manifest last. A full disk stops the first half and leaves the store
as it was.

    python -m pipeline.chipstore PAIRS.parquet ... --store DIR [--splits FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from catalogs.apart import kept_apart
from catalogs.bands import BANDS
from catalogs.errors import CatalogError
from catalogs.pairs import PairTable
from catalogs.splits import Splits, split_hash
from pipeline.ahead import in_order
from pipeline.chips import ChipArrays, read_chip, sources_of
from pipeline.errors import InvalidSettings, PipelineError
from pipeline.images import ImageReader, item_of
from pipeline.lock import locked
from pipeline.progress import Progress, silent
from pipeline.reader import local_path
from pipeline.sink import write_failed

LOG = logging.getLogger(__name__)

VERSION = 2
"""Of the manifest."""
MANIFEST = "manifest.json"
STAGING = ".writing"
WORKERS = 2
_WRITER = 1  # raise it when chips of the same sources would come out otherwise
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
Places = dict[str, tuple[str, pd.DataFrame]]
"""Place -> (name of its table, its rows)."""


def write_store(
    tables: PairTable | Sequence[PairTable],
    folder: Path,
    *,
    splits: Splits | None = None,
    needed: Sequence[str] = (),
    progress: Progress = silent,
    workers: int = WORKERS,
) -> dict[str, Any]:
    """Write the usable chips of `tables` into the store `folder` and return its manifest.

    Usable are pairs and clear ground of quality `ok`, and pairs without cloud as ground. splits: given anew for every group,
    instead of those of the tables. needed: splits that must have a chip, known before one is made. progress: stage `chips`. workers: chips that are made side by side.

    Postconditions: the manifest names exactly the places with usable rows, less those in its `left_out`; a second call
    writes no chip. Raises InvalidSettings where nothing is usable, a group is in two splits, two tables name one place,
    or the folder holds something else; InvalidScene where a file has moved or changed; WriteFailed on a full disk, with the
    previous store still readable, and where another run is writing the same store.
    """
    given = [with_splits(table, splits) for table in ([tables] if isinstance(tables, PairTable) else tables)]
    one_split_a_group(given)
    apart, left_out = kept_apart(given)
    places = _usable(apart)
    if not places:
        raise InvalidSettings("the pair tables hold no usable chip: see their columns quality and reason")
    there = {str(rows["split"].iloc[0]) for _, rows in places.values()}
    if missing := [name for name in needed if name not in there]:
        raise InvalidSettings(
            f"the pair tables hold no usable chip of split {missing[0]!r}, only of {', '.join(sorted(there))}: "
            "name groups for it with --splits FILE"
        )
    with locked(folder / ".lock"):
        before = _named(folder)
        try:
            chips = _stage(places, folder, progress, workers)
            manifest = {
                "version": VERSION,
                "bands": list(BANDS),
                "split_hash": split_hash((chip["group"], chip["split"]) for chip in chips),
                "pairs": _digest([_plain(rows) for _, rows in places.values()]),
                "chips": chips,
                "left_out": [[reject.path, reject.reason] for reject in left_out],
            }
            _publish(folder, manifest, before)
        except OSError as error:
            raise write_failed(error, folder) from error
    return manifest


def with_splits(table: PairTable, splits: Splits | None) -> PairTable:
    """`table` with the split of every group given anew; as it is for None."""
    if splits is None:
        return table
    return replace(table, frame=table.frame.assign(split=[splits.of(group) for group in table.frame["group"]]))


def one_split_a_group(tables: Sequence[PairTable]) -> None:
    """Raise InvalidSettings where two tables have one group in two splits; one table cannot."""
    groups: dict[str, tuple[str, str]] = {}
    for table in tables:
        for group, split in sorted(set(zip(table.frame["group"], table.frame["split"], strict=True))):
            before = groups.setdefault(group, (split, table.name))
            if before[0] != split:
                raise InvalidSettings(
                    f"group {group} is {before[0]} in {before[1]} and {split} in {table.name}: "
                    "give one splits file for all tables"
                )


def _usable(tables: Sequence[PairTable]) -> Places:
    """The usable rows by place, ordered by place."""
    found: Places = {}
    for table in tables:
        good = table.frame[table.frame["quality"].isin(("ok", "no_cloud"))]
        for place, rows in good.groupby("place"):
            if not _ID.fullmatch(str(place)) or place == MANIFEST:
                raise InvalidSettings(f"{table.name}: place {place!r} cannot name a folder: make the table again")
            if place in found:
                raise InvalidSettings(f"place {place} is in {found[str(place)][0]} and in {table.name}: leave one out")
            found[str(place)] = table.name, rows
    return dict(sorted(found.items()))


def _stage(places: Places, folder: Path, progress: Progress, workers: int) -> list[dict[str, Any]]:
    """Manifest rows of all places; chips that the store does not hold as they should be now lie below `.writing`."""
    (folder / STAGING).mkdir(parents=True, exist_ok=True)
    local = threading.local()
    readers: list[ImageReader] = []
    items: dict[tuple[str, str], list[Any]] = {}

    def work(place: str) -> dict[str, Any]:
        table, rows = places[place]
        made_of = _digest([_WRITER, _plain(rows.drop(columns="split")), _state(rows, items)])
        about = _about(folder / place, made_of) or _about(folder / STAGING / place, made_of)
        if about is None:
            if not hasattr(local, "reader"):
                local.reader = ImageReader()
                readers.append(local.reader)
            about = _write_chip(folder / STAGING / place, read_chip(rows, local.reader, table=table), made_of)
        where = {"id": place, "group": str(rows["group"].iloc[0]), "split": str(rows["split"].iloc[0])}
        return where | {key: about[key] for key in ("kind", "days", "bands", "cloud")}

    chips = []
    try:
        with closing(in_order(work, places, workers)) as results:
            for number, chip in enumerate(results, 1):
                chips.append(chip)
                progress("chips", number, len(places))
    finally:
        for reader in readers:
            reader.close()
    return chips


def _write_chip(staged: Path, chip: ChipArrays, made_of: str) -> dict[str, Any]:
    """Write the chip's folder, `source.json` last, without which the chip does not count; return what that says."""
    about = {
        "made_of": made_of,
        "kind": chip.kind,
        "days": list(chip.days),
        "bands": list(chip.bands),
        "cloud": list(chip.cloud),
    }
    try:
        if staged.exists():
            shutil.rmtree(staged)
        staged.mkdir()
        np.save(staged / "images.npy", chip.images)
        np.save(staged / "masks.npy", chip.masks)
        (staged / "source.json").write_text(json.dumps(about))
    except OSError as error:
        # numpy loses the error number of a full disk.
        raise write_failed(error, staged, chip.images.nbytes) from error
    LOG.info("%s %s cloud %s", chip.kind, chip.id, " ".join(f"{share:.2f}" for share in chip.cloud))
    return about


def _about(chip: Path, made_of: str) -> dict[str, Any] | None:
    """What `source.json` says of a chip's folder; None where it is of other sources, or not whole."""
    try:
        about = json.loads((chip / "source.json").read_text())
        whole = all((chip / name).is_file() for name in ("images.npy", "masks.npy"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return about if whole and isinstance(about, dict) and about.get("made_of") == made_of else None


def _publish(folder: Path, manifest: Mapping[str, Any], before: set[str]) -> None:
    """Move the staged chips and the manifest to their places, and take away what was named `before` and is no more."""
    named = {chip["id"] for chip in manifest["chips"]}
    staged = sorted(named & {path.name for path in (folder / STAGING).iterdir() if path.is_dir()})
    for chip in staged:
        if (folder / chip).exists() and chip not in before and not (folder / chip / "source.json").is_file():
            raise InvalidSettings(f"{folder / chip}: is no chip: choose another folder for the store")
    part = folder / STAGING / MANIFEST
    part.write_text(json.dumps(manifest, indent=1))
    with part.open("rb") as file:
        os.fsync(file.fileno())
    replaced = folder / STAGING / ".replaced"
    if replaced.exists():
        shutil.rmtree(replaced)
    replaced.mkdir()
    for chip in staged:
        if (folder / chip).exists():
            (folder / chip).rename(replaced / chip)
        (folder / STAGING / chip).rename(folder / chip)
    part.replace(folder / MANIFEST)
    for gone in before - named:
        shutil.rmtree(folder / gone, ignore_errors=True)
    shutil.rmtree(folder / STAGING)


def _named(folder: Path) -> set[str]:
    """Ids of the chips that the store's manifest names; none without a manifest. Raises InvalidSettings for one of something else."""
    try:
        chips = json.loads((folder / MANIFEST).read_text())["chips"]
        return {chip["id"] for chip in chips if _ID.fullmatch(chip["id"])}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidSettings(
            f"{folder / MANIFEST}: is no manifest of a chip store ({type(error).__name__}): choose another folder, or delete it"
        ) from None


def _state(rows: pd.DataFrame, known: dict[tuple[str, str], list[Any]]) -> list[Any]:
    """Name, size and time of every local file that the chip is made of; `known` remembers them."""
    layout = str(rows["layout"].iloc[0])
    found = []
    for href in sources_of(rows):
        key = (href, layout)
        if key not in known:
            known[key] = list(_files(href, layout))
        found.append(known[key])
    return found


def _files(href: str, layout: str) -> Iterator[tuple[str, int, int]]:
    hrefs = {href}
    if layout == "stac" and local_path(href) is not None:
        try:
            item = item_of(href, layout)
        except CatalogError:
            item = None  # reading the chip says what is wrong with it
        if item is not None:
            assets = [*item.bands.values(), *([item.scl] if item.scl else [])]
            hrefs |= {asset.href for asset in assets}
    for name in sorted(hrefs):
        path = local_path(name)
        if path is not None and path.is_file():
            stat = path.stat()
            yield name, stat.st_size, stat.st_mtime_ns


def _plain(rows: pd.DataFrame) -> list[dict[str, str]]:
    """Rows as text, the same for the same values whatever their types."""
    flat = rows.drop(columns="geometry").sort_values("id")
    return [
        {str(name): "" if pd.isna(value) else str(value) for name, value in row.items()}
        for row in flat.to_dict("records")
    ]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.chipstore", description="Write the chips of pair tables")
    parser.add_argument("pairs", nargs="+", metavar="PAIRS", help="pair table made by `decloud pairs`")
    parser.add_argument("--store", type=Path, required=True, help="folder of the store")
    parser.add_argument(
        "--splits", metavar="FILE", help="YAML or JSON {group: split} instead of the tables' own splits"
    )
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        splits = Splits.read(given.splits) if given.splits else None
        manifest = write_store([PairTable.read(path) for path in given.pairs], given.store, splits=splits)
    except (PipelineError, CatalogError) as error:
        LOG.error("%s", error)
        return 1
    for what, reason in manifest["left_out"]:
        LOG.info("left out %s: %s", what, reason)
    LOG.info("%d chips in %s", len(manifest["chips"]), given.store)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
