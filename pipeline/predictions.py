"""`PredictionFolder`: what a checkpoint predicts, as GeoTIFFs that anybody can score with tools of his own.

A file a row of the pair tables, called by the row's id: `ROIs1158_spring_39_p100.tif`, and with the cloudy date where a place has
several, `33TWL_L2A_120_522180_5038080_20230810.tif`. It lies on the grid of the chip, a band a band of the prediction with ESA's
name as its description; DN = reflectance times 10000, cut to 0..10000 as the metrics cut, 65535 where nothing is predicted.
Every file is made in memory and moved to its place whole, so that a full disk cannot leave half of one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.crs
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile

from catalogs.pairs import PairTable
from pipeline.chips import window_of
from pipeline.errors import InvalidScene, InvalidSettings
from pipeline.images import item_of
from pipeline.scene import open_scene
from pipeline.sink import write_failed
from srgan.atomic import write_atomic

SCALE = 10_000
"""DN of a reflectance of 1."""
NODATA = 65_535
"""DN without a prediction; no reflectance can have it."""
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


class PredictionFolder:
    """Writes predictions below one folder, which is made with the first of them. Not for several threads at once."""

    def __init__(self, folder: Path, tables: Sequence[PairTable], tags: Mapping[str, str] | None = None) -> None:
        """folder: where files go. tables: the rows that may be predicted. tags: metadata of every file, the checkpoint for one.

        Raises InvalidSettings where two tables have a row of one id.
        """
        self.folder = folder
        self.written: list[Path] = []
        """Files of this run, in the order in which they were written."""
        self._tags = dict(tags or {})
        self._rows: dict[str, Any] = {}
        self._grids: dict[tuple[str, str], GeoBox] = {}
        for table in tables:
            for _, row in table.frame.iterrows():
                if row["id"] in self._rows:
                    raise InvalidSettings(f"row {row['id']} is in two pair tables: leave one out")
                self._rows[row["id"]] = row

    def write(
        self,
        row: str,
        bands: Sequence[str],
        prediction: NDArray[np.floating[Any]],
        valid: NDArray[np.bool_] | None = None,
    ) -> Path:
        """Write the prediction of one row and return its file; one of an earlier run is replaced.

        row: its id. bands: ESA names of the C bands. prediction: (C, H, W) reflectance. valid: (H, W), False where nothing is
        predicted, as are values that are not finite. Raises InvalidSettings for a row that no table has, InvalidScene where
        the image has another size, WriteFailed, and as `open_scene` does.
        """
        if row not in self._rows or not _NAME.fullmatch(row):
            raise InvalidSettings(
                f"--predictions {self.folder}: no row {row!r} in the pair tables that can name a file"
            )
        grid = self._grid(row)
        if prediction.shape != (len(bands), *grid.shape):
            raise InvalidScene(
                f"{row}: a prediction of {prediction.shape} for {len(bands)} bands of {tuple(grid.shape)} pixels: "
                "files changed since the pair table was made; make it again with `decloud pairs`"
            )
        path = self.folder / f"{row}.tif"
        blob = _geotiff(digital_numbers(prediction, valid), bands, grid, {**self._tags, "row": row})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(path, blob)
        except OSError as error:
            raise write_failed(error, path, option="--predictions") from error
        self.written.append(path)
        return path

    def _grid(self, name: str) -> GeoBox:
        """Grid of the chip: that of its cloudy side, the window of it."""
        row = self._rows[name]
        href, layout = str(row["cloudy_href"] or row["clear_href"]), str(row["layout"])
        if (href, layout) not in self._grids:
            with open_scene(item_of(href, layout)) as scene:
                self._grids[href, layout] = scene.geobox
        grid, window = self._grids[href, layout], window_of(row)
        if window is None:
            return grid
        return grid[window.row : window.row + window.height, window.col : window.col + window.width]


def digital_numbers(
    prediction: NDArray[np.floating[Any]], valid: NDArray[np.bool_] | None = None
) -> NDArray[np.uint16]:
    """DN (C, H, W) of reflectance (C, H, W); `NODATA` where `valid` (H, W) is False and where a value is not finite.

    Postcondition: abs(DN / SCALE - clip(prediction, 0, 1)) <= 0.5 / SCALE wherever DN != NODATA.
    """
    known = np.isfinite(prediction)
    if valid is not None:
        known &= valid
    scaled = np.rint(np.clip(np.where(known, prediction, 0.0).astype(np.float64), 0.0, 1.0) * SCALE)
    return np.where(known, scaled, NODATA).astype(np.uint16)


def _geotiff(values: NDArray[np.uint16], bands: Sequence[str], grid: GeoBox, tags: Mapping[str, str]) -> bytes:
    """The bytes of a GeoTIFF; the same for the same arguments."""
    count, rows, cols = values.shape
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "count": count,
        "height": rows,
        "width": cols,
        "dtype": "uint16",
        "nodata": NODATA,
        "crs": rasterio.crs.CRS.from_user_input(grid.crs),
        "transform": grid.transform,
        "compress": "deflate",
        "predictor": 2,
        "interleave": "band",
    }
    with MemoryFile() as memory:
        with memory.open(**profile) as target:
            target.write(values)
            target.descriptions = tuple(bands)
            target.scales = (1 / SCALE,) * count
            target.update_tags(**tags)
        blob: bytes = memory.read()
    return blob
