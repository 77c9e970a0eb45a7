"""`read_patch`: the header of one patch of SEN12MS-CR or SEN12MS-CR-TS, checked against what the data set says it is."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from catalogs.errors import InvalidItem
from catalogs.grid import Grid, crs_name

SIZE = 256
"""Rows and columns of a patch."""


@dataclass(frozen=True)
class Kind:
    """What a file of a data set must be."""

    bands: int
    dtype: str
    name: str
    """What error messages call it."""


OPTICAL = Kind(13, "uint16", "Sentinel-2 patch")
"""B01..B08, B8A, B09..B12, DN = 10000 * reflectance."""
RADAR = Kind(2, "float32", "Sentinel-1 patch")
"""VV, VH in dB."""


def read_patch(path: Path, kind: Kind) -> Grid:
    """Grid of the patch at `path`; InvalidItem, with the reason alone, where it is no whole patch of `kind`.

    Inside `headers_only` this is quick: the neighbours of the file are not listed.
    """
    from rasterio.env import ensure_env_with_credentials
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.io import DatasetReader

    try:
        size = path.stat().st_size
    except OSError as error:
        raise InvalidItem(f"cannot be read: {error.strerror}") from None
    if size == 0:
        raise InvalidItem("is empty (0 bytes): download it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # One driver: a VRT called `.tif` would read whatever file it names.
            with ensure_env_with_credentials(DatasetReader)(str(path), driver=["GTiff"]) as file:
                count, shape, dtypes, transform, crs = (
                    file.count,
                    file.shape,
                    set(file.dtypes),
                    file.transform,
                    file.crs,
                )
    except RasterioError as error:
        reason = " ".join(str(error).split()).replace(str(path), path.name)
        raise InvalidItem(f"its header cannot be read ({reason}): download it again") from None
    if count != kind.bands:
        raise InvalidItem(f"has {count} band{'s' * (count != 1)}, a {kind.name} has {kind.bands}")
    if shape != (SIZE, SIZE):
        raise InvalidItem(f"is {shape[0]} x {shape[1]} pixels, a {kind.name} is {SIZE} x {SIZE}")
    if dtypes != {kind.dtype}:
        raise InvalidItem(f"holds {', '.join(sorted(dtypes))}, a {kind.name} holds {kind.dtype}")
    if crs is None:
        raise InvalidItem("has no CRS: download it again, or set it with gdal_edit.py -a_srs")
    if transform.is_identity or transform.determinant == 0:
        raise InvalidItem("is not georeferenced: download it again")
    return Grid(crs_name(crs), tuple(transform)[:6], shape)


@contextmanager
def headers_only() -> Iterator[None]:
    """GDAL set to open many local files for their headers."""
    from rasterio.env import Env

    # In a folder of thousands of patches a listing for each file would cost more than the headers.
    with Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        yield
