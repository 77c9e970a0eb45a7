"""`ChipStore`: the chips that `pipeline.chipstore` wrote, read as memory maps."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from srgan.errors import InvalidStore
from srgan.spec import BANDS

NODATA, CLEAR, CLOUD, SHADOW = 0, 1, 2, 3
"""Classes of `masks.npy`."""

KINDS = ("pair", "series", "single")
SPLITS = ("train", "val", "test", "other")
VERSION = 2
"""Of the manifest."""
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True)
class StoredChip:
    """One chip: a few dates of one place."""

    id: str
    group: str
    """ROI or tile; splits and bootstraps draw whole groups."""
    split: str
    """train, val, test or other."""
    kind: str
    """pair (date 0 clear, date 1 cloudy), series (dates in order) or single."""
    days: tuple[int, ...]
    bands: tuple[str, ...]
    """Bands that hold data."""
    cloud: tuple[float, ...]
    """Share of cloud and shadow of each date."""
    folder: Path

    # Opened anew at each use: a map keeps its file open, and a store may well hold more chips than a process may open files.
    @property
    def images(self) -> np.ndarray:
        """uint16 (dates, 13, rows, cols), reflectance times 10000. Raises InvalidStore where the file holds anything else."""
        return self._array("images.npy", np.uint16, (len(self.days), len(BANDS)))

    @property
    def masks(self) -> np.ndarray:
        """uint8 (dates, rows, cols): 0 no data, 1 clear, 2 cloud, 3 shadow. Raises InvalidStore where the file holds anything else."""
        return self._array("masks.npy", np.uint8, (len(self.days),))

    @cached_property
    def present(self) -> np.ndarray:
        """float32 (13,), 1 where the band holds data."""
        return np.array([band in self.bands for band in BANDS], np.float32)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns. Raises InvalidStore where images and masks differ in them, or either cannot be used."""
        rows, cols = self.masks.shape[1:]
        if self.images.shape[2:] != (rows, cols):
            raise InvalidStore(
                f"chip {self.id}: images.npy has {self.images.shape[2:]} rows and columns, masks.npy {(rows, cols)}: write the store again"
            )
        return int(rows), int(cols)

    def clear_dates(self, cloud: float = 0.15) -> list[int]:
        """Dates with at most this share of cloud."""
        return [date for date, share in enumerate(self.cloud) if share <= cloud]

    def others(self, date: int) -> list[int]:
        """Clear dates other than `date`, the nearest in time first."""
        return sorted(set(self.clear_dates()) - {date}, key=lambda other: abs(self.days[other] - self.days[date]))

    def _array(self, name: str, dtype: type, leading: tuple[int, ...]) -> np.ndarray:
        file = self.folder / name
        try:
            array = np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise InvalidStore(
                f"chip {self.id}: {file} cannot be read ({' '.join(str(error).split()):.80}): write the store again"
            ) from error
        if array.dtype != dtype or array.ndim != len(leading) + 2 or array.shape[: len(leading)] != leading:
            raise InvalidStore(
                f"chip {self.id}: {file} holds {array.dtype} {array.shape}, not {np.dtype(dtype)} "
                f"({', '.join(map(str, leading))}, rows, cols): write the store again"
            )
        return array


class ChipStore:
    """All chips of a store. Raises InvalidStore where the folder is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            self.split_hash = str(manifest["split_hash"])
            if manifest.get("version", VERSION) != VERSION:
                raise ValueError(f"version {manifest['version']!r:.20}, this program reads {VERSION}")
            if tuple(manifest.get("bands", BANDS)) != BANDS:
                raise ValueError(f"its bands are not {' '.join(BANDS)}")
            self.chips = tuple(_chip(row, folder) for row in manifest["chips"])
            listed = json.dumps(manifest["chips"], sort_keys=True)
            self.digest: str = hashlib.sha256(listed.encode()).hexdigest()
            """Of what the manifest says of its chips."""
            _check_apart(self.chips)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise InvalidStore(
                f"{folder} is no chip store ({error!s:.200}): write one with `decloud train PAIRS --output DIR`, which makes DIR/chips"
            ) from error

    def split(self, name: str) -> tuple[StoredChip, ...]:
        """Chips of one split, in the manifest's order. Raises InvalidStore where there are none."""
        chips = tuple(chip for chip in self.chips if chip.split == name)
        if not chips:
            raise InvalidStore(
                f"{self.folder} has no chip of split {name!r}: it has {sorted({chip.split for chip in self.chips})}; "
                "name groups for it in a splits file when the pairs are catalogued"
            )
        return chips


def _chip(row: dict[str, Any], folder: Path) -> StoredChip:
    chip = StoredChip(
        str(row["id"]),
        str(row["group"]),
        str(row["split"]),
        str(row["kind"]),
        tuple(int(day) for day in row["days"]),
        tuple(str(band) for band in row["bands"]),
        tuple(float(share) for share in row["cloud"]),
        folder / str(row["id"]),
    )
    if not _ID.fullmatch(chip.id):
        raise ValueError(f"chip {chip.id!r:.60}: cannot name a folder in the store")
    if chip.split not in SPLITS:
        raise ValueError(f"chip {chip.id}: split {chip.split!r:.40} is none of {', '.join(SPLITS)}")
    if not all(0 <= share <= 1 for share in chip.cloud):
        raise ValueError(f"chip {chip.id}: its cloud shares {chip.cloud} are not within 0..1")
    if chip.kind not in KINDS or len(chip.days) != len(chip.cloud) or not chip.days or set(chip.bands) - set(BANDS):
        raise ValueError(f"chip {chip.id}: kind {chip.kind!r}, {len(chip.days)} dates, {len(chip.cloud)} cloud shares")
    return chip


def _check_apart(chips: Iterable[StoredChip]) -> None:
    """Raise ValueError where a chip is named twice or a group is in two splits: what is trained on would be judged on too."""
    names: set[str] = set()
    splits: dict[str, str] = {}
    for chip in chips:
        if chip.id in names:
            raise ValueError(f"chip {chip.id} is named twice")
        names.add(chip.id)
        if splits.setdefault(chip.group, chip.split) != chip.split:
            raise ValueError(f"group {chip.group} is in the splits {splits[chip.group]} and {chip.split}")
