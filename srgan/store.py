"""`ChipStore`: the chips that `pipeline.chips` wrote, read as memory maps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from srgan.errors import InvalidSpec
from srgan.spec import BANDS

NODATA, CLEAR, CLOUD, SHADOW = 0, 1, 2, 3
"""Classes of `masks.npy`."""


@dataclass(frozen=True)
class StoredChip:
    """One chip: a few dates of one place."""

    id: str
    group: str
    """ROI or tile; splits and bootstraps draw whole groups."""
    split: str
    kind: str
    """pair (date 0 clear, date 1 cloudy), series (dates in order) or single."""
    days: tuple[int, ...]
    bands: tuple[str, ...]
    """Bands that hold data."""
    cloud: tuple[float, ...]
    """Share of cloud and shadow of each date."""
    folder: Path

    @cached_property
    def images(self) -> np.ndarray:
        """uint16 (dates, 13, rows, cols), reflectance times 10000."""
        return np.asarray(np.load(self.folder / "images.npy", mmap_mode="r"))

    @cached_property
    def masks(self) -> np.ndarray:
        """uint8 (dates, rows, cols): 0 no data, 1 clear, 2 cloud, 3 shadow."""
        return np.asarray(np.load(self.folder / "masks.npy", mmap_mode="r"))

    @cached_property
    def present(self) -> np.ndarray:
        """float32 (13,), 1 where the band holds data."""
        return np.array([band in self.bands for band in BANDS], np.float32)

    def clear_dates(self, cloud: float = 0.15) -> list[int]:
        """Dates with at most this share of cloud."""
        return [date for date, share in enumerate(self.cloud) if share <= cloud]


class ChipStore:
    """All chips of a store. Raises InvalidSpec where the folder is none."""

    def __init__(self, folder: Path) -> None:
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            self.split_hash: str = manifest["split_hash"]
            self.chips = tuple(
                StoredChip(
                    row["id"],
                    row["group"],
                    row["split"],
                    row["kind"],
                    tuple(row["days"]),
                    tuple(row["bands"]),
                    tuple(row["cloud"]),
                    folder / row["id"],
                )
                for row in manifest["chips"]
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidSpec(
                f"{folder} is no chip store ({error}): write one with `python -m pipeline.chips`"
            ) from error

    def split(self, name: str) -> tuple[StoredChip, ...]:
        """Chips of one split, in the manifest's order. Raises InvalidSpec where there are none."""
        chips = tuple(chip for chip in self.chips if chip.split == name)
        if not chips:
            raise InvalidSpec(
                f"the store has no chip of split {name!r}: it has {sorted({chip.split for chip in self.chips})}"
            )
        return chips
