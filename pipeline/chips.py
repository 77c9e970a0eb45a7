"""`read_chip`: the arrays of one place of a pair table: its dates as 13 bands and classes, read on demand.

Nothing but the window of the place is read, and nothing is kept. Classes are made as the gate made them, so that what was
judged is what is trained on: the mask that the table names, and with a clear date beside it the thin clouds and shadows
that only the comparison shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from catalogs.bands import BANDS
from catalogs.places import Window
from pipeline.errors import InvalidScene, InvalidSettings
from pipeline.gate import compare
from pipeline.images import ChipImage, ImageReader
from pipeline.reader import local_path
from srgan.store import CLOUD, NODATA, SHADOW

KINDS = ("pair", "series", "single")


@dataclass(frozen=True, eq=False)
class ChipArrays:
    """One place: a few dates of the same pixels."""

    id: str
    """Id of the place."""
    kind: str
    """pair (date 0 is clear, date 1 cloudy), series (dates in order) or single."""
    images: NDArray[np.uint16]
    """(dates, 13, rows, cols), reflectance times 10000; 0 in bands that not every date has."""
    masks: NDArray[np.uint8]
    """(dates, rows, cols): 0 no data, 1 clear, 2 cloud, 3 shadow."""
    days: tuple[int, ...]
    """Days since the first date; 0 where dates are not known."""
    bands: tuple[str, ...]
    """Bands that hold data on every date."""
    hrefs: tuple[str, ...] = ()
    """Where each date was read; empty for a chip that was made up."""
    metres: float = 10.0
    """Larger edge of a pixel."""

    def __post_init__(self) -> None:
        dates = len(self.days)
        if self.kind not in KINDS or self.images.shape[0] != dates or self.masks.shape[0] != dates or not self.bands:
            raise InvalidScene(
                f"chip {self.id}: kind {self.kind!r}, {self.images.shape[0]} images, {self.masks.shape[0]} masks, "
                f"{dates} dates, {len(self.bands)} bands common to all dates"
            )

    @property
    def cloud(self) -> tuple[float, ...]:
        """Share of cloud and shadow of each date, of the pixels with data, rounded to four digits."""
        shares = []
        for mask in self.masks:
            covered = (mask == CLOUD) | (mask == SHADOW)
            shares.append(round(float(covered.sum() / max(int((mask != NODATA).sum()), 1)), 4))
        return tuple(shares)


def read_chip(rows: pd.DataFrame, reader: ImageReader | None = None, *, table: str = "pair table") -> ChipArrays:
    """The chip of `rows`, all of one place of a pair table; `table` is what error messages call that.

    Dates: all that the rows name; of SEN12MS-CR the clear side first, else in the order of time. Raises InvalidScene where a
    file has moved or changed since, InvalidSettings for rows of several places, and as `ImageReader.read` does.
    """
    places = sorted(set(rows["place"]))
    if len(places) != 1:
        raise InvalidSettings(f"{table}: a chip is made of the rows of one place, not of {len(places)}")
    if reader is None:
        with ImageReader() as own:
            return read_chip(rows, own, table=table)
    first = rows.iloc[0]
    layout, window, mask = str(first["layout"]), window_of(first), str(first["mask"] or "auto").split()[0]
    dated = _dates(rows)
    images = {href: _read(reader, href, layout, window, mask, table) for href, _ in dated}
    _check_shapes(images, places[0], table)
    classes = {href: image.classes for href, image in images.items()}
    for clear, cloudy in zip(rows["clear_href"], rows["cloudy_href"], strict=True):
        if isinstance(cloudy, str):
            classes[cloudy] = compare(images[clear], images[cloudy]).classes
    bands = tuple(name for name in BANDS if all(image.has(name) for image in images.values()))
    stack = np.stack([images[href].values for href, _ in dated])
    stack[:, [name not in bands for name in BANDS]] = 0
    begin = dated[0][1]
    days = tuple(0 if when is None or begin is None else (when.date() - begin.date()).days for _, when in dated)
    pair = layout == "sen12mscr" and set(rows["quality"]) == {"ok"}
    kind = "single" if len(dated) == 1 else "pair" if pair else "series"
    masks = np.stack([classes[href] for href, _ in dated])
    metres = max(image.metres for image in images.values())
    return ChipArrays(places[0], kind, stack, masks, days, bands, tuple(href for href, _ in dated), metres)


def window_of(row: Any) -> Window | None:
    """The window of a row of a pair table; None for the whole file."""
    if pd.isna(row["row"]):
        return None
    return Window(*(int(row[name]) for name in ("row", "col", "height", "width")))


def sources_of(rows: pd.DataFrame) -> tuple[str, ...]:
    """Hrefs of the images that the rows name, each once, sorted."""
    return tuple(
        sorted({href for name in ("clear_href", "cloudy_href") for href in rows[name] if isinstance(href, str)})
    )


def _dates(rows: pd.DataFrame) -> list[tuple[str, datetime | None]]:
    """(href, date) of every image that the rows name, in the chip's order."""
    found: dict[str, datetime | None] = {}
    for side in ("clear", "cloudy"):
        for href, when in zip(rows[f"{side}_href"], rows[f"{side}_date"], strict=True):
            if isinstance(href, str):
                found[href] = None if pd.isna(when) else when.to_pydatetime()
    dated = list(found.items())
    if any(when is None for when in found.values()):
        return dated  # clear sides came first
    return sorted(dated, key=lambda entry: (entry[1], entry[0]))


def _read(reader: ImageReader, href: str, layout: str, window: Window | None, mask: str, table: str) -> ChipImage:
    path = local_path(href)
    if path is not None and not path.exists():
        raise InvalidScene(
            f"{href}: moved or deleted since {table} was made: put it back, or make the table again with `decloud pairs`"
        )
    return reader.read(href, layout, window, mask)


def _check_shapes(images: dict[str, ChipImage], place: str, table: str) -> None:
    shapes: Sequence[tuple[int, ...]] = sorted({image.classes.shape for image in images.values()})
    if len(shapes) > 1:
        raise InvalidScene(
            f"{place}: its dates have {' and '.join(map(str, shapes))} pixels: files changed since {table} was made; "
            "make it again with `decloud pairs`"
        )
