"""`CogSink`: each layer as a Cloud Optimized GeoTIFF that was read back and validated before it counts.

Strategy: stripes of any height go to a flat file of raw rows, so there is no tile to buffer or to rewrite, and a full disk shows as
an error of `write`, not as a message that GDAL loses at close. At `close`, GDAL's COG driver turns each flat file into the final one;
that file is then read back against the checksum of what was handed over, its grid compared with the layer's, and its layout
validated by rio-cogeo. The flat files take as many bytes as the raw pixels, until `close`.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO
from xml.sax.saxutils import escape

import numpy as np
import rasterio.crs
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window

from pipeline.ahead import in_order
from pipeline.errors import WriteFailed
from pipeline.layers import Layer
from pipeline.progress import Progress, silent
from pipeline.sink import RowLedger, as_bytes, write_failed

BLOCK = 512
PROFILE: MappingProxyType[str, str] = MappingProxyType(
    {
        "BLOCKSIZE": str(BLOCK),
        "COMPRESS": "ZSTD",
        # Measured on real Sentinel-2 bands against level 1: level 3 is 2-5 % smaller and takes twice the processor time,
        # level 6 is 5-7 % smaller and takes three times as much.
        "LEVEL": "1",
        "PREDICTOR": "STANDARD",
        "BIGTIFF": "IF_SAFER",
        "OVERVIEWS": "IGNORE_EXISTING",
    }
)
"""Creation options of the COG driver; horizontal differencing saves 5-10 % on bands."""
CLASS_PROFILE: MappingProxyType[str, str] = MappingProxyType({**PROFILE, "PREDICTOR": "NO"})
"""For classifications, whose values are no quantities."""

_SIDE_BY_SIDE = 4
"""Layers compressed at a time, at most."""

GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""What rasterio raises: `rasterio.shutil.copy` lets GDAL's own errors through, which have no public name."""

_GDAL_TYPES = MappingProxyType({"uint8": "Byte", "uint16": "UInt16"})


class CogSink:
    """Writes each layer to `<folder>/<layer.name>.tif`."""

    def __init__(
        self, folder: Path, layers: Sequence[Layer], *, threads: int = 1, memory: int = 64 << 20, verify: bool = True
    ) -> None:
        """Start the files of `layers` in `folder`, which is made.

        `threads` are GDAL's while compressing; `memory` is the size of
        GDAL's block cache in bytes, the peak is about twice that (a larger one is not faster); `verify` reads every finished file
        back, which takes about a quarter of the time of writing it. Raises WriteFailed where the folder cannot be written to.
        """
        self.folder = folder
        self._side_by_side = max(1, min(threads, _SIDE_BY_SIDE, len(layers)))
        self._threads = max(1, threads // self._side_by_side)
        self._memory, self._verify = memory, verify
        self._ledgers = {layer.name: RowLedger(layer) for layer in layers}
        if len(self._ledgers) != len(layers):
            raise WriteFailed(f"{folder}: two layers have the same name: {[layer.name for layer in layers]}")
        self._flat: dict[str, BinaryIO] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in self._ledgers:
                self._flat[name] = self._raw(name).open("wb", buffering=0)
        except OSError as error:
            self.abort()
            raise write_failed(error, folder) from error

    def write(self, name: str, row: int, data: np.ndarray) -> None:
        """Append the stripe `data` (rows, width) to the layer `name`, see `Sink`. Raises WriteFailed."""
        if name not in self._flat:
            raise WriteFailed(f"{self.folder}: no open layer {name!r}, only {sorted(self._flat)}")
        rest = self._ledgers[name].accept(row, data)
        try:
            # An unbuffered write may take less than it was given: on a disk that is nearly full it takes what fits.
            while rest:
                rest = rest[self._flat[name].write(rest) :]
        except OSError as error:
            raise write_failed(error, self._path(name)) from error

    def close(self, progress: Progress = silent) -> None:
        """Convert, read back and validate every layer, see `Sink`. Raises WriteFailed and removes all files where one is not right."""
        try:
            for ledger in self._ledgers.values():
                ledger.assert_complete()
            while self._flat:
                self._flat.popitem()[1].close()
            # Side by side: GDAL compresses with as many threads as it is given, but makes overviews and reads back with one.
            finished = in_order(self._finish, self._ledgers.values(), self._side_by_side)
            with contextlib.closing(finished):
                for done, _ in enumerate(finished, start=1):
                    progress("encode", done, len(self._ledgers))
        except OSError as error:
            self.abort()
            raise write_failed(error, self.folder) from error
        except BaseException:
            self.abort()
            raise

    def _finish(self, ledger: RowLedger) -> None:
        if self._raw(ledger.layer.name).exists():
            self._convert(ledger.layer)
            self._check(ledger)
        elif not self._path(ledger.layer.name).exists():
            raise WriteFailed(
                f"{self._raw(ledger.layer.name)}: gone before it was converted; check the disk and run again"
            )

    def abort(self) -> None:
        """Remove every file that this sink has made."""
        for file in self._flat.values():
            file.close()
        self._flat.clear()
        for name in self._ledgers:
            # Also what GDAL leaves beside its target: overviews in the making, the sidecar with the category names.
            for path in (self._raw(name), self._vrt(name), *self.folder.glob(f"{name}.tif*")):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / self._ledgers[name].layer.filename

    def _raw(self, name: str) -> Path:
        return self.folder / f".{name}.raw"

    def _vrt(self, name: str) -> Path:
        return self.folder / f".{name}.vrt"

    def _env(self, **options: str) -> rasterio.Env:
        return rasterio.Env(GDAL_CACHEMAX=self._memory, GDAL_NUM_THREADS=str(self._threads), **options)

    def _convert(self, layer: Layer) -> None:
        import rasterio.shutil

        raw, vrt, path = self._raw(layer.name), self._vrt(layer.name), self._path(layer.name)
        vrt.write_text(flat_vrt(layer, raw.name), encoding="utf-8")
        options = creation_options(layer)
        try:
            # GDAL holds the overviews in a file beside the target until the target is written; its LZW takes longer than all the rest.
            with self._env(COG_TMP_COMPRESSION="NONE"):
                rasterio.shutil.copy(str(vrt), str(path), driver="COG", NUM_THREADS=str(self._threads), **options)
        except GDAL_ERRORS as error:
            # At worst the file and its overviews, half as large again, do not shrink.
            raise write_failed(error, path, needed=raw.stat().st_size * 3 // 2) from error
        raw.unlink()
        vrt.unlink()

    def _check(self, ledger: RowLedger) -> None:
        from rio_cogeo.cogeo import cog_validate

        path = self._path(ledger.layer.name)
        try:
            with self._env():
                assert_grid(path, ledger.layer)
                if self._verify and _checksum(path) != ledger.crc:
                    raise WriteFailed(f"{path}: reads back other pixels than were written: check the disk, run again")
                # One column has no overviews, which is only a warning.
                valid, errors, warnings = cog_validate(str(path), strict=ledger.layer.shape[1] > 1, quiet=True)
        except GDAL_ERRORS as error:
            # Written without complaint, yet unreadable: GDAL has lost the error of a full disk when it closed the file.
            raise write_failed(error, path, needed=path.stat().st_size) from error
        if not valid:
            raise WriteFailed(f"{path}: is no valid cloud optimized GeoTIFF: {'; '.join(map(str, errors + warnings))}")


def creation_options(layer: Layer) -> dict[str, str]:
    """Options of the COG driver for `layer`."""
    options = {
        **(CLASS_PROFILE if layer.resampling == "nearest" else PROFILE),
        "OVERVIEW_RESAMPLING": layer.resampling.upper(),
    }
    rows, cols = layer.shape
    if cols == BLOCK < rows:
        # rio-cogeo takes a file whose blocks are as wide as itself for one in strips.
        options["BLOCKSIZE"] = str(BLOCK // 2)
    if cols == 1:
        # Overviews of one column are as wide as the column: readers see a decimation of 1, which is invalid.
        options["OVERVIEWS"] = "NONE"
    return options


def assert_grid(path: Path, layer: Layer) -> None:
    """Raise WriteFailed unless the file has exactly the grid, the type and the nodata value of `layer`."""
    with rasterio.open(path) as file:
        written = GeoBox((file.height, file.width), file.transform, file.crs)
        found = (file.count, file.dtypes[0], file.nodata)
    if written != layer.geobox:
        raise WriteFailed(f"{path}: written grid {written} differs from the layer's {layer.geobox}")
    if found != (1, layer.dtype, layer.nodata):
        raise WriteFailed(f"{path}: bands, type, nodata {found} differ from {(1, layer.dtype, layer.nodata)}")


def flat_vrt(layer: Layer, raw: str) -> str:
    """The VRT that describes the flat file `raw` beside it: little-endian rows of `layer` without a header."""
    rows, cols = layer.shape
    crs = str(rasterio.crs.CRS.from_user_input(layer.geobox.crs).to_wkt())
    size = np.dtype(layer.dtype).itemsize
    transform = ", ".join(repr(float(value)) for value in layer.geobox.transform.to_gdal())
    nodata = "" if layer.nodata is None else f"<NoDataValue>{layer.nodata}</NoDataValue>"
    unit = "" if layer.unit is None else f"<UnitType>{escape(layer.unit)}</UnitType>"
    return (
        f'<VRTDataset rasterXSize="{cols}" rasterYSize="{rows}">'
        f"<SRS>{escape(crs)}</SRS><GeoTransform>{transform}</GeoTransform>{_tags(layer)}"
        f'<VRTRasterBand dataType="{_GDAL_TYPES[layer.dtype]}" band="1" subClass="VRTRawRasterBand">'
        f"<Description>{escape(layer.name)}</Description>{nodata}{unit}{_classes(layer)}"
        f'<SourceFilename relativetoVRT="1">{escape(raw)}</SourceFilename><ImageOffset>0</ImageOffset>'
        f"<PixelOffset>{size}</PixelOffset><LineOffset>{size * cols}</LineOffset><ByteOrder>LSB</ByteOrder>"
        "</VRTRasterBand></VRTDataset>"
    )


def _tags(layer: Layer) -> str:
    tags = {"TIFFTAG_IMAGEDESCRIPTION": layer.description, **layer.tags} if layer.description else layer.tags
    entries = "".join(f'<MDI key="{escape(key)}">{escape(value)}</MDI>' for key, value in tags.items())
    return f"<Metadata>{entries}</Metadata>" if entries else ""


def _classes(layer: Layer) -> str:
    """Category names, colour table and, since GeoTIFF has no place for names, the names as metadata of the band.

    GDAL keeps category names in a sidecar, `<name>.tif.aux.xml`; the metadata stay in the file where the sidecar is lost.
    """
    parts = []
    if layer.categories:
        parts.append(
            "<Metadata>" + "".join(f'<MDI key="class_{v}">{escape(n)}</MDI>' for v, n in layer.categories.items())
        )
        parts.append("</Metadata><CategoryNames>")
        names = (layer.categories.get(value, "") for value in range(max(layer.categories) + 1))
        parts.append("".join(f"<Category>{escape(name)}</Category>" for name in names) + "</CategoryNames>")
    if layer.colours:
        parts.append("<ColorInterp>Palette</ColorInterp><ColorTable>" + _entries(layer.colours) + "</ColorTable>")
    return "".join(parts)


def _entries(colours: Mapping[int, tuple[int, int, int, int]]) -> str:
    table = (colours.get(value, (0, 0, 0, 255)) for value in range(256))
    return "".join('<Entry c1="{}" c2="{}" c3="{}" c4="{}"/>'.format(*colour) for colour in table)


def _checksum(path: Path) -> int:
    """CRC-32 of the pixels of `path` in row order, a row of blocks at a time."""
    crc = 0
    with rasterio.open(path) as file:
        for row in range(0, file.height, BLOCK):
            window = Window(0, row, file.width, min(BLOCK, file.height - row))
            crc = zlib.crc32(as_bytes(file.read(1, window=window)), crc)
    return crc
